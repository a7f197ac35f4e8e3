"""A station: its timeline in real time, its outlets, its listeners.

Threading model
  Event loop   makes every call and gets every callback. Nothing here blocks; encoders run in threads of their own
               (``outlet.py``), the model in a process of its own (``generator.py``).
  close()      idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, Literal

from riffstream import __version__, protocol
from riffstream.config import Config, StationConfig
from riffstream.diffusion.journey import Journey
from riffstream.errors import ParameterError
from riffstream.protocol import SAMPLE_RATE, Event, Now, ProtocolError
from riffstream.station.audience import Audience, Lease, Sink
from riffstream.station.changes import Reply
from riffstream.station.levelled import Block
from riffstream.station.messages import (
    Cancelled,
    Done,
    Failed,
    Forget,
    FromGenerator,
    Info,
    Pcm,
    Piece,
    ToGenerator,
)
from riffstream.station.outlet import CODECS, Outlet
from riffstream.station.ring import PcmRing
from riffstream.station.sample_clock import SampleClock
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog
from riffstream.station.timeline import Timeline

__all__ = ["Lease", "Station"]

log = logging.getLogger(__name__)

BURST_S: Final = 5.0  # encoded for a new outlet, so that its first listener need not wait
SETTLE_S: Final = 30.0  # a change that nobody listens to keeps a station awake until it is in the sound, or so long
FAULT_S: Final = 0.5  # after a step that failed
Send = Callable[[Iterable[ToGenerator]], None]


class Station:
    """See the module, and docs/station.md for how a server uses it.

    Args:
        name: its id in addresses.
        station: its own configuration.
        config: everything else.
        send: takes messages to the generator (and drops them while there is none).
        clock: monotonic seconds.

    Raises:
        ParameterError, MediaError: a journey that cannot be read.
    """

    def __init__(
        self,
        name: str,
        station: StationConfig,
        config: Config,
        send: Send,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.settings = station
        self.config = config
        self.title = station.title or name
        self.description = station.description
        self.log = SteeringLog(name, station.save_log or None)
        self.closed = False
        self._journey: Journey = station.plan()
        self._send = send
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        times = config.timeline
        self._frame = times.frame_ms * SAMPLE_RATE // 1000
        self._samples = SampleClock(clock, (times.send_lead_ms + times.client_buffer_ms) * SAMPLE_RATE // 1000)
        self._ring = PcmRing(round(times.ring_s * SAMPLE_RATE))
        self._timeline: Timeline | None = None
        self._info: Info | None = None
        self._outlets: dict[str, Outlet] = {}
        self._audience = Audience(name, clock)
        self._timer: asyncio.TimerHandle | None = None
        self._changed_at = -math.inf
        self._asleep = False
        self._jumps = 0
        self._faults = 0
        self._shown: tuple[Any, ...] = ()
        self._has_sound = asyncio.Event()

    # -- what plays -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is sound."""
        return self._has_sound.is_set()

    async def wait_ready(self) -> None:
        """Until there is sound, or the station is closed."""
        await self._has_sound.wait()

    @property
    def rev(self) -> int:
        """Revision of the newest accepted change."""
        return self._timeline.rev if self._timeline is not None else 0

    @property
    def state(self) -> protocol.State:
        """What plays, or is about to."""
        return self._timeline.target() if self._timeline is not None else self.now().state

    @property
    def sample_pos(self) -> int:
        """The sample that is audible now."""
        return min(max(0, self._samples.live), self.committed)

    @property
    def committed(self) -> int:
        """Sample before which audio is committed."""
        return self._timeline.committed if self._timeline is not None else 0

    @property
    def sent(self) -> int:
        """Sample before which audio has left through every running outlet (all of it where none runs)."""
        return min([self.committed, *(each.sent for each in self._outlets.values() if each.running and each.sent)])

    def now(self) -> Now:
        """What is audible now."""
        if self._timeline is not None:
            return self._timeline.now(self.sample_pos)
        score = Score.of(self.settings, Info(model="loading"), self._journey)
        spec = score.spec(0, 0.0)
        return Now(rev=0, sample_pos=0, state=score.state(spec, 0.0), alpha=spec.alpha, clip=0)

    def caps(self) -> protocol.Caps:
        """What this station can do."""
        info = self._info
        return protocol.Caps(
            model=info.model if info else "",
            beats_per_clip=float(info.in_meter(self.settings.beats_per_bar).beats) if info else None,
            steer=self.settings.steer,
        )

    def limits(self) -> protocol.Limits:
        """What this server accepts."""
        limits = self.config.limits
        return protocol.Limits(
            prompt_chars=limits.prompt_chars,
            message_bytes=limits.message_bytes,
            steer_interval_s=limits.steer_interval_s,
            steer_burst=limits.steer_burst,
        )

    def recording(self, seconds: float) -> tuple[int, Pcm]:
        """The newest ``seconds`` of committed audio: (sample clock of its first sample, [n, 2] float32)."""
        start = max(self._ring.begin, self._ring.end - round(seconds * SAMPLE_RATE))
        return start, self._ring.read(start, self._ring.end)

    def stats(self) -> dict[str, Any]:
        """Figures for /metrics and for people; plain JSON values."""
        timeline = self._timeline
        figures: dict[str, Any] = {
            "listeners": self.listeners,
            "listeners_by_kind": self._audience.by_kind,
            "asleep": self._asleep,
            "clock_jumps": self._samples.jumps,
            "faults": self._faults,
            "outlets": {codec: outlet.sinks for codec, outlet in self._outlets.items() if outlet.running},
            "committed_s": round(self.committed / SAMPLE_RATE, 3),
        }
        if timeline is not None:
            figures |= {
                "rev": timeline.rev,
                "underruns": timeline.underruns,
                "repeats": timeline.repeats,
                "splices": timeline.splices,
                "late": timeline.effort.late,
                "effort_level": timeline.effort.level,
                "horizon_s": round(timeline.horizon_s, 3),
                "first_audio_s": round(timeline.effort.first_s, 4),
                "clip_s": round(timeline.effort.done_s, 4),
            }
        return figures

    # -- steering -------------------------------------------------------------------------------------------------

    def steer(self, steer: protocol.Steer, reply: Reply, *, by: str = "") -> None:
        """Merge a steer. Never raises.

        Args:
            reply: called with ``scheduled`` or ``rejected`` before this returns, and later with ``applied`` or
                ``superseded``.
            by: who asks, for the log of this process.
        """
        self._change(steer.id, reply, lambda timeline: timeline.steer(steer, self._safe(reply), self._clock()), by)

    def transport(self, op: protocol.Transport, reply: Reply, *, by: str = "") -> None:
        """Pause, resume, reset or skip; as :meth:`steer`."""
        self._change(op.id, reply, lambda timeline: timeline.transport(op, self._safe(reply), self._clock()), by)

    def _change(self, ident: str, reply: Reply, act: Callable[[Timeline], None], by: str) -> None:
        if not self.settings.steer:
            reply(ProtocolError("forbidden", f"station {self.name} cannot be steered").reply(ident))
            return
        if self._timeline is None:
            reply(ProtocolError("busy", "the model is still loading", retry_after_ms=1000).reply(ident))
            return
        log.debug("station %s: change %s by %s", self.name, ident, by or "unknown")
        before = self._timeline.paused
        act(self._timeline)
        if before != self._timeline.paused:
            self._shown = ()
        self._changed_at = self._clock()
        self._wake()
        self._drive()

    def _safe(self, reply: Reply) -> Reply:
        def call(message: protocol.ServerMessage) -> None:
            try:
                reply(message)
            except Exception:  # a connection that is gone must not stop the music
                log.exception("station %s: a reply failed", self.name)

        return call

    # -- listeners ------------------------------------------------------------------------------------------------

    @property
    def listeners(self) -> int:
        """Listeners of every kind."""
        return self._audience.listeners

    def join(self, kind: str = "ws") -> Lease:
        """Count a listener; while there is none, generation pauses after ``timeline.idle_s``."""
        lease = self._audience.join(kind)
        self._wake()
        return lease

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Have ``sink`` called with every change of what plays, and every event. Returns what unsubscribes it."""
        return self._audience.subscribe(sink)

    def outlet(self, codec: str) -> Outlet:
        """The outlet of a codec: opus, pcm_s16, mp3, aac, ogg, wav or mp4. It encodes while someone listens."""
        if codec not in CODECS:
            raise ParameterError("codec", codec, ", ".join(CODECS))
        if codec not in self._outlets:
            rates = self.config.encoders
            kbps = {
                "opus": rates.opus_kbps,
                "ogg": rates.ogg_kbps,
                "mp3": rates.mp3_kbps,
                "aac": rates.aac_kbps,
                "mp4": rates.aac_kbps,
            }.get(codec)
            self._outlets[codec] = Outlet(
                codec,
                self._recent,
                bit_rate=None if kbps is None else kbps * 1000,
            )
        return self._outlets[codec]

    def _recent(self) -> list[Block]:
        """What a new encoder begins with: the newest audio, each block with the revision that is heard at its end."""
        blocks = self._ring.blocks(BURST_S, self._frame, 0)
        if self._timeline is None:
            return blocks
        heard = [self._timeline.heard(block.pos + len(block.pcm) - 1)[0] for block in blocks]
        return [replace(block, rev=cue.rev if cue else 0) for block, cue in zip(blocks, heard, strict=True)]

    # -- the generator --------------------------------------------------------------------------------------------

    def connect(self, info: Info) -> None:
        """A generator is ready (again)."""
        if self.closed:
            return
        self._info = info
        now = self._clock()
        if self._timeline is None:
            score = Score.of(self.settings, info, self._journey)
            self.log.header(
                {
                    "version": __version__,
                    "model": self.config.generator.model,
                    "info": info,
                    "journey": self._journey.to_dict(),
                    "timeline": self.config.timeline,
                }
            )
            self._timeline = Timeline(self.name, score, self.config.timeline, self.log, steps=self.settings.steps)
        else:
            self._timeline.connect(now)
        self._drive()

    def disconnect(self, reason: str) -> None:
        """The generator is gone."""
        if self._timeline is not None:
            self._timeline.disconnect(reason)
            self._drive()

    def report(self, message: FromGenerator, pcm: Pcm) -> None:
        """A message of the generator about this station."""
        timeline = self._timeline
        if timeline is None or self.closed:
            return
        now = self._clock()
        if isinstance(message, Piece):
            timeline.receive(message.take, message.number, pcm, now)
        elif isinstance(message, Done):
            timeline.done(message, now)
        elif isinstance(message, Cancelled):
            timeline.cancelled(message.take, message.number)
        elif isinstance(message, Failed):
            log.warning("station %s: a clip failed (%s): %s", self.name, message.kind, message.message)
            timeline.failed(message, now)
        self._drive()

    # -- time -----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._samples.start()
            self._drive()

    def _drive(self) -> None:
        """Commit what is due, ask for what is missing, and come back when the next block is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.closed or self._timeline is None:
            return
        wait = FAULT_S
        try:
            wait = self._advance(self._timeline)
        except Exception:  # a station that is not driven on is silent for ever
            self._faults += 1
            log.exception("station %s: a step failed; trying again", self.name)
        self._timer = self._loop.call_later(wait, self._drive)

    def _advance(self, timeline: Timeline) -> float:
        """One step; the seconds until the next."""
        self._send(timeline.plan(self._clock()))
        if timeline.lead is not None and not self._asleep:
            self._samples.start()
            self._commit(timeline)
            self._send(timeline.plan(self._clock()))
            self._doze()
        self._announce(timeline)
        return self._samples.wait_s(timeline.committed, self._frame) if self._samples.running else 0.25

    def _commit(self, timeline: Timeline) -> None:
        due = self._samples.due(timeline.committed)
        if self._samples.jumps != self._jumps:
            self._jumps = self._samples.jumps
            timeline.events.append(Event(kind="clock_jump", sample_pos=timeline.committed))
        while due >= self._frame:
            block = timeline.commit(self._frame)
            if block is None:
                return
            due -= self._frame
            self._out(block)

    def _out(self, block: Block) -> None:
        self._ring.push(block.pcm)
        for outlet in self._outlets.values():
            outlet.push(block)
        self._has_sound.set()

    def _doze(self) -> None:
        idle = self.config.timeline.idle_s
        if not idle or self.listeners or self._clock() - self._audience.left_at < idle:
            return
        if self._changing and self._clock() - self._changed_at < SETTLE_S:
            return
        self._asleep = True
        self._samples.stop()

    @property
    def _changing(self) -> bool:
        """Whether a change is on its way to be heard, or was heard less than a burst ago: whoever tunes in then hears
        nothing from before it."""
        timeline = self._timeline
        if timeline is None:
            return False
        burst = self.config.timeline.burst_ms * SAMPLE_RATE // 1000
        return timeline.changing or self.sample_pos < timeline.mixer.current.pos + burst

    def _announce(self, timeline: Timeline) -> None:
        events, timeline.events = timeline.events, []
        for event in events:
            self._audience.tell(event)
        if not self._audience.subscribers or timeline.lead is None:
            return
        now = timeline.now(self.sample_pos)
        shown = (now.rev, now.clip, now.state)
        if shown != self._shown:
            self._shown = shown
            self._audience.tell(now)

    def close(self, reason: Literal["closed", "shutdown"] = "closed") -> None:
        """Stop: subscribers get an event of this kind, outlets end, the generator forgets the station. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._send([Forget(self.name)])
        self._audience.tell(Event(kind=reason, sample_pos=self.committed))
        for outlet in self._outlets.values():
            outlet.close()
        self._audience.dismiss()
        self.log.close(self.committed)
        self._has_sound.set()
