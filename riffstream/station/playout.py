"""Playout of a station: the mixer with its cues, the lead take, pauses, the desk, loudness, and committing.

It does not depend on the source of the audio. The output is a pure function of the takes' audio, of the cues and of the
desk's moves, which are logged; ``offline.py`` runs the same mixer, desk and leveller over a log.

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
from riffstream.station.block import LATENCY, Block, Levelled
from riffstream.station.bridges import SILENCE_FADE, Bridges
from riffstream.station.desk import COLUMNS, Desk, Move
from riffstream.station.history import Heard
from riffstream.station.mixer import Cue, Mixer
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Entry, Take
from riffstream.station.tape import Loop, Silence

__all__ = ["Playout"]

SAFETY: Final = SAMPLE_RATE // 10  # audio required after a splice
PRIMER: Final = SAMPLE_RATE  # audio required at the start, for the initial gain


class Playout:
    """The committed audio of one station.

    Args:
        settings: crossfade, frames, repeats and loudness.
        log: steering log for the cues and the moves of the desk.
        begun: called with each cue when its first sample is committed.
        moved: called with each move of the desk when its first sample is committed.

    Attributes:
        desk: the desk.
        committed: samples committed so far.
        lead: the take at the end of the schedule; None before the first.
        offset: local sample of the lead minus station sample.
        frozen: local sample of the lead during a pause, else None.
        events: events that were not fetched yet.
        underruns, repeats, splices: counters.
    """

    def __init__(
        self,
        settings: TimelineSettings,
        log: SteeringLog,
        *,
        begun: Callable[[Cue], None] = lambda cue: None,
        moved: Callable[[Move], None] = lambda move: None,
    ) -> None:
        self.settings = settings
        self.log = log
        self._begun = begun
        self._moved = moved
        self.events: list[Event] = []
        self.committed = 0
        self.underruns = self.repeats = self.splices = 0
        self.lead: Take | None = None
        self.offset = 0
        self.frozen: float | None = None
        self.fade = round(settings.crossfade_ms * SAMPLE_RATE / 1000)
        self.frame = settings.frame_ms * SAMPLE_RATE // 1000
        self.mixer = Mixer(COLUMNS)
        self.desk = Desk(self._move)
        self._out = Levelled(self.mixer, self.desk, settings)
        self._primed = False  # True once the initial gain is set
        self._lead_from = 0  # local sample from which the lead should be audible
        self._heard = Heard()
        self._takes: dict[int, Take] = {}  # scheduled or audible takes, by ident
        self._bridges = Bridges(self.mixer, self._takes, fade=self.fade, repeats=settings.repeats)

    # -- musical time ---------------------------------------------------------------------------------------------

    def beat(self, pos: int) -> float:
        """Musical position of a future sample, in beats."""
        if self.lead is None:
            return 0.0
        return self.lead.beats.beat(pos + self.offset if self.frozen is None else self.frozen)

    def where(self, beat: float) -> float:
        """Inverse of :meth:`beat`, fractional."""
        return 0.0 if self.lead is None else self.lead.beats.sample(beat) - self.offset

    def grid(self, at: str, beat: float) -> float:
        """First beat, bar line or clip start at or after ``beat``."""
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
    def bar(self) -> int:
        """Length of a bar at the end of the lead in samples; two seconds before the first take."""
        return 2 * SAMPLE_RATE if self.lead is None else round(self.lead.beats.slope * self._bar)

    @property
    def horizon_s(self) -> float:
        """Audio of the lead ahead of the playback position, seconds."""
        if self.lead is None:
            return 0.0
        return max(0.0, (self.lead.tape.end - self.offset - self.mixer.position) / SAMPLE_RATE)

    @property
    def bridging(self) -> bool:
        """Whether a bridge replaces the late lead, now or soon."""
        return self._bridges.placed

    @property
    def need(self) -> int:
        """Samples that a take must have after its splice position."""
        return 2 * self.fade + SAFETY + self.frame

    def heard(self, pos: int) -> tuple[Cue | None, Take | None]:
        """Cue and take at a sample that was played; None if unknown."""
        return self._heard.at(pos)

    def rev(self, end: int) -> int:
        """Revision just before a sample."""
        return max(self._heard.rev(end), self.desk.at(end - 1)[0])

    # -- cues -----------------------------------------------------------------------------------------------------

    def cut_to(self, take: Take, *, pos: int, local: int, fade: int) -> list[Cue]:
        """Schedule a take with its ``local`` sample at station sample ``pos``. It becomes the lead.

        Returns:
            The cues that were dropped.
        """
        if self.lead is None and not self._primed:
            self._out.prime(take.tape.read(0, PRIMER))
            self._primed = True
        cue = self._cue(take, pos, local - pos, fade)
        dropped = self.mixer.place(cue)
        newest = max((each.rev for each in dropped), default=0)
        if newest > take.rev:  # revision of a resume that was confirmed already
            self.mixer.place(replace(cue, rev=newest))
        self._takes[take.ident] = take
        self.lead, self.offset, self._lead_from = take, local - pos, local
        return dropped

    @staticmethod
    def _cue(take: Take, pos: int, offset: int, fade: int) -> Cue:
        return Cue(pos=pos, source=take.tape, offset=offset, fade=fade, take=take.ident, rev=take.rev, kind="take")

    def fit(self, take: Take, pos: int, fade: int, need: int, floor: int) -> tuple[int, int] | None:
        """Position in a take at station sample ``pos`` that keeps the beat continuous.

        Args:
            take: the take.
            pos: station sample.
            fade: samples after which the beats of both takes must coincide (their tempi may differ).
            need: samples required after that position.
            floor: first local sample that may be audible.

        Returns:
            The local sample, and the number of beats (whole bars) to add to the take's count because it is late; None
            while the take has too little audio.
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
        """Return from a bridge to the lead if it has enough audio."""
        lead = self.lead
        if lead is None or not self.bridging or self.frozen is not None:
            return
        bridge = self._bridges.first
        if bridge is not self.mixer.current:  # the audio came in time: the bridge is not needed
            if lead.tape.end - self.offset >= bridge.pos + self.need:
                self._bridges.withdraw()
                if self.mixer.last.kind == "pause":  # a resume began with the bridge
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
        """Fade to silence and stop musical time; return the station sample."""
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
        """Continue from the position of :meth:`pause`; return the station sample."""
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
        """Discard the schedule and wait in silence for the next take. The sample clock continues."""
        self.mixer.reset(self._out.played, self._heard.newest_rev)
        self.lead, self.offset, self._lead_from = None, 0, 0
        self._bridges.since = 0
        self._takes.clear()
        if self.frozen is not None:
            self.frozen = 0.0
        self._begin(self.mixer.current)

    def covered(self, n: int) -> bool:
        """Whether the next ``n`` samples can be committed without a bridge."""
        least = self._out.missing(n) + LATENCY + self.fade
        return self.lead is not None and self.mixer.end >= self.mixer.position + least

    def commit(self, n: int) -> Block | None:
        """Commit ``n`` samples; None before the first take. It never waits: bridges replace missing audio."""
        if self.lead is None:
            return None
        while (missing := self._out.missing(n)) > 0:
            self._bridges.secure(missing)
            for cue in self._out.play(missing):
                self._begin(cue)
        pcm = self._out.take(n)
        block = Block(self.committed, pcm, self.rev(self.committed + n), not pcm.any())
        self.committed += n
        return block

    def _move(self, move: Move) -> None:
        """Record that a move of the desk has begun."""
        entry = {"pos": move.pos, "mix": move.fields, "ramp": move.ramp, "bar": move.bar, "rev": move.rev}
        self.log.add("desk", entry)
        self._moved(move)

    def _begin(self, cue: Cue) -> None:
        """Record that a cue has begun."""
        if cue.rev < self._heard.newest_rev:  # music from before a pause continues after it
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
        """Discard audio that can no longer be played or repeated. The history of its cues is kept longer."""
        now = self.mixer.current
        if now.take is not None and now.kind == "take" and self.frozen is None and (take := self._takes.get(now.take)):
            keep = round(take.beats.slope * take.score.info.beats) + 2 * self.fade + SAMPLE_RATE
            take.tape.trim(self.mixer.position + now.offset - keep)
        if self.mixer.fading:
            return
        for past in self._heard.takes:
            if past.ident not in self._takes and past is not self.lead:
                past.tape.trim(past.tape.end)
