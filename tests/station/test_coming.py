"""What ``now`` says about the music that follows: stops of a journey, transitions, and accepted changes."""

from __future__ import annotations

import pytest

from riffstream import protocol
from riffstream.journey.journey import Journey, Stop
from riffstream.journey.keyframe import Keyframe
from tests.station.sim import Sim

RATE = 48_000


def stops(*stays: tuple[str, int, int]) -> tuple[Stop, ...]:
    return tuple(Stop(Keyframe.of(prompt), stay, travel) for prompt, stay, travel in stays)


def coming(sim: Sim, pos: int, by: str) -> list[tuple[str, int, int | None]]:
    found = sim.timeline.now(pos).coming
    return [(each.prompts[0].text, each.at, each.alone_at) for each in found if each.by == by and each.prompts]


@pytest.mark.parametrize(
    ("ending", "index", "expected"),
    [
        ("loop", 0, ("b", 2, 4)),  # travel 3: alpha 0 belongs to the first stop
        ("loop", 3, ("b", 2, 4)),  # on the way
        ("loop", 4, ("c", 6, 6)),  # a cut
        ("loop", 7, ("a", 8, 8)),  # round again
        ("loop", 8, ("b", 10, 12)),
        ("evolve", 7, ("a", 8, 8)),
        ("stay", 4, ("c", 6, 6)),
        ("stay", 6, None),
        ("stay", 900, None),
    ],
)
def test_the_next_stop_of_a_journey(ending: str, index: int, expected: tuple[str, int, int] | None) -> None:
    journey = Journey(stops(("a", 1, 3), ("b", 2, 0), ("c", 1, 1)), ending)  # type: ignore[arg-type]
    found = journey.following(index)
    assert (None if found is None else (found[2].prompts[0].text, found[0], found[1])) == expected


def test_stops_with_the_same_prompts_are_one() -> None:
    journey = Journey(stops(("a", 2, 0), ("a", 2, 0), ("b", 2, 0)), "loop")
    assert [found and found[1] for found in map(journey.following, (0, 2, 4))] == [4, 4, 6]
    assert Journey(stops(("a", 2, 0), ("a", 2, 0)), "loop").following(1) is None
    assert Journey.single("a").following(0) is None


def test_now_says_when_the_journey_turns_and_it_turns_then() -> None:
    sim = Sim(journey=Journey(stops(("first", 2, 0), ("second", 2, 3), ("third", 2, 0)), "loop"))
    sim.run(40)
    ((text, at, alone),) = coming(sim, RATE, "journey")
    assert (text, alone) == ("second", at)
    assert sim.timeline.now(at - 200).state.prompts[0].text == "first"
    assert sim.timeline.now(at + 200).state.prompts[0].text == "second"
    ((text, at, alone),) = coming(sim, at + RATE, "journey")
    assert text == "third"
    assert alone is not None
    assert alone > at
    assert len(sim.timeline.now(at - 200).state.prompts) == 1
    assert len(sim.timeline.now(at + 200).state.prompts) == 2  # the crossfade has begun
    assert [each.text for each in sim.timeline.now(alone + 200).state.prompts] == ["third"]
    assert coming(sim, at + RATE, "journey") == [("third", at, alone)]  # its beginning lies in the past


def test_an_accepted_change_is_announced_until_it_is_audible() -> None:
    sim = Sim(journey=Journey(stops(("first", 90, 0), ("second", 2, 0)), "loop"))
    sim.run(10)
    assert coming(sim, 9 * RATE, "steer") == []
    assert coming(sim, 9 * RATE, "journey") != []
    sim.steer("1", "church bells", at="bar")
    pos = 9 * RATE  # a listener is behind the committed audio
    ((text, estimate, _),) = coming(sim, pos, "steer")
    assert text == "church bells"
    assert estimate > pos
    assert coming(sim, pos, "journey") == []  # it ends with the change
    sim.run(4)
    at = sim.applied("1")
    assert coming(sim, pos, "steer") == [("church bells", at, None)]
    assert coming(sim, at - 100, "steer") == [("church bells", at, None)]
    assert coming(sim, at + 100, "steer") == []
    assert sim.timeline.now(at + 4800).state.prompts[0].text == "church bells"


def test_a_change_of_the_tempo_has_no_new_words() -> None:
    sim = Sim()
    sim.run(5)
    sim.steer("1", bpm=90.0)
    assert coming(sim, 4 * RATE, "steer") == []


def test_listeners_are_told_of_a_change_before_it_is_audible() -> None:
    sim = Sim()
    sim.run(5)
    before = sim.timeline.moment(4 * RATE)
    sim.steer("1", "church bells")
    assert sim.timeline.moment(4 * RATE) != before


def test_a_pause_has_no_next_stop() -> None:
    sim = Sim(journey=Journey(stops(("first", 2, 0), ("second", 2, 0)), "loop"))
    sim.run(5)
    sim.transport("pause")
    sim.run(3)
    assert coming(sim, 8 * RATE, "journey") == []


def test_a_message_survives_both_ways() -> None:
    each = protocol.Coming(at=5, by="journey", prompts=(protocol.Prompt(text="x"),), alone_at=9)
    now = protocol.Now(rev=0, sample_pos=0, state=protocol.State(prompts=(), seed=0), alpha=0.0, clip=0, coming=(each,))
    assert protocol.decode_server(protocol.encode(now)) == now
