"""Phase from magnitudes alone, in one causal pass (phase-gradient integration).

For a Gaussian window the phase gradient of a spectrogram follows from its log-magnitude: the gradient along time from
the slope along frequency, and vice versa. Průša, Balazs and Søndergaard, "A Noniterative Method for Reconstruction of
Phase from STFT Magnitude" (2017), integrate it from the loudest bin outwards with a heap; Průša and Holighaus,
"Real-Time Spectrogram Inversion Using Phase Vocoder" (2016), do so frame by frame. The heap derives the phase of each
bin from its loudest neighbour: the same bin of the previous frame, or an adjacent bin of the same frame. The magnitudes
around the bin decide which. This implementation makes the choice for all bins of all frames at once. Chains along
frequency become differences of one cumulative sum, so that each frame needs only one gather and one addition.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["PhaseIntegrator"]

# gamma / window**2 of the Gaussian closest to a Hann window (Průša et al. 2017, table of window constants).
HANN_GAMMA = 0.25645
FLOOR = 1e-6  # of a frame's loudest bin; below it the phase is inaudible
ONSET = 4.0  # nepers (35 dB) that a peak must have risen by in one hop to count as new
TURN = 2.0**32


class PhaseIntegrator:
    """Streaming phase estimate, one frame behind its input.

    Phases are int32 fractions of a turn (2**32 a turn). They wrap by themselves, stay exact however long the stream
    runs, and do not depend on how the stream was cut.

    Args:
        hop: samples from frame to frame.
        window: length of the Hann window and of the Fourier transform.
    """

    def __init__(self, hop: int, window: int) -> None:
        gamma = HANN_GAMMA * window**2
        # In turns, per bin and per frame: the phase gradient along frequency for a unit slope of log-magnitude along
        # time, and the gradient along time for a unit slope along frequency (on top of the bin's own frequency).
        self._along_frequency = -gamma / (hop * window) / (2 * math.pi)
        self._along_time = hop * window / gamma / (2 * math.pi)
        self._own = hop / window
        self.reset()

    def reset(self) -> None:
        """Return to the initial state: the next frame is the first."""
        self._before: Tensor | None = None  # [B, 1, F] log-magnitude of the frame before the pending one
        self._pending: Tensor | None = None  # [B, 1, F] log-magnitude of the frame whose successor is not known yet
        self._advance: Tensor | None = None  # [B, 1, F] phase gradient along time of the frame before
        self._turns: Tensor | None = None  # [B, F] int32, phase of the frame before

    def push(self, magnitudes: Tensor, *, last: bool = False) -> Tensor:
        """Take the next frames.

        Args:
            magnitudes: [B, t, F] float32 >= 0, bins from 0 Hz on; t may be 0.
            last: no frame follows.

        Returns:
            [B, n, F] int32 phases relative to the window's centre, for the frames with a known successor (all frames
            if ``last``).
        """
        loudest = magnitudes.amax(-1, keepdim=True)
        logs = torch.log(torch.maximum(magnitudes, loudest * FLOOR).clamp_min_(1e-30))
        if self._pending is not None:
            logs = torch.cat((self._pending, logs), 1)
        count = logs.shape[1] if last else logs.shape[1] - 1
        if count <= 0:
            self._pending = logs if logs.shape[1] else None
            return torch.empty_like(magnitudes[:, :0], dtype=torch.int32)
        first = self._before is None
        known = logs if self._before is None else torch.cat((self._before, logs), 1)
        # The first frame has no predecessor. After the last frame the slope continues.
        known = torch.cat((known[:, :1], known), 1) if first else known
        if last:
            known = torch.cat((known, 2 * known[:, -1:] - known[:, -2:-1]), 1)
        turns = self._integrate(known[:, :-2], known[:, 1:-1], known[:, 2:], first)
        self._before, self._pending = known[:, -2:-1].clone(), known[:, -1:].clone()
        return turns

    def _integrate(self, before: Tensor, now: Tensor, after: Tensor, first: bool) -> Tensor:
        batch, frames, bins = now.shape
        # A window has no energy beyond half its length from its centre: at most half a turn a bin.
        across = ((after - before) * (0.5 * self._along_frequency)).clamp_(-0.5, 0.5)
        run = torch.zeros_like(across)
        torch.cumsum((across[..., 1:] + across[..., :-1]).mul_(0.5), -1, out=run[..., 1:])
        advance = torch.zeros_like(now)
        torch.sub(now[..., 2:], now[..., :-2], out=advance[..., 1:-1])
        # The main lobe of a Hann window is four bins wide: at most two bins from its own frequency.
        advance.mul_(0.5 * self._along_time).clamp_(-2 * self._own, 2 * self._own)
        advance += torch.arange(bins, device=now.device) * self._own
        earlier = torch.cat((advance[:, :1] if self._advance is None else self._advance, advance[:, :-1]), 1)
        self._advance = advance[:, -1:].clone()
        step = (earlier + advance).mul_(0.5)

        low = now.new_full((batch, frames, 1), -math.inf)
        left, right = torch.cat((low, now[..., :-1]), -1), torch.cat((now[..., 1:], low), -1)
        louder = torch.maximum(left, right)
        rooted = (before >= louder) | ((louder <= now) & (before >= now - ONSET))
        index = torch.arange(bins, device=now.device).expand(batch, frames, bins)
        loose = ~rooted
        below = index.masked_fill(loose, -1).cummax(-1).values
        above = index.masked_fill(loose, bins).flip(-1).cummin(-1).values.flip(-1)
        # Uphill, unless that side has no root. In a frame without roots the lowest bin is the root.
        source = torch.where((left > right) & (below >= 0) | (above >= bins), below, above).clamp_min_(0)
        source = torch.where(rooted, index, source)
        offset = run - run.gather(-1, source) + step.gather(-1, source)
        if first:
            offset[:, 0] = 0  # as if all sound started at the window's centre, the first sample
        ticks = (offset - offset.round()).mul_(TURN).clamp_(-(2**31), 2**31 - 128).to(torch.int32)

        turns = ticks.new_zeros(batch * bins) if self._turns is None else self._turns.reshape(-1)
        rows = torch.arange(batch, device=now.device)[:, None, None] * bins
        places = (source + rows).transpose(0, 1).reshape(frames, -1).unbind()
        out = ticks.transpose(0, 1).reshape(frames, -1)
        for place, phase in zip(places, out.unbind(), strict=True):
            turns = phase.add_(turns.index_select(0, place))
        self._turns = turns.reshape(batch, bins).clone()
        return out.reshape(frames, batch, bins).transpose(0, 1)
