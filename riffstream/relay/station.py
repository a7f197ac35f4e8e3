"""A station whose audio and messages come from another server, with the interface of a local one.

Threading model
  Event loop   makes every call and receives every callback.
  Any thread   recording().
  close()      idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from riffstream import protocol
from riffstream.audio.checks import Pcm
from riffstream.client.inbox import BlockDecoder
from riffstream.config import Config
from riffstream.generator.messages import InputImage, Stages
from riffstream.protocol import SAMPLE_RATE, Event, Now, ProtocolError
from riffstream.relay.link import Link
from riffstream.relay.outlets import EncodedOutlet, PassedOutlet, block_of
from riffstream.relay.position import Position
from riffstream.relay.source import Source
from riffstream.relay.upstreams import Upstreams
from riffstream.station.audience import Audience, Lease, Sink
from riffstream.station.changes import Reply
from riffstream.station.live_input import Beats
from riffstream.station.outlet import CODECS, SHARED
from riffstream.station.preview import Preview

__all__ = ["RelayStation"]

log = logging.getLogger(__name__)

CLOCK_S = 2.0  # between requests for the upstream's position
WAKING_S = 0.3  # the same while its position stands still although there are listeners
BEHIND_S = 2.0  # missing audio after which a connection is given up, although its server answers
OWN_EVENTS = ("listeners", "closed", "shutdown")  # each server has its own


class RelayStation:
    """A station of the upstream.

    Args:
        name: name of the station, here and there.
        config: bit rates and the relay's settings.
        upstreams: the servers.
        ended: called with its name and the reason when the other server has ended it.
        clock: monotonic clock, seconds.

    Attributes:
        title, description: texts for players; the hub sets them.
        welcome: the last ``welcome`` of the upstream; None before the first.
        epoch: identity of the upstream's sample clock.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        upstreams: Upstreams,
        ended: Callable[[str, str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = self.title = name
        self.description = ""
        self.epoch = ""
        self.first_pos = 0
        self.closed = False
        self.welcome: protocol.Welcome | None = None
        self._config, self._upstreams, self._clock = config, upstreams, clock
        self._on_ended = ended
        self._audience = Audience(name, clock)
        self._position = Position(clock)
        self._now: Now | None = None
        self._queue = protocol.QueueList()
        self._requests: protocol.RequestList | None = None
        self._welcomed = asyncio.Event()
        self._lost_reason: str | None = None
        self._token = config.relay.token or None
        self._sources: dict[str, Source] = {}
        self._outlets: dict[str, PassedOutlet | EncodedOutlet] = {}
        self._answered_at = clock()
        self._link = Link(
            upstreams, name, hello=self._hello, welcomed=self._take_welcome, take=self._take, lost=self._lost,
            ended=self._end,
        )  # fmt: skip
        self._ask = asyncio.Event()  # ask for the position at once
        self._poll: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect in the background."""
        self._link.start()
        self._poll = asyncio.create_task(self._watch(), name=f"relay-clock-{self.name}")

    async def wait_ready(self) -> None:
        """Wait until the upstream has answered, or the station is closed."""
        await self._welcomed.wait()

    # -- what plays -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the upstream has answered once."""
        return self.welcome is not None

    @property
    def connected(self) -> bool:
        """Whether the upstream is connected."""
        return self._link.connected

    @property
    def rev(self) -> int:
        """Revision of the newest change that the relay knows."""
        return 0 if self._now is None else self._now.rev

    @property
    def state(self) -> protocol.State:
        """Parameters of the music."""
        return self.now().state

    @property
    def sample_pos(self) -> int:
        """Sample that is audible now on the origin's clock."""
        return self._position.sample_pos

    def now(self) -> Now:
        """The upstream's last ``now``, at the present position."""
        if self._now is None:
            unknown = protocol.State(prompts=(protocol.Prompt(text=self.name),))
            return Now(rev=0, sample_pos=0, state=unknown, alpha=0.0, clip=0)
        return self._now

    def caps(self) -> protocol.Caps:
        """Capabilities of the station."""
        return protocol.Caps(steer=False) if self.welcome is None else self.welcome.caps

    def limits(self) -> protocol.Limits:
        """Limits of the server that makes the station."""
        return protocol.Limits() if self.welcome is None else self.welcome.limits

    def recording(self, seconds: float) -> tuple[int, Pcm]:
        """Newest received audio, up to ``seconds``: (sample clock of the first sample, [n, 2] float32)."""
        for codec in ("pcm_s16", "opus"):
            source = self._sources.get(codec)
            chunks = [] if source is None else source.recent()
            if not chunks:
                continue
            end = chunks[-1].sample_pos + chunks[-1].n_samples
            last_gap = max((n for n, each in enumerate(chunks) if each.flags & protocol.Flags.DISCONTINUITY), default=0)
            decoder = BlockDecoder()
            parts = [
                block_of(chunk).pcm
                if codec == "pcm_s16"
                else decoder.decode(protocol.AudioFrame(0, chunk.sample_pos, chunk.n_samples, chunk.rev, chunk.payload))
                for chunk in chunks[last_gap:]
            ]
            pcm = np.concatenate(parts)[-max(1, round(seconds * SAMPLE_RATE)) :]
            return end - len(pcm), pcm
        return self.sample_pos, np.zeros((0, 2), np.float32)

    def stats(self) -> dict[str, Any]:
        """State and counters for /metrics and the API, as JSON values."""
        sources = self._sources.values()
        return {
            "listeners": self._audience.listeners,
            "listeners_by_kind": self._audience.by_kind,
            "outlets": [codec for codec, outlet in self._outlets.items() if outlet.running],
            "rev": self.rev,
            "upstream_connected": self.connected,
            "upstream_connects": self._link.connects + sum(each.connects for each in sources),
            "upstream_bytes": sum(each.bytes for each in sources),
            "upstream_skips": sum(each.skipped for each in sources),
            "upstream_round_trip_s": round(self._position.round_trip_s, 4),
            "upstream_ahead_s": round(self._ahead_s(), 3),
        }

    def _ahead_s(self) -> float:
        """Received audio after the audible position, seconds; 0 without a running source."""
        ends = [each.end for each in self._sources.values() if each.running and each.end]
        return (min(ends) - self.sample_pos) / SAMPLE_RATE if ends else 0.0

    # -- steering and live input: clients have their own connections ----------------------------------------------

    def steer(self, steer: protocol.Steer, reply: Reply, *, by: str = "", trace: str = "") -> None:
        """Refuse: a change needs the client's own connection to the upstream (``line.py``)."""
        reply(ProtocolError("forbidden", "a relay has no right of its own to steer").reply(steer.id))

    def follow_traces(self, rendered: Callable[[str, Stages | None], None]) -> None:
        """Does nothing: the generator is the upstream's."""

    def transport(self, op: protocol.Transport, reply: Reply, *, by: str = "") -> None:
        """Refuse, as :meth:`steer`."""
        reply(ProtocolError("forbidden", "a relay has no right of its own to steer").reply(op.id))

    def queued(self) -> protocol.QueueList:
        """The prompts that follow on the upstream."""
        return self._queue

    def change_queue(self, message: protocol.Queue) -> protocol.QueueList:
        """Refuse, as :meth:`steer`."""
        raise ProtocolError("forbidden", "a relay has no right of its own to change the queue", id=message.id)

    def preview(self, steer: protocol.Steer) -> Preview:
        """Refuse, as :meth:`steer`."""
        raise ProtocolError("forbidden", "the model runs at the server behind this relay", id=steer.id)

    @property
    def requests(self) -> None:
        """None: requests are those of the upstream, and clients have their own connections to it."""

    def requested(self) -> protocol.RequestList | None:
        """The requests of listeners on the upstream; None: its station takes none."""
        return self._requests

    @property
    def input_used(self) -> str | None:
        """None: live inputs are those of the upstream."""
        return None

    def last_beats(self, behind: int = 0) -> Beats | None:
        """None: live inputs are those of the upstream."""
        return None

    def hear(self, image: InputImage | None, first: int = 0, *, live: bool = True) -> None:
        """Does nothing: live inputs are those of the upstream."""

    # -- listeners ------------------------------------------------------------------------------------------------

    def join(self, kind: str = "ws") -> Lease:
        """Count a listener."""
        self._ask.set()  # the upstream may have rested
        return self._audience.join(kind)

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Call ``sink`` with every ``now`` and ``event`` message. Returns a function that unsubscribes it."""
        return self._audience.subscribe(sink)

    def outlet(self, codec: str) -> PassedOutlet | EncodedOutlet:
        """The audio in a codec of :data:`CODECS`. Ogg is the upstream's Opus, WAV its PCM."""
        if codec not in CODECS:
            raise protocol.ProtocolError("bad_request", f"codec is {codec!r}; allowed: {', '.join(CODECS)}")
        codec = SHARED.get(codec, codec)
        if codec not in self._outlets:
            if codec == "opus":
                self._outlets[codec] = PassedOutlet(self._source("opus"))
            elif codec == "pcm_s16":
                self._outlets[codec] = PassedOutlet(self._source("pcm_s16"))
            else:
                rates = self._config.encoders
                kbps = int(codec.partition("-")[2]) if "-" in codec else getattr(rates, f"{codec}_kbps")
                self._outlets[codec] = EncodedOutlet(codec, self._source("pcm_s16"), bit_rate=kbps * 1000)
            if self.closed:
                self._outlets[codec].close()
        return self._outlets[codec]

    def _source(self, codec: protocol.CodecName) -> Source:
        if codec not in self._sources:
            self._sources[codec] = Source(
                self._upstreams, self.name, codec, token=self._token, epoch=self._set_epoch, ended=self._end
            )
        return self._sources[codec]

    def _set_epoch(self, epoch: str) -> None:
        self.epoch = epoch

    # -- the upstream ---------------------------------------------------------------------------------------------

    def _hello(self) -> protocol.Hello:
        return protocol.Hello(
            v=protocol.VERSION, codecs=(), token=self._token, steer=True, relay=self._upstreams.server_id
        )

    def _take_welcome(self, welcome: protocol.Welcome) -> None:
        self.welcome = welcome
        if welcome.queue != self._queue:
            self._take(protocol.QueueState(queue=welcome.queue))
        self._requests = welcome.requests
        if welcome.requests is not None:
            self._take(protocol.RequestsState(requests=welcome.requests))
        self._answered_at = self._clock()
        self._position.welcomed(welcome.sample_pos)
        if self._lost_reason is not None:
            self._lost_reason = None
            self._audience.tell(Event(kind="upstream", reason="connected", sample_pos=self.sample_pos))
        self._welcomed.set()
        self._ask.set()

    def _take(self, message: protocol.ServerMessage | protocol.AudioFrame) -> None:
        self._answered_at = self._clock()
        if isinstance(message, protocol.ClockReply):
            self._position.answered(message.t0 / 1000, message.sample_pos)
        elif isinstance(message, Now):
            self._now = message
            self._audience.tell(message)
        elif isinstance(message, protocol.QueueState):
            self._queue = message.queue
            self._audience.tell(message)
        elif isinstance(message, protocol.RequestsState):
            self._requests = message.requests
            self._audience.tell(message)
        elif isinstance(message, Event) and message.kind not in OWN_EVENTS:
            self._audience.tell(message)

    def _lost(self, reason: str) -> None:
        self._position.stop()
        if self._lost_reason is None and self.welcome is not None:
            self._audience.tell(Event(kind="upstream", reason="lost", sample_pos=self.sample_pos))
        self._lost_reason = reason

    def _end(self, reason: str) -> None:
        if not self.closed:
            log.info("station %s: the upstream has ended it: %s", self.name, reason)
            self._on_ended(self.name, reason)

    async def _watch(self) -> None:
        """Ask for the upstream's position, and give up connections that are silent."""
        silence_s = self._upstreams.settings.silence_s
        while True:
            with contextlib.suppress(TimeoutError):
                is_waking = self._audience.listeners and not self._position.advancing
                async with asyncio.timeout(WAKING_S if is_waking else min(CLOCK_S, silence_s / 2)):
                    await self._ask.wait()
            self._ask.clear()
            await self._link.send(protocol.Clock(t0=self._clock() * 1000))
            if self.connected and self._clock() - self._answered_at > silence_s:
                self._answered_at = self._clock()
                self._link.drop(f"no answer for {silence_s:g} s")
            if not self._position.advancing:
                continue
            for source in self._sources.values():
                if source.running and source.connected and source.end:
                    behind_s = (self.sample_pos - source.end) / SAMPLE_RATE
                    if behind_s > max(BEHIND_S, silence_s):
                        source.drop(f"{source.codec}: no audio for {behind_s:.0f} s")

    def close(self, reason: Literal["closed", "shutdown"] = "closed") -> None:
        """Disconnect; outlets end. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._link.stop()
        if self._poll is not None:
            self._poll.cancel()
        self._audience.tell(Event(kind=reason, sample_pos=self.sample_pos))
        for outlet in self._outlets.values():
            outlet.close()
        self._audience.dismiss()
        self._welcomed.set()
