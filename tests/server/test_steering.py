"""The gate by itself: what waits, what is overtaken, and what becomes of it when the connection ends."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from riffstream import protocol
from riffstream.protocol import Prompt, Steer, Transport
from riffstream.server.limits import TokenBucket
from riffstream.server.steering import SteerGate, merge
from tests.server.test_registry import until

STEERS = st.builds(
    Steer,
    id=st.sampled_from("abc"),
    prompts=st.sampled_from([UNSET, (Prompt(text="x"),), (Prompt(text="y"),)]),
    bpm=st.sampled_from([UNSET, 90.0, 120.0]),
    seed=st.sampled_from([UNSET, 1, 2]),
    guidance=st.sampled_from([UNSET, 3.0]),
)


class Gate:
    """A gate, what it let through and what it told."""

    def __init__(self, interval_s: float, burst: int) -> None:
        self.applied: list[Steer | Transport] = []
        self.told: list[protocol.ServerMessage] = []
        self.gate = SteerGate(
            TokenBucket(interval_s, burst), TokenBucket(0.05, 2), self.applied.append, self.told.append
        )


@given(STEERS, STEERS)
def test_of_two_changes_the_newer_wins_where_both_say_something(old: Steer, new: Steer) -> None:
    both = merge(old, new)
    assert both.id == new.id
    for name in ("prompts", "bpm", "seed", "guidance"):
        said = getattr(new, name)
        assert getattr(both, name) == (getattr(old, name) if said is UNSET else said)


def test_of_two_changes_of_parts_none_is_lost() -> None:
    change = protocol.PartsChange
    drums, bass = Steer(id="a", parts=change(drums=0.0, lead=0.5)), Steer(id="b", parts=change(bass=1.0, lead=None))
    assert merge(drums, bass).parts == change(drums=0.0, bass=1.0, lead=None)
    assert merge(drums, Steer(id="b", bpm=90.0)).parts == drums.parts
    assert merge(drums, Steer(id="b", parts=None)).parts is None
    left_alone = change(drums=None, bass=1.0, chords=None, pad=None, arp=None, lead=None)
    assert merge(Steer(id="a", parts=None), Steer(id="b", parts=change(bass=1.0))).parts == left_alone


async def test_what_waits_takes_in_what_it_is_overtaken_by_and_arrives_once() -> None:
    gate = Gate(0.5, 1)
    gate.gate.steer(Steer(id="a", bpm=90.0))
    gate.gate.steer(Steer(id="b", bpm=100.0, seed=5))
    gate.gate.steer(Steer(id="c", bpm=110.0))
    assert gate.told == [protocol.Superseded(id="b", by="c")]
    assert [each.id for each in gate.applied] == ["a"]
    await until(lambda: len(gate.applied) == 2)
    await asyncio.sleep(0.1)
    assert gate.applied[1:] == [Steer(id="c", bpm=110.0, seed=5)]


class Turns(TokenBucket):
    """Lets through as many as the test says."""

    def __init__(self, free: int) -> None:
        super().__init__(1.0, 1)
        self.free = free

    def take(self) -> bool:
        self.free -= 1
        return self.free >= 0

    def wait_s(self) -> float:
        return 0.01


async def test_a_steer_whose_turn_was_taken_waits_for_the_next() -> None:
    gate, turns = Gate(1.0, 1), Turns(0)
    gate.gate._steers.bucket = turns
    gate.gate.steer(Steer(id="a", bpm=90.0))
    await asyncio.sleep(0.05)
    assert gate.applied == []
    turns.free = 1
    gate.gate.transport(Transport(id="p", op="pause"))
    assert gate.applied == [Transport(id="p", op="pause")]
    await asyncio.sleep(0.05)
    assert len(gate.applied) == 1
    gate.gate.steer(Steer(id="b", seed=7))
    turns.free = 1
    await until(lambda: len(gate.applied) == 2)
    assert gate.applied[1:] == [Steer(id="b", bpm=90.0, seed=7)]
    assert gate.told == [protocol.Superseded(id="a", by="b")]
    gate.gate.close()


async def test_a_connection_that_may_not_steer_gets_the_reason_and_takes_no_turn() -> None:
    gate, turns = Gate(1.0, 1), Turns(1)
    gate.gate._steers.bucket = turns
    gate.gate.refusal = "listeners do not steer here"
    for send in (
        lambda: gate.gate.steer(Steer(id="a", bpm=90.0)),
        lambda: gate.gate.transport(Transport(id="a", op="pause")),
    ):
        with pytest.raises(protocol.ProtocolError, match="listeners do not steer here") as refused:
            send()
        reply = refused.value.reply()
        assert isinstance(reply, protocol.Rejected)
        assert (reply.id, reply.code) == ("a", "forbidden")
    assert (gate.applied, gate.told, turns.free) == ([], [], 1)


async def test_a_transport_message_is_not_held_but_counts() -> None:
    gate = Gate(0.5, 1)
    gate.gate.steer(Steer(id="a", bpm=90.0))
    gate.gate.steer(Steer(id="b", bpm=100.0))
    gate.gate.transport(Transport(id="p", op="pause"))
    assert [type(each).__name__ for each in gate.told] == ["Rejected"]
    refusal = gate.told[0]
    assert isinstance(refusal, protocol.Rejected)
    assert (refusal.id, refusal.code) == ("p", "rate_limited")
    assert 0 < (refusal.retry_after_ms or 0) <= 500
    time.sleep(0.5)  # the turn has come, and b has not yet been let through
    gate.gate.transport(Transport(id="q", op="pause"))
    await until(lambda: len(gate.applied) == 3)
    assert [each.id for each in gate.applied] == ["a", "q", "b"]


@pytest.mark.parametrize("held", [False, True])
async def test_what_is_held_goes_with_its_connection(held: bool) -> None:
    gate = Gate(0.02, 1)
    gate.gate.steer(Steer(id="a", bpm=90.0))
    if held:
        gate.gate.steer(Steer(id="b", bpm=100.0))
    gate.gate.close()
    gate.gate.close()
    await asyncio.sleep(0.1)
    assert [each.id for each in gate.applied] == ["a"]


async def test_the_desk_has_a_rate_of_its_own() -> None:
    gate = Gate(interval_s=60, burst=1)
    gate.gate.steer(protocol.Steer(id="0", bpm=90.0))
    for number in range(1, 6):
        gate.gate.steer(protocol.Steer(id=str(number), mix=protocol.MixChange(low=-float(number), tilt=1.0)))
    assert [each.id for each in gate.applied] == ["0", "1", "2"]
    await until(lambda: len(gate.applied) == 4)
    assert [each.id for each in gate.applied] == ["0", "1", "2", "5"]
    assert gate.applied[-1].mix.low == -5.0


async def test_a_delayed_change_of_the_desk_never_comes_after_a_newer_one() -> None:
    gate = Gate(interval_s=60, burst=1)
    for number in range(3):
        gate.gate.steer(protocol.Steer(id=str(number), mix=protocol.MixChange(low=-float(number), tilt=1.0)))
    gate.gate.steer(protocol.Steer(id="3", bpm=90.0, mix=protocol.MixChange(low=3.0)))
    await asyncio.sleep(0.2)
    assert [each.id for each in gate.applied] == ["0", "1", "3"]
    assert (gate.applied[-1].mix.low, gate.applied[-1].mix.tilt) == (3.0, 1.0)
    gate.gate.steer(protocol.Steer(id="4", bpm=95.0, mix=protocol.MixChange(low=4.0)))
    gate.gate.steer(protocol.Steer(id="5", mix=protocol.MixChange(low=5.0)))
    assert [each.id for each in gate.applied] == ["0", "1", "3"], "it joins the delayed one"
