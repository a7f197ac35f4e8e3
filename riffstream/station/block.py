"""Blocks of committed audio: what the mixer plays, levelled.

Threading model
  One thread makes every call. No clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from riffstream.audio.loudness import LoudnessLeveller
from riffstream.config import TimelineSettings
from riffstream.generator.messages import Pcm
from riffstream.protocol import SAMPLE_RATE
from riffstream.station.mixer import Cue, Mixer

__all__ = ["Block", "Levelled"]


@dataclass(frozen=True, slots=True)
class Block:
    """Committed audio.

    Attributes:
        pos: sample clock of its first sample. pcm: [n, 2]. rev: heard at its end. silent: nothing but zeros.
    """

    pos: int
    pcm: Pcm
    rev: int
    silent: bool


class Levelled:
    """A mixer's output, levelled, in blocks of any size. The leveller looks ahead: the mixer runs a little in front.

    Attributes:
        played: samples that came from the mixer; its position, unless it failed in the middle of a block.
    """

    def __init__(self, mixer: Mixer, settings: TimelineSettings) -> None:
        self.mixer = mixer
        self._ready: deque[Pcm] = deque()
        self._have = 0
        self.played = 0
        self._leveller: LoudnessLeveller | None = None
        if settings.loudness_lufs is not None:
            self._leveller = LoudnessLeveller(
                SAMPLE_RATE, 2, target=settings.loudness_lufs, ceiling_db=settings.true_peak_dbtp
            )

    def prime(self, pcm: Pcm) -> None:
        """Begin at the gain that suits the first sound."""
        if self._leveller is not None:
            self._leveller.prime(pcm)

    def missing(self, n: int) -> int:
        """Samples that the mixer has to play before ``n`` are ready."""
        return max(0, n - self._have)

    def play(self, n: int) -> list[Cue]:
        """Let the mixer play ``n`` samples; returns the cues that began."""
        pcm, begun = self.mixer.play(n)
        self.played += n
        self._keep(pcm if self._leveller is None else self._leveller.push(pcm))
        return begun

    def flush(self) -> int:
        """Make the last samples ready, at the end of a stream; returns how many are ready in all."""
        if self._leveller is not None:
            self._keep(self._leveller.flush())
        return self._have

    def take(self, n: int) -> Pcm:
        """``n`` samples that are ready."""
        parts = []
        need = n
        while need:
            part = self._ready.popleft()
            if len(part) > need:
                self._ready.appendleft(part[need:])
                part = part[:need]
            parts.append(part)
            need -= len(part)
        self._have -= n
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)

    def _keep(self, pcm: Pcm) -> None:
        if len(pcm):
            self._ready.append(pcm)
            self._have += len(pcm)
