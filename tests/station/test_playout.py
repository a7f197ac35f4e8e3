"""What is heard where audio runs out: bridges and crossfades that end with what there is. Sounds here are constant, so
that every change of level is a crossfade, and a click is a step."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from riffstream.config import StationConfig, TimelineSettings
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.bridges import SILENCE_FADE, Bridges
from riffstream.station.playout import Playout
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Take

FRAME = 4800
BRIDGES = 30  # far more than any commit needs
SCORE = Score.of(StationConfig(), ToneRenderer().info, Journey.single("a"))


class Counted(Bridges):
    """A search for bridges that ends."""

    count = 0

    def _bridge(self, *given: object) -> None:
        self.count += 1
        assert self.count <= BRIDGES, "no end of bridges"
        super()._bridge(*given)  # type: ignore[arg-type]


def take(ident: int, level: float, samples: int) -> Take:
    made = Take.open(ident, ident, SCORE, beat=0.0, clip_beat=0.0, index=0)
    made.tape.append(np.full((samples, 2), level, np.float32))
    return made


def heard(playout: Playout, frames: int) -> NDArray[np.float32]:
    blocks = [playout.commit(FRAME) for _ in range(frames)]
    assert all(block is not None for block in blocks)
    return np.concatenate([np.zeros(0, np.float32), *(block.pcm[:, 0] for block in blocks if block is not None)])


def cues(playout: Playout) -> list[tuple[str, int, int]]:
    found = [json.loads(line) for line in playout.log.lines()]
    return [(each["kind"], each["pos"], each["fade"]) for each in found if each["entry"] == "cue"]


def spliced(first: int, pos: int, fade: int, *, repeats: int = 4, before: int = 0) -> Playout:
    """A take with ``first`` samples that plays, and another to which a crossfade of ``fade`` is scheduled."""
    playout = Playout(TimelineSettings(loudness_lufs=None, repeats=repeats), SteeringLog("x"))
    playout._bridges = Counted(playout.mixer, playout._takes, fade=playout.fade, repeats=repeats)
    playout.cut_to(take(1, 0.1, first), pos=0, local=0, fade=SILENCE_FADE)
    heard(playout, before)
    playout.cut_to(take(2, -0.1, 10 * 48_000), pos=pos, local=0, fade=fade)
    return playout


@pytest.mark.parametrize("left", [1000, 4800, 9000, 60_000])
def test_a_long_crossfade_ends_with_the_take_that_it_leaves(left: int) -> None:
    """The outgoing take was to be continued, but its generator is gone; the fade is as long as what is there."""
    pos = 100 * FRAME
    playout = spliced(pos + left, pos, 96_000, before=99)
    pcm = heard(playout, 60)[FRAME:]
    assert cues(playout)[-1] == ("take", pos, left)
    assert np.allclose(pcm[left:], -0.1)
    assert np.abs(np.diff(pcm)).max() < 2 * 0.2 / left
    assert playout.repeats == playout.underruns == 0


def test_with_less_than_a_short_fade_left_a_bridge_comes_first() -> None:
    pos = 100 * FRAME
    playout = spliced(pos + SILENCE_FADE - 1, pos, 96_000, before=99)
    pcm = heard(playout, 60)
    assert [kind for kind, _, _ in cues(playout)] == ["take", "loop", "take"]
    assert cues(playout)[-1] == ("take", pos, 96_000)
    assert np.abs(np.diff(pcm)).max() < 2 * 0.2 / 1440  # the loop crossfades with itself in 30 ms


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    first=st.integers(48_000, 200_000),
    ahead=st.integers(-10_000, 30_000),
    fade=st.sampled_from([480, 1440, 20_000, 96_000]),
    repeats=st.sampled_from([0, 1, 4]),
)
@example(first=101 * FRAME, ahead=4800, fade=96_000, repeats=4)
@example(first=48_000 * 3, ahead=479, fade=96_000, repeats=0)
def test_commits_end_and_never_click(first: int, ahead: int, fade: int, repeats: int) -> None:
    """Wherever the outgoing take ends: before, at, or on the way through the crossfade that follows it."""
    pos = first - ahead
    before = min(pos, first - 1440) // FRAME  # what a playout has played, a bridge can still follow
    playout = spliced(first, pos, fade, repeats=repeats, before=before)
    pcm = np.concatenate([[0.1], heard(playout, 40)])
    assert np.abs(np.diff(pcm)).max() < 2 * 0.2 / SILENCE_FADE
    assert pcm[-1] == pytest.approx(-0.1)
    assert playout.mixer.position == playout.committed
