"""Audio to mel amplitudes."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.errors import ParameterError
from riffstream.spectrogram.mel import filterbank
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["analyse", "frame_positions", "stft_magnitude"]

# Samples of framed audio in flight: bounds the memory of an hour-long file to some hundred megabytes.
BLOCK_SAMPLES = 1 << 22


@lru_cache(maxsize=32)
def hann(length: int) -> Tensor:
    """Periodic Hann window, [length] float32. The tensor is cached and shared: do not write to it."""
    return torch.hann_window(length)


def frame_positions(frames: int, hop: float, first: int = 0) -> Tensor:
    """Centre of each frame in samples: ``round(k * hop)`` for k = first ... first + frames - 1, int64 [frames]."""
    return (torch.arange(first, first + frames, dtype=torch.float64) * hop).round().long()


def stft_magnitude(
    wave: Tensor,
    *,
    n_fft: int,
    window: int,
    hop: float,
    frames: int | None = None,
    first: int = 0,
    at: Tensor | None = None,
) -> Tensor:
    """Magnitudes of the short-time Fourier transform with a fractional hop and reflected edges.

    Args:
        wave: [..., N] float32, N >= 1.
        n_fft, window: lengths in samples; the window is centred in the transform.
        hop: samples from frame to frame, more than 0.
        frames: number of frames; ``N // hop + 1`` by default.
        first: index of the first frame.
        at: centres of the frames in samples, [frames], rising and >= 0, in place of even ones.

    Returns:
        [..., n_fft // 2 + 1, frames] float32.
    """
    if hop <= 0:
        raise ParameterError("hop", hop, "greater than 0 samples")
    n_samples = wave.shape[-1]
    if n_samples < 1:
        raise ParameterError("wave", tuple(wave.shape), "at least one sample")
    if at is not None:
        frames = len(at)
    elif frames is None:
        frames = int(n_samples / hop + 1e-9) + 1 - first
    flat = wave.reshape(-1, n_samples).float()
    half = n_fft // 2
    positions = frame_positions(frames, hop, first) if at is None else at.round().long()
    reach = int(positions[-1]) + n_fft - half - n_samples if frames else 0
    flat = _reflect(flat, half, max(reach, half))
    taps = torch.zeros(n_fft, device=flat.device)
    left = (n_fft - window) // 2
    taps[left : left + window] = hann(window).to(flat.device)
    views = flat.unfold(-1, n_fft, 1)  # frame k starts at its centre - half, which the padding moved to its centre
    block = max(1, BLOCK_SAMPLES // (n_fft * flat.shape[0]))
    parts = [
        torch.fft.rfft(views[:, positions[k : k + block].to(flat.device)] * taps).abs() for k in range(0, frames, block)
    ]
    spectrum = torch.cat(parts, 1) if parts else flat.new_zeros(flat.shape[0], 0, half + 1)
    return spectrum.transpose(-1, -2).reshape(*wave.shape[:-1], half + 1, frames)


def _reflect(flat: Tensor, left: int, right: int) -> Tensor:
    """Reflect padding for waves of any length: zeros where the reflection runs out."""
    room = flat.shape[-1] - 1
    inner = F.pad(flat[None], (min(left, room), min(right, room)), mode="reflect")[0] if room else flat
    return F.pad(inner, (left - min(left, room), right - min(right, room)))


def analyse(
    wave: Tensor,
    params: SpectrogramParams,
    *,
    hop: float | None = None,
    frames: int | None = None,
    first: int = 0,
    at: Tensor | None = None,
) -> Tensor:
    """Mel amplitudes of audio: magnitudes through the mel filter bank, frame k centred at ``round(k * hop)``.

    Args:
        wave: [..., N] float32. The amplitudes scale with it; Riffusion feeds int16 units (-32768 to 32767).
        params: the spectrogram's parameters.
        hop: samples from frame to frame (``params.hop(bpm)``); ``params.hop()`` by default.
        frames: number of frames; by default ``N // hop + 1``, as in torchaudio. Set it for a loop: N = frames * hop
            samples have one frame fewer than the default.
        first: index of the first frame. It lets a bar in the middle of a song be analysed with its surroundings.
        at: centres of the frames in samples, [T], rising and >= 0, in place of even ones: the frames of followed beats.

    Returns:
        [..., M, T] float32 >= 0.
    """
    hop = params.hop() if hop is None else hop
    linear = stft_magnitude(wave, n_fft=params.n_fft, window=params.window, hop=hop, frames=frames, first=first, at=at)
    return (linear.transpose(-1, -2) @ filterbank(params).to(linear.device)).transpose(-1, -2)
