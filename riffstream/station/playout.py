"""Playout of a station: the mixer with its cues, the lead take, pauses, the desk, loudness, and committing.

It does not depend on the source of the audio. The output is a pure function of the takes' audio, of the cues and of the
desk's moves, which are logged; ``offline.py`` runs the same mixer, desk and leveller over a log.

Threading model
  One thread makes every call. No clock.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from msgspec.structs import asdict

from riffstream.config import TimelineSettings
from riffstream.protocol import SAMPLE_RATE, Event, Mix
from riffstream.station.bars import Bars
from riffstream.station.beats import CueTime
from riffstream.station.block import LATENCY, Block, Levelled
from riffstream.station.bridges import SILENCE_FADE, Bridges
from riffstream.station.desk import COLUMNS, Desk, Move
from riffstream.station.history import Begin, Heard, Played, Rest
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
        start: sample clock, revision, musical time and desk at the first sample; by default those of a new station.
        begun: called with each cue when its first sample is committed.
        moved: called with each move of the desk when its first sample is committed.

    Attributes:
        desk: the desk.
        rest: musical time without a lead.
        committed: sample clock at the end of the committed samples.
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
        start: Begin | None = None,
        *,
        begun: Callable[[Cue], None] = lambda cue: None,
        moved: Callable[[Move], None] = lambda move: None,
    ) -> None:
        start = start or Begin()
        self.settings = settings
        self.log = log
        self._begun = begun
        self._moved = moved
        self.events: list[Event] = []
        self.committed = start.pos
        self._first_rev = start.rev
        self.underruns = self.repeats = self.splices = 0
        self.lead: Take | None = None
        self.offset = 0
        self.frozen: float | None = None
        self.fade = round(settings.crossfade_ms * SAMPLE_RATE / 1000)
        self.frame = settings.frame_ms * SAMPLE_RATE // 1000
        self.mixer = Mixer(COLUMNS)
        self.mixer.reset(start.pos, start.rev)
        self.desk = Desk(self._move, start.pos)
        if start.mix != Mix():
            self.desk.move(Move(pos=start.pos, fields=asdict(start.mix), ramp=0, rev=start.rev))
        self._out = Levelled(self.mixer, self.desk, settings)
        self._primed = False  # True once the initial gain is set
        self._lead_from = 0  # local sample from which the lead should be audible
        self._heard = Heard()
        self._takes: dict[int, Take] = {}  # scheduled or audible takes, by ident
        self.rest = start.rest
        self._bridges = Bridges(self.mixer, self._takes, fade=self.fade, repeats=settings.repeats)

    # -- musical time ---------------------------------------------------------------------------------------------

    def beat(self, pos: int) -> float:
        """Musical position of a future sample, in beats."""
        if self.lead is None:
            return self.rest.beat
        if self.frozen is not None:
            return self.lead.beats.beat(self.frozen)
        return self._time(self._at(pos)).beat(pos)

    def where(self, beat: float) -> float:
        """Inverse of :meth:`beat`, fractional."""
        if self.lead is None:
            return 0.0
        cues = [self.mixer.current, *self.mixer.coming]
        for cue, following in itertools.pairwise(cues):
            pos = self._time(cue).where(beat)
            if pos < following.pos + self.fade:
                return pos
        return self._time(cues[-1]).where(beat)

    def _at(self, pos: int) -> Cue:
        """Cue at a future sample. A cue counts from the end of its crossfade on."""
        heard = self.mixer.current
        for cue in self.mixer.coming:
            if cue.pos + self.fade > pos:
                break
            heard = cue
        return heard

    def _take(self, cue: Cue) -> Take:
        """Take of a cue; the lead for silence without a take."""
        take = self._takes.get(cue.take) if cue.take is not None else None
        assert self.lead is not None
        return take or self.lead

    def _time(self, cue: Cue) -> CueTime:
        """Musical time of a cue. A bridge goes on at the tempo of the music that it repeats."""
        take = self._take(cue)
        if cue.kind == "pause" or take.ident != cue.take:
            return CueTime(take.beats, self.offset, take.beats.shifted)
        since = self._bridges.since if cue.kind in ("loop", "silence") else None
        return CueTime(take.beats, cue.offset, cue.shift, since)

    def bars(self, beat: float) -> Bars:
        """Bar lines around a future beat. A bridge keeps the metre of the music that it repeats."""
        if self.lead is None:
            return self.rest.bars
        cue = self._at(math.ceil(self.where(beat)))
        take = self._take(cue)
        if cue.kind in ("loop", "silence") and cue.take == take.ident:
            return take.bars.until(self._time(cue).end - 0.01)
        take.foresee(beat)
        return take.bars

    def grid(self, at: str, beat: float) -> float:
        """First beat, bar line or clip start at or after ``beat``."""
        if at == "bar" or (at == "clip" and (self.lead is None or self.bridging)):
            return self.bars(beat).next(beat)
        if at == "clip":
            take = self._take(self._at(math.ceil(self.where(beat))))
            take.foresee(beat)
            return next(start for start in take.clip_beats if start >= beat - 1e-6)
        return float(math.ceil(beat - 1e-6))

    def line(self, number: int) -> float:
        """Beat of the line of a bar that is played or foreseen; of a past one, a beat in the past."""
        known = self.beat(self.mixer.earliest)
        line = self.bars(known).at(number)
        while line > known + 1e-6:  # a change of the metre before the line moves it
            known, line = line, self.bars(line).at(number)
        return line

    def reaches(self, pos: int, fade: int | None = None) -> int:
        """Number of the bar at the end of a crossfade at station sample ``pos``; by default of the usual length."""
        beat = self.beat(pos + (self.fade if fade is None else fade)) + 0.01
        return self.bars(beat).number(beat)

    def entry(self, pos: int) -> Entry | None:
        """The clip at a future sample; None before the first take."""
        if self.lead is None:
            return None
        cue = self._at(pos)
        return self._take(cue).entry(pos + self._time(cue).offset)

    @property
    def bar(self) -> int:
        """Length of a bar at the end of the lead in samples; two seconds before the first take."""
        return 2 * SAMPLE_RATE if self.lead is None else round(self.lead.beats.slope * self.lead.info.beats_per_bar)

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

    def heard(self, pos: int) -> Played | None:
        """What was played at a sample; None if unknown."""
        return self._heard.at(pos)

    def changes(self, pos: int) -> Iterator[tuple[Cue, Take]]:
        """Takes that begin after a sample, committed or scheduled, in order."""
        for played in self._heard.after(pos):
            if played.cue.kind == "take" and played.take is not None:
                yield played.cue, played.take
        for cue in self.mixer.coming:
            if cue.kind == "take":
                yield cue, self._take(cue)

    def rev(self, end: int) -> int:
        """Revision just before a sample."""
        return max(self._heard.rev(end), self.desk.at(end - 1)[0], self._first_rev)

    # -- cues -----------------------------------------------------------------------------------------------------

    def cut_to(self, take: Take, *, pos: int, local: int, fade: int) -> list[Cue]:
        """Schedule a take with its ``local`` sample at station sample ``pos``. It becomes the lead.

        Returns:
            The cues that were dropped.
        """
        if self.lead is None and not self._primed:
            self._out.prime(take.tape.read(0, PRIMER))
            self._primed = True
        beat = self.beat(pos + self.fade) if self.lead is not None else take.beats.beat(local)
        take.bars = self.bars(beat).join(beat, take.bars)
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
        return Cue(
            pos=pos,
            source=take.tape,
            offset=offset,
            fade=fade,
            take=take.ident,
            rev=take.rev,
            kind="take",
            shift=take.beats.shifted,
        )

    def fit(self, take: Take, pos: int, fade: int, need: int, floor: int) -> tuple[int, int] | None:
        """Position in a take at station sample ``pos`` that keeps the beat continuous.

        Args:
            take: the take.
            pos: station sample.
            fade: samples after which the beats of both takes must coincide (their tempi may differ).
            need: samples required after that position.
            floor: first local sample that may be audible.

        Returns:
            The local sample, and the number of beats to add to the take's count because it is late: whole bars of the
            same metre. None while the take has too little audio or another metre.
        """
        beat = self.beat(pos + fade)
        bars, end = self.bars(beat), take.beats.beat(take.tape.end)
        late = max(0, math.floor(beat - end))
        take.foresee(end)
        while (local := round(take.beats.sample(beat - late)) - fade) >= floor:
            if local + need <= take.tape.end and bars.agrees(beat, take.bars, beat - late):
                return local, late
            late += 1
        return None

    def fit_bar(self, take: Take, beat: float, fade: int, need: int, floor: int) -> tuple[int, int, int] | None:
        """Position in a take of another metre: its first bar line meets a bar line of the audible music.

        Args:
            take, fade, need, floor: as in :meth:`fit`.
            beat: beat from which on a bar line is looked for.

        Returns:
            The station sample at which the crossfade begins, the local sample there, and the number of beats to add to
            the take's count. None while the take has too little audio, or if its metre is the same.
        """
        line = self.grid("bar", beat)
        take.foresee(take.beats.beat(take.tape.end))
        own = take.bars.next(take.beats.beat(floor + fade) - 0.01)
        while (local := round(take.beats.sample(own)) - fade) < floor:
            own = take.bars.next(own + 0.5)
        if local + need > take.tape.end or self.bars(line).beats(line) == take.bars.beats(own):
            return None
        return round(self.where(line)) - fade, local, round(line - own)

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
        pos, since = self.mixer.earliest, self._bridges.since
        if (fitting := self.fit(lead, pos, self.fade, self.need, since)) is not None:
            local, late = fitting
        elif (meeting := self.fit_bar(lead, self.beat(pos + self.fade), self.fade, self.need, since)) is not None:
            pos, local, late = meeting
        else:
            return
        beat = self.beat(pos + self.fade)
        bars = self.bars(beat)
        lead.shift(late)
        lead.bars = bars.join(beat, lead.bars)
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
            cue = self._cue(self.lead, pos, 0, SILENCE_FADE)
            self.mixer.place(replace(cue, source=Silence(), rev=rev, kind="pause"))
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
                offset=self.offset,
                fade=SILENCE_FADE,
                take=self.lead.ident,
                rev=rev,
                kind="take" if enough else "silence",
                shift=self.lead.beats.shifted,
            )
            self.mixer.place(cue)
        self.events.append(Event(kind="resumed", sample_pos=pos))
        return pos

    # -- committing -----------------------------------------------------------------------------------------------

    def start_over(self) -> None:
        """Discard the schedule and wait in silence for the next take. The sample clock continues."""
        beat = self.beat(self._out.played)
        bars = self.bars(beat)
        line = bars.next(beat)
        self.rest = Rest(line, Bars.of(line, bars.beats(line), bars.number(line)))
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
        time = bars = None
        if take is not None:
            time = self._time(cue)
            if time.since is not None:  # the bars of the repeated music, without later changes of the metre
                bars = take.bars.until(time.end - 0.01)
        held = self.frozen if cue.kind == "pause" else None
        self._heard.add(cue, take, time, bars=bars, held=held, rest=self.rest.beat)
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
