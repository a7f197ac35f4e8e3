"""Audio of a take: one vocoder and one resampler for all clips, so that they form one continuous stream.

Joins between clips: inside a clip an attack is visible in the spectrogram before its onset, because the windows of
earlier frames extend over it: at a bar line the level rises evenly in decibels over half a window. A clip is generated
without its successor, so its last frames lack this rise, and an attack at the join would be a step in place of a slope
(spectral flux 1.2 to 2 times that of the bar lines inside). So the last frames wait for the next clip and are completed
with it.

This module imports torch.

Threading model
  One thread makes every call.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from riffstream.audio.resample import StreamResampler
from riffstream.generator.messages import Pcm
from riffstream.protocol import SAMPLE_RATE
from riffstream.spectrogram.vocoder import Vocoder

__all__ = ["TakeStream", "complete", "reach"]

QUIET: Final = 10**-1.5  # amplitude below which bins are silence: the embedded model's floor of -30 dB
INT16: Final = 32768.0  # amplitudes of spectrogram images are in int16 units


def reach(window: int, hop: float) -> int:
    """Number of frames before a position whose windows extend over it; ``window`` and ``hop`` in samples."""
    return max(0, int(window / 2 / hop))


def complete(tail: Tensor, head: Tensor) -> Tensor:
    """Complete the last frames of a clip with a slope to the first frame of the next.

    Args:
        tail: [A, M, 1 + n] amplitudes: one unchanged frame, and the ``n`` frames to complete.
        head: [A, M, 1], first frame of the next clip.

    Returns:
        [A, M, n] amplitudes: each bin interpolated from ``tail[..., 0]`` to ``head`` in decibels, unless it is already
        closer to ``head``.
    """
    n = tail.shape[-1] - 1
    begin, end = tail[..., :1].clamp_min(QUIET).log(), head.clamp_min(QUIET).log()
    share = torch.arange(1, n + 1, device=tail.device, dtype=tail.dtype) / (n + 1)
    way = torch.lerp(begin, end, share).exp()
    own = tail[..., 1:]
    return torch.where(end > begin, torch.maximum(own, way), torch.minimum(own, way))


class TakeStream:
    """Conversion of a take's frames to samples at 48 kHz, as a stream.

    Args:
        vocoder: vocoder with the model's spectrogram parameters.
        channels: A, number of channels in the frames.
        stems: True adds the drums, the part of the sound under a mask.
    """

    def __init__(self, vocoder: Vocoder, channels: int, *, stems: bool = False) -> None:
        params = vocoder.params
        self._vocoder = vocoder.stream(channels, stems=stems)
        self._parts = 2 if stems else 1
        self._resampler = StreamResampler(params.sample_rate, SAMPLE_RATE, 2 * self._parts)
        self._scale = np.float32(1.0 if params.frames_per_beat is not None else 1 / INT16)
        self._tail_mask: Tensor | None = None  # [M, n] mask of the held frames
        self._tail: Tensor | None = None  # [A, M, 1 + n] last frame synthesised and held frames of the last clip
        self._hop = self._key = 0.0  # hop and key of the held frames

    def push(self, mel: Tensor, hop: float, key: float, hold: int, mask: Tensor | None = None) -> Pcm:
        """Synthesise the held frames of the last clip, then these frames without the last ``hold``.

        Args:
            mel: [A, M, t] amplitudes.
            hop: samples a frame at the model's rate.
            key: transposition in semitones.
            hold: number of frames to hold until the next clip.
            mask: [M, t] share of the drums, with stems.

        Returns:
            [n, 2] float32 at 48 kHz, with stems [n, 4]: then the drums. The number varies, because vocoder and
            resampler hold samples back.
        """
        parts = []
        if self._tail is not None:
            held = complete(self._tail, mel[..., :1])
            parts.append(self._voice(held, self._hop, self._key, self._tail_mask))
            self._tail = None
        voiced = mel.shape[-1] - hold
        if hold and voiced > 0:
            self._tail, self._hop, self._key = mel[..., voiced - 1 :], hop, key
            self._tail_mask = None if mask is None else mask[:, voiced:]
            mel, mask = mel[..., :voiced], None if mask is None else mask[:, :voiced]
        return np.concatenate([*parts, self._voice(mel, hop, key, mask)])

    def flush(self) -> Pcm:
        """End the take and return the remaining samples, [n, 2] or [n, 4]."""
        parts = []
        if self._tail is not None:
            parts.append(self._voice(self._tail[..., 1:], self._hop, self._key, self._tail_mask))
            self._tail = None
        return np.concatenate([*parts, self._pcm(self._vocoder.flush()), self._resampler.flush()])

    def _voice(self, mel: Tensor, hop: float, key: float, mask: Tensor | None) -> Pcm:
        return self._pcm(self._vocoder.push(mel, hop=hop, key=key, mask=mask))

    def _pcm(self, samples: Tensor) -> Pcm:
        """Convert [parts * A, n] at the model's rate to [n, parts * 2] at 48 kHz."""
        pcm = samples.detach().float().cpu().numpy().T * self._scale
        channels = pcm.shape[1] // self._parts
        if channels == 1:
            pcm = np.repeat(pcm, 2, axis=1)
        elif channels > 2:
            pcm = pcm[:, [part * channels + side for part in range(self._parts) for side in (0, 1)]]
        out: Pcm = self._resampler.push(np.ascontiguousarray(pcm))
        return out
