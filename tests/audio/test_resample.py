from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.audio.resample import StreamResampler, resample
from riffstream.errors import ParameterError
from tests.audio.signals import noise, stream, tone


@pytest.mark.parametrize(
    ("given_rate", "wanted"), [(44_100, 48_000), (48_000, 44_100), (192_000, 48_000), (8_000, 48_000)]
)
def test_a_tone_keeps_its_pitch_level_and_place(given_rate: int, wanted: int) -> None:
    before, expected = tone(1_000, -6, 1, rate=given_rate), tone(1_000, -6, 1, rate=wanted)
    after = resample(before, given_rate, wanted)
    assert len(after) == round(len(before) * wanted / given_rate)
    edge = wanted // 20  # the tone's own start and end ring
    np.testing.assert_allclose(after[edge:-edge], expected[edge:-edge], atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5_000), max_size=5).map(lambda sizes: [*sizes, 1_000]))
def test_any_chunking_gives_the_same_samples(sizes: list[int]) -> None:
    pcm = noise(20_000)
    resampler = StreamResampler(44_100, 48_000)
    np.testing.assert_array_equal(stream(resampler.push, resampler.flush, pcm, sizes), resample(pcm, 44_100, 48_000))


def test_flush_leaves_the_resampler_as_new() -> None:
    resampler, pcm = StreamResampler(44_100, 48_000, 1), noise(5_000, channels=1)
    first = stream(resampler.push, resampler.flush, pcm, [777])
    np.testing.assert_array_equal(stream(resampler.push, resampler.flush, pcm, [5_000]), first)


def test_equal_rates_pass_through_untouched() -> None:
    pcm = noise(100)
    np.testing.assert_array_equal(resample(pcm, 48_000, 48_000), pcm)


def test_bad_rates_and_channels_are_named() -> None:
    with pytest.raises(ParameterError, match="sample_rate is 10"):
        StreamResampler(10, 48_000)
    with pytest.raises(ParameterError, match=r"shape \[n, 2\]"):
        StreamResampler(44_100, 48_000).push(noise(10, channels=3))
    with pytest.raises(ParameterError, match="floating point"):
        StreamResampler(44_100, 48_000).push(np.zeros((10, 2), np.int16))
