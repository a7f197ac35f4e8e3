"""Effects for the corpus: vectorised, stereo, [2, N] float32 in and out, 48 kHz.

Time-varying filters work on short spectra, not on samples, and run hundreds of times faster than real time. The
training material is a magnitude spectrogram, so their phase does not matter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import signal

__all__ = [
    "RATE",
    "amplifier",
    "chorus",
    "compress",
    "delay",
    "equalise",
    "high_pass",
    "level",
    "limit",
    "loudness",
    "low_pass",
    "moving_filter",
    "phaser",
    "pump",
    "reverb",
    "tape",
    "vinyl",
    "widen",
]

RATE = 48000
_FFT, _HOP = 1024, 512


def low_pass(wave: np.ndarray, hz: float, order: int = 2) -> np.ndarray:
    """Butterworth low pass at ``hz``."""
    sos = signal.butter(order, min(hz, 0.45 * RATE), fs=RATE, output="sos")
    return np.asarray(signal.sosfilt(sos, wave).astype(np.float32))


def high_pass(wave: np.ndarray, hz: float, order: int = 2) -> np.ndarray:
    """Butterworth high pass at ``hz``."""
    return np.asarray(signal.sosfilt(signal.butter(order, hz, "high", fs=RATE, output="sos"), wave).astype(np.float32))


def equalise(wave: np.ndarray, hz: float, gain_db: float, q: float = 0.8) -> np.ndarray:
    """One peaking band (RBJ audio EQ cookbook)."""
    amplitude, w = 10 ** (gain_db / 40), 2 * np.pi * hz / RATE
    alpha = np.sin(w) / (2 * q)
    b = np.array([1 + alpha * amplitude, -2 * np.cos(w), 1 - alpha * amplitude])
    a = np.array([1 + alpha / amplitude, -2 * np.cos(w), 1 - alpha / amplitude])
    return np.asarray(signal.lfilter(b / a[0], a / a[0], wave).astype(np.float32))


def moving_filter(
    wave: np.ndarray, cutoff_hz: np.ndarray, resonance: float = 0.0, *, kind: str = "low", slope: float = 4.0
) -> np.ndarray:
    """A resonant filter with a time-varying cutoff.

    Args:
        wave: [2, N] or [N].
        cutoff_hz: [K], K >= 2, cutoff frequencies at equal distances over the wave.
        resonance: 0 (none) to 1 (about 20 dB at the cutoff).
        kind: "low", "high" or "band".
        slope: filter order; 4 is 24 dB per octave.
    """
    mono = wave.ndim == 1
    x = np.atleast_2d(wave)
    samples = x.shape[-1]
    padded = np.pad(x, ((0, 0), (_FFT // 2, _FFT + (-samples) % _HOP)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT, axis=-1)[:, ::_HOP]
    count = frames.shape[1]
    window = np.sqrt(signal.get_window("hann", _FFT)).astype(np.float32)
    spectrum = np.fft.rfft(frames * window, axis=-1).astype(np.complex64)
    track = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(cutoff_hz)), cutoff_hz).astype(np.float32)
    bins = np.maximum(np.fft.rfftfreq(_FFT, 1 / RATE), 10.0).astype(np.float32)
    ratio = bins[None] / np.maximum(track, 20.0)[:, None]
    if kind == "low":
        gain = 1 / np.sqrt(1 + ratio ** (2 * slope))
    elif kind == "high":
        gain = 1 / np.sqrt(1 + ratio ** (-2 * slope))
    else:
        gain = 1 / np.sqrt(1 + (np.abs(np.log2(ratio)) / 0.7) ** slope)
    if resonance > 0:
        gain = gain * (1 + 9 * resonance * np.exp(-((np.log2(ratio) * (2.5 + 3 * resonance)) ** 2)))
    spectrum *= gain
    back = np.fft.irfft(spectrum, axis=-1).astype(np.float32) * window  # root Hann twice: halves sum to 1
    out = np.zeros((x.shape[0], count * _HOP + _FFT), np.float32)
    for shift in range(_FFT // _HOP):
        part = back[:, shift :: _FFT // _HOP]
        flat = part.reshape(x.shape[0], -1)
        out[:, shift * _HOP : shift * _HOP + flat.shape[1]] += flat
    out = out[:, _FFT // 2 : _FFT // 2 + samples]
    return out[0] if mono else out


@lru_cache(maxsize=64)
def _room(seconds: float, brightness_hz: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    count = int(RATE * seconds * 1.2)
    noise = rng.standard_normal((2, count)).astype(np.float32)
    time = np.arange(count) / RATE
    dark = low_pass(noise, brightness_hz * 0.35, 1) * np.exp(-6.9 * time / seconds)
    bright = (noise - low_pass(noise, brightness_hz * 0.35, 1)) * np.exp(-6.9 * time / (0.45 * seconds))
    tail = high_pass(low_pass(dark + 0.6 * bright, brightness_hz), 150)
    onset = int(0.012 * RATE)
    tail[:, :onset] *= np.linspace(0, 1, onset) ** 2
    return np.asarray((tail / np.sqrt((tail**2).sum() / 2)).astype(np.float32))


def reverb(wave: np.ndarray, seconds: float, mix: float, *, brightness_hz: float = 6000.0, seed: int = 0) -> np.ndarray:
    """A diffuse room: convolution with decaying noise, independent in the two channels.

    Args:
        wave: [2, N].
        seconds: time to fall by 60 dB (0.3 a room, 2 a hall, 6 a cathedral).
        mix: level of the reverb relative to the direct sound, 0 to 1.
        brightness_hz: cutoff of the damping.
        seed: seed of the room's noise.
    """
    wet = signal.oaconvolve(wave, _room(round(seconds, 1), round(brightness_hz, -2), seed % 4), axes=-1)
    return np.asarray((wave * (1 - 0.4 * mix) + mix * wet[:, : wave.shape[1]]).astype(np.float32))


def delay(
    wave: np.ndarray, seconds: float, *, feedback: float = 0.4, mix: float = 0.3, damp_hz: float = 3500.0
) -> np.ndarray:
    """A ping-pong delay with echoes of decreasing brightness."""
    step = int(seconds * RATE)
    out = wave.copy()
    echo, gain = wave, mix
    for _ in range(6):
        if gain < 0.02 or step >= wave.shape[1]:
            break
        echo = low_pass(np.pad(echo, ((0, 0), (step, 0)))[::-1, : wave.shape[1]], damp_hz, 1)
        out += gain * echo
        gain *= feedback
    return out


def chorus(wave: np.ndarray, *, rate_hz: float = 0.7, depth_ms: float = 3.0, mix: float = 0.5) -> np.ndarray:
    """A chorus: two modulated copies, opposite in the two channels."""
    time = np.arange(wave.shape[1])
    out = wave * (1 - 0.3 * mix)
    for channel in range(2):
        sway = np.sin(2 * np.pi * rate_hz * time / RATE + channel * np.pi / 2)
        position = np.maximum(time - RATE * (0.012 + depth_ms * 1e-3 * 0.5 * (1 + sway)), 0)
        out[channel] += mix * np.interp(position, time, wave[channel])
    return out.astype(np.float32)


def phaser(wave: np.ndarray, *, rate_hz: float = 0.3, mix: float = 0.7) -> np.ndarray:
    """A phaser: sweeping notches, made by subtraction of moving bands."""
    points = np.linspace(0, wave.shape[1] / RATE, max(8, wave.shape[1] // 4000))
    sweep = 400 * 2 ** (2.2 * (1 + np.sin(2 * np.pi * rate_hz * points)) / 2)
    return (
        wave - mix * moving_filter(wave, sweep, kind="band") - 0.6 * mix * moving_filter(wave, sweep * 3.1, kind="band")
    )


def compress(
    wave: np.ndarray, threshold_db: float = -20.0, ratio: float = 3.0, *, attack_ms: float = 8.0
) -> np.ndarray:
    """A compressor on the louder channel, with make-up gain for material at the threshold."""
    block = 128
    count = -(-wave.shape[1] // block)
    peak = np.pad(np.abs(wave).max(0), (0, count * block - wave.shape[1])).reshape(count, block).max(1)
    step = block / RATE
    # Attack by a forward pass, release by an exponential average: both one-pole filters on the block envelope.
    fast = signal.lfilter([1 - np.exp(-step / (attack_ms * 1e-3))], [1, -np.exp(-step / (attack_ms * 1e-3))], peak)
    slow = signal.lfilter([1 - np.exp(-step / 0.15)], [1, -np.exp(-step / 0.15)], peak)
    over = np.maximum(20 * np.log10(np.maximum(np.maximum(fast, slow), 1e-6)) - threshold_db, 0)
    gain = 10 ** (-over * (1 - 1 / ratio) / 20)
    return np.asarray((wave * np.interp(np.arange(wave.shape[1]), np.arange(count) * block, gain)).astype(np.float32))


def pump(
    wave: np.ndarray, beat_samples: float, *, depth: float = 0.8, release: float = 0.6, offset: float = 0.0
) -> np.ndarray:
    """Side-chain ducking on every beat, like that of a kick drum (``release`` in beats)."""
    phase = ((np.arange(wave.shape[1]) / beat_samples - offset) % 1.0).astype(np.float32)
    return np.asarray(wave * (1 - depth * np.clip(1 - phase / release, 0, 1) ** 1.5))


def amplifier(wave: np.ndarray, drive: float) -> np.ndarray:
    """A guitar amplifier: tight low end, gain, soft clipping, a speaker cabinet.

    Args:
        wave: [2, N] or [N] at any level; it is normalised first.
        drive: 1 (edge of breaking up) to 40 (metal).
    """
    x = high_pass(wave, 90, 1)
    scale = np.sqrt((x**2).mean()) * 4 + 1e-9
    x = equalise(x / scale, 800, 6, 0.6)
    x = np.tanh(drive * x + 0.15) - np.tanh(0.15)
    x = equalise(low_pass(high_pass(x, 80), 4800, 4), 2600, 5, 1.0)
    x = equalise(x, 400, -4, 1.0)
    return np.asarray((x * scale * 0.35).astype(np.float32))


def tape(wave: np.ndarray, *, wow: float = 1.0, seed: int = 0) -> np.ndarray:
    """Cassette: dull top, soft saturation, slow flutter, a little hiss."""
    rng = np.random.default_rng(seed)
    time = np.arange(wave.shape[1])
    sway = np.sin(2 * np.pi * (0.6 + 0.3 * rng.random()) * time / RATE) + 0.25 * np.sin(2 * np.pi * 6.3 * time / RATE)
    position = np.clip(time + wow * 25 * sway, 0, time[-1])
    out = np.stack([np.interp(position, time, channel) for channel in wave])
    peak = np.abs(out).max() + 1e-9
    out = np.tanh(1.6 * out / peak) * peak / 1.3
    hiss = rng.standard_normal(wave.shape).astype(np.float32) * peak * 0.0012
    return np.asarray(low_pass(out.astype(np.float32), 6500, 2) + hiss)


def vinyl(wave: np.ndarray, *, amount: float = 1.0, seed: int = 0) -> np.ndarray:
    """A worn record: crackle, rumble, a narrower band."""
    rng = np.random.default_rng(seed)
    samples = wave.shape[1]
    peak = np.abs(wave).max() + 1e-9
    clicks = np.zeros((2, samples), np.float32)
    count = rng.poisson(9 * amount * samples / RATE)
    places = rng.integers(0, samples, count)
    clicks[rng.integers(0, 2, count), places] = rng.exponential(0.1, count) * rng.choice([-1, 1], count)
    clicks = high_pass(low_pass(clicks, 7000, 1), 700, 1) * 2
    surface = low_pass(rng.standard_normal((2, samples)).astype(np.float32), 5000, 1) * 0.0016
    return np.asarray(high_pass(low_pass(wave, 9000, 2), 60, 1) + peak * amount * (clicks + surface))


def widen(wave: np.ndarray, width: float) -> np.ndarray:
    """Scale the side signal: 0 mono, 1 unchanged, 2 wide."""
    middle, side = wave.mean(0), (wave[0] - wave[1]) / 2
    return np.stack([middle + width * side, middle - width * side])


def loudness(wave: np.ndarray) -> float:
    """Integrated loudness in LUFS: K weighting and both gates of ITU-R BS.1770-4, blocks of 400 ms without overlap."""
    b1, a1 = [1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585]
    b2, a2 = [1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]
    weighted = signal.lfilter(b2, a2, signal.lfilter(b1, a1, wave))
    block = int(0.4 * RATE)
    count = max(1, weighted.shape[1] // block)
    power = np.array([(weighted[:, i * block : (i + 1) * block] ** 2).mean(1).sum() for i in range(count)]) + 1e-12
    db = -0.691 + 10 * np.log10(power)
    kept = power[db > -70]
    if not len(kept):
        return -70.0
    gate = -0.691 + 10 * np.log10(kept.mean()) - 10
    return float(-0.691 + 10 * np.log10(power[(db > -70) & (db > gate)].mean()))


def level(wave: np.ndarray, target_lufs: float = -18.0) -> np.ndarray:
    """Normalise the loudness; the limiter keeps peaks below -1 dBFS."""
    return limit(wave * 10 ** ((target_lufs - loudness(wave)) / 20))


def limit(wave: np.ndarray, ceiling: float = 0.89) -> np.ndarray:
    """A look-ahead limiter: the gain falls within 5 ms before a peak and recovers in 50 ms."""
    if np.abs(wave).max() <= ceiling:
        return wave.astype(np.float32)
    block = 48
    count = -(-wave.shape[1] // block)
    peak = np.pad(np.abs(wave).max(0), (0, count * block - wave.shape[1])).reshape(count, block).max(1)
    need = np.minimum(1, ceiling / np.maximum(peak, 1e-9))
    held = np.lib.stride_tricks.sliding_window_view(np.pad(need, (6, 6), mode="edge"), 13).min(1)
    smooth = np.convolve(np.pad(held, (5, 5), mode="edge"), np.ones(11) / 11, "valid")
    gain = np.interp(np.arange(wave.shape[1]), (np.arange(count) + 0.5) * block, smooth)
    return np.clip(wave * gain, -ceiling, ceiling).astype(np.float32)
