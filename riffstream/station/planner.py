"""What the generator is asked for: a change's first clip, then clips ahead of what plays, and how much effort they get.

Threading model
  One thread makes every call (``timeline.py``'s). No clock of its own: ``now`` arguments are monotonic seconds and only
  set deadlines and estimates.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

import msgspec

from riffstream.generator.messages import Cancel, Done, DropTake, Failed, Pcm, ToGenerator
from riffstream.protocol import SAMPLE_RATE, Event
from riffstream.station.effort import Effort
from riffstream.station.playout import Playout
from riffstream.station.score import Score
from riffstream.station.splices import Opening
from riffstream.station.take import Take

__all__ = ["Planner"]

RETRY_S: Final = 0.5  # after a clip that failed; twice as long after each that follows
RETRY_MOST_S: Final = 8.0
LOST_S: Final = 5.0  # a job that was sent so long ago is lost where the generator has nothing to do


class Planner:
    """The takes that the generator knows, and what it is told about them.

    Args:
        station: its name.
        playout: what plays; its lead is rendered ahead. Events go to it.
        effort: how long rendering takes; kept up with every answer.
        steps: of the sampler; None: the model's own.

    Attributes:
        takes: by ident: every take that the generator knows.
        connected: whether there is a generator.
    """

    def __init__(self, station: str, playout: Playout, effort: Effort, *, steps: int | None) -> None:
        self.station = station
        self.takes: dict[int, Take] = {}
        self.effort = effort
        self.connected = True
        self._playout = playout
        self._settings = playout.settings
        self._steps = steps
        self._outbox: list[ToGenerator] = []
        self._next_take = self._next_clip = 0
        self._failures = 0  # since the last clip that was made, or the last change
        self._retry_at = -math.inf

    def rests(self, now: float) -> bool:
        """Whether nothing can be asked for now: there is no generator, or a clip has failed a moment ago."""
        return not self.connected or now < self._retry_at

    def open(self, rev: int, score: Score, opening: Opening) -> Take:
        """A new take; its first job goes out with the next :meth:`plan`."""
        take = Take.open(
            self._next_take,
            rev,
            score,
            beat=opening.beat,
            clip_beat=opening.clip_beat,
            index=opening.index,
            reuse=opening.reuse,
        )
        self._next_take += 1
        self.takes[take.ident] = take
        return take

    def abandon(self, take: Take) -> None:
        """A take that will not be continued is forgotten, here and in the generator."""
        if self.takes.pop(take.ident, None) is not None:
            take.over = True
            self._outbox.append(DropTake(self.station, take.ident))

    def abandon_before(self, ident: int) -> None:
        """Abandon the takes that are older than one that plays."""
        for take in [take for known, take in self.takes.items() if known < ident]:
            self.abandon(take)

    # -- asking ---------------------------------------------------------------------------------------------------

    def plan(self, now: float, pending: Take | None, *, paused: bool) -> list[ToGenerator]:
        """Messages for the generator: what to render next.

        Args:
            pending: the take of a change that someone waits for.
            paused: then nothing else is rendered.
        """
        if not self.rests(now):
            if pending is not None:
                self._plan_pending(pending, now)
            if not paused:
                self._plan_playing(now, hurry=pending is not None)
        messages, self._outbox = self._outbox, []
        return messages

    def _plan_pending(self, take: Take, now: float) -> None:
        lead = self._playout.lead
        if lead is not None and take.number == 0 and take.outstanding is None:
            given_up = lead.outstanding is not None and not lead.sounding and self._playout.horizon_s > self._reserve_s
            if given_up and lead.outstanding is not None:
                self._outbox.append(Cancel(self.station, lead.ident, lead.outstanding.number))
        ahead = take.planned_end / SAMPLE_RATE
        if take.outstanding is None and (take.number == 0 or ahead < self._settings.ahead_s + self.effort.first_s):
            self._send(take, now, deadline=now, speculative=False)

    @property
    def _reserve_s(self) -> float:
        """Audio ahead with which what plays can wait until a steer's clip is made."""
        return 1.0 + 2.5 * self.effort.done_s

    def _plan_playing(self, now: float, *, hurry: bool) -> None:
        """The next clips of what is scheduled: the lead's, and those of a take that plays until the lead begins."""
        playout = self._playout
        cues = [cue for cue in (playout.mixer.current, *playout.mixer.coming) if cue.kind == "take"]
        for cue, following in itertools.pairwise(cues):
            take = self.takes.get(cue.take or 0)
            until = following.pos + following.fade + playout.fade
            if take is not None and take.outstanding is None and take.planned_end - cue.offset < until:
                self._send(take, now, deadline=now, speculative=False)
        lead = playout.lead
        if lead is None or lead.over or lead.outstanding is not None:
            return
        ahead = (lead.planned_end - playout.offset - playout.mixer.position) / SAMPLE_RATE
        if ahead > (self._reserve_s if hurry else self._settings.ahead_s):
            return
        margin = playout.horizon_s
        level = self.effort.level
        if self.effort.assess(margin) > level:
            reason = ("", "fewer steps", "no guidance")[self.effort.level]
            playout.events.append(Event(kind="late", sample_pos=playout.committed, reason=reason))
        lead_s = (self._settings.send_lead_ms + self._settings.client_buffer_ms) / 1000
        self._send(lead, now, deadline=now + margin + lead_s, speculative=margin > self._reserve_s)

    def _send(self, take: Take, now: float, *, deadline: float, speculative: bool) -> None:
        job = take.job(self.station, self._next_clip, deadline=deadline, speculative=speculative, steps=self._steps)
        level = 0
        if job.clip == self._next_clip:
            self._next_clip += 1
            lead = self._playout.lead
            waited_for = lead is not None and take is not lead and take.number == 0
            level = self.effort.hasty(self._settings.haste_s) if waited_for else self.effort.level
            job = self.effort.eased(job, take.score.info, level)
        take.send(job, now, level)
        self._outbox.append(job)

    # -- answers --------------------------------------------------------------------------------------------------

    def waits_for(self, ident: int, number: int) -> Take | None:
        """The take whose outstanding job this is; None for what comes of jobs that ended or takes that were dropped."""
        take = self.takes.get(ident)
        job = take.outstanding if take is not None else None
        return take if job is not None and job.number == number else None

    def at_fault(self, take: Take) -> bool:
        """Whether the generator, if it ends now, may have ended because of a take."""
        return take.ident in self.takes and take.at_fault

    def lost(self, now: float) -> list[Failed]:
        """The generator has nothing to do: the failures of the jobs that it must have lost."""
        jobs = [
            take.outstanding
            for take in self.takes.values()
            if take.outstanding is not None and now - take.sent_at > LOST_S
        ]
        return [Failed(job.station, job.take, job.number, "internal", "the clip was lost on its way") for job in jobs]

    def receive(self, ident: int, number: int, pcm: Pcm, now: float) -> bool:
        """Audio of a job. False for what comes of takes that were dropped meanwhile: it is ignored."""
        take = self.waits_for(ident, number)
        if take is None or take.outstanding is None:
            return False
        job = take.outstanding
        if not take.sounding:
            # Without wall time: a deadline decides when audio comes, not what it is.
            self._playout.log.add(
                "job", {"job": msgspec.structs.replace(job, deadline=0.0, speculative=False, suspect=False)}
            )
            self.effort.first(now - take.sent_at, reused=bool(take.reuse), level=take.level)
        take.receive(pcm)
        return True

    def done(self, message: Done, now: float) -> bool:
        """All audio of a job has come; False as of :meth:`receive`."""
        take = self.waits_for(message.take, message.number)
        if take is None:
            return False
        self._failures = 0
        if message.evaluations:
            self.effort.done(now - take.sent_at, level=take.level)
        take.finish()
        return True

    def cancelled(self, ident: int, number: int) -> None:
        """A job was dropped before its audio began."""
        take = self.waits_for(ident, number)
        if take is not None and not take.sounding:
            take.cancel()

    def failed(self, message: Failed, now: float) -> Take | None:
        """A job cannot be rendered: its take, which is abandoned; None where it was dropped meanwhile. Nothing is asked
        for in the next half second, and longer after every failure in a row."""
        take = self.waits_for(message.take, message.number)
        if take is not None:
            self._retry_at = now + min(RETRY_S * 2.0**self._failures, RETRY_MOST_S)
            self._failures = min(self._failures + 1, 16)
            self.abandon(take)
        return take

    def try_now(self) -> None:
        """Something else is wanted: earlier failures say nothing about it."""
        self._failures = 0
        self._retry_at = -math.inf

    def disconnect(self, reason: str) -> None:
        """The generator is gone, and with it every stream."""
        if self.connected:
            self.connected = False
            self._tell(reason)
        self._outbox.clear()
        for take in self.takes.values():
            take.over = True

    def connect(self) -> bool:
        """A generator is there again, and knows no take. False where there was one already."""
        if self.connected:
            return False
        self.connected = True
        self.takes.clear()
        self._tell("ready")
        return True

    def _tell(self, reason: str) -> None:
        self._playout.events.append(Event(kind="generator", sample_pos=self._playout.committed, reason=reason))
