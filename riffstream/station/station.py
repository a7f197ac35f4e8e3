"""The interface of a station for the server. Timeline, output and audience are separate objects.

Threading model
  Event loop   makes every call and receives every callback. Nothing here blocks; encoders run in their own threads
               (``outlet.py``), the model in its own process (``generator/process.py``).
  close()      idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

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
    InputImage,
    Pcm,
    Piece,
    Stages,
    Trial,
)
from riffstream.journey.form import FORMS
from riffstream.journey.journey import Journey
from riffstream.protocol import SAMPLE_RATE, Event, Now, ProtocolError
from riffstream.station.audience import Audience, Lease, Sink
from riffstream.station.block import LATENCY, Block
from riffstream.station.bridges import SILENCE_FADE
from riffstream.station.changes import Reply
from riffstream.station.live_input import Beats, last_beats
from riffstream.station.outlet import Outlet
from riffstream.station.output import Output
from riffstream.station.pacing import Pacer, Send
from riffstream.station.preview import Preview, preview
from riffstream.station.prompt_queue import PromptQueue
from riffstream.station.queue_player import QueuePlayer
from riffstream.station.requests import Requests
from riffstream.station.saved import SavedStation, begun, packed, unpacked
from riffstream.station.saving import saved
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog, set_aside
from riffstream.station.timeline import Timeline
from riffstream.station.traces import Rendered, Traces

__all__ = ["Lease", "Station"]

log = logging.getLogger(__name__)


class Station:
    """One endless, steerable stream, as the server uses it (see docs/station.md).

    Args:
        name: id of the station in addresses.
        station: configuration of this station.
        config: the whole configuration.
        send: function that sends messages to the generator, or drops them without one.
        clock: monotonic clock, seconds.
        saved: state of an earlier process, which the station continues.

    Raises:
        ParameterError, MediaError: the journey cannot be read.

    Attributes:
        first_pos: sample clock at the beginning in this process.
        queue: the prompts that follow.
        requests: what listeners wish; None: the station takes no requests.
    """

    def __init__(
        self,
        name: str,
        station: StationConfig,
        config: Config,
        send: Send,
        *,
        clock: Callable[[], float] = time.monotonic,
        saved: SavedStation | None = None,
    ) -> None:
        self.name = name
        self.settings = station
        self.config = config
        self.title = station.title or name
        self.description = station.description
        self._saved = saved
        start = self.first_pos = 0 if saved is None else saved.sample_pos
        if saved is not None and station.save_log:
            set_aside(station.save_log, start)
        self.log = SteeringLog(name, station.save_log or None)
        self.closed = False
        self.epoch = (saved.epoch if saved is not None else "") or secrets.token_urlsafe(6)
        self._journey: Journey = station.plan()
        self._send = send
        self._clock = clock
        self._info: Info | None = None
        self._audience = Audience(name, clock)
        recent = None if saved is None else unpacked(saved.recent)
        self._output = Output(config, self._revision, start=start, recent=recent)
        self._pacer = Pacer(name, config.timeline, self._audience, clock, send=send, out=self._out, start=start)
        self.queue = PromptQueue(config.limits.queue)
        self._queue_player = QueuePlayer(name, self.queue, self._audience.tell, clock)
        self._queue_player.restore(None if saved is None else saved.queue)
        kept = None if saved is None else saved.requests
        self.requests = Requests.opened(name, config.limits.requests, clock, kept) if station.requests else None
        self._has_sound = asyncio.Event()
        self._stages = Stages()  # of the last change
        self._traces = Traces()

    @property
    def _timeline(self) -> Timeline | None:
        return self._pacer.timeline

    # -- what plays -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the station has sound."""
        return self._has_sound.is_set()

    async def wait_ready(self) -> None:
        """Wait until the station has sound or is closed."""
        await self._has_sound.wait()

    @property
    def rev(self) -> int:
        """Revision of the newest accepted change."""
        if self._timeline is not None:
            return self._timeline.rev
        return 0 if self._saved is None else self._saved.rev

    @property
    def state(self) -> protocol.State:
        """Parameters of the newest accepted change."""
        return self._timeline.target() if self._timeline is not None else self.now().state

    @property
    def sample_pos(self) -> int:
        """Sample that is audible now."""
        return self._pacer.sample_pos

    @property
    def committed(self) -> int:
        """End of the committed audio on the sample clock."""
        return self._pacer.committed

    def now(self) -> Now:
        """The ``now`` message for the audible position."""
        if self._timeline is not None:
            return self._timeline.now(self.sample_pos)
        score = Score.of(self.settings, Info(model="loading", conditions=True), self._journey)
        spec = score.spec(0, 0.0)
        return Now(rev=self.rev, sample_pos=self.sample_pos, state=score.state(spec, 0.0), alpha=spec.alpha, clip=0)

    def caps(self) -> protocol.Caps:
        """Capabilities of this station."""
        info = self._info
        if info is None:
            return protocol.Caps(steer=self.settings.steer)
        return protocol.Caps(
            model=info.model,
            beats_per_clip=float(info.in_meter(self.settings.beats_per_bar or info.beats_per_bar).beats),
            bpm=info.bpm,
            seed_image=info.seed_image,
            denoising=info.denoising,
            guidance=info.guidance,
            conditions=info.conditions,
            forms=FORMS if info.conditions else ("none",),
            steer=self.settings.steer,
        )

    def limits(self) -> protocol.Limits:
        """Limits of this server."""
        return self.config.limits.shown()

    def recording(self, seconds: float) -> tuple[int, Pcm]:
        """Newest ``seconds`` of committed audio: (sample clock of the first sample, [n, 2] float32)."""
        return self._output.recording(seconds)

    def stats(self) -> dict[str, Any]:
        """State and counters for /metrics and the API, as JSON values."""
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
                **{f"change_{name}": round(s, 4) for name, s in msgspec.structs.asdict(self._stages).items()},
                "first_audio_s": round(timeline.effort.first_s, 4),
                "clip_s": round(timeline.effort.done_s, 4),
            }
        return figures

    # -- steering -------------------------------------------------------------------------------------------------

    def steer(self, steer: protocol.Steer, reply: Reply, *, by: str = "", trace: str = "") -> None:
        """Merge a steer. Never raises.

        Args:
            steer: the change.
            reply: called with ``scheduled`` or ``rejected`` before this returns, and later with ``applied`` or
                ``superseded``.
            by: sender of the change, for this process's log.
            trace: W3C trace context for the job that the change waits for.
        """
        self._change(steer, self._traces.kept(steer.id, trace, reply), by)

    def follow_traces(self, rendered: Rendered) -> None:
        """Call ``rendered`` with the trace context of each job's first audio, and the generator's times."""
        self._traces.rendered = rendered

    def transport(self, op: protocol.Transport, reply: Reply, *, by: str = "") -> None:
        """Pause, resume, reset or skip; replies as in :meth:`steer`."""
        self._change(op, reply, by)

    def queued(self) -> protocol.QueueList:
        """The prompts that follow."""
        return self.queue.shown()

    def requested(self) -> protocol.RequestList | None:
        """The requests of listeners; None: the station takes none."""
        return None if self.requests is None else self.requests.shown()

    def change_queue(self, message: protocol.Queue) -> protocol.QueueList:
        """Change the queue, tell everybody and return it. Raises ProtocolError; the queue then does not change."""
        if not self.settings.steer:
            raise ProtocolError("forbidden", f"station {self.name} cannot be steered", id=message.id)
        self.queue.change(message)
        self._queue_player.announce()
        return self.queue.shown()

    def preview(self, steer: protocol.Steer) -> Preview:
        """The first clip of a change, which is not made. Raises ProtocolError."""
        return preview(self._steerable(), steer, self.settings)

    def _steerable(self) -> Timeline:
        if not self.settings.steer:
            raise ProtocolError("forbidden", f"station {self.name} cannot be steered")
        if self._timeline is None:
            raise ProtocolError("busy", "the model is still loading", retry_after_ms=1000)
        return self._timeline

    def _change(self, message: protocol.Steer | protocol.Transport, reply: Reply, by: str) -> None:
        try:
            timeline = self._steerable()
        except ProtocolError as error:
            reply(error.reply(message.id))
            return
        log.debug("station %s: change %s by %s", self.name, message.id, by or "unknown")
        before, answer = timeline.paused, self._safe(reply)
        try:
            if isinstance(message, protocol.Steer):
                timeline.steer(message, answer, self._clock())
            else:
                timeline.transport(message, answer, self._clock())
        except Exception:  # an internal error: the music continues, and the timeline requests missing clips again
            log.exception("station %s: the change %s failed", self.name, message.id)
            answer(ProtocolError("internal", "the change failed; see the server's log").reply(message.id))
        if before != timeline.paused:
            self._audience.forget_shown()
        self._pacer.changed()

    def _safe(self, reply: Reply) -> Reply:
        def call(message: protocol.ServerMessage) -> None:
            try:
                reply(message)
            except Exception:  # an error of a closed connection must not stop the music
                log.exception("station %s: a reply failed", self.name)

        return call

    # -- live input -----------------------------------------------------------------------------------------------

    def last_beats(self, behind: int = 0) -> Beats | None:
        """The last whole beats heard ``behind`` samples ago, as many as a clip has; None before the first and in a
        pause."""
        pos = max(0, self.sample_pos - behind)
        return None if self._timeline is None else last_beats(self._timeline.playout.heard, pos)

    @property
    def input_used(self) -> str | None:
        """Name of the newest image of a live input that a clip was made with."""
        return None if self._timeline is None else self._timeline.input.used

    def hear(self, image: InputImage | None, first: int = 0, *, live: bool = True) -> None:
        """Set the live input of the next clips; arguments as in ``LiveInput.hear``."""
        if self._timeline is not None:
            self._timeline.input.hear(image, first, live=live)

    # -- listeners ------------------------------------------------------------------------------------------------

    @property
    def listeners(self) -> int:
        """Listeners of every kind."""
        return self._audience.listeners

    def join(self, kind: str = "ws") -> Lease:
        """Count a listener. Without listeners, generation pauses after ``timeline.idle_s``."""
        lease = self._audience.join(kind)
        self._pacer.wake()
        return lease

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Call ``sink`` with every ``now``, ``event`` and ``queue`` message; returns a function to unsubscribe."""
        return self._audience.subscribe(sink)

    def outlet(self, codec: str) -> Outlet:
        """The encoder for a codec: opus, pcm_s16, mp3, aac, ogg or wav. Codecs may share one."""
        return self._output.outlet(codec)

    def _out(self, block: Block) -> None:
        self._output.push(block)
        self._has_sound.set()
        if self._timeline is not None:
            self._queue_player.step(self._timeline)

    def _revision(self, pos: int) -> int:
        return self._timeline.playout.rev(pos + 1) if self._timeline is not None else self.rev

    # -- the generator --------------------------------------------------------------------------------------------

    def connect(self, info: Info) -> None:
        """Handle a new generator."""
        if self.closed:
            return
        self._info = info
        now = self._clock()
        if self._timeline is None:
            if info.conditions and not self.settings.prompts and self.settings.journey == "wander":
                self._journey = self.settings.plan(conditions=True)
            score = Score.of(self.settings, info, self._journey)
            if score.left_out:
                log.warning(
                    "station %s: the model %s takes words alone; left out of the journey: %s",
                    self.name,
                    info.model,
                    ", ".join(score.left_out),
                )
            start = begun(self._saved, score, self.name)
            self.log.header(
                {
                    "version": __version__,
                    "model": self.config.generator_of(self.settings).model,
                    "info": info,
                    "journey": self._journey.to_dict(),
                    "timeline": self.config.timeline,
                    **({} if start is None else {"begin": start.begin.pos, "rev": start.begin.rev}),
                }
            )
            self._pacer.timeline = Timeline(
                self.name, score, self.config.timeline, self.log, steps=self.settings.steps, saved=start
            )
            self._pacer.timeline.traces = self._traces
        else:
            self._timeline.connect(now)
        self._pacer.drive()

    def save(self, settings: dict[str, Any] | None = None) -> SavedStation | None:
        """State for a later process; None before there is any.

        Args:
            settings: configuration of a station made over the API.
        """
        state = None if self._timeline is None else saved(self._timeline, settings)
        if state is None:
            return self._saved
        requests = None if self.requests is None else self.requests.to_dict()
        return msgspec.structs.replace(state, queue=self.queue.to_dict(), requests=requests)

    def freeze(self, settings: dict[str, Any] | None = None, *, recent_s: float = 0.0) -> SavedStation | None:
        """Fade out and commit nothing more, because the process is about to exit; return the last state.

        Args:
            settings: as in :meth:`save`.
            recent_s: length of the last audio in the state, seconds.
        """
        timeline = self._timeline
        self._pacer.stop()
        state = self.save(settings)
        if timeline is None or state is None or timeline.playout.lead is None:
            return state
        if not timeline.paused:
            timeline.playout.pause(timeline.rev)
        frame = self.config.timeline.frame_ms * SAMPLE_RATE // 1000
        for _ in range(-(-(LATENCY + SILENCE_FADE) // frame)):  # the fade lies behind what desk and limiter hold back
            if (block := timeline.commit(frame)) is not None:
                self._out(block)
        recent = packed(self.recording(recent_s)[1]) if recent_s else b""
        return msgspec.structs.replace(state, sample_pos=timeline.playout.committed, recent=recent, epoch=self.epoch)

    def disconnect(self, reason: str, *, blame: bool = True) -> None:
        """Handle the end of the generator; arguments as in :meth:`Timeline.disconnect`."""
        if self._timeline is not None:
            self._timeline.disconnect(reason, blame=blame)  # the next block's step tells it, if it is still true

    def report(self, message: FromGenerator, pcm: Pcm) -> None:
        """Handle a message of the generator about this station."""
        timeline = self._timeline
        if timeline is None or self.closed:
            return
        now = self._clock()
        try:
            self._take_in(timeline, message, pcm, now)
        except Exception:  # one bad message must not end the reader for all stations
            self._pacer.failed(f"a {type(message).__name__} could not be handled")
        self._pacer.drive()

    def _take_in(self, timeline: Timeline, message: FromGenerator, pcm: Pcm, now: float) -> None:
        if isinstance(message, Piece):
            timeline.likenesses.learn(message.likeness)
            if message.number == 0 and message.stages is not None:
                self._stages = message.stages
            self._traces.heard(message)
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
        """Close the station: subscribers get a final event, outlets end, the generator discards it. Idempotent."""
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
