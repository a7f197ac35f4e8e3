"""The ring of a live input, its gate, and the loop of its last beats."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from riffstream.models.seeds import SeedLibrary
from riffstream.server.live_input.loops import make_loop
from riffstream.server.live_input.ring import InputRing

BEAT = 24_000
RNG = np.random.default_rng(1)
TIME = np.arange(8 * BEAT) / 48_000


def pcm(wave: NDArray[np.floating]) -> NDArray[np.int16]:
    return np.clip(wave * 32767, -32768, 32767).astype(np.int16).reshape(len(wave), -1)


def coloured(slope: float, level: float = 0.1) -> NDArray[np.float64]:
    """Noise with an amplitude spectrum of f ** slope."""
    spectrum = np.fft.rfft(RNG.standard_normal(8 * BEAT))
    wave = np.fft.irfft(spectrum * np.maximum(np.fft.rfftfreq(8 * BEAT, 1 / 48_000), 20) ** slope)
    return wave * level / np.sqrt((wave**2).mean())


def hits(decay: int, every: int) -> NDArray[np.float64]:
    """Bursts of noise: drums."""
    wave = np.zeros(8 * BEAT)
    for at in range(0, 8 * BEAT, every):
        n = min(every, 8 * BEAT - at)
        wave[at : at + n] = RNG.standard_normal(n) * np.exp(-np.arange(n) / decay) * 0.2
    return wave


def chord(level: float = 0.1) -> NDArray[np.float64]:
    return sum(level / k * np.sin(2 * np.pi * hz * k * TIME) for hz in (261.6, 329.6, 392.0) for k in range(1, 6)) / 3


CASES = {
    "silence": (np.zeros(8 * BEAT), "quiet"),
    "a room": (coloured(-1, 10 ** (-55 / 20)), "quiet"),
    "an offset": (np.full(8 * BEAT, 0.2), "quiet"),
    "white noise": (coloured(0), "noise"),
    "pink noise": (coloured(-0.5), "noise"),
    "a fan": (coloured(-1), "noise"),
    "wind": (coloured(-1.5), "noise"),
    "hiss": (coloured(0.5), "noise"),
    "quiet hiss": (coloured(0, 10 ** (-45 / 20)), "noise"),
    "half a second of noise": (np.where(TIME > 3.5, coloured(0), 0), "noise"),
    "noise that begins": (np.where(TIME > 1.7, coloured(-0.5), 0), "noise"),
    "noise that ends": (np.where(TIME < 2.9, coloured(-1), 0), "noise"),
    "a sine": (0.1 * np.sin(2 * np.pi * 440 * TIME), "live"),
    "an organ": (chord(), "live"),
    "a soft organ": (chord(0.01), "live"),
    "a bass in hiss": (0.1 * np.sin(2 * np.pi * 55 * TIME) + coloured(0, 0.01), "live"),
    "a chord in hiss": (chord() + coloured(0, 0.03), "live"),
    "snares": (hits(1500, BEAT // 2), "live"),
    "a shaker": (hits(3000, BEAT // 4), "live"),
    "one knock": (np.concatenate([np.zeros(5 * BEAT), hits(1500, 8 * BEAT)[: 3 * BEAT]]), "live"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [1, 2])
def test_silence_and_noise_are_not_music(case: str, channels: int) -> None:
    wave, status = CASES[case]
    loop = make_loop(np.repeat(pcm(wave), channels, 1), [BEAT] * 8)
    assert loop.status == status
    assert (loop.samples is not None) == (status == "live")
    if loop.samples is not None:
        assert loop.samples.shape == (8 * BEAT, channels)
        assert np.sqrt((loop.samples**2).mean()) == pytest.approx(0.1, rel=1e-3)


def test_every_seed_of_the_library_is_music() -> None:
    """The loudness curves of real loops, as sound: the gate takes all of them."""
    library = SeedLibrary()
    from PIL import Image

    for entry in library.entries[::9]:
        image = Image.fromarray(library.picture(entry.name)).convert("L").resize((512, 256))
        shade = 1 - np.asarray(image, dtype=float)[::-1] / 255
        amplitude = 10 ** (-3 + 3 * shade) * (shade > 0.05)
        rows = range(8, 200, 6)
        wave = sum(
            np.interp(np.arange(8 * BEAT), np.arange(512) * 8 * BEAT / 512, amplitude[row])
            * np.sin(2 * np.pi * 55 * 2 ** (row / 30) * TIME + row)
            for row in rows
        )
        assert make_loop(pcm(wave / np.abs(wave).max() * 0.5), [BEAT] * 8).status == "live", entry.name


def notes(sounding: tuple[int, ...]) -> NDArray[np.int16]:
    """Beats with a note each, 220 Hz times the number of the beat and one."""
    wave = np.zeros(8 * BEAT)
    for beat in sounding:
        wave[beat * BEAT : (beat + 1) * BEAT] = 0.1 * np.sin(2 * np.pi * 220 * (beat + 1) * TIME[:BEAT])
    return pcm(wave)


def heard(samples: NDArray[np.float32]) -> list[int]:
    """The numbers of the notes; 0 for a rest."""
    found = []
    for beat in np.split(samples[:, 0], 8):
        pitch = float(np.abs(np.fft.rfft(beat)).argmax()) * 2
        found.append(round(pitch / 220) if np.abs(beat).max() > 1e-3 else 0)
    return found


@pytest.mark.parametrize(
    ("sounding", "loop"),
    [
        ((0, 4), [1, 0, 0, 0, 5, 0, 0, 0]),  # rests
        ((1, 5, 6), [0, 2, 0, 0, 0, 6, 7, 0]),
        ((4, 5, 6, 7), [5, 6, 7, 8, 5, 6, 7, 8]),  # began half a clip ago
        ((6, 7), [0, 0, 7, 8, 0, 0, 7, 8]),
        ((0, 1, 2, 3), None),  # stopped half a clip ago
        ((3,), None),
    ],
)
def test_rests_stay_and_a_beginning_is_repeated(sounding: tuple[int, ...], loop: list[int] | None) -> None:
    made = make_loop(notes(sounding), [BEAT] * 8)
    assert made.status == ("quiet" if loop is None else "live")
    if made.samples is not None:
        assert heard(made.samples) == loop


def test_beats_of_a_changing_tempo_get_one_length_and_keep_their_place() -> None:
    lengths = [30_000, 29_000, 28_000, 27_000, 26_000, 25_000, 24_500, 24_000]
    wave = np.zeros(sum(lengths))
    for at in np.cumsum([0, *lengths[:-1]]):
        wave[at : at + 2000] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2000) / 48_000)
    samples = make_loop(pcm(wave), lengths).samples
    assert samples is not None
    assert len(samples) == 8 * 24_000
    onsets = [int(np.argmax(np.abs(samples[b * 24_000 : (b + 1) * 24_000, 0]) > 0.1)) for b in range(8)]
    assert max(onsets) < 100


def test_the_ring_joins_jitter_and_keeps_gaps() -> None:
    ring = InputRing(1, seconds=1.0)
    ones = np.ones((4800, 1), np.int16)
    ring.write(ones, 10_000)
    ring.write(2 * ones, 15_500)  # 700 samples late: jitter
    assert ring.end == 19_600
    assert ring.read(14_799, 14_801).ravel().tolist() == [1, 2]
    ring.write(3 * ones, 30_000)  # a gap of 217 ms
    assert ring.read(19_599, 19_601).ravel().tolist() == [2, 0]
    assert ring.read(29_999, 30_001).ravel().tolist() == [0, 3]
    assert not ring.read(34_800, 40_000).any()  # the future
    assert not ring.read(0, 10_000).any()
    ring.write(4 * ones, 500_000)  # after a long stall nothing old is left
    assert not ring.read(500_000 - 48_000 + 4800, 500_000).any()
    ring.write(5 * ones, 100)  # hopelessly late
    assert ring.end == 504_800


@pytest.mark.parametrize("sizes", [[1], [480, 960], [7919]])
def test_the_ring_gives_back_what_was_written(sizes: list[int]) -> None:
    ring = InputRing(2, seconds=0.5)
    given = RNG.integers(-9999, 9999, (60_000, 2)).astype(np.int16)
    at = 0
    while at < (60_000 if len(sizes) > 1 or sizes[0] > 1 else 26_000):
        n = sizes[at % len(sizes)]
        ring.write(given[at : at + n], 1234 + at)
        at = min(60_000, at + n)
    end = ring.end
    assert end == 1234 + at
    assert (ring.read(end - 24_000, end) == given[at - 24_000 : at]).all()
