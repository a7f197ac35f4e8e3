"""The mixer: playback of a list of cues. Each cue changes to another source with a crossfade at a station sample.

The output is a pure function of the cues and their sources. It does not depend on the size of the blocks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from riffstream.audio.fades import Crossfade, correlation
from riffstream.generator.messages import Pcm
from riffstream.station.tape import Silence, Source

__all__ = ["Cue", "Mixer"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cue:
    """Instruction to play ``source`` from station sample ``pos`` on.

    Attributes:
        pos: start of the crossfade.
        source: source of the audio.
        offset: local sample of the source minus station sample.
        fade: length of the crossfade in samples; 0 is a cut, for continuous audio.
        take: ident of the take, or None (silence).
        rev: revision from here on.
        kind: take, loop, silence or pause.
        shift: shift of the take's beats during this cue (see ``CueTime``).
    """

    pos: int
    source: Source
    offset: int
    fade: int
    take: int | None
    rev: int
    kind: str
    shift: float = 0.0

    @property
    def end(self) -> int:
        """End of the cue's available audio, as a station sample."""
        return self.source.end - self.offset


class Mixer:
    """Player of cues from station sample 0 on. It begins with silence.

    Args:
        columns: columns of the output; a source with fewer is extended with zeros.

    Attributes:
        position: number of samples played so far.
        current: the cue that plays at ``position``.
    """

    def __init__(self, columns: int = 2) -> None:
        self.columns = columns
        self.position = 0
        self.current = Cue(pos=0, source=Silence(), offset=0, fade=0, take=None, rev=0, kind="silence")
        self._old: Cue | None = None
        self._fade: Crossfade | None = None
        self._coming: deque[Cue] = deque()

    @property
    def fading(self) -> bool:
        """Whether a crossfade is in progress."""
        return self._fade is not None

    @property
    def coming(self) -> tuple[Cue, ...]:
        """Cues after the current position."""
        return tuple(self._coming)

    @property
    def last(self) -> Cue:
        """Last cue of the schedule."""
        return self._coming[-1] if self._coming else self.current

    @property
    def earliest(self) -> int:
        """First station sample for a new cue: not in the past and not within a crossfade."""
        return max(self.position, self.current.pos + self.current.fade)

    @property
    def limiting(self) -> tuple[Cue, Cue | None]:
        """First cue whose audio ends too early for the schedule.

        Returns:
            That cue, and the following cue whose crossfade needs its audio. If no audio is missing: the last cue, and
            None.
        """
        cue = self.current
        for following in self._coming:
            if cue.end < following.pos + following.fade:
                return cue, following
            cue = following
        return cue, None

    @property
    def end(self) -> int:
        """Station sample up to which the schedule can be played."""
        return self.limiting[0].end

    def place(self, cue: Cue) -> list[Cue]:
        """Schedule a cue. Cues at or after it, and cues with a fade that overlaps it, are dropped and returned."""
        if cue.pos < self.earliest:
            raise ValueError(f"a cue at {cue.pos}; the first free sample is {self.earliest}")
        dropped: list[Cue] = []
        while self._coming and self._coming[-1].pos + self._coming[-1].fade > cue.pos:
            dropped.append(self._coming.pop())
        self._coming.append(cue)
        return dropped

    def insert(self, cue: Cue) -> None:
        """Schedule a cue between the others."""
        if cue.pos < self.earliest:
            raise ValueError(f"a cue at {cue.pos}; the first free sample is {self.earliest}")
        later = [each for each in self._coming if each.pos > cue.pos]
        self._coming = deque([*(each for each in self._coming if each.pos <= cue.pos), cue, *later])

    def shorten(self, cue: Cue, fade: int) -> None:
        """Give a scheduled cue a shorter crossfade."""
        self._coming = deque(replace(each, fade=fade) if each is cue else each for each in self._coming)

    def withdraw(self, *kinds: str) -> None:
        """Remove scheduled cues of these kinds."""
        self._coming = deque(each for each in self._coming if each.kind not in kinds)

    def reset(self, position: int, rev: int) -> None:
        """Discard all cues and any crossfade, and continue with silence."""
        self.position = position
        self.current = Cue(pos=position, source=Silence(), offset=0, fade=0, take=None, rev=rev, kind="silence")
        self._old = self._fade = None
        self._coming.clear()

    def play(self, n: int) -> tuple[Pcm, list[Cue]]:
        """Play ``n`` samples.

        Returns:
            The samples [n, columns] float32, and the cues that began in them.

        Raises:
            IndexError: a source does not have enough audio (see :attr:`end`).
        """
        out = np.empty((n, self.columns), np.float32)
        begun: list[Cue] = []
        done = 0
        while done < n:
            if self._coming and self._coming[0].pos <= self.position:
                begun.append(self._begin(self._coming.popleft()))
            stop = self.position + n - done
            if self._coming:
                stop = min(stop, self._coming[0].pos)
            if self._fade is not None:
                stop = min(stop, self.current.pos + self.current.fade)
            m = stop - self.position
            new = self._read(self.current, m)
            if self._fade is not None and self._old is not None:
                old = self._read(self._old, m)
                new = self._fade.mix(old, new, self.position - self.current.pos)
            out[done : done + m] = new
            done += m
            self.position += m
            if self._fade is not None and self.position >= self.current.pos + self.current.fade:
                self._old = self._fade = None
        return out, begun

    def _read(self, cue: Cue, n: int) -> Pcm:
        pcm = cue.source.read(self.position + cue.offset, n)
        lacking = self.columns - pcm.shape[1]
        return np.pad(pcm, ((0, 0), (0, lacking))) if lacking else pcm

    def _begin(self, cue: Cue) -> Cue:
        old, self.current = self.current, cue
        if cue.fade:
            n = min(cue.fade, 4800)  # the first 0.1 s is enough to measure their correlation
            head = old.source.read(cue.pos + old.offset, n)[:, :2]
            r = correlation(head, cue.source.read(cue.pos + cue.offset, n)[:, :2])
            self._fade, self._old = Crossfade(cue.fade, "auto", max(0.0, r)), old
        return cue
