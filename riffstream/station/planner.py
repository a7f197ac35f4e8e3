"""Requests to the generator: the first clip of a change, then clips ahead of playback, and their level of effort.

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
from riffstream.station.effort import Effort, left_out
from riffstream.station.live_input import LiveInput
from riffstream.station.playout import Playout
from riffstream.station.score import Change, Score
from riffstream.station.splices import Opening, aim
from riffstream.station.take import Take

__all__ = ["Planner"]

RETRY_S: Final = 0.5  # delay after a failed clip; doubles with each further failure
RETRY_MOST_S: Final = 8.0
LOST_S: Final = 5.0  # a job sent this long ago is lost if the generator is idle


class Planner:
    """Planner of jobs for the generator, and owner of its takes.

    Args:
        station: name of the station.
        playout: the playout; its lead is rendered ahead, and it receives events.
        effort: estimates of rendering times, updated with every answer.
        steps: sampler steps; None: the model's own.
        stems: True requests the drums as well, for the desk.

    Attributes:
        takes: every take in the generator, by ident.
        connected: True while there is a generator.
        input: the station's live input.
    """

    def __init__(
        self, station: str, playout: Playout, effort: Effort, *, steps: int | None, stems: bool = True
    ) -> None:
        self.station = station
        self.takes: dict[int, Take] = {}
        self.effort = effort
        self.connected = True
        self.input = LiveInput()
        self._playout = playout
        self._settings = playout.settings
        self._steps = steps
        self._stems = stems
        self._outbox: list[ToGenerator] = []
        self._next_take = 0
        self._next_clip = 0
        self._failures = 0  # failures since the last finished clip or the last change
        self._retry_at = -math.inf

    def rests(self, now: float) -> bool:
        """Whether no job may be sent now: there is no generator, or a clip has just failed."""
        return not self.connected or now < self._retry_at

    def opening_s(self, change: Change) -> float:
        """Expected seconds from the first job of a change to its first audio."""
        if change.kind == "vocoder":
            return self.effort.vocoder_s
        score, pos = change.score, self._playout.mixer.earliest
        index = change.index
        if index is None:  # it goes on in the clip that plays
            entry = self._playout.entry(pos)
            index = 0 if entry is None else entry.index
        return self.effort.opening_s(score.info_of(score.spec(index, self._playout.beat(pos))), self._steps)

    def wait_s(self, change: Change) -> float:
        """Seconds after which a take that is opened now is to be spliced."""
        wait = self.opening_s(change) * 0.6  # estimates are high, and audio before the splice costs little
        # A take that begins too early is entered at a later bar. A take that begins too late delays the change, after
        # one answer that was half a minute late for a long time.
        return min(wait, self._settings.ahead_s)

    def next_bar(self, change: Change) -> float:
        """Beat of the first bar line that a change can reach now."""
        return self._playout.beat(aim(self._playout, "bar", self.wait_s(change)) + self._playout.fade)

    def open(self, rev: int, score: Score, opening: Opening, *, clip: int = 0) -> Take:
        """Open a take. The next :meth:`plan` sends its first job. ``clip``: least identity of its clips."""
        self._next_clip = max(self._next_clip, clip)
        take = Take.open(
            self._next_take,
            rev,
            score,
            beat=opening.beat,
            clip_beat=opening.clip_beat,
            index=opening.index,
            reuse=opening.reuse,
            bar=opening.bar,
            sound=opening.sound,
        )
        self._next_take += 1
        self.takes[take.ident] = take
        return take

    def abandon(self, take: Take) -> None:
        """Discard a take, here and in the generator."""
        if self.takes.pop(take.ident, None) is not None:
            take.over = True
            self._outbox.append(DropTake(self.station, take.ident))

    def discard(self, ident: int) -> None:
        """Discard the take ``ident``, if it is not discarded already."""
        if (take := self.takes.get(ident)) is not None:
            self.abandon(take)

    def abandon_before(self, ident: int) -> None:
        """Discard the takes that are older than ``ident``."""
        for take in [take for known, take in self.takes.items() if known < ident]:
            self.abandon(take)

    # -- asking ---------------------------------------------------------------------------------------------------

    def plan(self, now: float, pending: Take | None, *, paused: bool) -> list[ToGenerator]:
        """Messages to the generator with the next jobs.

        Args:
            now: monotonic time, seconds.
            pending: take of the pending change, or None.
            paused: True renders only the pending change.
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
        """Audio of the lead that is enough, in seconds, to let a steer's clip be rendered first."""
        return 1.0 + 2.5 * self.effort.done_s

    def _plan_playing(self, now: float, *, hurry: bool) -> None:
        """Send the next jobs of the schedule: of the lead, and of a take that plays until the lead begins."""
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
        most = self._settings.ahead_s
        if ahead > (min(self._reserve_s, most) if hurry or self.input.open else most):
            return
        margin = playout.horizon_s
        level, info = self.effort.level, lead.following
        if self.effort.assess(margin, info) > level and (reason := left_out(info, self.effort.level)):
            playout.events.append(Event(kind="late", sample_pos=playout.committed, reason=reason))
        lead_s = (self._settings.send_lead_ms + self._settings.client_buffer_ms) / 1000
        self._send(lead, now, deadline=now + margin + lead_s, speculative=margin > self._reserve_s)

    def _send(self, take: Take, now: float, *, deadline: float, speculative: bool) -> None:
        job = take.job(
            self.station,
            self._next_clip,
            deadline=deadline,
            speculative=speculative,
            steps=self._steps,
            stems=self._stems,
        )
        level = 0
        if job.clip == self._next_clip:
            self._next_clip += 1
            lead, info = self._playout.lead, take.score.info_of(job.spec)
            waited_for = take is not lead and take.number == 0
            level = self.effort.level
            if waited_for and lead is not None:
                level = self.effort.hasty(self._settings.haste_s, info, self._steps)
            if waited_for and not left_out(info, level):
                job = self.effort.drafted(job, info)
            job = self.effort.eased(job, info, level)
            if take.number == 0:
                job = self.effort.opening(job, info)
            level = level if job.guided else max(level, 1)
            job = self.input.added(job, take)
        take.send(job, now, level)
        self._outbox.append(job)

    # -- answers --------------------------------------------------------------------------------------------------

    def waits_for(self, ident: int, number: int) -> Take | None:
        """Take of an outstanding job; None for a job that has ended or a discarded take."""
        take = self.takes.get(ident)
        job = take.outstanding if take is not None else None
        return take if job is not None and job.number == number else None

    def at_fault(self, take: Take) -> bool:
        """Whether a take may be the cause if the generator ends now."""
        return take.ident in self.takes and take.at_fault

    def lost(self, now: float) -> list[Failed]:
        """Failures of the jobs that an idle generator must have lost."""
        jobs = [
            take.outstanding
            for take in self.takes.values()
            if take.outstanding is not None and now - take.sent_at > LOST_S
        ]
        return [Failed(job.station, job.take, job.number, "internal", "the clip was lost on its way") for job in jobs]

    def receive(self, ident: int, number: int, pcm: Pcm, now: float) -> bool:
        """Add audio of a job to its take. False for audio of a discarded take, which is ignored."""
        take = self.waits_for(ident, number)
        if take is None or take.outstanding is None:
            return False
        job = take.outstanding
        if not take.sounding:
            # Without the deadline: wall time decides when audio comes, not its content.
            self._playout.log.add(
                "job", {"job": msgspec.structs.replace(job, deadline=0.0, speculative=False, suspect=False, trace="")}
            )
            drafted = job.draft_end > 0
            self.effort.first(now - take.sent_at, reused=bool(take.reuse), level=take.level, drafted=drafted)
        take.receive(pcm)
        return True

    def done(self, message: Done, now: float) -> bool:
        """Complete a job. False as in :meth:`receive`."""
        take = self.waits_for(message.take, message.number)
        if take is None:
            return False
        self._failures = 0
        if message.evaluations and take.outstanding is not None and not take.outstanding.draft_end:
            self.effort.done(now - take.sent_at, level=take.level)
        take.finish()
        return True

    def tried(self, ident: int, number: int) -> None:
        """The generator renders only this suspect job."""
        if (take := self.waits_for(ident, number)) is not None:
            take.tried = True

    def cancelled(self, ident: int, number: int) -> None:
        """A job was dropped before its audio began."""
        take = self.waits_for(ident, number)
        if take is not None and not take.sounding:
            take.cancel()

    def failed(self, message: Failed, now: float) -> Take | None:
        """Discard the take of a failed job and return it; None if it was discarded before.

        No job is sent for half a second, and longer after each consecutive failure.
        """
        take = self.waits_for(message.take, message.number)
        if take is not None:
            self._retry_at = now + min(RETRY_S * 2.0**self._failures, RETRY_MOST_S)
            self._failures = min(self._failures + 1, 16)
            self.abandon(take)
        return take

    def try_now(self) -> None:
        """Clear the delay after failures, because a new change may succeed."""
        self._failures = 0
        self._retry_at = -math.inf

    def disconnect(self, reason: str) -> None:
        """Handle the end of the generator: all its takes are lost. Listeners are told at the next step."""
        if self.connected:
            self.connected = False
            self._tell(reason)
        self._outbox.clear()
        for take in self.takes.values():
            take.over = True

    def connect(self) -> bool:
        """Handle a new generator, which has no takes. False if there was one already."""
        if self.connected:
            return False
        self.connected = True
        self.takes.clear()
        events = self._playout.events
        untold = next((event for event in reversed(events) if event.kind == "generator"), None)
        if untold is None:
            self._tell("ready")
        else:  # another generator took over at once
            events.remove(untold)
        return True

    def _tell(self, reason: str) -> None:
        self._playout.events.append(Event(kind="generator", sample_pos=self._playout.committed, reason=reason))
