"""Bridges by themselves: where loops and silence are placed among the cues of a mixer."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.config import StationConfig
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.bridges import SILENCE_FADE, Bridges
from riffstream.station.mixer import Cue, Mixer
from riffstream.station.score import Score
from riffstream.station.take import Take
from riffstream.station.tape import Loop

FADE = 1440
BEAT = 24_000  # samples at the metronome's 120 beats a minute
SCORE = Score.of(StationConfig(), ToneRenderer().info, Journey.single("a"))


def playing(beats: float, *, repeats: int = 4) -> tuple[Mixer, Bridges]:
    """A take of so many beats, of which nothing was played yet."""
    take = Take.open(7, 3, SCORE, beat=0.0, clip_beat=0.0, index=0)
    take.tape.append(np.full((round(beats * BEAT), 2), 0.1, np.float32))
    mixer = Mixer()
    mixer.place(Cue(pos=0, source=take.tape, offset=0, fade=0, take=7, rev=3, kind="take"))
    mixer.play(4800)
    return mixer, Bridges(mixer, {7: take}, fade=FADE, repeats=repeats)


def test_nothing_is_bridged_while_there_is_enough() -> None:
    mixer, bridges = playing(10)
    bridges.secure(10 * BEAT - 4800 - FADE)
    assert not bridges.placed
    assert mixer.coming == ()


@pytest.mark.parametrize(("beats", "length"), [(9, 8), (8, 4), (3, 2), (1.5, 1)])
def test_the_last_clip_bar_or_beat_goes_round_and_then_silence(beats: float, length: int) -> None:
    mixer, bridges = playing(beats, repeats=2)
    end = round(beats * BEAT)
    bridges.secure(end - 4800)
    loop, silence = mixer.coming
    assert bridges.placed
    assert bridges.first is loop
    assert isinstance(loop.source, Loop)
    assert (loop.kind, loop.pos, loop.fade, loop.source.length) == ("loop", end - FADE, 0, length * BEAT)
    assert (silence.kind, silence.pos, silence.fade) == ("silence", end + 16 * BEAT, SILENCE_FADE)
    assert {(cue.take, cue.rev) for cue in mixer.coming} == {(7, 3)}
    assert bridges.since == end


@pytest.mark.parametrize(("beats", "repeats"), [(9, 0), (0.5, 4)])
def test_without_a_loop_silence_begins_before_the_sound_ends(beats: float, repeats: int) -> None:
    mixer, bridges = playing(beats, repeats=repeats)
    end = round(beats * BEAT)
    bridges.secure(end - 4800)
    assert [(cue.kind, cue.pos, cue.fade) for cue in mixer.coming] == [("silence", end - SILENCE_FADE, SILENCE_FADE)]


def test_a_bridge_that_has_not_begun_is_withdrawn() -> None:
    mixer, bridges = playing(9)
    bridges.secure(9 * BEAT)
    bridges.withdraw()
    assert not bridges.placed
    assert mixer.coming == ()
