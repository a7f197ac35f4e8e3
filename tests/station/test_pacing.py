"""A timeline in real time, with a clock that is set by hand: what is committed when, and when it sleeps."""

from __future__ import annotations

import pytest

from riffstream import protocol
from riffstream.config import StationConfig, TimelineSettings
from riffstream.generator.messages import Done, Job, Piece, ToGenerator
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.protocol import Event, Now
from riffstream.station.audience import Audience
from riffstream.station.block import Block
from riffstream.station.pacing import FAULTS, SETTLE_S, Pacer
from riffstream.station.score import Score
from riffstream.station.timeline import Timeline

SETTINGS = TimelineSettings(loudness_lufs=None, frame_ms=100, send_lead_ms=300, client_buffer_ms=200, idle_s=10.0)
LEAD = 24_000  # send_lead_ms + client_buffer_ms


class Paced:
    """A pacer beside a metronome that answers at once."""

    def __init__(self) -> None:
        self.time = 100.0
        self.blocks: list[Block] = []
        self.renderer = ToneRenderer()
        self.audience = Audience("s", lambda: self.time)
        self.pacer = Pacer("s", SETTINGS, self.audience, lambda: self.time, send=self._send, out=self.blocks.append)
        self.score = Score.of(StationConfig(), self.renderer.info, Journey.single("a"))

    def begin(self) -> Timeline:
        made = self.pacer.timeline = Timeline("s", self.score, SETTINGS)
        self.run(0.0)
        return made

    def _send(self, messages: list[ToGenerator]) -> None:
        for message in messages:
            if isinstance(message, Job):
                self.renderer.submit(message)

    def run(self, seconds: float) -> None:
        """Let time go by, in steps of 100 ms."""
        for _ in range(max(1, round(seconds * 10))):
            self.time += seconds and 0.1
            self.pacer.drive()
            while self.renderer.pending and self.pacer.timeline is not None:
                for message, pcm in self.renderer.step():
                    if isinstance(message, Piece) and pcm is not None:
                        self.pacer.timeline.receive(message.take, message.number, pcm, self.time)
                    elif isinstance(message, Done):
                        self.pacer.timeline.done(message, self.time)
                self.pacer.drive()


async def test_nothing_happens_before_there_is_a_timeline() -> None:
    paced = Paced()
    paced.run(3)
    assert (paced.pacer.committed, paced.pacer.sample_pos, paced.blocks) == (0, 0, [])


async def test_audio_is_committed_as_far_ahead_as_listeners_buffer() -> None:
    paced = Paced()
    paced.begin()
    lease = paced.audience.join("ws")
    paced.run(5)
    pacer = paced.pacer
    assert pacer.sample_pos == pytest.approx(5 * 48_000, abs=100)
    assert 0 <= pacer.sample_pos + LEAD - pacer.committed < 4800
    assert [block.pos for block in paced.blocks] == list(range(0, pacer.committed, 4800))
    lease.close()
    pacer.stop()


async def test_it_sleeps_when_nobody_listens_and_goes_on_where_it_stood() -> None:
    paced = Paced()
    paced.begin()
    paced.run(SETTINGS.idle_s + 2)
    pacer, before = paced.pacer, paced.pacer.committed
    assert pacer.asleep
    paced.run(20)
    assert pacer.committed == before
    with paced.audience.join("ws"):
        pacer.wake()
        paced.run(1)
        assert not pacer.asleep
        assert pacer.committed == pytest.approx(before + 48_000, abs=4800)
    assert pacer.clock_jumps == 0
    pacer.stop()


async def test_a_change_wakes_it_until_it_was_heard() -> None:
    paced = Paced()
    timeline = paced.begin()
    paced.run(SETTINGS.idle_s + 2)
    replies: list[protocol.ServerMessage] = []
    timeline.steer(protocol.Steer(id="x", bpm=90.0), replies.append, paced.time)
    paced.pacer.changed()
    assert not paced.pacer.asleep
    paced.run(SETTLE_S / 2)
    assert [type(reply) for reply in replies] == [protocol.Scheduled, protocol.Applied]
    assert paced.pacer.asleep
    assert timeline.now(paced.pacer.sample_pos).state.bpm == 90.0
    paced.pacer.stop()


async def test_a_clock_that_jumps_is_told_and_not_caught_up_with() -> None:
    paced = Paced()
    paced.begin()
    told: list[Now | Event] = []
    paced.audience.subscribe(told.append)
    with paced.audience.join("ws"):
        paced.run(2)
        before = paced.pacer.committed
        paced.time += 3600
        paced.run(1)
    assert paced.pacer.clock_jumps == 1
    assert paced.pacer.committed < before + 2 * 48_000
    assert any(isinstance(each, Event) and each.kind == "clock_jump" for each in told)
    assert len([each for each in told if isinstance(each, Now)]) == 1, "what plays is the same all the time"
    paced.pacer.stop()


async def test_a_step_that_fails_is_counted_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    paced = Paced()
    timeline = paced.begin()
    with paced.audience.join("ws"), monkeypatch.context() as patch:
        patch.setattr(timeline, "plan", lambda now: 1 / 0)
        paced.pacer.drive()
    assert paced.pacer.faults == 1
    before = paced.pacer.committed
    paced.run(1)
    assert paced.pacer.committed > before
    paced.pacer.stop()


async def test_a_timeline_that_is_broken_for_good_starts_over() -> None:
    paced = Paced()
    timeline = paced.begin()
    told: list[Now | Event] = []
    paced.audience.subscribe(told.append)
    replies: list[protocol.ServerMessage] = []
    with paced.audience.join("ws"):
        paced.run(5)
        timeline.steer(
            protocol.Steer(id="a", prompts=(protocol.Prompt(text="b"),), at="clip"), replies.append, paced.time
        )
        paced.pacer.changed()
        played = timeline.playout.heard(timeline.playout.committed - 1)
        assert played is not None
        assert played.take is not None
        played.take.tape._blocks.clear()  # nothing of what plays can be read any more
        before = len(paced.blocks)
        paced.run(30)
    assert paced.pacer.faults == FAULTS
    assert [block.pos for block in paced.blocks] == list(range(0, paced.pacer.committed, 4800)), "no sample is left out"
    assert len(paced.blocks) > before + 200
    assert paced.blocks[-1].pcm.any()
    assert [type(reply) for reply in replies] == [protocol.Scheduled, protocol.Rejected]
    assert [each.kind for each in told if isinstance(each, Event)].count("fallback") == 1
    assert timeline.now(paced.pacer.sample_pos).state == timeline.target()
    paced.pacer.stop()


async def test_a_block_that_cannot_leave_is_no_fault_of_the_timeline(monkeypatch: pytest.MonkeyPatch) -> None:
    paced = Paced()
    paced.begin()
    with paced.audience.join("ws"), monkeypatch.context() as patch:
        patch.setattr(paced.pacer, "_out", lambda block: 1 / 0)
        paced.run(3)
    assert paced.pacer.faults >= 25
    with paced.audience.join("ws"):
        paced.run(3)
    assert paced.blocks[-1].pcm.any()
    assert paced.pacer.committed == pytest.approx(6 * 48_000 + LEAD, abs=9600)
    paced.pacer.stop()


async def test_stopped_is_stopped() -> None:
    paced = Paced()
    paced.begin()
    paced.run(1)
    paced.pacer.stop()
    paced.pacer.stop()
    before = paced.pacer.committed
    paced.run(1)
    assert paced.pacer.committed == before
