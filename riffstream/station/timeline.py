"""The timeline of a station: speculate far, commit late.

It takes steers and answers whoever asked (``changes.py``), has clips rendered ahead of time (``planner.py``), splices
(``splices.py``), and commits block after block, always (``playout.py``): when generation is late it asks for less, then
repeats the last bars, then fades to silence (``bridges.py``).

Threading model
  One thread makes every call (the server's event loop; the caller's own offline). No locks, no clock of its own:
  ``now`` arguments are monotonic seconds and only set deadlines and estimates; what is heard follows from the log.
"""

from __future__ import annotations

import math
from typing import Final

from riffstream import protocol
from riffstream.config import TimelineSettings
from riffstream.errors import ParameterError
from riffstream.generator.messages import Done, Failed, Pcm, ToGenerator
from riffstream.protocol import SAMPLE_RATE, Event, ProtocolError
from riffstream.station.block import Block
from riffstream.station.changes import Pending, Reply, Requests, Wish, merged
from riffstream.station.effort import Effort
from riffstream.station.fallback import Fallback
from riffstream.station.history import announced, moment
from riffstream.station.mixer import Cue
from riffstream.station.planner import Planner
from riffstream.station.playout import Playout
from riffstream.station.score import Change, Here, Score
from riffstream.station.splices import aim, find, opening
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Take

__all__ = ["Timeline"]

DEATHS: Final = 2  # generators that end while they work on one clip: then it is not asked for any more
STARVING_S: Final = 2.0  # steers that keep coming may put off being heard for so long


