"""The timeline of a station: speculate far, commit late.

It asks the generator for clips ahead of time, decides where a steer is spliced, and commits block after block, always:
when generation is late it asks for less, then repeats the last bars, then fades to silence (``bridges.py``).

Threading model
  One thread makes every call (the server's event loop; the caller's own offline). No locks, no clock of its own:
  ``now`` arguments are monotonic seconds and only set deadlines and estimates; what is heard follows from the log.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from riffstream import protocol
from riffstream.config import Timeline as Settings
from riffstream.errors import ParameterError
from riffstream.protocol import SAMPLE_RATE, Event, ProtocolError
from riffstream.station.bridges import SILENCE_FADE
from riffstream.station.effort import Effort
from riffstream.station.levelled import Block
from riffstream.station.messages import Cancel, Done, DropTake, Failed, Pcm, ToGenerator
from riffstream.station.mixer import Cue
from riffstream.station.program import PRIMER, Program
from riffstream.station.score import Change, Here, Score
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Entry, Take

__all__ = ["Block", "Reply", "Timeline"]

Reply = Callable[[protocol.ServerMessage], None]

STARVING_S: Final = 2.0  # steers that keep coming may put off being heard for so long
RETRY_S: Final = 0.5  # after a clip that failed


@dataclass(frozen=True, slots=True)
class _Request:
    """Someone who waits to hear a change."""

    ident: str
    rev: int
    reply: Reply


@dataclass(slots=True)
class _Pending:
    """A take that is being rendered and not scheduled yet."""

    take: Take
    change: Change
    at: str
    since: float
    requests: list[_Request] = field(default_factory=list)


@dataclass(slots=True)
class _Wish:
    """A change that waits until the one before it is scheduled."""

    change: Change
    at: str
    rev: int
    since: float
    requests: list[_Request]


class Timeline(Program):
    """See the module.

    Args:
        station: its name.
        score: what to play.
        settings: lengths and limits.
        log: receives everything that decides what is heard.
        steps: of the sampler; None: the model's own.

    Attributes:
        rev: of the newest accepted change.
        late: clips that were asked for with less effort.
        paused: by transport.
    """

    def __init__(
        self,
        station: str,
        score: Score,
        settings: Settings,
        log: SteeringLog | None = None,
        *,
        steps: int | None = None,
    ) -> None:
        super().__init__(settings, log if log is not None else SteeringLog(station))
        self.station = station
        self.rev = 0
        self.late = 0
        self.paused = False
        self.effort = Effort()
        self.score = score
        self._steps = steps
        self._outbox: list[ToGenerator] = []
        self._rendering: dict[int, Take] = {}  # every take that the generator knows
        self._waiting: dict[int, list[_Request]] = {}  # take -> who waits for its cue to begin
        self._next_take = self._next_clip = 0
        self._connected = True
        self._retry_at = -math.inf
        self._wish: _Wish | None = None
        self._pending: _Pending | None = self._open(Change(score, "clip", 0), at="asap", rev=0, since=-math.inf)

    # -- what is playing ------------------------------------------------------------------------------------------

    def now(self, pos: int) -> protocol.Now:
        """What is heard at a sample (one that was committed)."""
        cue, take = self.heard(pos)
        if take is None or cue is None:
            spec = self.score.spec(0, 0.0)
            state = self.score.state(spec, 0.0, paused=self.paused)
            return protocol.Now(rev=self.rev, sample_pos=max(0, pos), state=state, alpha=spec.alpha, clip=0)
        offset = cue.offset if cue.kind != "pause" else round(self.frozen or 0) - pos
        beat = take.beats.beat(pos + offset)
        entry = take.entry(pos + offset)
        spec = entry.spec if entry else take.score.spec(take.index, beat)
        return protocol.Now(
            rev=cue.rev,
            sample_pos=max(0, pos),
            state=take.score.state(spec, beat, paused=cue.kind == "pause"),
            alpha=round(spec.alpha, 6),
            clip=entry.clip if entry else 0,
            beat=round(beat, 4),
        )

    def target(self) -> protocol.State:
        """What plays, or is about to: the newest accepted change."""
        here = self._here(self.mixer.position)
        spec = self.score.spec(self._index(), here.beat)
        return self.score.state(spec, here.beat, paused=self.paused)

    @property
    def changing(self) -> bool:
        """Whether a change was accepted that is not in the committed audio yet, and can get there."""
        rendering = self._wish is not None or (self._pending is not None and bool(self._pending.requests))
        return bool(self.mixer.coming) or (rendering and self._connected and self.frozen is None)

    def _index(self) -> int:
        """Where in the path the newest accepted change is."""
        if self._wish is not None and self._wish.change.index is not None:
            return self._wish.change.index
        if self._pending is not None:
            return self._pending.take.entries[0].index if self._pending.take.entries else self._pending.take.index
        entry = self.lead.entry(self.mixer.position + self.offset) if self.lead is not None else None
        return entry.index if entry else 0

    def _here(self, pos: int) -> Here:
        beat = self.beat(pos)
        entry = None
        if self._pending is not None:
            entry = self._pending.take.entry(self._pending.take.beats.sample(beat))
        if entry is None and self._pending is None and self.lead is not None:
            entry = self.lead.entry(pos + self.offset)
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
            change = self.score.steer(steer, self._here(self.mixer.earliest))
            change.score.spec(change.index or 0, 0.0)
        except ProtocolError as error:
            reply(error.reply(steer.id))
            return
        except ParameterError as error:
            reply(ProtocolError("bad_request", str(error), field=error.field).reply(steer.id))
            return
        self.log.add("steer", {"rev": self.rev + 1, "sample_pos": self.committed, "steer": steer})
        self._accept(steer.id, change, steer.at, reply, now)

    def transport(self, message: protocol.Transport, reply: Reply, now: float) -> None:
        """Pause, resume, reset or skip; replies as :meth:`steer`."""
        self.log.add("transport", {"rev": self.rev + 1, "sample_pos": self.committed, "op": message.op})
        if message.op in ("pause", "resume"):
            pos = self.mixer.earliest
            if self.paused != (message.op == "pause"):
                self.paused = message.op == "pause"
                self.rev += 1
                pos = self.pause(self.rev) if self.paused else self.resume(self.rev)
                if not self.paused:
                    self._advance()
            reply(self._scheduled(message.id, self.rev, pos))
            reply(protocol.Applied(id=message.id, rev=self.rev, audible_at=pos))
            return
        if message.op == "skip":
            change = self.score.skip(self._index(), self._here(self.mixer.earliest))
        else:
            change = self.score.reset()
        self._accept(message.id, change, "bar", reply, now)

    def _accept(self, ident: str, change: Change, at: str, reply: Reply, now: float) -> None:
        self.score = change.score
        pending, wish = self._pending, self._wish
        waiting = wish.requests if wish else pending.requests if pending else []
        if change.kind == "none":
            pos = self.mixer.earliest
            reply(self._scheduled(ident, self.rev, pos))
            if pending is None:  # what is asked for plays already
                reply(protocol.Applied(id=ident, rev=self.rev, audible_at=pos))
            else:
                waiting.append(_Request(ident, self.rev, reply))
            return
        self.rev += 1
        request = _Request(ident, self.rev, reply)
        starving = pending is not None and self.lead is not None and now - pending.since > STARVING_S
        if wish is not None or (starving and pending is not None and not self.paused):
            for each in wish.requests if wish else []:
                each.reply(protocol.Superseded(id=each.ident, by=ident))
            merged = _merged(change, wish.change if wish else pending.change if pending else change)
            self._wish = _Wish(merged, at, self.rev, now, [request])
            reply(self._scheduled(ident, self.rev, self._aim(at, self.effort.first_s * 2)))
            return
        for each in waiting:
            each.reply(protocol.Superseded(id=each.ident, by=ident))
        since = now
        if pending is not None:
            change, since = _merged(change, pending.change), pending.since
            self._abandon(pending.take)
        self._pending = self._open(change, at=at, rev=self.rev, since=since)
        self._pending.requests.append(request)
        wait = self.effort.vocoder_s if change.kind == "vocoder" else self.effort.first_s
        reply(self._scheduled(ident, self.rev, self._aim(at, wait)))

    def _scheduled(self, ident: str, rev: int, pos: int) -> protocol.Scheduled:
        lead_ms = self.settings.send_lead_ms + self.settings.client_buffer_ms
        ms = (pos - self.committed) / SAMPLE_RATE * 1000 + lead_ms
        return protocol.Scheduled(id=ident, rev=rev, audible_at=pos, audible_in_ms=round(max(0.0, ms), 1))

    # -- takes ----------------------------------------------------------------------------------------------------

    def _open(self, change: Change, *, at: str, rev: int, since: float) -> _Pending:
        """A new take that will play ``change``; its first job goes out with the next :meth:`plan`."""
        score, lead = change.score, self.lead
        wait = self.effort.vocoder_s if change.kind == "vocoder" else self.effort.first_s * 0.8
        beat = self.beat(self._aim(at, wait))
        bar = score.info.beats_per_bar
        clip_beat = float(math.floor(beat / bar + 1e-6) * bar)
        index = change.index
        reuse: list[Entry] = []
        entry = lead.entry(lead.beats.sample(beat)) if lead is not None else None
        if lead is not None and entry is not None and index is None:
            index = entry.index
            known = not lead.over and entry.beat <= beat < entry.beat + score.info.beats
            if change.kind == "vocoder" and known:
                reuse = [each for each in lead.entries if each.beat >= entry.beat]
                clip_beat = entry.beat
        take = Take.open(self._next_take, rev, score, beat=beat, clip_beat=clip_beat, index=index or 0, reuse=reuse)
        self._next_take += 1
        self._rendering[take.ident] = take
        return _Pending(take, change, at, since)

    def _aim(self, at: str, wait_s: float) -> int:
        """The sample where a change that takes ``wait_s`` to render is expected to begin."""
        soonest = self.mixer.earliest + round(wait_s * SAMPLE_RATE)
        if self.lead is None or at == "asap" or self.frozen is not None:
            return soonest
        if at == "end":
            return max(soonest, self.lead.tape.end - self.offset - self.need)
        return round(self.where(self.grid(at, self.beat(soonest + self.fade)))) - self.fade

    def _abandon(self, take: Take) -> None:
        """A take that will not be continued is forgotten, here and in the generator."""
        if self._rendering.pop(take.ident, None) is not None:
            take.over = True
            self._outbox.append(DropTake(self.station, take.ident))

    # -- generation -----------------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[ToGenerator]:
        """Messages for the generator: what to render next. Call it after anything else was called."""
        if self._connected and now >= self._retry_at:
            pending = self._pending
            if pending is not None:
                self._plan_pending(pending.take, now)
            if not self.paused:
                self._plan_playing(now, hurry=pending is not None)
        messages, self._outbox = self._outbox, []
        return messages

    def _plan_pending(self, take: Take, now: float) -> None:
        lead = self.lead
        if lead is not None and take.number == 0 and take.outstanding is None:
            given_up = lead.outstanding is not None and not lead.sounding and self.horizon_s > self._reserve_s
            if given_up and lead.outstanding is not None:
                self._outbox.append(Cancel(self.station, lead.ident, lead.outstanding.number))
        ahead = take.planned_end / SAMPLE_RATE
        if take.outstanding is None and (take.number == 0 or ahead < self.settings.ahead_s + self.effort.first_s):
            self._send(take, now, deadline=now, speculative=False)

    @property
    def _reserve_s(self) -> float:
        """Audio ahead with which what plays can wait until a steer's clip is made."""
        return 1.0 + 2.5 * self.effort.done_s

    def _plan_playing(self, now: float, *, hurry: bool) -> None:
        """The next clips of what is scheduled: the lead's, and those of a take that plays until the lead begins."""
        cues = [cue for cue in (self.mixer.current, *self.mixer.coming) if cue.kind == "take"]
        for cue, following in itertools.pairwise(cues):
            take = self._rendering.get(cue.take or 0)
            until = following.pos + following.fade + self.fade
            if take is not None and take.outstanding is None and take.planned_end - cue.offset < until:
                self._send(take, now, deadline=now, speculative=False)
        lead = self.lead
        if lead is None or lead.over or lead.outstanding is not None:
            return
        ahead = (lead.planned_end - self.offset - self.mixer.position) / SAMPLE_RATE
        if ahead > (self._reserve_s if hurry else self.settings.ahead_s):
            return
        margin = self.horizon_s
        level = self.effort.level
        if self.effort.assess(margin):
            self.late += 1
            if self.effort.level > level:
                reason = ("", "fewer steps", "no guidance")[self.effort.level]
                self.events.append(Event(kind="late", sample_pos=self.committed, reason=reason))
        lead_s = (self.settings.send_lead_ms + self.settings.client_buffer_ms) / 1000
        self._send(lead, now, deadline=now + margin + lead_s, speculative=margin > self._reserve_s)

    def _send(self, take: Take, now: float, *, deadline: float, speculative: bool) -> None:
        job = take.job(self.station, self._next_clip, deadline=deadline, speculative=speculative, steps=self._steps)
        level = 0
        if job.clip == self._next_clip:
            self._next_clip += 1
            waited_for = self.lead is not None and take is not self.lead and take.number == 0
            level = self.effort.hasty(self.settings.haste_s) if waited_for else self.effort.level
            job = self.effort.eased(job, take.score.info, level)
        take.send(job, now, level)
        self._outbox.append(job)

    def receive(self, ident: int, number: int, pcm: Pcm, now: float) -> None:
        """Audio of a job; what comes of takes that were dropped meanwhile is ignored."""
        take = self._rendering.get(ident)
        job = take.outstanding if take is not None else None
        if take is None or job is None or job.number != number:
            return
        if not take.sounding:
            # Without wall time: a deadline decides when audio comes, not what it is.
            self.log.add("job", {"job": msgspec.structs.replace(job, deadline=0.0, speculative=False)})
            self.effort.first(now - take.sent_at, reused=bool(take.reuse), level=take.level)
        take.receive(pcm)
        self._advance()

    def done(self, message: Done, now: float) -> None:
        """All audio of a job has come."""
        take = self._rendering.get(message.take)
        if take is None or take.outstanding is None or take.outstanding.number != message.number:
            return
        if message.evaluations:
            self.effort.done(now - take.sent_at, level=take.level)
        take.finish()
        self._advance()

    def cancelled(self, ident: int, number: int) -> None:
        """A job was dropped before its audio began."""
        take = self._rendering.get(ident)
        if take is not None and take.outstanding is not None and take.outstanding.number == number:
            take.cancel()

    def failed(self, message: Failed, now: float) -> None:
        """A job cannot be rendered: a steer is taken back and its sender told; the journey goes on without the clip."""
        take, pending = self._rendering.get(message.take), self._pending
        if take is None:
            return
        self._retry_at = now + RETRY_S
        self._abandon(take)
        ours = pending is not None and take is pending.take
        if pending is not None and ours and self.lead is not None and pending.requests:
            code: protocol.Code = "bad_request" if message.kind == "parameter" else "internal"
            for each in pending.requests:
                each.reply(protocol.Rejected(id=each.ident, code=code, message=message.message))
            self._pending = None
            self.score = self.lead.score
            self.rev += 1
            if self._wish is not None:
                self._grant(self._wish)
        elif pending is None or ours:
            change = Change(take.score, "clip", take.index + 1)
            requests = pending.requests if pending is not None else []
            self._pending = self._open(change, at="end", rev=take.rev, since=now)
            self._pending.requests = requests

    def disconnect(self, reason: str) -> None:
        """The generator is gone, and with it every stream: what was rendered goes on, then the bridges."""
        if self._connected:
            self._connected = False
            self.events.append(Event(kind="generator", sample_pos=self.committed, reason=reason))
        self._outbox.clear()
        for take in self._rendering.values():
            take.over = True

    def connect(self, now: float) -> None:
        """A generator is there again: go on with new takes where the old ones end."""
        if self._connected:
            return
        self._connected = True
        self._rendering.clear()
        pending, lead = self._pending, self.lead
        if pending is not None:
            old = pending.take
            index = old.entries[0].index if old.entries else old.reuse[0].index if old.reuse else old.index
            change = Change(old.score, "clip", index, pending.change.fade_s)
            self._pending = self._open(change, at=pending.at, rev=old.rev, since=pending.since)
            self._pending.requests = pending.requests
        elif lead is not None:
            self._pending = self._open(Change(lead.score, "clip", lead.index), at="end", rev=lead.rev, since=now)
        self.events.append(Event(kind="generator", sample_pos=self.committed, reason="ready"))

    # -- splices --------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """New audio has come: splice, or come back from a bridge, where that is possible now."""
        if self._pending is not None and self.frozen is None:
            self._try_splice(self._pending)
        self.rejoin()

    def _try_splice(self, pending: _Pending) -> None:
        take, lead = pending.take, self.lead
        if lead is None:
            if take.tape.end >= max(PRIMER, self.need):
                self._schedule(pending, pos=self.mixer.earliest, local=0, fade=SILENCE_FADE, late=0)
            return
        fade = self.fade
        pos = self.mixer.earliest
        if pending.at in ("beat", "bar", "clip"):
            beat = self.grid(pending.at, max(self.beat(pos + fade), take.beats.beat(take.lead_in + fade)))
            pos = round(self.where(beat)) - fade
        elif pending.at == "end" and not self.bridging:
            pos = max(pos, lead.tape.end - self.offset - 2 * self.fade)
        # Where it begins later than it could be heard, its own beginning decides.
        pos = max(pos, math.ceil(self.where(take.beats.beat(take.lead_in + fade))) - fade + 1)
        if pending.change.fade_s * SAMPLE_RATE > fade and not self.bridging:
            left = lead.tape.end - self.offset - pos - 2 * self.fade
            fade = max(fade, min(round(pending.change.fade_s * SAMPLE_RATE), left))
        place = self.fit(take, pos, self.fade, self.need + fade, take.lead_in)
        if place is not None:
            self._schedule(pending, pos=pos, local=place[0], fade=fade, late=place[1])

    def _schedule(self, pending: _Pending, *, pos: int, local: int, fade: int, late: int) -> None:
        take = pending.take
        take.shift(late)
        by = pending.requests[-1].ident if pending.requests else ""
        for dropped in self.cut_to(take, pos=pos, local=local, fade=fade):
            if dropped.kind == "take" and dropped.take is not None:
                for each in self._waiting.pop(dropped.take, []):
                    each.reply(protocol.Superseded(id=each.ident, by=by))
                if dropped.take in self._rendering:
                    self._abandon(self._rendering[dropped.take])
        self._waiting[take.ident] = pending.requests
        self._pending = None
        if self._wish is not None:
            self._grant(self._wish)

    def _grant(self, wish: _Wish) -> None:
        self._wish = None
        self._pending = self._open(wish.change, at=wish.at, rev=wish.rev, since=wish.since)
        self._pending.requests = wish.requests

    def commit(self, n: int) -> Block | None:
        """The next ``n`` samples; None before there is anything to play. Never waits: it bridges what is missing."""
        block = super().commit(n)
        self._settle()
        return block

    def _begin(self, cue: Cue) -> None:
        super()._begin(cue)
        if cue.kind == "take" and cue.take is not None:
            for each in self._waiting.pop(cue.take, []):
                each.reply(protocol.Applied(id=each.ident, rev=each.rev, audible_at=cue.pos))

    def _settle(self) -> None:
        """Forget takes and audio that cannot be heard any more."""
        cue = self.mixer.current
        if cue.take is not None and cue.kind == "take":
            for take in [take for ident, take in self._rendering.items() if ident < cue.take]:
                self._abandon(take)
        self.trim()


def _merged(change: Change, before: Change) -> Change:
    """A change on top of one that was not heard yet: where either needs new clips, new clips."""
    if change.index is None and (before.kind == "clip" or before.index is not None):
        return Change(change.score, "clip", before.index, max(change.fade_s, before.fade_s))
    return change
