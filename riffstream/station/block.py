"""Blocks of committed audio: the mixer's output after the leveller and the desk.

Threading model
  One thread makes every call. No clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from riffstream.audio.loudness import LoudnessLeveller
from riffstream.config import TimelineSettings
from riffstream.generator.messages import Pcm
from riffstream.protocol import SAMPLE_RATE
from riffstream.station.desk import Desk
from riffstream.station.mixer import Cue, Mixer

__all__ = ["LATENCY", "Block", "Levelled"]

LATENCY: Final = 1_500  # upper limit of the samples that desk and limiter hold back


@dataclass(frozen=True, slots=True)
class Block:
    """A block of committed audio.

    Attributes:
        pos: sample clock of its first sample.
        pcm: [n, 2] float32.
        rev: revision at its end.
        silent: True if all samples are zero.
    """

    pos: int
    pcm: Pcm
    rev: int
    silent: bool


class Levelled:
    """A mixer, the leveller's gain, the desk and the limiter, read in blocks of any size.

    The mixer runs ahead by the look-ahead of desk and limiter. The leveller measures the music before the desk, so it
    does not raise what the desk lowers.

    Args:
        mixer: the mixer, with the columns of the desk.
        desk: the desk.
        settings: loudness and true peak.

    Attributes:
        played: end of the samples from the mixer; its position, unless it failed within a block.
    """

    def __init__(self, mixer: Mixer, desk: Desk, settings: TimelineSettings) -> None:
        self.mixer = mixer
        self._desk = desk
        self._ready: deque[Pcm] = deque()
        self._have = 0
        self.played = mixer.position
        self._leveller: LoudnessLeveller | None = None
        if settings.loudness_lufs is not None:
            self._leveller = LoudnessLeveller(
                SAMPLE_RATE, 2, target=settings.loudness_lufs, ceiling_db=settings.true_peak_dbtp
            )

    def prime(self, pcm: Pcm) -> None:
        """Set the initial gain by the loudness of the first audio, [n, 2 or 4]."""
        if self._leveller is not None:
            self._leveller.prime(pcm[:, :2])

    def missing(self, n: int) -> int:
        """Number of samples that the mixer must play before ``n`` are ready."""
        return max(0, n - self._have)

    def play(self, n: int) -> list[Cue]:
        """Play ``n`` samples of the mixer; return the cues that began."""
        pcm, begun = self.mixer.play(n)
        self.played += n
        self._keep(self._desk.push(pcm if self._leveller is None else self._leveller.amplify(pcm)))
        return begun

    def flush(self) -> int:
        """End the stream: make the last samples ready; return the number of ready samples."""
        self._keep(self._desk.flush())
        if self._leveller is not None:
            self._ready.append(rest := self._leveller.flush())
            self._have += len(rest)
        return self._have

    def take(self, n: int) -> Pcm:
        """Return ``n`` ready samples, [n, 2]."""
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
        if self._leveller is not None and len(pcm):
            pcm = self._leveller.limit(pcm)
        if len(pcm):
            self._ready.append(pcm)
            self._have += len(pcm)