class Timeline:
    """What one station plays and will play.

    Args:
        station, score: its name, and what to play.
        settings: lengths and limits.
        log: receives everything that decides what is heard.
        steps: of the sampler; None: the model's own.

    Attributes:
        playout: the committed sound, and what it is mixed from.
        rev: of the newest accepted change. effort: how long rendering takes, and how much of it there is time for.
        paused: by transport.
    """

    def __init__(
        self,
        station: str,
        score: Score,
        settings: TimelineSettings,
        log: SteeringLog | None = None,
        *,
        steps: int | None = None,
    ) -> None:
        self.station = station
        self.settings = settings
        self.log = log if log is not None else SteeringLog(station)
        self.playout = Playout(settings, self.log, begun=self._begun)
        self.rev = 0
        self.paused = False
        self.score = score
        self.effort = Effort()
        self._planner = Planner(station, self.playout, self.effort, steps=steps)
        self._waiting: dict[int, Requests] = {}  # take -> who waits for its cue to begin
        self._wish: Wish | None = None
        self._fallback = Fallback()
        self._deaths = 0  # generators in a row that ended while they worked on what plays
        self._resume: tuple[Score, int, int] | None = None  # score, index and rev, where the lead cannot go on itself
        self._pending: Pending | None = self._open(Change(score, "clip", 0), at="asap", rev=0, since=-math.inf)

    # -- what is playing ------------------------------------------------------------------------------------------

    def now(self, pos: int) -> protocol.Now:
        """What is heard at a sample (one that was committed)."""
        cue, take = self.playout.heard(pos)
        if take is None or cue is None:
            spec = self.score.spec(0, 0.0)
            state = self.score.state(spec, 0.0, paused=self.paused)
            return protocol.Now(rev=self.rev, sample_pos=max(0, pos), state=state, alpha=spec.alpha, clip=0)
        return announced(cue, take, pos, self._local(cue, pos))

    def moment(self, pos: int) -> tuple[object, ...]:
        """All that decides :meth:`now` at a sample but its position; cheap to compare. Empty before the first take."""
        cue, take = self.playout.heard(pos)
        return () if take is None or cue is None else moment(cue, take, self._local(cue, pos))

    def _local(self, cue: Cue, pos: int) -> int:
        return pos + cue.offset if cue.kind != "pause" else round(self.playout.frozen or 0)

    def target(self) -> protocol.State:
        """What plays, or is about to: the newest accepted change."""
        here = self._here(self.playout.mixer.position)
        spec = self.score.spec(self._index(), here.beat)
        return self.score.state(spec, here.beat, paused=self.paused)

    @property
    def changing(self) -> bool:
        """Whether a change was accepted that is not in the committed audio yet, and can get there."""
        rendering = self._wish is not None or (self._pending is not None and bool(self._pending.requests))
        awake = self._planner.connected and self.playout.frozen is None
        return bool(self.playout.mixer.coming) or (rendering and awake)

    def _index(self) -> int:
        """Where in the path the newest accepted change is."""
        if self._wish is not None and self._wish.change.index is not None:
            return self._wish.change.index
        if self._pending is not None:
            return self._pending.take.entries[0].index if self._pending.take.entries else self._pending.take.index
        entry = self.playout.entry(self.playout.mixer.position)
        return entry.index if entry else 0

    def _here(self, pos: int) -> Here:
        beat = self.playout.beat(pos)
        if self._pending is not None:
            entry = self._pending.take.entry(self._pending.take.beats.sample(beat))
        else:
            entry = self.playout.entry(pos)
        spec = entry.spec if entry else self.score.spec(self._index(), beat)
        clip_s = self.score.samples_per_beat(spec, beat) * self.score.info.beats / SAMPLE_RATE
        return Here(spec, beat, clip_s, self.score.info.beats)

    # -- steering -------------------------------------------------------------------------------------------------

    def steer(self, steer: protocol.Steer, reply: Reply, now: float) -> None:
        """Merge a steer. ``reply`` gets ``scheduled`` or ``rejected`` at once; ``applied`` or ``superseded`` later."""
        try:
            if steer.if_rev is not None and steer.if_rev != self.rev:
                what = f"if_rev is {steer.if_rev}; the station is at rev {self.rev}"
                raise ProtocolError("stale_rev", what, field="if_rev")
            change = self.score.steer(steer, self._here(self.playout.mixer.earliest))
            change.score.spec(change.index or 0, 0.0)
        except ProtocolError as error:
            reply(error.reply(steer.id))
            return
        except ParameterError as error:
            reply(ProtocolError("bad_request", str(error), field=error.field).reply(steer.id))
            return
        self.log.add("steer", {"rev": self.rev + 1, "sample_pos": self.playout.committed, "steer": steer})
        self._accept(steer.id, change, steer.at, reply, now)

    def transport(self, message: protocol.Transport, reply: Reply, now: float) -> None:
        """Pause, resume, reset or skip; replies as :meth:`steer`."""
        self.log.add("transport", {"rev": self.rev + 1, "sample_pos": self.playout.committed, "op": message.op})
        if message.op in ("pause", "resume"):
            pos = self.playout.mixer.earliest
            if self.paused != (message.op == "pause"):
                self.paused = message.op == "pause"
                self.rev += 1
                pos = self.playout.pause(self.rev) if self.paused else self.playout.resume(self.rev)
                if not self.paused:
                    self._advance()
            reply(self._scheduled(message.id, self.rev, pos))
            reply(protocol.Applied(id=message.id, rev=self.rev, audible_at=pos))
            return
        if message.op == "skip":
            change = self.score.skip(self._index(), self._here(self.playout.mixer.earliest))
        else:
            change = self.score.reset()
        self._accept(message.id, change, "bar", reply, now)

    def _accept(self, ident: str, change: Change, at: str, reply: Reply, now: float) -> None:
        self.score = change.score
        pending, wish = self._pending, self._wish
        waiting = wish.requests if wish else pending.requests if pending else Requests()
        if change.kind == "none":
            pos = self.playout.mixer.earliest
            reply(self._scheduled(ident, self.rev, pos))
            if pending is None:  # what is asked for plays already
                reply(protocol.Applied(id=ident, rev=self.rev, audible_at=pos))
            else:
                waiting.add(ident, self.rev, reply)
            return
        self.rev += 1
        self._planner.try_now()
        starving = pending is not None and self.playout.lead is not None and now - pending.since > STARVING_S
        if wish is not None or (starving and pending is not None and not self.paused):
            if wish is not None:
                wish.requests.superseded(ident)
            both = merged(change, wish.change if wish else pending.change if pending else change)
            self._wish = Wish(both, at, self.rev, now)
            self._wish.requests.add(ident, self.rev, reply)
            reply(self._scheduled(ident, self.rev, aim(self.playout, at, self.effort.first_s * 2)))
            return
        waiting.superseded(ident)
        since = now
        if pending is not None:
            change, since = merged(change, pending.change), pending.since
            self._planner.abandon(pending.take)
        self._pending = self._open(change, at=at, rev=self.rev, since=since)
        self._pending.requests.add(ident, self.rev, reply)
        wait = self.effort.vocoder_s if change.kind == "vocoder" else self.effort.first_s
        reply(self._scheduled(ident, self.rev, aim(self.playout, at, wait)))

    def _scheduled(self, ident: str, rev: int, pos: int) -> protocol.Scheduled:
        lead_ms = self.settings.send_lead_ms + self.settings.client_buffer_ms
        ms = (pos - self.playout.committed) / SAMPLE_RATE * 1000 + lead_ms
        goal = self.score.goal(self._index())
        tempo = self.score.tempo(goal, math.inf)
        return protocol.Scheduled(
            id=ident,
            rev=rev,
            audible_at=pos,
            audible_in_ms=round(max(0.0, ms), 1),
            bpm=None if tempo is None else round(tempo, 3),
            bpm_reason=self.score.tempo_reason(goal),
        )

    def _open(
        self,
        change: Change,
        *,
        at: str,
        rev: int,
        since: float,
        requests: Requests | None = None,
        deaths: int = 0,
    ) -> Pending:
        """A new take that will play ``change``; its first job goes out with the next :meth:`plan`."""
        wait = self.effort.vocoder_s if change.kind == "vocoder" else self.effort.first_s * 0.8
        # A take that begins too early is heard from one of its later bars; one that begins too late has to be waited
        # for, and after one answer that was late by half a minute that would be long.
        wait = min(wait, self.settings.ahead_s)
        take = self._planner.open(rev, change.score, opening(self.playout, change, aim(self.playout, at, wait)))
        waiting = requests if requests is not None else Requests()
        take.suspect = deaths > 0 or (not waiting and self._deaths > 0)
        return Pending(take, change, at, since, waiting, deaths)

    # -- generation -----------------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[ToGenerator]:
        """Messages for the generator: what to render next. Call it after anything else was called."""
        self._revive(now)
        pending = self._pending.take if self._pending is not None else None
        return self._planner.plan(now, pending, paused=self.paused)

    def receive(self, ident: int, number: int, pcm: Pcm, now: float, at: int | None = None) -> None:
        """Audio of a job; ``at``: the samples of its take that came before, where the sender counts them."""
        take = self._planner.waits_for(ident, number)
        if take is None or (at is not None and at < take.tape.end):  # came before
            return
        if at is not None and at > take.tape.end:
            self.failed(Failed(self.station, ident, number, "internal", "audio of the clip was lost"), now)
        elif self._planner.receive(ident, number, pcm, now):
            self._advance()

    def done(self, message: Done, now: float) -> None:
        """All audio of a job has come."""
        take = self._planner.waits_for(message.take, message.number)
        if take is None or not self._planner.done(message, now):
            return
        if not take.complete:
            self._planner.abandon(take)
            self._fail(take, "internal", "audio of the clip was lost")
            return
        take.suspect = take.tried = False
        self._fallback.made(take.score, take.entries[-1].index)
        if self._pending is not None and take is self._pending.take:
            self._pending.deaths = 0
        if take is self.playout.lead or not (self._pending is not None and self._pending.requests):
            self._deaths = 0
        self._advance()

    def cancelled(self, ident: int, number: int) -> None:
        """A job was dropped before its audio began."""
        self._planner.cancelled(ident, number)

    def tried(self, ident: int, number: int) -> None:
        """The generator works on a suspect now, and on nothing else."""
        take = self._planner.waits_for(ident, number)
        if take is not None:
            take.tried = True

    def idle(self, now: float) -> None:
        """The generator has nothing to do."""
        for failed in self._planner.lost(now):
            self.failed(failed, now)

    def failed(self, message: Failed, now: float) -> None:
        """A job cannot be rendered: a steer is taken back and its sender told; the journey goes on without the clip."""
        take = self._planner.failed(message, now)
        if take is not None:
            self._fail(take, "bad_request" if message.kind == "parameter" else "internal", message.message)

    def _fail(self, take: Take, code: protocol.Code, message: str) -> None:
        """A take that was abandoned because its clip cannot be made."""
        pending = self._pending
        if pending is not None and take is pending.take:
            if pending.requests:
                self._reject(pending, code, message)
            else:
                self._pending = None
                self._leave_out(take)
        elif take is self.playout.lead:
            self._leave_out(take)

    def _reject(self, pending: Pending, code: protocol.Code, message: str) -> None:
        """Take a change back."""
        pending.requests.rejected(code, message)
        self._pending = None
        if self._wish is not None:
            self.score = self._wish.change.score
        elif self._resume is not None:
            self.score = self._resume[0]
        elif self.playout.lead is not None:
            self.score = self.playout.lead.score
        else:
            self.score = self.score.reset().score
        self.rev += 1
        self._grant_wish()

    def _leave_out(self, take: Take) -> None:
        """A clip of what plays cannot be made: go on after it, or with a state that worked."""
        self._deaths = 0
        other = self._fallback.missed(take.score)
        heard = take.outstanding is None or take.sounding  # then the next clip's place was counted on
        index = take.upcoming + self._fallback.stride - heard
        if other is None:
            self._resume = (take.score, index, take.rev)
            self._tell("skipped", take.rev, "a clip cannot be made; it is left out")
        else:
            self.rev += 1
            self._resume = (*other, self.rev)
            if self._wish is None and self._pending is None:
                self.score = other[0]
            self._planner.try_now()
            self.log.add("fallback", {"rev": self.rev, "sample_pos": self.playout.committed})
            self._tell("fallback", self.rev, "clip after clip cannot be made; back to what worked before")
        if self._pending is None:
            self._grant_wish()

    def _tell(self, kind: str, rev: int, reason: str) -> None:
        self.playout.events.append(Event(kind=kind, sample_pos=self.playout.committed, rev=rev, reason=reason))

    def disconnect(self, reason: str) -> None:
        """The generator is gone: what was rendered goes on, then the bridges. What ended it twice is given up."""
        if not self._planner.connected:
            return
        pending = self._pending
        if pending is not None and pending.requests:
            pending.deaths += self._planner.at_fault(pending.take)
        guilty = self.playout.lead
        if pending is not None and not pending.requests:
            guilty = pending.take
        self._deaths += guilty is not None and self._planner.at_fault(guilty)
        self._planner.disconnect(reason)
        if pending is not None and pending.deaths >= DEATHS:
            self._reject(pending, "internal", f"the generator ended {DEATHS} times while it made this")
        # Once a clip was left out, those that follow it get one chance each.
        if guilty is not None and self._deaths >= (1 if self._fallback.misses else DEATHS):
            if pending is not None and guilty is pending.take:
                self._pending = None
            self._leave_out(guilty)

    def connect(self, now: float) -> None:
        """A generator is there again: go on with new takes where the old ones end."""
        if self._planner.connect():
            self._revive(now)

    def _revive(self, now: float) -> None:
        """Whatever failed before: open a take anew where nothing else would ask for what plays next."""
        if self._planner.rests(now):
            return
        pending, lead = self._pending, self.playout.lead
        if pending is not None:
            old = pending.take
            if old.ident not in self._planner.takes:
                index = old.entries[0].index if old.entries else old.upcoming
                self._pending = self._open(
                    Change(old.score, "clip", index, pending.change.fade_s),
                    at=pending.at,
                    rev=old.rev,
                    since=pending.since,
                    requests=pending.requests,
                    deaths=pending.deaths,
                )
        elif lead is None or lead.ident not in self._planner.takes:
            score, index, rev = self.score, 0, self.rev
            if self._resume is not None:
                score, index, rev = self._resume
            elif lead is not None:
                score, index, rev = lead.score, lead.upcoming, lead.rev
            self._pending = self._open(Change(score, "clip", index), at="end", rev=rev, since=now)

    def start_over(self) -> None:
        """The last resort after faults of ours: forget every take and begin anew with what was asked for last."""
        self.playout.start_over()
        for take in list(self._planner.takes.values()):
            self._planner.abandon(take)
        requests = [*self._waiting.values()]
        requests += [each.requests for each in (self._pending, self._wish) if each is not None]
        self._waiting.clear()
        self._pending = self._wish = self._resume = None
        self._deaths = 0
        self._planner.try_now()
        self._tell("fallback", self.rev, "an internal fault; the station begins anew")
        for each in requests:
            each.rejected("internal", "an internal fault; the station begins anew")

    # -- splices --------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """New audio has come: splice, or come back from a bridge, where that is possible now."""
        if self._pending is not None and self.playout.frozen is None:
            self._try_splice(self._pending)
        self.playout.rejoin()

    def _try_splice(self, pending: Pending) -> None:
        splice = find(self.playout, pending.take, pending.at, pending.change.fade_s)
        if splice is None:
            return
        take = pending.take
        take.shift(splice.late)
        for dropped in self.playout.cut_to(take, pos=splice.pos, local=splice.local, fade=splice.fade):
            if dropped.kind == "take" and dropped.take is not None:
                if (waiting := self._waiting.pop(dropped.take, None)) is not None:
                    waiting.superseded(by=pending.requests.newest)
                if (lost := self._planner.takes.get(dropped.take)) is not None:
                    self._planner.abandon(lost)
        self._waiting[take.ident] = pending.requests
        self._pending = self._resume = None
        self._grant_wish()

    def _grant_wish(self) -> None:
        """Render what waited for the change in hand, which is out of the way."""
        wish, self._wish = self._wish, None
        if wish is not None:
            self._pending = self._open(wish.change, at=wish.at, rev=wish.rev, since=wish.since, requests=wish.requests)

    def commit(self, n: int) -> Block | None:
        """The next ``n`` samples; None before there is anything to play. Never waits: it bridges what is missing."""
        block = self.playout.commit(n)
        cue = self.playout.mixer.current
        if cue.take is not None and cue.kind == "take":
            self._planner.abandon_before(cue.take)
        self.playout.trim()
        return block

    def _begun(self, cue: Cue) -> None:
        """Tell those who wait for a take that it is audible."""
        if cue.kind == "take" and cue.take is not None:
            # Earlier takes that were scheduled too lost their place to a pause; what they were to play is in this one.
            for ident in [ident for ident in self._waiting if ident <= cue.take]:
                self._waiting.pop(ident).applied(cue.pos)
