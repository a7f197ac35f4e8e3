"""A take's sound: one vocoder and one resampler from its first sample to its last, so that its clips are one stream.

This module imports torch.

Threading model
  One thread makes every call.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from torch import Tensor

from riffstream.audio.resample import StreamResampler
from riffstream.generator.joins import complete
from riffstream.generator.messages import Pcm
from riffstream.protocol import SAMPLE_RATE
from riffstream.spectrogram.vocoder import Vocoder

__all__ = ["TakeStream"]

INT16: Final = 32768.0  # spectrogram images count amplitudes in int16 units


class TakeStream:
    """Frames in, samples at 48 kHz out.

    Args:
        vocoder: with the model's spectrogram parameters.
        channels: A, of the frames.
    """

    def __init__(self, vocoder: Vocoder, channels: int) -> None:
        params = vocoder.params
        self._vocoder = vocoder.stream(channels)
        self._resampler = StreamResampler(params.sample_rate, SAMPLE_RATE, 2)
        self._scale = np.float32(1.0 if params.frames_per_beat is not None else 1 / INT16)
        self._tail: Tensor | None = None  # [A, M, 1 + n] the last clip's frames from the last one voiced on ...
        self._hop = self._key = 0.0  # ... and how they are to be voiced

    def push(self, mel: Tensor, hop: float, key: float, hold: int) -> Pcm:
        """Voice frames [A, M, t], all but the last ``hold``; first those that waited for them.

        Args:
            hop: samples a frame at the model's rate. key: semitones.

        Returns:
            [n, 2] float32, fewer or more than the frames last: vocoder and resampler hold some back.
        """
        parts = []
        if self._tail is not None:
            parts.append(self._voice(complete(self._tail, mel[..., :1]), self._hop, self._key))
            self._tail = None
        voiced = mel.shape[-1] - hold
        if hold and voiced > 0:
            self._tail, self._hop, self._key = mel[..., voiced - 1 :], hop, key
            mel = mel[..., :voiced]
        return np.concatenate([*parts, self._voice(mel, hop, key)])

    def flush(self) -> Pcm:
        """The rest, at the end of the take."""
        parts = []
        if self._tail is not None:
            parts.append(self._voice(self._tail[..., 1:], self._hop, self._key))
            self._tail = None
        return np.concatenate([*parts, self._pcm(self._vocoder.flush()), self._resampler.flush()])

    def _voice(self, mel: Tensor, hop: float, key: float) -> Pcm:
        return self._pcm(self._vocoder.push(mel, hop=hop, key=key))

    def _pcm(self, samples: Tensor) -> Pcm:
        """[A, n] of the model to [n, 2] at 48 kHz."""
        pcm = samples.detach().float().cpu().numpy().T * self._scale
        if pcm.shape[1] == 1:
            pcm = np.repeat(pcm, 2, axis=1)
        out: Pcm = self._resampler.push(np.ascontiguousarray(pcm[:, :2]))
        return out
