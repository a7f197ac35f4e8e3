"""The timeline of a station: it renders clips early and commits audio late.

It handles steers and answers their senders (``changes.py``), requests clips ahead of time (``planner.py``), splices
(``splices.py``), and commits block after block without interruption (``playout.py``). When generation is late it
reduces the effort, then repeats the last bars, then fades to silence (``bridges.py``).

Threading model
  One thread makes every call (the server's event loop; the caller's own offline). No locks, no clock of its own:
  ``now`` arguments are monotonic seconds and only set deadlines and estimates; the log determines the output.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from riffstream import protocol
from riffstream.config import TimelineSettings
from riffstream.errors import ParameterError
from riffstream.generator.messages import Done, Failed, Pcm, ToGenerator
from riffstream.protocol import Event, ProtocolError
from riffstream.station import changes
from riffstream.station.block import Block
from riffstream.station.changes import Pending, Reply, Waiters, Wish, announcing, merged, newest, scheduled, told_moment
from riffstream.station.effort import Effort
from riffstream.station.faders import Faders, neutral, setting
from riffstream.station.fallback import Fallback
from riffstream.station.history import announced, mixed, resting, with_mix
from riffstream.station.likenesses import Likenesses
from riffstream.station.mixer import Cue
from riffstream.station.planner import Planner
from riffstream.station.playout import Playout
from riffstream.station.saved import Continued
from riffstream.station.score import Change, Here, Score
from riffstream.station.splices import aim, find, opening
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Take
from riffstream.station.timed import Timed
from riffstream.station.traces import Traces

__all__ = ["Timeline"]

DEATHS: Final = 2  # generators ended by one clip until it is given up
STARVING_S: Final = 2.0  # longest time that continuous steering may postpone a change


class Timeline:
    """The schedule of a station: steering, rendering ahead, splicing and committing.

    Args:
        station: name of the station.
        score: the initial score.
        settings: lengths and limits.
        log: steering log; it records everything that determines the output.
        steps: sampler steps; None: the model's own.
        stems: True requests the drums as well, for the desk.
        saved: a saved state to continue; None: it begins with ``score``.

    Attributes:
        playout: the committed audio and its sources.
        rev: revision of the newest accepted change.
        effort: estimates of rendering times, and the level of effort.
        paused: True after a ``pause``.
        timed: the steers that wait for their bars.
        traces: trace contexts of the requests.
    """

    def __init__(
        self,
        station: str,
        score: Score,
        settings: TimelineSettings,
        log: SteeringLog | None = None,
        *,
        steps: int | None = None,
        stems: bool = True,
        saved: Continued | None = None,
    ) -> None:
        self.station = station
        self.settings = settings
        self.log = log if log is not None else SteeringLog(station)
        start = saved or Continued(score=score)
        self.rev, self.paused, self.score = start.begin.rev, start.paused, start.score
        self.playout = Playout(
            settings, self.log, start.begin, begun=self._begun, moved=lambda it: self._faders.begun(it)
        )
        self._faders = Faders(self.playout, {})
        self._still = self.paused  # True until a saved pause goes on
        self.effort, self.likenesses = Effort(), Likenesses()
        self._planner = Planner(station, self.playout, self.effort, steps=steps, stems=stems)
        self.input = self._planner.input  # the live input
        self.timed = Timed(self.playout, self._planner.opening_s, self.merge, self._accept)
        self._waiting: dict[int, Waiters] = {}  # take -> requests that wait for the start of its cue
        self._wish: Wish | None = None
        self.traces, self._fallback = Traces(), Fallback()
        self._deaths = 0  # consecutive generators that ended while rendering the lead
        self._resume: tuple[Score, int, int] | None = None  # score, index and rev, if the lead cannot continue itself
        take = self._planner.open(self.rev, start.score, start.opening, clip=start.clip)
        first = Change(start.score, "clip", start.opening.index)
        self._pending: Pending | None = Pending(take, first, "asap", -math.inf)
        self.timed.restore(start.waiting, station)

    def now(self, pos: int) -> protocol.Now:
        """The ``now`` message for a committed sample."""
        played = self.playout.heard(pos)
        if played is None or played.take is None:
            now = resting(self.score, self.rev, pos, self.playout.rest, paused=self.paused)
            return mixed(now, self.rev, self.mix())
        now = self.likenesses.now(mixed(announced(played, played.take, pos), *self.playout.desk.at(pos)))
        return announcing(now, pos, self.playout, self._planner, self._pending, self._wish, self._aim, self.timed)

    def moment(self, pos: int) -> tuple[object, ...]:
        """All that decides :meth:`now` at a sample but its position; cheap to compare. Empty before the first take."""
        found = told_moment(self.playout, self.likenesses, pos)
        return found and (*found, *newest(self.playout, self._pending, self._wish), self.timed.version)

    def target(self) -> protocol.State:
        """Parameters of the newest accepted change."""
        here = self._here(self.playout.mixer.position)
        spec = self.score.spec(self._index(), here.beat)
        return with_mix(self.likenesses.state(self.score.state(spec, here.beat, paused=self.paused)), self.mix())

    def mix(self) -> protocol.Mix:
        """The desk after the newest accepted change."""
        return self._faders.target(self._pending, self._wish)

    @property
    def changing(self) -> bool:
        """Whether an accepted change is still on its way to the committed audio."""
        rendering = self._wish is not None or (self._pending is not None and bool(self._pending.requests))
        awake = self._planner.connected and self.playout.frozen is None
        return bool(self.playout.mixer.coming or self.playout.desk.coming) or (rendering and awake)

    @property
    def coming(self) -> Change | None:
        """The newest accepted change whose take is not scheduled yet."""
        if self._wish is not None:
            return self._wish.change
        return self._pending.change if self._pending is not None and self._pending.requests else None

    def _index(self) -> int:
        return changes.index_of(self.playout, self._pending, self._wish)

    def _here(self, pos: int) -> Here:
        return changes.here(self.playout, self.score, self._index(), self._pending, pos)

    # -- steering -------------------------------------------------------------------------------------------------

    def steer(self, steer: protocol.Steer, reply: Reply, now: float) -> None:
        """Merge a steer; ``reply`` receives ``scheduled`` or ``rejected`` now, ``applied`` or ``superseded`` later."""
        try:
            if steer.if_rev is not None and steer.if_rev != self.rev:
                what = f"if_rev is {steer.if_rev}; the station is at rev {self.rev}"
                raise ProtocolError("stale_rev", what, field="if_rev")
            change = self.merge(steer, self.playout.mixer.earliest)
            waits = self.timed.waits(steer, change)
        except ProtocolError as error:
            reply(error.reply(steer.id))
            return
        self.log.add("steer", {"rev": self.rev + 1, "sample_pos": self.playout.committed, "steer": steer})
        if waits is not None:
            self.timed.add(steer, waits, change, reply)
            reply(self._scheduled(steer.id, self.rev, self.timed.pos(waits), waits))
        else:
            self._accept(steer.id, change, steer.at, reply, now, steer.bar)

    def merge(self, steer: protocol.Steer, pos: int) -> Change:
        """The change of a steer that begins at station sample ``pos``. Raises ProtocolError."""
        try:
            change = self.score.steer(steer, self._here(pos))
            change.score.spec(change.index or 0, 0.0)
        except ParameterError as error:
            raise ProtocolError("bad_request", str(error), field=error.field) from None
        return replace(change, mix=setting(steer, self.mix()))

    def transport(self, message: protocol.Transport, reply: Reply, now: float) -> None:
        """Pause, resume, reset or skip; replies as in :meth:`steer`."""
        self.log.add("transport", {"rev": self.rev + 1, "sample_pos": self.playout.committed, "op": message.op})
        if message.op in ("pause", "resume"):
            pos = self.playout.mixer.earliest
            if self.paused != (message.op == "pause"):
                self.paused = message.op == "pause"
                self.rev += 1
                pos = self.playout.pause(self.rev) if self.paused else self.playout.resume(self.rev)
                self._still = False
                if not self.paused:
                    self._advance()
            reply(self._scheduled(message.id, self.rev, pos))
            reply(protocol.Applied(id=message.id, rev=self.rev, audible_at=pos))
            return
        if message.op == "skip":
            change = self.score.skip(self._index(), self._here(self.playout.mixer.earliest))
        else:
            change = replace(self.score.reset(), mix=neutral(self.mix()))
        self._accept(message.id, change, "bar", reply, now)

    def _accept(self, ident: str, change: Change, at: str, reply: Reply, now: float, bar: int | None = None) -> None:
        self.score = change.score
        pending, wish = self._pending, self._wish
        waiting = wish.requests if wish else pending.requests if pending else Waiters()
        if change.kind == "none" and change.mix is not None:  # no take, and nothing for the generator
            self.rev += 1
            pos = self._faders.place("bar" if bar is not None else at, bar)
            reply(self._scheduled(ident, self.rev, pos, bar))
            self._faders.move(ident, change.mix, self.rev, pos, reply, bar=bar, behind=(pending, wish))
            return
        if change.kind == "none":
            reply(self._scheduled(ident, self.rev, pos := self.playout.mixer.earliest, bar))
            waiting = waiting if pending is not None else Waiters(bar)
            waiting.add(ident, self.rev, reply)
            if pending is None:  # the requested state plays already
                waiting.applied(pos, self.playout.reaches(pos))
            return
        self.rev += 1
        self._planner.try_now()
        bar = changes.latest(bar, pending, wish, self._waiting.values())
        at = at if bar is None else "bar"
        starving = pending is not None and self.playout.lead is not None and now - pending.since > STARVING_S
        if wish is not None or (starving and pending is not None and not self.paused):
            if wish is not None:
                wish.requests.superseded(ident)
            both = merged(change, wish.change if wish else pending.change if pending else change)
            self._wish = Wish(both, at, self.rev, now, Waiters(bar))
            self._wish.requests.add(ident, self.rev, reply)
            reply(self._scheduled(ident, self.rev, self._aim(both, at, self._planner.opening_s(change) * 2, bar), bar))
            return
        waiting.superseded(ident)
        since = now
        if pending is not None:
            change, since = merged(change, pending.change), pending.since
            self._planner.abandon(pending.take)
        self._pending = self._open(change, at=at, rev=self.rev, since=since, requests=Waiters(bar))
        self._pending.requests.add(ident, self.rev, reply)
        reply(self._scheduled(ident, self.rev, self._aim(change, at, self._planner.opening_s(change), bar), bar))

    def _aim(self, change: Change, at: str, wait_s: float, bar: int | None = None) -> int:
        """Expected station sample of a change."""
        index = self._index() if change.index is None else change.index
        metre = change.score.meter(change.score.path.clip(index))
        return aim(self.playout, at, wait_s, metre=metre, bar=bar)

    def next_bar(self) -> float:  # beat of the first bar line that new prompts can reach now
        return self._planner.next_bar(Change(self.score, "clip", 0))

    def _scheduled(self, ident: str, rev: int, pos: int, bar: int | None = None) -> protocol.Scheduled:
        goal = self.score.goal(self._index())
        return scheduled(self.playout, self.score, goal, ident, rev, pos, self.likenesses, bar)

    def _open(
        self, change: Change, *, at: str, rev: int, since: float, requests: Waiters | None = None, deaths: int = 0
    ) -> Pending:
        """Open a take for ``change``. The next :meth:`plan` sends its first job."""
        waiting = requests if requests is not None else Waiters()
        begin = opening(self.playout, change, self._aim(change, at, self._planner.wait_s(change), waiting.bar))
        lead = self.playout.lead
        score = change.score.anchored(begin.row_bar, None if lead is None else lead.score, begin.moved)
        if self.score is change.score:
            self.score = score
        take = self._planner.open(rev, score, begin)
        take.suspect = deaths > 0 or (not waiting and self._deaths > 0)
        return Pending(take, change, at, since, waiting, deaths)

    # -- generation -----------------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[ToGenerator]:
        """Messages to the generator with the next jobs. Call it after any other call."""
        self._revive(now)
        self.timed.begin(now)
        return self._planner.plan(now, self.traces.marked(self._pending), paused=self.paused)

    def receive(self, ident: int, number: int, pcm: Pcm, now: float, at: int | None = None) -> None:
        """Handle audio of a job; ``at``: number of earlier samples of its take, if the sender counts them."""
        take = self._planner.waits_for(ident, number)
        if take is None or (at is not None and at < take.tape.end):  # received before
            return
        if at is not None and at > take.tape.end:
            self.failed(Failed(self.station, ident, number, "internal", "audio of the clip was lost"), now)
        elif self._planner.receive(ident, number, pcm, now):
            self._advance()

    def done(self, message: Done, now: float) -> None:
        """Handle the end of a job's audio."""
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
        """Handle the start of a trial: the generator renders only this suspect job."""
        self._planner.tried(ident, number)

    def idle(self, now: float) -> None:
        """Handle an idle generator: jobs that were sent long ago are lost."""
        for failed in self._planner.lost(now):
            self.failed(failed, now)

    def failed(self, message: Failed, now: float) -> None:
        """Handle a failed job: its steer is rejected; the journey continues without the clip."""
        take = self._planner.failed(message, now)
        if take is not None:
            self._fail(take, "bad_request" if message.kind == "parameter" else "internal", message.message)

    def _fail(self, take: Take, code: protocol.Code, message: str) -> None:
        """Handle a take discarded because of a failed clip."""
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
        """Reject a pending change and answer its requests."""
        pending.requests.rejected(code, message)
        self._pending = None
        lead = self.playout.lead.score if self.playout.lead is not None else self.score.reset().score
        playing = self._resume[0] if self._resume is not None else lead
        self.score = playing if self._wish is None else self._wish.change.score
        self.rev += 1
        self._grant_wish()

    def _leave_out(self, take: Take) -> None:
        """Continue after a failed clip of the lead, or with a working state."""
        self._deaths = 0
        other = self._fallback.missed(take.score)
        heard = take.outstanding is None or take.sounding  # the next clip's position is counted already
        index = take.upcoming + self._fallback.stride - heard
        if other is None:
            self._resume = (take.score, index, take.rev)
            self._tell("skipped", take.rev, "a clip failed; it is left out")
        else:
            self.rev += 1
            self._resume = (*other, self.rev)
            if self._wish is None and self._pending is None:
                self.score = other[0]
            self._planner.try_now()
            self.log.add("fallback", {"rev": self.rev, "sample_pos": self.playout.committed})
            self._tell("fallback", self.rev, "several clips failed; the station returns to the last working state")
        if self._pending is None:
            self._grant_wish()

    def _tell(self, kind: str, rev: int, reason: str) -> None:
        self.playout.events.append(Event(kind=kind, sample_pos=self.playout.committed, rev=rev, reason=reason))

    def disconnect(self, reason: str, *, blame: bool = True) -> None:
        """Handle the end of the generator, perhaps (``blame``) because of a clip. A clip at fault twice is dropped."""
        if not self._planner.connected:
            return
        pending = self._pending
        if pending is not None and pending.requests:
            pending.deaths += blame and self._planner.at_fault(pending.take)
        guilty = self.playout.lead
        if pending is not None and not pending.requests:
            guilty = pending.take
        self._deaths += blame and guilty is not None and self._planner.at_fault(guilty)
        self._planner.disconnect(reason)
        if pending is not None and pending.deaths >= DEATHS:
            self._reject(pending, "internal", f"the generator ended {DEATHS} times while rendering this change")
        # After a skipped clip, each following clip has one attempt.
        if blame and guilty is not None and self._deaths >= (1 if self._fallback.misses else DEATHS):
            if pending is not None and guilty is pending.take:
                self._pending = None
            self._leave_out(guilty)

    def connect(self, now: float) -> None:
        """Handle a new generator: new takes continue at the end of the old ones."""
        if self._planner.connect():
            self._revive(now)

    def _revive(self, now: float) -> None:
        """Open a new take if no other take would request the next clips."""
        if self._planner.rests(now):
            return
        pending, lead = self._pending, self.playout.lead
        if pending is not None:
            old = pending.take
            if old.ident not in self._planner.takes:
                index = old.entries[0].index if old.entries else old.upcoming
                change = Change(old.score, "clip", index, pending.change.fade_s, pending.change.mix)
                waiting, deaths = pending.requests, pending.deaths
                self._pending = self._open(
                    change, at=pending.at, rev=old.rev, since=pending.since, requests=waiting, deaths=deaths
                )
        elif lead is None or lead.ident not in self._planner.takes:
            score, index, rev = self.score, 0, self.rev
            if self._resume is not None:
                score, index, rev = self._resume
            elif lead is not None:
                score, index, rev = lead.score, lead.upcoming, lead.rev
            self._pending = self._open(Change(score, "clip", index), at="end", rev=rev, since=now)

    def start_over(self) -> None:
        """Recover from repeated internal errors: discard every take and start over with the newest accepted change."""
        self.playout.start_over()
        for take in list(self._planner.takes.values()):
            self._planner.abandon(take)
        requests = [*self._waiting.values()]
        requests += [each.requests for each in (self._pending, self._wish) if each is not None]
        self._waiting.clear()
        self._pending = self._wish = self._resume = None
        self._deaths = 0
        self._planner.try_now()
        self._tell("fallback", self.rev, "an internal error; the station starts over")
        for each in requests:
            each.rejected("internal", "an internal error; the station starts over")

    def _advance(self) -> None:
        """Splice a pending change, or return from a bridge, as soon as the audio allows it."""
        if self._pending is not None and self.playout.frozen is None:
            self._try_splice(self._pending)
        self.playout.rejoin()

    def _try_splice(self, pending: Pending) -> None:
        splice = find(self.playout, pending.take, pending.at, pending.change.fade_s, pending.requests.bar)
        if splice is None:
            return
        take = pending.take
        take.shift(splice.late)
        for dropped in self.playout.cut_to(take, pos=splice.pos, local=splice.local, fade=splice.fade):
            if dropped.kind == "take" and dropped.take is not None:
                self._waiting.pop(dropped.take, Waiters()).superseded(by=pending.requests.newest)
                self._planner.discard(dropped.take)
        if self._still:
            self._still = False
            self.playout.pause(self.rev)
        if pending.change.mix is not None:
            self._faders.join(pending.change.mix, take.rev, splice.pos)
        self._waiting[take.ident] = pending.requests
        self._pending = self._resume = None
        self._grant_wish()

    def _grant_wish(self) -> None:
        """Make the wish the pending change, after the earlier one is scheduled or rejected."""
        wish, self._wish = self._wish, None
        if wish is not None:
            self._pending = self._open(wish.change, at=wish.at, rev=wish.rev, since=wish.since, requests=wish.requests)

    def commit(self, n: int) -> Block | None:
        """Commit ``n`` samples; None before the first audio. It never waits: bridges replace missing audio."""
        block = self.playout.commit(n)
        cue = self.playout.mixer.current
        if cue.take is not None and cue.kind == "take":
            self._planner.abandon_before(cue.take)
        self.playout.trim()
        return block

    def _begun(self, cue: Cue) -> None:
        """Tell those who wait for a take that it is audible."""
        if cue.kind == "take" and cue.take is not None:
            # Earlier scheduled takes were dropped by a pause; this take contains their changes.
            for ident in [ident for ident in self._waiting if ident <= cue.take]:
                self._waiting.pop(ident).applied(cue.pos, self.playout.reaches(cue.pos))
