"""Bridges: what stands in where the music that is scheduled ends before more of it is there.

The last clip of a take goes round, crossfaded with what came before it; after that, or where there is too little to go
round, silence. One is placed as soon as it might be needed, and withdrawn where the music comes in time after all.

Threading model
  One thread makes every call. No clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from riffstream.protocol import SAMPLE_RATE
from riffstream.station.mixer import Cue, Mixer
from riffstream.station.take import Take
from riffstream.station.tape import Loop, Silence, Source

__all__ = ["SILENCE_FADE", "Bridges"]

SILENCE_FADE: Final = SAMPLE_RATE // 100  # 10 ms


class Bridges:
    """Places loops and silence among a mixer's cues.

    Args:
        mixer: whose cues may end too early.
        takes: by ident: those that cues name.
        fade: samples of the crossfade into a loop, and of a loop with itself.
        repeats: clips' lengths that a loop goes on before silence; 0: silence at once.

    Attributes:
        since: local sample from which the take in the lead is stood in for.
    """

    def __init__(self, mixer: Mixer, takes: Mapping[int, Take], *, fade: int, repeats: int) -> None:
        self.since = 0
        self._mixer = mixer
        self._takes = takes
        self._fade = fade
        self._repeats = repeats

    @property
    def placed(self) -> bool:
        """Whether one plays at the end of what is scheduled."""
        return self._mixer.last.kind in ("loop", "silence")

    @property
    def first(self) -> Cue:
        """The cue that the bridge begins with, where one is placed."""
        return next(cue for cue in (self._mixer.current, *self._mixer.coming) if cue.kind in ("loop", "silence"))

    def withdraw(self) -> None:
        """Take back what has not begun."""
        self._mixer.withdraw("loop", "silence")

    def secure(self, n: int) -> None:
        """See to it that ``n`` more samples can be played, and that a bridge could still begin after them."""
        mixer = self._mixer
        while True:
            cue, following = mixer.limiting
            end = cue.end
            begins = following is not None and following.pos < mixer.position + n  # then it must have all it needs
            if end >= mixer.position + n + self._fade and not begins:
                return
            if following is not None:
                # A long crossfade whose outgoing take ends on the way (its generator is gone) goes as far as that does:
                # a bridge could only begin inside it. Where there is less than a short fade, a bridge comes first.
                least = SILENCE_FADE if mixer.earliest < following.pos else 0
                if end - following.pos >= least:
                    mixer.shorten(following, end - following.pos)
                    continue
            self.since = end + cue.offset
            self._bridge(cue, end if following is None else min(end, following.pos))

    def _bridge(self, cue: Cue, until: int) -> None:
        """Have a loop of it stand in for a cue that ends; where there is none, silence from ``until`` on."""
        take = self._takes[cue.take] if cue.take is not None else None
        loop = self._loop(take) if take is not None else None
        if take is None or loop is None:
            pos = max(until - SILENCE_FADE, self._mixer.earliest)
            self._stand_in(cue, Silence(), "silence", pos=pos, fade=max(0, until - pos))
            return
        # A loop's last samples are those of the take: entering it there is no change at all.
        pos = max(cue.end - self._fade, self._mixer.earliest)
        self._stand_in(cue, loop, "loop", pos=pos, offset=cue.offset)
        clip = take.beats.slope * take.score.info.beats
        over = cue.end + max(1, round(self._repeats * clip / loop.length)) * loop.length
        if self._mixer.last.kind == "loop":
            self._stand_in(cue, Silence(), "silence", pos=over, fade=SILENCE_FADE)

    def _stand_in(self, cue: Cue, source: Source, kind: str, *, pos: int, offset: int = 0, fade: int = 0) -> None:
        self._mixer.insert(Cue(pos=pos, source=source, offset=offset, fade=fade, take=cue.take, rev=cue.rev, kind=kind))

    def _loop(self, take: Take) -> Loop | None:
        """The last clip of a take, or as many of its last bars or beats as there are."""
        if self._repeats == 0:
            return None
        end = take.tape.end
        last = take.beats.beat(end)
        for beats in (take.score.info.beats, take.score.info.beats_per_bar, 2, 1):
            length = end - round(take.beats.sample(last - beats))
            if length > 2 * self._fade and end - length - self._fade >= max(take.tape.begin, take.lead_in):
                return Loop(take.tape, end, length, self._fade)
        return None
