"""Signals and helpers shared by the audio tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from riffstream.audio.checks import Pcm

RATE = 48_000


def tone(hz: float, dbfs: float, seconds: float, *, rate: int = RATE, channels: int = 2) -> Pcm:
    """A sine whose peak lies at ``dbfs``, the same on every channel, faded over nothing."""
    n = round(seconds * rate)
    wave = 10 ** (dbfs / 20) * np.sin(2 * np.pi * hz * np.arange(n) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def noise(n: int, *, level: float = 0.1, seed: int = 0, channels: int = 2) -> Pcm:
    """White noise of a standard deviation, independent on each channel."""
    return (np.random.default_rng(seed).standard_normal((n, channels)) * level).astype(np.float32)


def music(n: int, *, level: float = 0.1, seed: int = 0) -> Pcm:
    """Noise under 8 kHz, which every codec keeps well enough for its place to be found again."""
    sos = butter(4, 8_000, fs=RATE, output="sos")
    filtered = sosfilt(sos, np.random.default_rng(seed).standard_normal((n, 2)), axis=0)
    return (filtered * level / filtered.std()).astype(np.float32)


def pieces(pcm: Pcm, sizes: Sequence[int]) -> Iterable[Pcm]:
    """``pcm`` cut into blocks of the given sizes, over and over."""
    at = turn = 0
    while at < len(pcm):
        size = sizes[turn % len(sizes)]
        yield pcm[at : at + size]
        at += size
        turn += 1


def stream(push: Callable[[Pcm], Pcm], flush: Callable[[], Pcm], pcm: Pcm, sizes: Sequence[int]) -> Pcm:
    """What a streaming object makes of ``pcm`` in blocks."""
    return np.concatenate([push(block) for block in pieces(pcm, sizes)] + [flush()])


def lag(reference: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[int, float]:
    """Samples by which ``other`` comes after ``reference``, and their correlation there (first channel)."""
    n = min(len(reference), len(other))
    size = 1 << (n.bit_length() + 1)
    a, b = reference[:n, 0], other[:n, 0]
    product = np.fft.irfft(np.fft.rfft(a, size).conj() * np.fft.rfft(b, size), size)
    place = int(product.argmax())
    shift = place - size if place > size // 2 else place
    over = slice(max(0, -shift), n - max(0, shift))
    c, d = a[over], b[over.start + shift : over.stop + shift]
    return shift, float(c @ d / np.sqrt((c @ c) * (d @ d)))


def ffmpeg_decode(program: str, data: bytes, *, rate: int = RATE, channels: int = 2) -> Pcm:
    """Decode bytes as a player would get them from a socket; anything ffmpeg calls an error fails the test."""
    command = [program, "-v", "error", "-i", "-", "-f", "f32le", "-ac", str(channels), "-ar", str(rate), "-"]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32).reshape(-1, channels)


def clicks(bpm: float, seconds: float, first_s: float = 0.3, accent: int = 4) -> NDArray[np.float32]:
    """Noise bursts on the beats, [2, N] float32 at 48 kHz, with quieter ones on the half beats."""
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.001, (2, int(seconds * RATE)))
    burst = rng.normal(0, 1, 2400) * np.exp(-np.arange(2400) / 400)
    for k in range(2 * int(seconds * bpm / 60)):
        at = int((first_s + k * 30 / bpm) * RATE)
        if at + 2400 > wave.shape[1]:
            break
        wave[:, at : at + 2400] += burst * (0.08 if k % 2 else 0.4 if (k // 2) % accent else 0.6)
    return wave.astype(np.float32)


def cadence(key: int = 0, *, minor: bool = False, drums: float = 0.0) -> NDArray[np.float32]:
    """Eight chords at 120 a minute with a bass, [2, N] float32 at 48 kHz: in C major, ``key`` semitones up, or in C
    minor, so many up; with drums ``drums`` times as loud."""
    major = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14), (0, 4, 7))
    minors = ((0, 3, 7), (8, 12, 15), (3, 7, 10), (10, 14, 17), (0, 3, 7), (5, 8, 12), (7, 10, 14), (0, 3, 7))
    at = np.arange(RATE // 2) / RATE

    def note(midi: int) -> NDArray[np.float64]:
        hz = 440 * 2 ** ((midi - 69) / 12)
        partials = [np.sin(2 * np.pi * hz * n * at) / n**1.5 for n in range(1, 7)]
        return np.asarray(np.sum(partials, 0) * np.exp(-2 * at) * np.minimum(1, 200 * at))

    chords = minors if minor else major
    wave = np.concatenate([sum(note(60 + key + n) for n in chord) + 2 * note(36 + key + chord[0]) for chord in chords])
    burst = np.random.default_rng(0).normal(0, 1, 6000) * np.exp(-np.arange(6000) / 800)
    for begin in range(0, len(wave) - 6000, RATE // 4):
        wave[begin : begin + 6000] += drums * burst
    return np.stack([wave, wave]).astype(np.float32) * np.float32(0.1)


def drifting_beats(low: float, high: float, seconds: float, *, jitter_s: float = 0.0, first_s: float = 0.3) -> Pcm:
    """Positions in seconds of beats whose tempo rises from ``low`` to ``high`` bpm, each up to ``jitter_s`` off."""
    rng = np.random.default_rng(1)
    at, beats = first_s, []
    while at < seconds - 0.2:
        beats.append(at)
        at += 60 / (low + (high - low) * (at - first_s) / seconds)
    return np.array(beats) + rng.uniform(-jitter_s, jitter_s, len(beats))


def played(
    beats: NDArray[np.float64], seconds: float, parts: int = 4
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Noise bursts on the beats and on the parts of each, [2, N] float32 at 48 kHz, and the positions in seconds."""
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.001, (2, int(seconds * RATE)))
    at = np.interp(np.arange((len(beats) - 1) * parts + 1) / parts, np.arange(len(beats)), beats)
    for k, place in enumerate(at):
        begin = int(place * RATE)
        piece = (rng.normal(0, 1, 1500) * np.exp(-np.arange(1500) / 250))[: wave.shape[1] - begin]
        wave[:, begin : begin + len(piece)] += piece * (0.1 if k % parts else 0.5)
    return wave.astype(np.float32), at


def ramp(low: float, high: float, seconds: float) -> NDArray[np.float64]:
    """Positions in seconds of beats whose tempo goes from ``low`` to ``high`` bpm by the same share each second."""
    at, beats = 0.3, []
    while at < seconds - 0.2:
        beats.append(at)
        at += 60 / (low * (high / low) ** (at / seconds))
    return np.array(beats)


def bursts(
    places: NDArray[np.float64], seconds: float, levels: NDArray[np.float64] | None = None, *, seed: int = 0
) -> NDArray[np.float32]:
    """Noise bursts of 50 ms at positions in seconds, over soft noise: [2, N] float32 at 48 kHz."""
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 0.001, (2, int(seconds * RATE)))
    for number, place in enumerate(places[places < seconds]):
        begin = int(place * RATE)
        piece = (rng.normal(0, 1, 2400) * np.exp(-np.arange(2400) / 400))[: wave.shape[1] - begin]
        wave[:, begin : begin + len(piece)] += piece * (0.5 if levels is None else levels[number])
    return wave.astype(np.float32)
