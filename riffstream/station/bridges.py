"""Bridges: substitutes for missing music when the scheduled audio ends too early.

A bridge repeats the last clip of a take with a crossfade. After some repeats, or with too little audio for a loop, it
is silence. A bridge is scheduled as soon as it may be needed, and withdrawn if the music arrives in time.

Threading model
  One thread makes every call. No clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from riffstream.protocol import SAMPLE_RATE
from riffstream.station.mixer import Cue, Mixer
from riffstream.station.take import Take
from riffstream.station.tape import Loop, Silence, Source

__all__ = ["SILENCE_FADE", "Bridges"]

SILENCE_FADE: Final = SAMPLE_RATE // 100  # 10 ms


class Bridges:
    """Scheduler of loops and silence among a mixer's cues.

    Args:
        mixer: the mixer.
        takes: takes of the cues, by ident.
        fade: length of the crossfade into a loop, and of the loop with itself, in samples.
        repeats: duration of a loop before silence, in clips; 0: silence at once.

    Attributes:
        since: local sample of the lead from which a bridge replaces it.
    """

    def __init__(self, mixer: Mixer, takes: Mapping[int, Take], *, fade: int, repeats: int) -> None:
        self.since = 0
        self._mixer = mixer
        self._takes = takes
        self._fade = fade
        self._repeats = repeats

    @property
    def placed(self) -> bool:
        """Whether the schedule ends with a bridge."""
        return self._mixer.last.kind in ("loop", "silence")

    @property
    def first(self) -> Cue:
        """First cue of the scheduled bridge."""
        return next(cue for cue in (self._mixer.current, *self._mixer.coming) if cue.kind in ("loop", "silence"))

    def withdraw(self) -> None:
        """Remove the cues of bridges that have not begun."""
        self._mixer.withdraw("loop", "silence")

    def secure(self, n: int) -> None:
        """Make sure that ``n`` more samples can be played and that a bridge can still begin after them."""
        mixer = self._mixer
        while True:
            cue, following = mixer.limiting
            end = cue.end
            begins = following is not None and following.pos < mixer.position + n  # it must have all audio of its fade
            if end >= mixer.position + n + self._fade and not begins:
                return
            if following is not None:
                # If the outgoing take of a long crossfade ends within it (its generator ended), the fade is shortened,
                # because a bridge cannot begin inside a fade. With less audio than a short fade, a bridge comes first.
                least = SILENCE_FADE if mixer.earliest < following.pos else 0
                if end - following.pos >= least:
                    mixer.shorten(following, end - following.pos)
                    continue
            self.since = end + cue.offset
            self._bridge(cue, end if following is None else min(end, following.pos))

    def _bridge(self, cue: Cue, until: int) -> None:
        """Schedule a loop after a cue that ends; without one, silence from ``until`` on."""
        take = self._takes[cue.take] if cue.take is not None else None
        loop = self._loop(take) if take is not None else None
        if take is None or loop is None:
            pos = max(until - SILENCE_FADE, self._mixer.earliest)
            self._stand_in(cue, Silence(), "silence", pos=pos, fade=max(0, until - pos))
            return
        # The loop's last samples equal those of the take, so the entry is continuous.
        pos = max(cue.end - self._fade, self._mixer.earliest)
        self._stand_in(cue, loop, "loop", pos=pos)
        clip = take.beats.slope * take.info.beats
        over = cue.end + max(1, round(self._repeats * clip / loop.length)) * loop.length
        if self._mixer.last.kind == "loop":
            self._stand_in(cue, Silence(), "silence", pos=over, fade=SILENCE_FADE)

    def _stand_in(self, cue: Cue, source: Source, kind: str, *, pos: int, fade: int = 0) -> None:
        self._mixer.insert(replace(cue, pos=pos, source=source, fade=fade, kind=kind))

    def _loop(self, take: Take) -> Loop | None:
        """Loop of the last clip of a take, or of its last available bars or beats; None with too little audio."""
        if self._repeats == 0:
            return None
        end = take.tape.end
        last = take.beats.beat(end)
        for beats in (take.info.beats, take.info.beats_per_bar, 2, 1):
            length = end - round(take.beats.sample(last - beats))
            if length > 2 * self._fade and end - length - self._fade >= max(take.tape.begin, take.lead_in):
                return Loop(take.tape, end, length, self._fade)
        return None
