"""What a station plays when what it plays cannot be made: the state that worked last, then its own journey.

One clip that fails is left out, then two, then four, so that a bad stretch of a journey is soon behind. Where all clips
of a state fail (its seed image was deleted, its prompts end the generator), an earlier state takes its place: asking on
and on would be silence.

Threading model
  One thread makes every call (``timeline.py``'s). No clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from riffstream.station.score import Score

__all__ = ["MISSES", "Fallback"]

MISSES: Final = 4  # clips in a row that cannot be made
KEPT: Final = 4  # states that worked
FARTHEST: Final = 16  # clips that are left out at once


class Fallback:
    """Counts the clips in a row that could not be made, and remembers the states of which clips were made.

    Attributes:
        misses: since a clip was made, or since the last change of state.
        stride: how many clips to leave out after the last miss.
    """

    def __init__(self) -> None:
        self.misses = 0
        self.stride = 1
        self._good: deque[tuple[Score, int]] = deque(maxlen=KEPT)
        self._fell = False  # since a clip was made

    def made(self, score: Score, index: int) -> None:
        """A clip of a state, at ``index`` of its path, was made."""
        self.misses, self.stride, self._fell = 0, 1, False
        self._drop(score)
        self._good.append((score, index + 1))

    def missed(self, score: Score) -> tuple[Score, int] | None:
        """A clip of a state cannot be made.

        Returns:
            What to play instead, and where in its path to begin; None: leave out ``stride`` clips and go on.
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
        self.misses = MISSES  # there is nothing else
        return None

    @property
    def best(self) -> tuple[Score, int] | None:
        """The state that worked last; None before the first clip."""
        return self._good[-1] if self._good else None

    def _drop(self, score: Score) -> None:
        self._good = deque((each for each in self._good if each[0] is not score), maxlen=KEPT)
