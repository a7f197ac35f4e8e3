"""The mixer plays a list of cues: at a sample of the station, change to another source with a crossfade.

What it plays is a pure function of the cues and their sources: playing in blocks of any size gives the same samples.
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
    """From station sample ``pos`` on, play ``source``.

    Attributes:
        pos: where the crossfade begins.
        source: what is played; its local sample is ``station sample + offset``.
        fade: length of the crossfade in samples; 0: a cut (between sounds that join by themselves).
        take: the take that is heard, or None (silence).
        rev: the revision that is heard from here on.
        kind: take, loop or silence.
    """

    pos: int
    source: Source
    offset: int
    fade: int
    take: int | None
    rev: int
    kind: str

    @property
    def end(self) -> int:
        """Station sample before which this cue can be played."""
        return self.source.end - self.offset


class Mixer:
    """Plays cues from sample 0 on; begins with silence.

    Attributes:
        position: samples played so far.
        current: the cue that plays at ``position`` (or the one that is about to be faded away from).
    """

    def __init__(self) -> None:
        self.position = 0
        self.current = Cue(pos=0, source=Silence(), offset=0, fade=0, take=None, rev=0, kind="silence")
        self._old: Cue | None = None
        self._fade: Crossfade | None = None
        self._coming: deque[Cue] = deque()

    @property
    def fading(self) -> bool:
        """Whether a crossfade is under way."""
        return self._fade is not None

    @property
    def coming(self) -> tuple[Cue, ...]:
        """Cues whose place has not been reached."""
        return tuple(self._coming)

    @property
    def last(self) -> Cue:
        """The cue that plays after everything that is scheduled."""
        return self._coming[-1] if self._coming else self.current

    @property
    def earliest(self) -> int:
        """The first sample at which a new cue may be placed: not in the past, and not during a crossfade."""
        return max(self.position, self.current.pos + self.current.fade)

    @property
    def limiting(self) -> tuple[Cue, Cue | None]:
        """The first scheduled cue whose source ends too early, and the cue that comes before it can be faded away; the
        last one, and None, where none does."""
        cue = self.current
        for following in self._coming:
            if cue.end < following.pos + following.fade:
                return cue, following
            cue = following
        return cue, None

    @property
    def end(self) -> int:
        """Station sample before which everything that is scheduled can be played."""
        return self.limiting[0].end

    def place(self, cue: Cue) -> list[Cue]:
        """Schedule a cue; cues at or after it, or whose fade it would cut into, are dropped and returned."""
        if cue.pos < self.earliest:
            raise ValueError(f"a cue at {cue.pos}; the first free sample is {self.earliest}")
        dropped: list[Cue] = []
        while self._coming and self._coming[-1].pos + self._coming[-1].fade > cue.pos:
            dropped.append(self._coming.pop())
        self._coming.append(cue)
        return dropped

    def insert(self, cue: Cue) -> None:
        """Schedule a cue between others, which stay."""
        if cue.pos < self.earliest:
            raise ValueError(f"a cue at {cue.pos}; the first free sample is {self.earliest}")
        later = [each for each in self._coming if each.pos > cue.pos]
        self._coming = deque([*(each for each in self._coming if each.pos <= cue.pos), cue, *later])

    def shorten(self, cue: Cue, fade: int) -> None:
        """Give a scheduled cue a shorter crossfade."""
        self._coming = deque(replace(each, fade=fade) if each is cue else each for each in self._coming)

    def withdraw(self, *kinds: str) -> None:
        """Take scheduled cues of these kinds back."""
        self._coming = deque(each for each in self._coming if each.kind not in kinds)

    def reset(self, position: int, rev: int) -> None:
        """Go on with silence, whatever was scheduled or is being faded."""
        self.position = position
        self.current = Cue(pos=position, source=Silence(), offset=0, fade=0, take=None, rev=rev, kind="silence")
        self._old = self._fade = None
        self._coming.clear()

    def play(self, n: int) -> tuple[Pcm, list[Cue]]:
        """The next ``n`` samples [n, 2], and the cues that began in them.

        Raises:
            IndexError: a source has not got them (see :attr:`end`).
        """
        out = np.empty((n, 2), np.float32)
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
            new = self.current.source.read(self.position + self.current.offset, m)
            if self._fade is not None and self._old is not None:
                old = self._old.source.read(self.position + self._old.offset, m)
                new = self._fade.mix(old, new, self.position - self.current.pos)
            out[done : done + m] = new
            done += m
            self.position += m
            if self._fade is not None and self.position >= self.current.pos + self.current.fade:
                self._old = self._fade = None
        return out, begun

    def _begin(self, cue: Cue) -> Cue:
        old, self.current = self.current, cue
        if cue.fade:
            n = min(cue.fade, 4800)  # how alike they are shows in the first tenth of a second
            head = old.source.read(cue.pos + old.offset, n)
            r = correlation(head, cue.source.read(cue.pos + cue.offset, n))
            self._fade, self._old = Crossfade(cue.fade, "auto", max(0.0, r)), old
        return cue
