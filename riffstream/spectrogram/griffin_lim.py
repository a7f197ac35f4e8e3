"""Griffin-Lim over a whole spectrogram with torchaudio's conventions: the reference for the vocoder."""

from __future__ import annotations

import torch
from torch import Tensor

from riffstream.spectrogram.analysis import hann

__all__ = ["griffin_lim"]


def griffin_lim(
    magnitudes: Tensor,
    window: int,
    hop: int,
    iterations: int = 32,
    *,
    n_fft: int | None = None,
    momentum: float = 0.99,
    generator: torch.Generator | None = None,
    random_start: bool = False,
) -> Tensor:
    """Fast Griffin-Lim (Perraudin, Balazs and Søndergaard 2013), numerically equal to torchaudio's ``GriffinLim``.

    Args:
        magnitudes: [..., n_fft // 2 + 1, T] float32 >= 0.
        window: length of the periodic Hann window in samples.
        hop: samples from frame to frame.
        iterations: 0 or more.
        n_fft: length of the Fourier transform; the window's by default.
        momentum: 0 is the algorithm of 1984; values near 1 converge faster.
        generator: generator of the random start; torch's global one by default.
        random_start: start from uniformly random complex numbers instead of phase 0.

    Returns:
        [..., (T - 1) * hop] float32.
    """
    n_fft = window if n_fft is None else n_fft
    flat = magnitudes.reshape(-1, *magnitudes.shape[-2:])
    taps = hann(window).to(flat.device)
    share = momentum / (1 + momentum)
    if random_start:
        angles = torch.rand(flat.shape, dtype=torch.complex64, device=flat.device, generator=generator)
    else:
        angles = torch.ones(flat.shape, dtype=torch.complex64, device=flat.device)
    previous = torch.zeros_like(angles)
    for _ in range(iterations):
        wave = torch.istft(flat * angles, n_fft, hop, window, taps)
        rebuilt = torch.stft(wave, n_fft, hop, window, taps, return_complex=True)
        angles = rebuilt - previous * share
        angles = angles / (angles.abs() + 1e-16)
        previous = rebuilt
    wave = torch.istft(flat * angles, n_fft, hop, window, taps)
    return wave.reshape(*magnitudes.shape[:-2], -1)
