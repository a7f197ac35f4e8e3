"""Griffin-Lim refinement and overlap-add as streaming stages.

An iteration of Griffin and Lim (1984) turns spectra into a signal and the signal back into spectra. Here each frame
uses the frames before it and one after it. Each iteration delays the stream by one hop, and later input never changes
a frame's result. The idea is that of RTISI-LA (Zhu, Beauregard and Wyse 2007), applied to all frames at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from riffstream.spectrogram.analysis import hann
from riffstream.spectrogram.grid import Geometry

__all__ = ["OverlapAdd", "Refinement", "impose"]


class Refinement:
    """One Griffin-Lim iteration over a stream of frames, with a delay of one frame.

    Args:
        geometry: window and hop.
        bins: number of bins, from 0 Hz up.
        device: torch device of the tensors.
    """

    def __init__(self, geometry: Geometry, bins: int, device: torch.device | str = "cpu") -> None:
        self._geometry, self._bins = geometry, bins
        hop, overlap = geometry.hop, geometry.overlap
        self._window = hann(geometry.window).to(device)
        squares = self._window.square().view(overlap, hop)
        # [frames before, frames after, overlap, hop]: the window divided by the sum of the squared windows there.
        table = torch.zeros(overlap, 2, overlap, hop, device=device)
        for before in range(overlap):
            for after in range(2):
                total = squares.clone()
                for distance in range(1, before + 1):
                    total[: overlap - distance] += squares[distance:]
                if after:
                    total[1:] += squares[:-1]
                table[before, after] = self._window.view(overlap, hop) / total.clamp_min(1e-6)
        self._normalise = table
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._held: Tensor | None = None  # [B, k, overlap, hop] windowed signals of the frames before the next one
        self._emitted = 0  # frames emitted, at most overlap - 1: number of held frames in the past

    def push(self, spectra: Tensor, *, last: bool = False) -> Tensor:
        """Take the next spectra.

        Args:
            spectra: [B, t, bins] complex64.
            last: no frame follows.

        Returns:
            [B, n, bins] complex64: spectra of the resynthesised signal, for the frames with a known successor.
        """
        overlap, batch = self._geometry.overlap, spectra.shape[0]
        frames = _signals(spectra, self._geometry, self._window)
        if self._held is not None:
            frames = torch.cat((self._held, frames), 1)
        start, known = self._emitted, frames.shape[1]
        stop = known if last else known - 1
        if stop <= start:
            self._held = frames
            return spectra[:, :0]
        joined = frames[:, start:stop].clone()
        for distance in range(1, overlap):
            low = max(start, distance)
            if low < stop:
                earlier = frames[:, low - distance : stop - distance, distance:]
                joined[:, low - start :, : overlap - distance] += earlier
        later = frames[:, start + 1 : stop + 1, : overlap - 1]
        joined[:, : later.shape[1], 1:] += later
        joined *= self._scale(start, stop, known)
        self._emitted = min(stop, overlap - 1)
        self._held = frames[:, stop - self._emitted :].clone()
        spectrum: Tensor = torch.fft.rfft(joined.view(batch, stop - start, -1))
        return spectrum[..., : self._bins]

    def _scale(self, start: int, stop: int, known: int) -> Tensor:
        steady = self._geometry.overlap - 1
        if start >= steady and stop < known:
            return self._normalise[steady, 1]
        before = [min(k, steady) for k in range(start, stop)]
        after = [int(k + 1 < known) for k in range(start, stop)]
        return self._normalise[before, after]


def _signals(spectra: Tensor, geometry: Geometry, window: Tensor) -> Tensor:
    """Windowed signals [..., t, overlap, hop] of spectra [..., t, bins]; t may be 0."""
    shape = (*spectra.shape[:-1], geometry.overlap, geometry.hop)
    if not spectra.shape[-2]:
        return window.new_zeros(shape)
    signals: Tensor = torch.fft.irfft(spectra, n=geometry.window) * window
    return signals.view(shape)


def impose(spectra: Tensor, magnitudes: Tensor) -> Tensor:
    """Combine the phases of ``spectra`` (complex64) with ``magnitudes`` (float32, broadcast); 0 has phase 0.

    Several times faster than ``magnitudes * spectra / spectra.abs()``.
    """
    real, imaginary = spectra.real, spectra.imag
    scale = (real * real).addcmul_(imaginary, imaginary).clamp_min_(1e-36).rsqrt_()
    return spectra * (magnitudes * scale)


class OverlapAdd:
    """Streaming inverse transform: overlapping windowed frames added, divided by the sum of their squared windows.

    The first sample out is the centre of the first frame.
    """

    def __init__(self, geometry: Geometry, device: torch.device | str = "cpu") -> None:
        self._geometry = geometry
        self._window = hann(geometry.window).to(device)
        self._squares = self._window.square().view(geometry.overlap, geometry.hop)
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._tail: Tensor | None = None  # [..., overlap - 1, hop] sums that are not final yet
        self._count = 0  # frames so far

    def push(self, spectra: Tensor, *, last: bool = False) -> Tensor:
        """Take spectra [..., t, bins] complex64; return the final samples [..., n].

        With ``last``, all remaining samples are returned.
        """
        hop, overlap = self._geometry.hop, self._geometry.overlap
        lead, count = spectra.shape[:-2], spectra.shape[-2]
        frames = _signals(spectra, self._geometry, self._window)
        sums = frames.new_zeros(*lead, count + overlap - 1, hop)
        if self._tail is not None:
            sums[..., : overlap - 1, :] = self._tail
        for part in reversed(range(overlap)):  # oldest frame first, so that the rounding does not depend on the cuts
            sums[..., part : part + count, :] += frames[..., part, :]
        first = self._count
        self._count += count
        ready = count + overlap - 1 if last else count
        self._tail = sums[..., count:, :].clone()
        sums = sums[..., :ready, :] / self._norm(first, first + ready)
        samples = sums.reshape(*lead, ready * hop)
        skipped = self._geometry.window // 2 - first * hop  # what lies before the first frame's centre
        return samples[..., min(max(skipped, 0), samples.shape[-1]) :]

    def _norm(self, first: int, stop: int) -> Tensor:
        """Sum of squared windows in hop-long pieces first ... stop - 1: [stop - first, hop] or [hop]."""
        overlap = self._geometry.overlap
        if first == stop or (first >= overlap - 1 and stop <= self._count):
            return self._squares.sum(0)
        rows = [
            self._squares[max(0, piece - self._count + 1) : min(piece, overlap - 1) + 1].sum(0)
            for piece in range(first, stop)
        ]
        return torch.stack(rows).clamp_min(1e-3)
