"""Fallback of a station whose clips cannot be rendered: the last working state, then its own journey.

After a failure one clip is skipped, then two, then four, to leave a bad part of a journey soon. If all clips of a state
fail (a deleted seed image, prompts that end the generator), an earlier state replaces it; retries would be silence.

Threading model
  One thread makes every call (``timeline.py``'s). No clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from riffstream.station.score import Score

__all__ = ["MISSES", "Fallback"]

MISSES: Final = 4  # consecutive failed clips until the state is replaced
KEPT: Final = 4  # working states remembered
FARTHEST: Final = 16  # maximum number of clips skipped at once


class Fallback:
    """Counter of consecutive failed clips, and memory of working states.

    Attributes:
        misses: failures since the last finished clip or the last change of state.
        stride: number of clips to skip after the last failure.
    """

    def __init__(self) -> None:
        self.misses = 0
        self.stride = 1
        self._good: deque[tuple[Score, int]] = deque(maxlen=KEPT)
        self._fell = False  # True from a fallback until the next finished clip

    def made(self, score: Score, index: int) -> None:
        """Record that a clip of a state was rendered, at ``index`` of its path."""
        self.misses, self.stride, self._fell = 0, 1, False
        self._drop(score)
        self._good.append((score, index + 1))

    def missed(self, score: Score) -> tuple[Score, int] | None:
        """Record that a clip of a state failed.

        Returns:
            The state to play instead and the index in its path; None: skip ``stride`` clips and continue.
        """
        self.misses += 1
        self.stride = min(FARTHEST, 2 ** (self.misses - 1))
        if self.misses < MISSES:
            return None
        self.misses = 0
        self._drop(score)
        if self._good and not self._fell:
            self._fell = True
            return self._good[-1]
        self._good.clear()
        if score.steered:
            return score.reset().score, 0
        self.misses = MISSES  # no other state is left
        return None

    @property
    def best(self) -> tuple[Score, int] | None:
        """Last working state and its index; None before the first clip."""
        return self._good[-1] if self._good else None

    def _drop(self, score: Score) -> None:
        self._good = deque((each for each in self._good if each[0] is not score), maxlen=KEPT)
