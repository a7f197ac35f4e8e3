"""Playout of a station: the mixer with its cues, the take in the lead, pauses, loudness, and committing.

It does not know where audio comes from. Everything it commits is a pure function of the
takes' audio and of the cues, which are logged; ``offline.py`` runs the same mixer and leveller over a log.

Threading model
  One thread makes every call. No clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from riffstream.config import TimelineSettings
from riffstream.protocol import SAMPLE_RATE, Event
from riffstream.station.block import Block, Levelled
from riffstream.station.bridges import SILENCE_FADE, Bridges
from riffstream.station.history import Heard
from riffstream.station.mixer import Cue, Mixer
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Entry, Take
from riffstream.station.tape import Loop, Silence

__all__ = ["Playout"]

SAFETY: Final = SAMPLE_RATE // 10  # audio there must be beyond a splice before it is trusted to go on
PRIMER: Final = SAMPLE_RATE  # audio from which the first gain is found, and without which a station does not begin


class Playout:
    """The committed sound of one station.

    Args:
        settings: crossfade, frames, repeats and loudness.
        log: gets every cue.
        begun: called with each cue when its first sample is rendered.

    Attributes:
        committed: samples committed so far.
        lead: the take that plays after everything that is scheduled; None before the first.
        offset: its local sample is station sample + offset.
        frozen: its local sample while paused, else None.
        events: what happened and was not fetched yet.
        underruns, repeats, splices: counts.
    """

    def __init__(
        self, settings: TimelineSettings, log: SteeringLog, *, begun: Callable[[Cue], None] = lambda cue: None
    ) -> None:
        self.settings = settings
        self.log = log
        self._begun = begun
        self.events: list[Event] = []
        self.committed = 0
        self.underruns = self.repeats = self.splices = 0
        self.lead: Take | None = None
        self.offset = 0
        self.frozen: float | None = None
        self.fade = round(settings.crossfade_ms * SAMPLE_RATE / 1000)
        self.frame = settings.frame_ms * SAMPLE_RATE // 1000
        self.mixer = Mixer()
        self._out = Levelled(self.mixer, settings)
        self._primed = False  # whether the first gain was found
        self._lead_from = 0  # local sample from which the lead was meant to be heard
        self._heard = Heard()
        self._takes: dict[int, Take] = {}  # by ident: those that are scheduled or heard
        self._bridges = Bridges(self.mixer, self._takes, fade=self.fade, repeats=settings.repeats)

    # -- musical time ---------------------------------------------------------------------------------------------

    def beat(self, pos: int) -> float:
        """Musical position, in beats, of a sample that is yet to be played."""
        if self.lead is None:
            return 0.0
        return self.lead.beats.beat(pos + self.offset if self.frozen is None else self.frozen)

    def where(self, beat: float) -> float:
        """Inverse of :meth:`beat`, fractional."""
        return 0.0 if self.lead is None else self.lead.beats.sample(beat) - self.offset

    def grid(self, at: str, beat: float) -> float:
        """The first beat, bar line or clip start at or after ``beat``."""
        step, phase = 1.0, 0.0
        if at == "bar":
            step = float(self._bar)
        elif at == "clip" and self.lead is not None:
            step, phase = float(self.lead.score.info.beats), self.lead.clip_beat
        return phase + math.ceil((beat - phase) / step - 1e-6) * step

    def entry(self, pos: int) -> Entry | None:
        """The clip of the lead at a sample; None before the first take."""
        return None if self.lead is None else self.lead.entry(pos + self.offset)

    @property
    def _bar(self) -> int:
        return 4 if self.lead is None else self.lead.score.info.beats_per_bar

    @property
    def horizon_s(self) -> float:
        """Seconds of audio of the lead ahead of what was played."""
        if self.lead is None:
            return 0.0
        return max(0.0, (self.lead.tape.end - self.offset - self.mixer.position) / SAMPLE_RATE)

    @property
    def bridging(self) -> bool:
        """Whether something stands in for the lead, which is late (now, or soon)."""
        return self._bridges.placed

    @property
    def need(self) -> int:
        """Samples that a take must have from the place on where it is spliced in."""
        return 2 * self.fade + SAFETY + self.frame

    def heard(self, pos: int) -> tuple[Cue | None, Take | None]:
        """The cue and the take that are heard at a sample that was played."""
        return self._heard.at(pos)

    # -- cues -----------------------------------------------------------------------------------------------------

    def cut_to(self, take: Take, *, pos: int, local: int, fade: int) -> list[Cue]:
        """Schedule a take to be heard from its ``local`` sample at station sample ``pos``; it becomes the lead.

        Returns:
            The cues that lost their place.
        """
        if self.lead is None and not self._primed:
            self._out.prime(take.tape.read(0, PRIMER))
            self._primed = True
        cue = self._cue(take, pos, local - pos, fade)
        dropped = self.mixer.place(cue)
        newest = max((each.rev for each in dropped), default=0)
        if newest > take.rev:  # of a resume, which was confirmed already
            self.mixer.place(replace(cue, rev=newest))
        self._takes[take.ident] = take
        self.lead, self.offset, self._lead_from = take, local - pos, local
        return dropped

    @staticmethod
    def _cue(take: Take, pos: int, offset: int, fade: int) -> Cue:
        return Cue(pos=pos, source=take.tape, offset=offset, fade=fade, take=take.ident, rev=take.rev, kind="take")

    def fit(self, take: Take, pos: int, fade: int, need: int, floor: int) -> tuple[int, int] | None:
        """Where in a take to be at station sample ``pos``, so that the beat does not stumble.

        Args:
            fade: samples after which the beats of both must coincide (their tempi may differ).
            need: samples that must be there from that place on.
            floor: local sample before which the take must not be heard.

        Returns:
            The local sample, and by how many beats (whole bars) the take has to be counted higher because it is late;
            None where it has not got enough yet.
        """
        beat, late = self.beat(pos + fade), 0
        local = round(take.beats.sample(beat)) - fade
        while local + need > take.tape.end:
            late += take.score.info.beats_per_bar
            local = round(take.beats.sample(beat - late)) - fade
            if local < floor:
                return None
        return (local, late) if local >= floor else None

    def rejoin(self) -> None:
        """After a bridge, back to the lead, if it has enough by now."""
        lead = self.lead
        if lead is None or not self.bridging or self.frozen is not None:
            return
        bridge = self._bridges.first
        if bridge is not self.mixer.current:  # in time after all: the bridge is not needed
            if lead.tape.end - self.offset >= bridge.pos + self.need:
                self._bridges.withdraw()
                if self.mixer.last.kind == "pause":  # the bridge was how a resume began
                    pos = max(bridge.pos, self.mixer.earliest)
                    self.mixer.place(replace(self._cue(lead, pos, self.offset, SILENCE_FADE), rev=bridge.rev))
            return
        pos = self.mixer.earliest
        place = self.fit(lead, pos, self.fade, self.need, self._bridges.since)
        if place is None:
            return
        local, late = place
        lead.shift(late)
        self.mixer.place(self._cue(lead, pos, local - pos, self.fade))
        self.offset = local - pos
        self.events.append(Event(kind="recovered", sample_pos=pos))

    def pause(self, rev: int) -> int:
        """Fade to silence and stop musical time; returns where."""
        pos = self.mixer.earliest
        if self.lead is None:
            self.frozen = 0.0
        elif self.frozen is None:
            if self.bridging:
                self._bridges.since = min(self._bridges.since, self.lead.tape.end)
            self.frozen = float(max(pos + self.offset, self._lead_from))
            cue = Cue(
                pos=pos, source=Silence(), offset=0, fade=SILENCE_FADE, take=self.lead.ident, rev=rev, kind="pause"
            )
            self.mixer.place(cue)
        self.events.append(Event(kind="paused", sample_pos=pos))
        return pos

    def resume(self, rev: int) -> int:
        """Go on where :meth:`pause` stopped; returns where."""
        pos = self.mixer.earliest
        frozen, self.frozen = self.frozen, None
        if self.lead is not None and frozen is not None:
            local = round(frozen)
            self.offset = local - pos
            enough = local + self.need <= self.lead.tape.end
            source = self.lead.tape if enough else Silence()
            if not enough:
                self._bridges.since = min(local, self.lead.tape.end)
            cue = Cue(
                pos=pos,
                source=source,
                offset=self.offset if enough else 0,
                fade=SILENCE_FADE,
                take=self.lead.ident,
                rev=rev,
                kind="take" if enough else "silence",
            )
            self.mixer.place(cue)
        self.events.append(Event(kind="resumed", sample_pos=pos))
        return pos

    # -- committing -----------------------------------------------------------------------------------------------

    def start_over(self) -> None:
        """Go on from silence with the next take that comes, as at the beginning; the sample clock goes on."""
        self.mixer.reset(self._out.played, self._heard.newest_rev)
        self.lead, self.offset, self._lead_from = None, 0, 0
        self._bridges.since = 0
        self._takes.clear()
        if self.frozen is not None:
            self.frozen = 0.0
        self._begin(self.mixer.current)

    def covered(self, n: int) -> bool:
        """Whether the next ``n`` samples can be committed without bridging."""
        return self.lead is not None and self.mixer.end >= self.mixer.position + self._out.missing(n) + self.fade

    def commit(self, n: int) -> Block | None:
        """The next ``n`` samples; None before the first take is there. Never waits: it bridges what is missing."""
        if self.lead is None:
            return None
        while (missing := self._out.missing(n)) > 0:
            self._bridges.secure(missing)
            for cue in self._out.play(missing):
                self._begin(cue)
        pcm = self._out.take(n)
        block = Block(self.committed, pcm, self._heard.rev(self.committed + n), not pcm.any())
        self.committed += n
        return block

    def _begin(self, cue: Cue) -> None:
        """Record that a cue has begun."""
        if cue.rev < self._heard.newest_rev:  # music from before a pause goes on after it
            cue = replace(cue, rev=self._heard.newest_rev)
        take = self._takes.get(cue.take) if cue.take is not None else None
        entry: dict[str, Any] = {
            "pos": cue.pos,
            "kind": cue.kind,
            "take": cue.take,
            "offset": cue.offset,
            "fade": cue.fade,
            "rev": cue.rev,
        }
        if isinstance(cue.source, Loop):
            entry |= {"loop_end": cue.source.first + cue.source.length, "loop_length": cue.source.length}
        self.log.add("cue", entry)
        self._heard.add(cue, take)
        if cue.kind == "loop":
            self.repeats += 1
            self.events.append(Event(kind="repeat", sample_pos=cue.pos, rev=cue.rev))
        elif cue.kind == "silence":
            self.underruns += 1
            self.events.append(Event(kind="underrun", sample_pos=cue.pos, rev=cue.rev))
        elif cue.kind == "take":
            self.splices += 1
            self.events.append(Event(kind="splice", sample_pos=cue.pos, rev=cue.rev))
            for ident in [ident for ident in self._takes if ident < (cue.take or 0)]:
                del self._takes[ident]
        self._begun(cue)

    def trim(self) -> None:
        """Forget audio that can neither be heard nor repeated any more; when it was heard stays known for a while."""
        now = self.mixer.current
        if now.take is not None and now.kind == "take" and self.frozen is None and (take := self._takes.get(now.take)):
            keep = round(take.beats.slope * take.score.info.beats) + 2 * self.fade + SAMPLE_RATE
            take.tape.trim(self.mixer.position + now.offset - keep)
        if self.mixer.fading:
            return
        for past in self._heard.takes:
            if past.ident not in self._takes and past is not self.lead:
                past.tape.trim(past.tape.end)
