"""A push: one configured connection that follows a station, and reconnects after each failure.

Threading model: everything runs on the event loop. A push holds a feed of its station as a listener does, and reads it
through a bounded backlog; nothing that the other server does delays the station or its listeners.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
import time
from typing import Any, Final, Literal

from riffstream import protocol
from riffstream.audio.ogg import one_line
from riffstream.config import Config, PushSettings, without_secrets
from riffstream.errors import RiffstreamError
from riffstream.server import logs
from riffstream.server.broadcast import Broadcast, Member
from riffstream.server.push.icecast import IcecastSource
from riffstream.server.push.receiver import Backlog, Receiver
from riffstream.server.push.rtmp import RtmpReceiver
from riffstream.server.push.tls import tls_problem
from riffstream.server.registry import Broadcasts
from riffstream.server.titles import title_of
from riffstream.station.outlet import EncoderError, StationEndedError

__all__ = ["Push"]

BURST_S: Final = 1.5  # newest audio at the start of a connection
STEADY_S: Final = 10.0  # a connection that lasted longer resets the delay of the next one
NO_STATION_S: Final = 5.0  # pause between looks for an ended station

State = Literal["waiting", "connecting", "connected", "retrying", "stopped"]


class Push:
    """One connection to another server, for as long as the server runs.

    Args:
        name: its name in the configuration.
        settings: its configuration.
        config: the whole configuration.
        broadcasts: the stations' broadcasts.

    Attributes:
        state: waiting (for sound), connecting, connected, retrying or stopped.
        problem: reason of the last failure; "" while connected.
        bytes, connects, failures: counters.
    """

    def __init__(self, name: str, settings: PushSettings, config: Config, broadcasts: Broadcasts) -> None:
        self.name, self.settings = name, settings
        self.station = settings.station or next(iter(config.stations))
        self.state: State = "waiting"
        self.problem = ""
        self.bytes = self.connects = self.failures = 0
        self._dropped = 0
        self._backlog: Backlog | None = None
        self._config, self._broadcasts = config, broadcasts
        self._target = settings.target
        self._codec = settings.codec or self._target.codec
        self._receiver: Receiver | None = None
        self._connected_at = 0.0
        self._delay_s = settings.backoff_s

    @property
    def dropped_s(self) -> float:
        """Seconds of audio dropped because the receiver was too slow."""
        waiting = self._backlog.dropped if self._backlog is not None else 0
        return (self._dropped + waiting) / protocol.SAMPLE_RATE

    def figures(self) -> dict[str, Any]:
        """State and counters as JSON values, without addresses."""
        return {
            "station": self.station,
            "state": self.state,
            "problem": self.problem,
            "bytes": self.bytes,
            "connects": self.connects,
            "failures": self.failures,
            "dropped_s": round(self.dropped_s, 3),
        }

    async def run(self) -> None:
        """Connect, send and reconnect until cancelled."""
        try:
            while True:
                try:
                    await self._follow()
                    continue
                except StationEndedError:
                    self.state = "waiting"
                    await asyncio.sleep(NO_STATION_S)
                    continue
                except EncoderError as error:
                    self._failed(str(error))
                except (RiffstreamError, OSError, TimeoutError) as error:
                    self._failed(_reason(error, self.settings.stall_s))
                except Exception:  # an error in this code must not end the push
                    logs.event("a push failed", level=logging.ERROR, push=self.name, exc_info=True)
                    self._failed("internal error; see the server's log")
                await self._pause()
        finally:
            self.state = "stopped"

    def _failed(self, problem: str) -> None:
        self.failures += 1
        lost = self.state == "connected"
        if lost and time.monotonic() - self._connected_at > STEADY_S:
            self._delay_s = self.settings.backoff_s
        self.state, before, self.problem = "retrying", self.problem, problem
        if lost or problem != before:  # the same refusal every minute says nothing new
            logs.event(
                "push lost" if lost else "push refused",
                level=logging.WARNING,
                push=self.name,
                to=without_secrets(self.settings.url),
                problem=problem,
                retry_s=round(self._delay_s, 2),
            )

    async def _pause(self) -> None:
        delay = min(self._delay_s, self.settings.backoff_max_s)
        self._delay_s = min(2 * delay, self.settings.backoff_max_s)
        # Several pushes to a server that restarts do not come back in the same instant.
        await asyncio.sleep(delay * random.uniform(0.8, 1.2))

    async def _follow(self) -> None:
        """Send the station's audio until the station ends. Raises what ends the connection."""
        broadcast = self._broadcasts.get(self.station)
        if broadcast is None:
            raise StationEndedError
        lease = broadcast.station.join("push")  # the station stays awake
        try:
            member = Member(self._leave, told=self._told)
            async with broadcast.holding(self._codec) as feed:
                with broadcast.joined(member):
                    backlog = self._backlog = Backlog()
                    feed.follow(backlog)
                    try:
                        await self._send(broadcast, backlog, feed.source.header)
                    finally:
                        feed.unfollow(backlog)
                        self._dropped += backlog.dropped
                        self._backlog = None
        finally:
            lease.close()
        raise StationEndedError

    async def _send(self, broadcast: Broadcast, backlog: Backlog, header: bytes) -> None:
        self.state = "waiting" if not self.problem else "retrying"
        backlog.dropped = 0  # of the feed's older audio
        if not await backlog.wait():
            return
        if self.state == "waiting":
            self.state = "connecting"
        receiver = self._receiver = self._make(broadcast)
        try:
            await receiver.open(header, title_of(broadcast.station.state))
            backlog.keep(BURST_S)
            backlog.dropped = 0
            await self._stream(receiver, backlog)
        finally:
            await receiver.close()

    async def _stream(self, receiver: Receiver, backlog: Backlog) -> None:
        while (chunk := await backlog.get()) is not None:
            self.bytes += await receiver.send(chunk)
            if self.state != "connected":
                self.state, self.problem = "connected", ""
                self.connects += 1
                self._connected_at = time.monotonic()
                to = without_secrets(self.settings.url)
                logs.event("push connected", push=self.name, to=to, station=self.station, codec=self._codec)

    def _make(self, broadcast: Broadcast) -> Receiver:
        station, encoders = broadcast.station, self._config.encoders
        kbps = getattr(encoders, f"{self._codec}_kbps")
        if not self._target.scheme.startswith("icecast"):
            return RtmpReceiver(self._target, kbps * 1000, ca=self.settings.ca, stall_s=self.settings.stall_s)
        rate, channels = protocol.SAMPLE_RATE, protocol.CHANNELS
        headers = {
            "ice-name": station.title or station.name,
            "ice-description": station.description,
            "ice-genre": self.settings.genre,
            "ice-url": self._config.server.public_url,
            "ice-public": str(int(self.settings.public)),
            "ice-bitrate": str(kbps),
            "ice-audio-info": f"ice-samplerate={rate};ice-bitrate={kbps};ice-channels={channels}",
        }
        return IcecastSource(
            self._target,
            self._codec,
            headers,
            ca=self.settings.ca,
            artist=station.title or station.name,
            stall_s=self.settings.stall_s,
            name=self.name,
        )

    def _told(self, message: protocol.ServerMessage) -> None:
        if isinstance(message, protocol.Now) and self._receiver is not None:
            self._receiver.retitle(title_of(message.state))

    async def _leave(self, reason: str) -> None:
        if self._backlog is not None:
            self._backlog.end()


def _reason(error: BaseException, stall_s: float) -> str:
    """One line without addresses."""
    if isinstance(error, TimeoutError) and not error.errno:
        return f"no answer or no progress for {stall_s:g} s"
    if isinstance(error, ssl.SSLError):
        return tls_problem(error)
    if isinstance(error, socket.gaierror):
        return "the host's name is unknown"
    if isinstance(error, ConnectionError) and not error.errno:
        return "the server has closed the connection"
    if isinstance(error, OSError):
        return os.strerror(error.errno).lower() if error.errno else "no connection to any address of the host"
    return one_line(str(error))[:200]
