"""What the request handlers share."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from riffstream.config import Config
from riffstream.server import logs
from riffstream.server.access import Access, Role, authorization_token, shown_origin
from riffstream.server.fanout import Fanout
from riffstream.server.lag import LagMeter
from riffstream.server.limits import ConnectionCounter
from riffstream.server.ports import Hub, Station
from riffstream.server.proxies import Asked, Proxies
from riffstream.server.rooms import Room

__all__ = ["CONTEXT", "Context", "Session", "narrow_send_buffer", "refuse"]

SESSION_S = 60.0
SESSIONS = 20_000
MIN_RETRY_S = 5
PRIVATE = "private-"  # what the names of stations begin with that a page made for itself
PRIVATE_IDLE_S = 600.0
UNKNOWN_ORIGINS = 20  # so many are logged: a stranger must not fill the log


@dataclass(slots=True)
class Session:
    """Where a listener was, so that it can come back to it."""

    fanout: Fanout
    left_at: float | None = None


class Context:
    """The running server.

    Args:
        config: the whole configuration.
        hub: the stations that are served.
    """

    def __init__(self, config: Config, hub: Hub) -> None:
        self.config = config
        self.hub = hub
        self.access = Access(
            dj_token=config.access.dj_token,
            owner_token=config.access.owner_token,
            listen_token=config.access.listen_token,
            origins=(*config.server.allowed_origins, *filter(None, [config.server.public_url])),
        )
        self.proxies = Proxies(config.server.trusted_proxies)
        self.prefix = urlsplit(config.server.public_url).path.rstrip("/")
        self.connections = ConnectionCounter(config.limits.connections, config.limits.connections_per_address)
        self.rooms: dict[str, Room] = {}
        self.jobs = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self.lag = LagMeter()
        self.draining = False
        self.recordings = 0
        self.started_at = time.time()
        self.counters: Counter[str] = Counter()
        self._sessions: dict[str, Session] = {}
        self._empty_since: dict[str, float] = {}
        self._unknown_origins: set[str] = set()

    def room(self, name: str) -> Room:
        """The room of a station. Raises 404."""
        station = self.hub.stations.get(name)
        if station is None:
            raise refuse(web.HTTPNotFound, "not_found", f"no station {name!r}; /api/stations lists them")
        room = self.rooms.get(name)
        if room is None or room.station is not station:
            room = self.rooms[name] = Room(station, self.config)
        return room

    def listed_stations(self) -> list[str]:
        """The stations that everybody is told of; who made a private one knows its name."""
        return [name for name in self.hub.stations if not name.startswith(PRIVATE)]

    async def end_station(self, name: str, reason: str) -> None:
        """Tell its listeners, and delete it."""
        await self.room(name).dismiss(reason)
        await self.close_room(name)
        await self.hub.delete(name)

    async def expire_private(self) -> None:
        """End private stations (``private-...``, made by a share link) that everyone has left for a while."""
        while True:
            await asyncio.sleep(PRIVATE_IDLE_S / 20)
            now = time.monotonic()
            private = [name for name in self.hub.stations if name.startswith(PRIVATE)]
            empty = [name for name in private if name not in self.rooms or not self.rooms[name].members]
            self._empty_since = {name: self._empty_since.get(name, now) for name in empty}
            for name, since in tuple(self._empty_since.items()):
                if now - since > PRIVATE_IDLE_S and name in self.hub.stations:  # not ended by its owner meanwhile
                    del self._empty_since[name]
                    await self.end_station(name, "nobody listened")

    async def close_room(self, name: str) -> None:
        """Stop a room's encoders, if there is one."""
        if (room := self.rooms.pop(name, None)) is not None:
            await room.close()

    def own_path(self, request: web.Request) -> str:
        """The path of a request below the server's address, whether or not a proxy has taken the prefix away."""
        path = request.path
        return path[len(self.prefix) :] if self.prefix and path.startswith(f"{self.prefix}/") else path

    def asked(self, request: web.Request) -> Asked:
        """What a request was before trusted proxies passed it on."""
        return self.proxies.asked(request)

    def grant(self, request: web.Request, token: str | None = None) -> Role | None:
        """The role of a request; ``token`` is one that came in a message."""
        given = token or authorization_token(request.headers.get("Authorization"))
        return self.access.grant(given, request.headers.get("Origin"), self.asked(request).host)

    def refusal(self, request: web.Request, role: Role, station: Station | None = None) -> str | None:
        """Why a request may not steer a station (or any), None where it may.

        A page of an unknown address is logged once, with what to set.
        """
        if station is not None and not station.caps().steer:
            return f"station {station.name} cannot be steered"
        if role.may_steer:
            return None
        origin = request.headers.get("Origin")
        if self.access.steering_is_open and len(self._unknown_origins) < UNKNOWN_ORIGINS:
            shown = shown_origin(origin or "")
            if shown not in self._unknown_origins:
                self._unknown_origins.add(shown)
                logs.event(
                    "pages of an unknown address may listen, not steer; add it to server.allowed_origins",
                    level=logging.WARNING,
                    origin=shown,
                    host=self.asked(request).host[:300],
                )
        return self.access.refusal(origin)

    def admit(self, request: web.Request) -> str:
        """Check that one more long connection is welcome, and count it in.

        Returns:
            The address to count out again with ``connections.leave``.

        Raises:
            503 with Retry-After where the server is full or leaving.
        """
        address = self.asked(request).address
        reason = "the server is about to restart" if self.draining else self.connections.refusal(address)
        if reason is not None:
            self.counters["refused"] += 1
            raise refuse(web.HTTPServiceUnavailable, "busy", reason, retry_after_s=MIN_RETRY_S)
        self.connections.enter(address)
        return address

    def open_session(self, fanout: Fanout) -> str:
        """Remember a listener's fanout under a fresh name."""
        now = time.monotonic()
        if len(self._sessions) >= SESSIONS:
            self._sessions = {
                name: session
                for name, session in self._sessions.items()
                if session.left_at is None or now - session.left_at < SESSION_S
            }
        name = secrets.token_urlsafe(12)
        self._sessions[name] = Session(fanout)
        return name

    def leave_session(self, name: str) -> None:
        """Its listener is gone, perhaps for a moment."""
        if (session := self._sessions.get(name)) is not None:
            session.left_at = time.monotonic()

    def resume_session(self, name: str, fanout: Fanout) -> bool:
        """Whether session ``name`` was on this very fanout not long ago; it cannot be resumed twice."""
        session = self._sessions.pop(name, None)
        if session is None or session.fanout is not fanout:
            return False
        return session.left_at is None or time.monotonic() - session.left_at < SESSION_S


CONTEXT = web.AppKey("riffstream", Context)


def refuse(
    kind: type[web.HTTPException], code: str, message: str, *, retry_after_s: float | None = None
) -> web.HTTPException:
    """An HTTP error with a JSON body ``{code, message}``, to be raised."""
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
    body = {"code": code, "message": message}

    return kind(text=json.dumps(body), content_type="application/json", headers=headers)


def narrow_send_buffer(request: web.Request, size: int) -> None:
    """Keep the kernel from hiding megabytes of unread audio behind a stalled listener."""
    transport = request.transport
    raw = None if transport is None else transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
