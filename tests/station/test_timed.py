"""Steers that name their bar: they land on it, or on the next one if it is out of reach, and others come before."""

from __future__ import annotations

import pytest

from riffstream import protocol
from riffstream.config import TimelineSettings
from tests.station.sim import Sim, click_positions

BEAT = 24_000  # samples at 120 beats a minute


def bar_at(sim: Sim, ident: str) -> float:
    """The bar line of the crossfade's end, counted from the first sample of a station that only played 4/4 at 120."""
    return (sim.applied(ident) + round(sim.settings.crossfade_ms * 48)) / (4 * BEAT)


def told(sim: Sim, ident: str, kind: type) -> list[int | None]:
    return [reply.bar for reply in sim.replies if isinstance(reply, kind) and reply.id == ident]


@pytest.mark.parametrize("waits", [1, 12])
@pytest.mark.parametrize("bar", [7, 8, 12, 33])
def test_a_change_lands_on_its_bar_however_early_it_was_asked_for(bar: int, waits: int) -> None:
    sim = Sim(waits=waits)
    sim.run(9.3)  # in bar 4 of 2 s each, committed ahead
    sim.steer("a", "second", bar=bar)
    assert sim.answers("a")[0] == "Scheduled"
    assert told(sim, "a", protocol.Scheduled)[0] == bar
    first = next(reply for reply in sim.replies if isinstance(reply, protocol.Scheduled))
    sim.run(bar * 2 - 8)
    assert bar_at(sim, "a") == pytest.approx(bar, abs=1e-4)
    assert abs(first.audible_at - sim.applied("a")) <= 2
    assert told(sim, "a", protocol.Applied) == [bar]
    now = sim.timeline.now(sim.applied("a") + BEAT)
    assert (now.bar, now.state.prompts[0].text, now.rev) == (bar, "second", 1)


@pytest.mark.parametrize("bar", [0, 4, 5])
def test_a_bar_out_of_reach_gives_way_to_the_next_and_it_is_told(bar: int) -> None:
    sim = Sim(waits=60)  # half a second
    while sim.timeline.playout.committed < 9.9 * 48_000:
        sim.run(0.1)
    sim.steer("a", "second", bar=bar)
    sim.run(6)
    assert sim.answers("a") == ["Scheduled", "Applied"]
    heard = round(bar_at(sim, "a"))
    assert bar_at(sim, "a") == pytest.approx(heard, abs=1e-4)
    assert heard > 5
    assert told(sim, "a", protocol.Scheduled) == told(sim, "a", protocol.Applied) == [heard]


def test_other_changes_come_before_it_and_its_own_fields_join_theirs() -> None:
    sim = Sim()
    sim.run(9.3)
    sim.steer("drop", "second", bar=16)
    sim.run(2)
    sim.steer("key", key=3.0)
    sim.run(4)
    assert sim.answers("key") == ["Scheduled", "Applied"]
    now = sim.timeline.now(sim.timeline.playout.committed)
    assert (now.state.prompts[0].text, now.state.key) == ("first", 3.0)
    assert [each.prompts[0].text for each in now.coming if each.by == "steer" and each.prompts] == ["second"]
    sim.run(22)
    assert bar_at(sim, "drop") == pytest.approx(16, abs=1e-4)
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert (state.prompts[0].text, state.key) == ("second", 3.0)


@pytest.mark.parametrize("before_s", [2.3, 1.5, 0.9, 0.4])
def test_a_change_just_before_it_does_not_bring_it_forward(before_s: float) -> None:
    sim = Sim()
    sim.run(9.3)
    sim.steer("drop", "second", bar=10)
    sim.run(20 - before_s - 9.3)
    sim.steer("key", key=3.0)
    sim.run(6)
    begun = sim.applied("drop" if "Applied" in sim.answers("drop") else "key")
    assert (begun + round(sim.settings.crossfade_ms * 48)) / (4 * BEAT) >= 10 - 1e-4
    assert sim.timeline.now(begun - BEAT).state.prompts[0].text == "first"
    state = sim.timeline.now(sim.timeline.playout.committed).state
    assert (state.prompts[0].text, state.key) == ("second", 3.0)


def test_the_bar_keeps_its_number_when_the_tempo_changes_before_it() -> None:
    sim = Sim(clicks=True)
    sim.run(9.3)
    sim.steer("drop", bar=16, key=2.0)
    sim.steer("slow", bpm=90.0, at="bar")
    sim.run(40)
    at = sim.applied("drop") + round(sim.settings.crossfade_ms * 48)
    assert told(sim, "drop", protocol.Applied) == [16]
    clicks = click_positions(sim.pcm)
    assert min(abs(clicks - at)) < 200
    assert sum(clicks < at - 200) in (63, 64, 62)  # 16 bars of 4; the first click is under the fade-in


def test_several_changes_wait_and_each_has_its_bar() -> None:
    sim = Sim()
    sim.run(5)
    for ident, bar in (("c", 14), ("a", 6), ("b", 10)):
        sim.steer(ident, f"prompt {ident}", bar=bar)
    sim.run(30)
    assert [round(bar_at(sim, ident)) for ident in "abc"] == [6, 10, 14]
    assert [reply.rev for reply in sim.replies if isinstance(reply, protocol.Applied)] == [1, 2, 3]


def test_a_change_of_the_desk_alone_waits_for_its_bar_too() -> None:
    sim = Sim()
    sim.run(5)
    sim.steer("a", mix=protocol.MixChange(low=-60.0), bar=8)
    sim.run(8)
    assert sim.timeline.now(sim.timeline.playout.committed).state.mix.low == 0
    sim.run(6)
    assert sim.applied("a") / (4 * BEAT) == pytest.approx(8, abs=0.01)
    assert told(sim, "a", protocol.Applied) == [8]


def test_a_pause_holds_it_back_with_the_music() -> None:
    sim = Sim()
    sim.run(5)
    sim.steer("a", "second", bar=6)
    sim.transport("pause")
    sim.run(20)
    assert sim.answers("a") == ["Scheduled"]
    sim.transport("resume")
    sim.run(12)
    assert told(sim, "a", protocol.Applied) == [6]


def test_a_late_generator_makes_it_late_by_whole_bars_and_the_answer_says_so() -> None:
    sim = Sim(waits=3, settings=TimelineSettings(loudness_lufs=None))
    sim.run(9.3)
    sim.steer("a", "second", bar=8)
    sim.run(4)
    sim.alive = False  # a hiccup around the bar
    sim.run(4)
    sim.alive = True
    sim.run(6)
    (heard,) = told(sim, "a", protocol.Applied)
    assert heard is not None
    assert heard > 8
    assert bar_at(sim, "a") == pytest.approx(heard, abs=1e-3)


def test_a_bar_too_far_ahead_and_one_change_too_many_are_refused_with_the_range() -> None:
    sim = Sim()
    sim.run(9)
    sim.steer("far", "second", bar=200)
    (refused,) = [reply for reply in sim.replies if isinstance(reply, protocol.Rejected)]
    assert (refused.code, refused.field) == ("bad_request", "bar")
    assert refused.message.startswith("bar is 200; allowed: up to 6")
    for number in range(16):
        sim.steer(str(number), key=float(number % 6), bar=40 + number)
    sim.steer("more", "second", bar=60)
    assert [reply.code for reply in sim.replies if isinstance(reply, protocol.Rejected)] == ["bad_request", "busy"]
    assert sim.timeline.rev == 0
