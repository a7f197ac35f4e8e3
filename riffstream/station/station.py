"""A station as the server sees it. Its time, its output and its audience are objects of their own.

Threading model
  Event loop   makes every call and gets every callback. Nothing here blocks; encoders run in threads of their own
               (``outlet.py``), the model in a process of its own (``generator.py``).
  close()      idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from riffstream import __version__, protocol
from riffstream.config import Config, StationConfig
from riffstream.generator.messages import (
    Cancelled,
    Done,
    Failed,
    Forget,
    FromGenerator,
    Heartbeat,
    Info,
    Pcm,
    Piece,
    Trial,
)
from riffstream.journey.journey import Journey
from riffstream.protocol import SAMPLE_RATE, Event, Now, ProtocolError
from riffstream.station.audience import Audience, Lease, Sink
from riffstream.station.block import Block
from riffstream.station.changes import Reply
from riffstream.station.outlet import Outlet
from riffstream.station.output import Output
from riffstream.station.pacing import Pacer, Send
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog
from riffstream.station.timeline import Timeline

__all__ = ["Lease", "Station"]

log = logging.getLogger(__name__)


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
        self._info: Info | None = None
        self._audience = Audience(name, clock)
        self._output = Output(config, self._revision)
        self._pacer = Pacer(name, config.timeline, self._audience, clock, send=send, out=self._out)
        self._has_sound = asyncio.Event()

    @property
    def _timeline(self) -> Timeline | None:
        return self._pacer.timeline

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
        return self._pacer.sample_pos

    @property
    def committed(self) -> int:
        """Sample before which audio is committed."""
        return self._pacer.committed

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
        if info is None:
            return protocol.Caps(steer=self.settings.steer)
        return protocol.Caps(
            model=info.model,
            beats_per_clip=float(info.in_meter(self.settings.beats_per_bar).beats),
            bpm=info.bpm,
            denoising=info.denoising,
            guidance=info.guidance,
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
        return self._output.recording(seconds)

    def stats(self) -> dict[str, Any]:
        """Figures for /metrics and for people; plain JSON values."""
        timeline = self._timeline
        figures: dict[str, Any] = {
            "listeners": self.listeners,
            "listeners_by_kind": self._audience.by_kind,
            "asleep": self._pacer.asleep,
            "clock_jumps": self._pacer.clock_jumps,
            "faults": self._pacer.faults,
            "outlets": self._output.running,
            "committed_s": round(self.committed / SAMPLE_RATE, 3),
        }
        if timeline is not None:
            figures |= {
                "rev": timeline.rev,
                "underruns": timeline.playout.underruns,
                "repeats": timeline.playout.repeats,
                "splices": timeline.playout.splices,
                "late": timeline.effort.late,
                "effort_level": timeline.effort.level,
                "horizon_s": round(timeline.playout.horizon_s, 3),
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
        self._change(steer, reply, by)

    def transport(self, op: protocol.Transport, reply: Reply, *, by: str = "") -> None:
        """Pause, resume, reset or skip; as :meth:`steer`."""
        self._change(op, reply, by)

    def _change(self, message: protocol.Steer | protocol.Transport, reply: Reply, by: str) -> None:
        timeline = self._timeline
        if not self.settings.steer:
            reply(ProtocolError("forbidden", f"station {self.name} cannot be steered").reply(message.id))
            return
        if timeline is None:
            reply(ProtocolError("busy", "the model is still loading", retry_after_ms=1000).reply(message.id))
            return
        log.debug("station %s: change %s by %s", self.name, message.id, by or "unknown")
        before, answer = timeline.paused, self._safe(reply)
        try:
            if isinstance(message, protocol.Steer):
                timeline.steer(message, answer, self._clock())
            else:
                timeline.transport(message, answer, self._clock())
        except Exception:  # of ours: the music goes on, and the timeline asks again for what it needs
            log.exception("station %s: the change %s failed", self.name, message.id)
            answer(ProtocolError("internal", "the change failed; see the server's log").reply(message.id))
        if before != timeline.paused:
            self._audience.forget_shown()
        self._pacer.changed()

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
        self._pacer.wake()
        return lease

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Have ``sink`` called with every change of what plays, and every event. Returns what unsubscribes it."""
        return self._audience.subscribe(sink)

    def outlet(self, codec: str) -> Outlet:
        """The encoder for a codec: opus, pcm_s16, mp3, aac, ogg or wav. Codecs may share one."""
        return self._output.outlet(codec)

    def _out(self, block: Block) -> None:
        self._output.push(block)
        self._has_sound.set()

    def _revision(self, pos: int) -> int:
        cue = self._timeline.playout.heard(pos)[0] if self._timeline is not None else None
        return cue.rev if cue is not None else 0

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
            self._pacer.timeline = Timeline(self.name, score, self.config.timeline, self.log, steps=self.settings.steps)
        else:
            self._timeline.connect(now)
        self._pacer.drive()

    def disconnect(self, reason: str) -> None:
        """The generator is gone."""
        if self._timeline is not None:
            self._timeline.disconnect(reason)
            self._pacer.drive()

    def report(self, message: FromGenerator, pcm: Pcm) -> None:
        """A message of the generator about this station."""
        timeline = self._timeline
        if timeline is None or self.closed:
            return
        now = self._clock()
        try:
            self._take_in(timeline, message, pcm, now)
        except Exception:  # one bad message must not end the reader that serves all stations
            self._pacer.failed(f"a {type(message).__name__} could not be handled")
        self._pacer.drive()

    def _take_in(self, timeline: Timeline, message: FromGenerator, pcm: Pcm, now: float) -> None:
        if isinstance(message, Piece):
            timeline.receive(message.take, message.number, pcm, now, message.at)
        elif isinstance(message, Done):
            timeline.done(message, now)
        elif isinstance(message, Cancelled):
            timeline.cancelled(message.take, message.number)
        elif isinstance(message, Trial):
            timeline.tried(message.take, message.number)
        elif isinstance(message, Heartbeat):
            if not message.pending:
                timeline.idle(now)
        elif isinstance(message, Failed):
            log.warning("station %s: a clip failed (%s): %s", self.name, message.kind, message.message)
            if message.detail:
                log.error("station %s: %s", self.name, message.detail.rstrip())
            timeline.failed(message, now)

    def close(self, reason: Literal["closed", "shutdown"] = "closed") -> None:
        """Stop: subscribers get an event of this kind, outlets end, the generator forgets the station. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._pacer.stop()
        self._send([Forget(self.name)])
        self._audience.tell(Event(kind=reason, sample_pos=self.committed))
        self._output.close()
        self._audience.dismiss()
        self.log.close(self.committed)
        self._has_sound.set()
