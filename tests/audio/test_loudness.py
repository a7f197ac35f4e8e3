"""The meter against EBU Tech 3341's cases (synthesised here), ffmpeg and BS.1770's own table of coefficients."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import sosfilt, sosfreqz

from riffstream.audio.files import write_audio
from riffstream.audio.kweighting import StepPower, k_weighting
from riffstream.audio.loudness import LoudnessMeter
from riffstream.errors import ParameterError
from tests.audio.signals import RATE, noise, pieces, tone


def measure(*parts: np.ndarray, rate: int = RATE) -> LoudnessMeter:
    meter = LoudnessMeter(rate, parts[0].shape[1])
    for part in parts:
        meter.push(part)
    return meter


def sines(*levels_and_seconds: tuple[float, float]) -> list[np.ndarray]:
    return [tone(1_000, level, seconds) for level, seconds in levels_and_seconds]


def test_k_weighting_is_the_recommendations_table_at_48_khz() -> None:
    shelf, highpass = k_weighting(48_000)
    table = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585]
    np.testing.assert_allclose(shelf, table, atol=1e-8)
    np.testing.assert_allclose(highpass, [1, -2, 1, 1, -1.99004745483398, 0.99007225036621], atol=1e-8)


@pytest.mark.parametrize("rate", [44_100, 96_000, 192_000, 768_000])
def test_k_weighting_has_the_same_response_at_any_rate(rate: int) -> None:
    hz = np.array([30, 100, 1_000, 2_000, 5_000, 8_000])
    _, expected = sosfreqz(k_weighting(48_000), hz, fs=48_000)
    _, found = sosfreqz(k_weighting(rate), hz, fs=rate)
    np.testing.assert_allclose(20 * np.log10(np.abs(found) / np.abs(expected)), 0, atol=0.15)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 192_000])
def test_the_meters_own_filter_agrees_with_scipys(rate: int) -> None:
    wave = noise(2 * rate)
    power = StepPower(rate, 2)
    found = [value for start in range(0, len(wave), 7_001) for value in power.push(wave[start : start + 7_001])]
    filtered = sosfilt(k_weighting(rate), wave.astype(np.float64), axis=0)
    steps = [filtered[power.boundary(k) : power.boundary(k + 1)] for k in range(len(found))]
    assert len(found) == 20
    np.testing.assert_allclose(found, [np.sum(each**2) / len(each) for each in steps], rtol=1e-9)


def test_the_meter_does_not_load_scipy() -> None:
    code = "import sys, riffstream.audio.loudness; print(any(name.startswith('scipy') for name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("level", [-23.0, -33.0])
@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_ebu_cases_1_and_2_a_steady_sine_reads_its_level(level: float, rate: int) -> None:
    meter = measure(tone(1_000, level, 20, rate=rate), rate=rate)
    for reading in (meter.integrated, meter.short_term, meter.momentary, meter.max_short_term, meter.max_momentary):
        assert reading == pytest.approx(level, abs=0.1)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(-36, 10), (-23, 60), (-36, 10)], id="case-3-relative-gate"),
        pytest.param([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], id="case-4-both-gates"),
        pytest.param([(-26, 20), (-20, 20.1), (-26, 20)], id="case-5-no-gate"),
    ],
)
def test_ebu_gating_cases_read_minus_23(parts: Sequence[tuple[float, float]]) -> None:
    assert measure(*sines(*parts)).integrated == pytest.approx(-23, abs=0.1)


def test_ebu_case_6_five_channels_are_weighted() -> None:
    levels = (-28, -28, -24, -30, -30)
    wave = np.concatenate([tone(1_000, level, 20, channels=1) for level in levels], axis=1)
    assert measure(wave).integrated == pytest.approx(-23, abs=0.1)
    with_lfe = np.insert(wave, 3, wave[:, 2], axis=1)
    assert measure(with_lfe).integrated == pytest.approx(-23, abs=0.1)


def test_ebu_case_9_short_term_is_steady_over_alternating_levels() -> None:
    meter = LoudnessMeter(RATE)
    readings = []
    for part in sines(*[(-20, 1.34), (-30, 1.66)] * 5):
        for block in pieces(part, [RATE // 10]):
            meter.push(block)
            readings.append(meter.short_term)
    assert readings[31:] == pytest.approx([-23] * len(readings[31:]), abs=0.1)


@pytest.mark.parametrize("index", [0, 7, 19])
def test_ebu_case_10_short_term_catches_three_seconds_anywhere(index: int) -> None:
    silence = np.zeros((round(0.15 * index * RATE), 2), np.float32)
    assert measure(silence, *sines((-23, 3)), np.zeros((RATE, 2), np.float32)).max_short_term == pytest.approx(
        -23, abs=0.1
    )


def test_ebu_case_12_momentary_is_steady_over_fast_alternation() -> None:
    meter = LoudnessMeter(RATE)
    readings = []
    for part in sines(*[(-20, 0.18), (-30, 0.22)] * 25):
        meter.push(part)
        readings.append(meter.momentary)
    assert readings[6:] == pytest.approx([-23] * len(readings[6:]), abs=0.1)


@pytest.mark.parametrize(
    ("cycle", "phase", "amplitude", "expected"),
    [
        (4, 0.0, 0.5, -6.0),  # case 15
        (4, 45.0, 0.5, -6.0),  # 16
        (6, 60.0, 0.5, -6.0),  # 17
        (8, 67.5, 0.5, -6.0),  # 18
        (4, 45.0, 1.41, 3.0),  # 19
    ],
)
def test_ebu_true_peak_cases(cycle: int, phase: float, amplitude: float, expected: float) -> None:
    # Faded in over 10 ms, as in the test files: an abrupt start has a true peak of its own.
    wave = amplitude * np.sin(2 * np.pi * np.arange(RATE) / cycle + np.radians(phase))
    wave[:480] *= np.linspace(0, 1, 480)
    meter = measure(np.stack([wave, wave], axis=1).astype(np.float32))
    assert expected - 0.4 <= meter.true_peak <= expected + 0.2


def test_mono_reads_three_below_stereo_and_silence_reads_nothing() -> None:
    assert measure(tone(1_000, -20, 5, channels=1)).integrated == pytest.approx(-23, abs=0.1)
    silent = measure(np.zeros((RATE * 5, 2), np.float32))
    assert silent.integrated == silent.short_term == silent.true_peak == -np.inf
    with pytest.raises(ParameterError, match="true_peak"):
        _ = LoudnessMeter(RATE, true_peak=False).true_peak


def test_the_meter_agrees_with_ffmpeg(need_tool: Callable[[str], str], tmp_path: object) -> None:
    rng = np.random.default_rng(4)
    envelope = np.repeat(rng.uniform(0.001, 1, 60), RATE // 4)[:, None]
    wave = (noise(len(envelope), level=0.3, seed=5) * envelope).astype(np.float32)
    path = f"{tmp_path}/noise.wav"
    write_audio(path, wave, RATE)
    command = [need_tool("ffmpeg"), "-nostats", "-i", path, "-af", "ebur128=peak=true", "-f", "null", "-"]
    summary = subprocess.run(command, capture_output=True, text=True, check=True).stderr.rpartition("Summary:")[2]
    integrated, peak = (float(re.findall(rf"{name}:\s+(-?[\d.]+)", summary)[0]) for name in ("I", "Peak"))
    meter = measure(np.clip(wave, -1, 1))
    assert meter.integrated == pytest.approx(integrated, abs=0.06)  # ffmpeg prints one decimal
    assert meter.true_peak == pytest.approx(peak, abs=0.4)  # white noise near half the rate, where filters differ most


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9_000), max_size=5).map(lambda sizes: [*sizes, 3_000]))
def test_readings_do_not_depend_on_the_blocks(sizes: list[int]) -> None:
    wave = noise(70_001, level=0.2)
    whole, cut = measure(wave, rate=11_025), LoudnessMeter(11_025)
    for block in pieces(wave, sizes):
        cut.push(block)
    assert (cut.integrated, cut.short_term, cut.momentary) == (whole.integrated, whole.short_term, whole.momentary)
    assert cut.true_peak == pytest.approx(whole.true_peak, abs=1e-6)


def test_reset_starts_afresh_and_a_nan_does_not_stay() -> None:
    meter = measure(tone(1_000, -3, 2))
    meter.reset()
    assert meter.integrated == -np.inf
    spoiled = tone(1_000, -23, 10)
    spoiled[100] = np.nan
    spoiled[200] = np.inf
    meter.push(spoiled)
    assert meter.integrated == pytest.approx(-23, abs=0.1)
