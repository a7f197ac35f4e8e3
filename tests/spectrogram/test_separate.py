"""Drums and notes are told apart; the mask is that of scipy's median filters, and stems add up to the music."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from riffstream.errors import ParameterError
from riffstream.spectrogram import SpectrogramParams, Vocoder, analyse
from riffstream.spectrogram.separate import AROUND, BINS, LOW_BINS, LOW_TIME, MARGIN, TIME, drum_mask

RATE = 48_000
PARAMS = SpectrogramParams.mini()


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return Vocoder(PARAMS)


def hits() -> np.ndarray:
    """A kick on the beat, hi-hats between, a snare on the second and fourth beat; 4 s at 120 bpm."""
    random, wave, t = np.random.default_rng(0), np.zeros(5 * RATE), np.arange(RATE // 4) / RATE
    for beat in range(8):
        at = beat * RATE // 2
        wave[at : at + len(t)] += 0.5 * np.sin(2 * np.pi * (50 * t + 4 * (1 - np.exp(-t * 20)))) * np.exp(-t * 16)
        wave[at + RATE // 4 :][: len(t)] += 0.2 * np.diff(random.normal(size=len(t) + 1)) * np.exp(-t * 60)
        if beat % 2:
            wave[at : at + len(t)] += 0.3 * random.normal(size=len(t)) * np.exp(-t * 20)
    return wave[: 4 * RATE]


def notes() -> np.ndarray:
    """Chords of a second over a bass in eighths."""
    wave, t = np.zeros(4 * RATE), np.arange(RATE) / RATE
    for number, chord in enumerate([(220, 262, 330), (175, 220, 262), (196, 247, 294), (220, 277, 330)]):
        for hz in chord:
            wave[number * RATE :][:RATE] += 0.08 * np.sin(2 * np.pi * hz * t) * np.minimum(1, t * 50)
        for eighth in range(4):
            edge = np.minimum(1, np.minimum(t * 200, np.maximum(0, 0.25 - t) * 200))[: RATE // 4]
            wave[number * RATE + eighth * RATE // 4 :][: RATE // 4] += (
                0.25 * np.sin(2 * np.pi * chord[0] / 4 * t[: RATE // 4]) * edge
            )
    return wave


def mel(wave: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(analyse(torch.tensor(np.stack([wave, wave]), dtype=torch.float32), PARAMS))


def db(part: torch.Tensor, whole: torch.Tensor) -> float:
    return 10 * float(torch.log10(part.square().sum() / whole.square().sum()))


def test_drums_and_notes_are_told_apart() -> None:
    drums, tonal, both = mel(hits()), mel(notes()), mel(hits() + notes())
    mask = drum_mask(both, 0, both.shape[-1])[None]
    above = slice(20, None)  # about 300 Hz
    assert db((drums * (1 - mask))[:, above], drums[:, above]) < -12, "snare and hi-hat are in the drums"
    assert db((drums * (1 - mask))[:, :8], drums[:, :8]) < -6, "and most of the kick, in the same bins as the bass"
    assert db(tonal * mask, tonal) < -10, "few notes are"
    assert db(tonal * (1 - mask), tonal) > -2.5


def test_the_mask_is_that_of_scipys_median_filters() -> None:
    clip = torch.rand(2, 64, 90, generator=torch.Generator().manual_seed(1))
    amplitude = clip.double().square().sum(0).sqrt().numpy()
    along_time = np.concatenate(
        [
            median_filter(amplitude[:LOW_BINS], (1, LOW_TIME), mode="mirror"),
            median_filter(amplitude[LOW_BINS:], (1, TIME), mode="mirror"),
        ]
    )
    along_bins = median_filter(amplitude, (BINS, 1), mode="mirror")
    along_bins[:LOW_BINS] = amplitude[:LOW_BINS]
    expected = along_bins**4 / (along_bins**4 + (MARGIN * along_time) ** 4)
    np.testing.assert_allclose(drum_mask(clip, 0, 90).numpy(), expected, atol=1e-5)


@given(st.lists(st.integers(1, 89), max_size=4, unique=True), st.booleans())
def test_ranges_equal_the_whole_bit_for_bit(cuts: list[int], known: bool) -> None:
    clip = torch.rand(2, 40, 90, generator=torch.Generator().manual_seed(1))
    before = torch.rand(2, 40, 30, generator=torch.Generator().manual_seed(2)) if known else None
    edges = [0, *sorted(cuts), 90]
    parts = [drum_mask(clip, a, b, before) for a, b in itertools.pairwise(edges)]
    assert torch.equal(torch.cat(parts, 1), drum_mask(clip, 0, 90, before))


def test_the_clip_before_is_the_neighbourhood_of_the_first_frames() -> None:
    both = torch.rand(1, 40, 120, generator=torch.Generator().manual_seed(3))
    whole = drum_mask(both, 0, 120)
    assert torch.equal(drum_mask(both[..., 60:], 0, 20, both[..., :60]), whole[:, 60:80])
    assert AROUND <= 60


def test_a_clip_shorter_than_the_filters_has_a_mask() -> None:
    mask = drum_mask(torch.rand(2, 256, 3), 0, 3)
    assert mask.shape == (256, 3)
    assert bool(((mask >= 0) & (mask <= 1)).all())


@pytest.mark.parametrize("key", [0.0, 2.0, -3.5])
def test_stems_change_no_bit_of_the_music(vocoder: Vocoder, key: float) -> None:
    clip = torch.rand(2, 256, 96, generator=torch.Generator().manual_seed(4)) * 100
    mask = torch.rand(256, 96, generator=torch.Generator().manual_seed(5))
    plain, stems = vocoder.stream(2), vocoder.stream(2, stems=True)
    alone = torch.cat([plain.push(clip, hop=375.0, key=key), plain.flush()], 1)
    parts = [stems.push(clip[..., a:b], hop=375.0, key=key, mask=mask[:, a:b]) for a, b in ((0, 7), (7, 60), (60, 96))]
    joined = torch.cat([*parts, stems.flush()], 1)
    assert joined.shape[0] == 4
    assert torch.equal(joined[:2], alone)
    whole = vocoder.stream(2, stems=True)
    assert torch.equal(torch.cat([whole.push(clip, hop=375.0, key=key, mask=mask), whole.flush()], 1), joined)


def test_a_full_mask_is_the_music_and_an_empty_one_is_silence(vocoder: Vocoder) -> None:
    clip = torch.rand(1, 256, 64, generator=torch.Generator().manual_seed(6)) * 100
    for mask, share in (
        (torch.ones(256, 64), 1.0),
        (torch.zeros(256, 64), 0.0),
        (None, 0.0),
        (torch.full((256, 64), 0.25), 0.25),
    ):
        stream = vocoder.stream(1, stems=True)
        out = torch.cat([stream.push(clip, hop=375.0, mask=mask), stream.flush()], 1)
        torch.testing.assert_close(out[1], out[0] * share, atol=1e-3, rtol=1e-4)


def test_a_mask_follows_the_key(vocoder: Vocoder) -> None:
    """A mask below 1 kHz covers a tone of 900 Hz an octave half lower and higher."""
    t = np.arange(RATE) / RATE
    clip = mel(0.3 * np.sin(2 * np.pi * 900 * t) + 0.3 * np.sin(2 * np.pi * 2500 * t))
    mask = torch.zeros(256, clip.shape[-1])
    mask[: int((vocoder.inverter.centres < 1500).sum())] = 1
    for key in (-6.0, 6.0):
        stream = vocoder.stream(2, stems=True)
        out = torch.cat([stream.push(clip, hop=375.0, key=key, mask=mask), stream.flush()], 1).numpy()[:, 8000:40_000]
        spectrum = np.abs(np.fft.rfft(out * np.hanning(out.shape[1])))
        low, high = (round(hz * 2 ** (key / 12) * out.shape[1] / RATE) for hz in (900, 2500))
        drums, music = spectrum[2], spectrum[0]
        assert drums[low - 5 : low + 6].max() > 0.95 * music[low - 5 : low + 6].max()
        assert drums[high - 5 : high + 6].max() < 0.05 * music[high - 5 : high + 6].max()


def test_a_mask_of_another_shape_or_stream_is_refused(vocoder: Vocoder) -> None:
    clip = torch.rand(2, 256, 8)
    with pytest.raises(ParameterError, match="mask"):
        vocoder.stream(2).push(clip, hop=375.0, mask=torch.ones(256, 8))
    with pytest.raises(ParameterError, match="mask"):
        vocoder.stream(2, stems=True).push(clip, hop=375.0, mask=torch.ones(256, 7))
