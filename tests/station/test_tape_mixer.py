"""Tapes, loops, and the mixer that plays them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.station.mixer import Cue, Mixer
from riffstream.station.tape import Loop, Silence, Tape


def ramp(n: int, start: int = 0) -> np.ndarray:
    return np.repeat(np.arange(start, start + n, dtype=np.float32)[:, None], 2, axis=1)


def sine(n: int, hz: float) -> np.ndarray:
    return np.repeat((0.5 * np.sin(2 * np.pi * hz * np.arange(n) / 48_000)).astype(np.float32)[:, None], 2, axis=1)


def cue(pos: int, source: object, fade: int = 0, offset: int = 0, kind: str = "take", take: int = 0) -> Cue:
    return Cue(pos=pos, source=source, offset=offset, fade=fade, take=take, rev=take, kind=kind)  # type: ignore[arg-type]


def tape_of(pcm: np.ndarray) -> Tape:
    tape = Tape()
    tape.append(pcm)
    return tape


def test_tape_reads_back_what_was_appended_in_any_pieces() -> None:
    tape = Tape()
    for start in range(0, 1000, 37):
        tape.append(ramp(min(37, 1000 - start), start))
    assert np.array_equal(tape.read(123, 456), ramp(456, 123))
    assert (tape.begin, tape.end) == (0, 1000)


def test_tape_forgets_the_past_and_says_so() -> None:
    tape = tape_of(ramp(400_000))
    tape.trim(300_000)
    assert tape.begin == 300_000
    assert np.array_equal(tape.read(300_000, 5), ramp(5, 300_000))
    with pytest.raises(IndexError, match="holds 300000 to 400000"):
        tape.read(299_999, 2)
    with pytest.raises(IndexError):
        tape.read(399_999, 2)


def test_loop_goes_round_and_is_entered_without_a_step() -> None:
    # 100 periods of 441.0 Hz do not fit: a bare repeat would jump; the loop must not.
    pcm = sine(48_000, 441.3)
    tape = tape_of(pcm)
    loop = Loop(tape, 48_000, 20_000, 1440)
    mixer = Mixer()
    mixer.place(cue(0, tape))
    mixer.place(cue(48_000 - 1440, loop, kind="loop"))
    out, _ = mixer.play(120_000)
    slope = 0.5 * 2 * np.pi * 441.3 / 48_000
    assert np.abs(np.diff(out[:, 0])).max() < slope * 1.6  # two partials at most add up in the crossfade
    assert np.array_equal(out[: 48_000 - 1440], pcm[: 48_000 - 1440])


def test_mixer_fades_from_one_source_to_the_next_at_the_cue() -> None:
    mixer = Mixer()
    mixer.place(cue(0, tape_of(np.full((1000, 2), 1, np.float32))))
    mixer.place(cue(400, Silence(), fade=100, kind="silence"))
    out, begun = mixer.play(1000)
    assert (out[:400] == 1).all()
    assert (out[500:] == 0).all()
    assert (np.diff(out[400:500, 0]) < 0).all()
    assert [each.pos for each in begun] == [0, 400]


def test_mixer_drops_later_cues_when_an_earlier_one_is_placed() -> None:
    mixer = Mixer()
    first, second, third = (cue(pos, Silence(), fade=10) for pos in (100, 200, 150))
    mixer.place(first)
    mixer.place(second)
    assert mixer.place(third) == [second]
    assert mixer.coming == (first, third)


def test_mixer_refuses_cues_in_the_past_and_inside_a_crossfade() -> None:
    mixer = Mixer()
    mixer.place(cue(0, Silence(), fade=100))
    mixer.play(50)
    assert mixer.earliest == 100
    with pytest.raises(ValueError, match="first free sample is 100"):
        mixer.place(cue(60, Silence()))


def test_mixer_knows_how_far_it_can_play() -> None:
    mixer = Mixer()
    mixer.place(cue(0, tape_of(ramp(500))))
    assert mixer.end == 500
    mixer.play(10)
    assert mixer.end == 500
    mixer.place(cue(300, tape_of(ramp(1000)), fade=100))
    assert mixer.end == 1000
    mixer.place(cue(450, tape_of(ramp(1000)), fade=100, offset=-450))
    assert mixer.end == 1450


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_playing_in_pieces_gives_the_same_samples(cuts: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    tapes = [tape_of(draw.standard_normal((60_000, 2)).astype(np.float32)) for _ in range(3)]

    def mixer() -> Mixer:
        mixer = Mixer()
        mixer.place(cue(0, tapes[0], fade=480))
        mixer.place(cue(5000, tapes[1], fade=1440, offset=-1000))
        mixer.place(cue(9000, Loop(tapes[2], 6000, 3000, 480), fade=100, kind="loop"))
        mixer.place(cue(20_000, Silence(), fade=480, kind="silence"))
        return mixer

    whole, _ = mixer().play(30_000)
    pieces, done = mixer(), []
    while pieces.position < 30_000:
        for n in cuts:
            done.append(pieces.play(min(n, 30_000 - pieces.position))[0])
    assert np.array_equal(np.concatenate(done), whole)
