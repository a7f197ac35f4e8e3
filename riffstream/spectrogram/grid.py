"""The synthesis grid: spectrogram frames at any tempo, resampled to the frames that the vocoder overlaps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["Geometry", "GridResampler"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Window and hop of the synthesis for a set of parameters.

    The hop does not depend on the spectrogram's hop: frames are interpolated to it. The overlap is therefore 83 % or
    more at any tempo, the tempo may change at any frame, and memory and work grow linearly with the duration.

    Attributes:
        hop: samples from one grid frame to the next.
        overlap: number of grid frames over each sample; the window is ``hop * overlap`` samples long.
    """

    hop: int
    overlap: int

    @classmethod
    def of(cls, params: SpectrogramParams) -> Geometry:
        """The spectrogram's own hop where it fits (no interpolation), else about an eighth of the window."""
        own = params.hop()
        if params.frames_per_beat is None and params.window % own == 0 and 6 <= params.window / own <= 12:
            return cls(int(own), int(params.window / own))
        for overlap in (8, 9, 7, 10, 6):
            if params.window % (2 * overlap) == 0:
                return cls(params.window // overlap, overlap)
        return cls(2 * max(1, round(params.window / 16)), 8)

    @property
    def window(self) -> int:
        """Length of the window and of the Fourier transform in samples, even."""
        return self.hop * self.overlap


class GridResampler:
    """Linear interpolation of frames with varying hops to a grid with a fixed hop, as a stream.

    Grid frame j is at sample ``j * grid_hop``; input frame k is at the rounded sum of the hops before it. A grid frame
    is emitted as soon as an input frame at or after its position has arrived. The results do not depend on how the
    input was cut.
    """

    def __init__(self, grid_hop: int) -> None:
        self.grid_hop = grid_hop
        self.reset()

    def reset(self) -> None:
        """Return to the initial state: the next frame is at sample 0."""
        self._base, self._count, self._hop = 0.0, 0, 0.0
        self._next = 0  # index of the next grid frame
        self._last: Tensor | None = None  # [..., 1, F], the latest frame
        self._last_position = 0

    @property
    def end(self) -> int:
        """Position of the next frame in samples: the length of the input so far."""
        return round(self._base + self._count * self._hop)

    def push(self, frames: Tensor, hop: float) -> Tensor:
        """Take frames [..., t, F], each ``hop`` samples long; return grid frames [..., g, F], g >= 0."""
        if hop != self._hop:
            # A multiple of one hop is exact. A sum frame by frame would depend on the chunks.
            self._base, self._count, self._hop = self._base + self._count * self._hop, 0, hop
        count = frames.shape[-2]
        positions = [round(self._base + (self._count + k) * hop) for k in range(count)]
        self._count += count
        if self._last is not None:
            frames = torch.cat((self._last, frames), -2)
            positions.insert(0, self._last_position)
        self._last = frames[..., -1:, :].clone()
        self._last_position = positions[-1]
        return self._interpolate(frames, positions, self._last_position // self.grid_hop + 1)

    def flush(self) -> Tensor | None:
        """Grid frames [..., g, F] up to the end of the last frame, which is repeated; None if nothing was pushed."""
        if self._last is None:
            return None
        return self._interpolate(self._last, [self._last_position], -(-self.end // self.grid_hop))

    def _interpolate(self, frames: Tensor, positions: list[int], stop: int) -> Tensor:
        lower: list[int] = []
        share: list[float] = []
        k = 0
        for sample in range(self._next * self.grid_hop, stop * self.grid_hop, self.grid_hop):
            while k + 1 < len(positions) and positions[k + 1] <= sample:
                k += 1
            lower.append(k)
            gap = positions[k + 1] - positions[k] if k + 1 < len(positions) else 0
            share.append((sample - positions[k]) / gap if gap else 0.0)
        self._next = max(self._next, stop)
        index = torch.tensor(lower, dtype=torch.long, device=frames.device)
        left = frames.index_select(-2, index)
        if not any(share):
            return left
        right = frames.index_select(-2, (index + 1).clamp_max(len(positions) - 1))
        weight = torch.tensor(share, dtype=torch.float32, device=frames.device)[:, None]
        return left * (1 - weight) + right * weight
