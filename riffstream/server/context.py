"""The shared state of all request handlers."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from riffstream.config import Config
from riffstream.server import logs
from riffstream.server.access import Access, authorization_token, shown_origin
from riffstream.server.answers import ErrorCode
from riffstream.server.archive.archive import Archive
from riffstream.server.broadcast import Broadcast, Place
from riffstream.server.heartbeat import Heartbeat
from riffstream.server.interfaces import Hub, Station
from riffstream.server.limits import AddressBuckets, ConnectionCounter, RequestGates
from riffstream.server.lockout import Lockout
from riffstream.server.loop_lag import LagMeter
from riffstream.server.meters import Meters
from riffstream.server.moderation import Moderation
from riffstream.server.own_stations import OwnStations
from riffstream.server.proxies import Asked, Proxies
from riffstream.server.push.pushes import Pushes
from riffstream.server.registry import PRIVATE, Broadcasts
from riffstream.server.roles import Role
from riffstream.server.token_hook import TokenHook
from riffstream.server.tracing import make_tracing
from riffstream.server.webhooks import Webhooks
from riffstream.server.worker_figures import WorkerSet

__all__ = ["CONTEXT", "Context", "narrow_send_buffer", "refuse", "token_middleware"]

MIN_RETRY_S = 5
# Changes of the queue of one client: every listener gets each of them.
QUEUE_INTERVAL_S, QUEUE_BURST = 0.2, 40
DISCONNECTED = ("slow", "silent", "resumed", "station ended", "encoder failed")
UNKNOWN_ORIGINS = 20  # maximum number logged, so that strangers cannot fill the log


class Context:
    """State of the running server, shared by the request handlers.

    Args:
        config: the whole configuration.
        hub: the stations.

    Attributes:
        own: private stations of visitors.
        disconnected: number of connections dropped by the server, by reason (:data:`DISCONNECTED`).
        workers: further processes of the server; None without any.
    """

    def __init__(self, config: Config, hub: Hub) -> None:
        self.config = config
        self.hub = hub
        self.moderation = Moderation(config)
        self.own = OwnStations(config.sessions)
        self.token_hook = TokenHook(config.tokens) if config.tokens.hook else None
        self.access = Access(
            dj_token=config.access.dj_token,
            owner_token=config.access.owner_token,
            listen_token=config.access.listen_token,
            signing_keys=config.access.signing_keys,
            private=config.access.private,
            hooked=None if self.token_hook is None else self.token_hook.read,
            own=self.own,
            origins=(*config.server.allowed_origins, *filter(None, [config.server.public_url])),
        )
        self.lockout = Lockout()
        self.proxies = Proxies(config.server.trusted_proxies)
        self.prefix = urlsplit(config.server.public_url).path.rstrip("/")
        self.connections = ConnectionCounter(config.limits.connections, config.limits.connections_per_address)
        self.meters = Meters()
        # A relay passes steers on; their server traces them.
        self.tracing = make_tracing(config.tracing) if hub.upstream is None else None
        self.broadcasts = Broadcasts(config, hub, self.meters, self.own, self.tracing)
        self.pushes = Pushes(config, self.broadcasts)
        self.webhooks = Webhooks(config, self.broadcasts)
        self.archive = Archive(config, self.broadcasts) if config.archive.dir else None
        self.heartbeat = Heartbeat(config.limits.silence_s)
        self.jobs = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self.lag = LagMeter(observe=self.meters.loop_lag.observe)
        self.server_id = secrets.token_urlsafe(9)
        if hub.upstream is not None:
            hub.upstream.identify(self.server_id, self.broadcasts.begin_end)
        self.workers: WorkerSet | None = None
        self.draining = False
        self.recordings = 0
        self.clips = 0  # single clips in progress
        self.clip_buckets = AddressBuckets(config.limits.clip_interval_s, config.limits.clip_burst)
        self.queue_buckets = AddressBuckets(QUEUE_INTERVAL_S, QUEUE_BURST)
        limits = config.limits
        self.request_gates = RequestGates(limits.request_interval_s, (limits.steer_interval_s, limits.steer_burst))
        self.started_at = time.time()
        self.counters: Counter[str] = Counter()
        self.disconnected: Counter[str] = Counter(dict.fromkeys(DISCONNECTED, 0))
        self._quiet: dict[object, tuple[str, float, Callable[[], None]]] = {}  # the oldest first
        self._unknown_origins: set[str] = set()

    def broadcast(self, name: str) -> Broadcast:
        """Broadcast of a station. Raises 404."""
        broadcast = self.broadcasts.get(name)
        if broadcast is None:
            raise refuse(web.HTTPNotFound, "not_found", f"no station {name!r}; /api/stations lists them")
        return broadcast

    @property
    def path(self) -> tuple[str, ...]:
        """Ids of the servers from this one to the stations' own."""
        return (self.server_id, *(() if self.hub.upstream is None else self.hub.upstream.path))

    def listed_stations(self) -> list[str]:
        """Names of the public stations. The creator of a private station knows its name."""
        return [name for name in self.broadcasts if not name.startswith(PRIVATE)]

    def own_path(self, request: web.Request) -> str:
        """Path of a request without the prefix, whether or not a proxy has removed it."""
        path = request.path
        return path[len(self.prefix) :] if self.prefix and path.startswith(f"{self.prefix}/") else path

    def asked(self, request: web.Request) -> Asked:
        """Client address, scheme, host and prefix of a request as the client sent it, before trusted proxies."""
        return self.proxies.asked(request)

    def grant(self, request: web.Request, token: str | None = None, *, server: bool = False) -> Role | None:
        """Role of a request at the station in its path; None if it may not listen or its token is wrong.

        Args:
            request: without a station in its path (uploads, lists), the token of any one station counts.
            token: a token from a message, if any.
            server: the request concerns the server itself; the token of one station gives no rights there.

        Raises:
            429 with Retry-After after many wrong tokens from the same address.
        """
        given = token or authorization_token(request.headers.get("Authorization"))
        asked = self.asked(request)
        if given:
            self.check_lockout(request)
        station = "" if server else request.match_info.get("station")
        role = self.access.grant(given, request.headers.get("Origin"), asked.host, station)
        if given and role is None and self.hub.upstream is not None and self.access.listening_is_open:
            return Role.LISTENER  # the server behind this relay may know the token, as that of a private station
        if given and role is None and (self.token_hook is None or self.token_hook.read(given) is not None):
            self.lockout.wrong(asked.address)
        return role

    def listening(self, request: web.Request) -> Role:
        """Role of a request that may listen. Raises 401, and 429 as :meth:`grant`."""
        role = self.grant(request)
        if role is None:
            raise refuse(web.HTTPUnauthorized, "unauthorised", "send Authorization: Bearer TOKEN, or Basic with it")
        return role

    def steering(self, request: web.Request, what: str, station: Station | None = None) -> Role:
        """Role of a request that may steer ``station``, or any. Raises 401; 403 with ``what`` as the subject."""
        role = self.listening(request)
        if (why := self.refusal(request, role, station)) is not None:
            raise refuse(web.HTTPForbidden, "forbidden", f"{what} needs the right to steer: {why}")
        return role

    def check_lockout(self, request: web.Request) -> None:
        """Raise 429 with Retry-After after many wrong tokens from the request's address."""
        if wait_s := self.lockout.wait_s(self.asked(request).address):
            message = "too many wrong tokens from this address"
            raise refuse(web.HTTPTooManyRequests, "rate_limited", message, retry_after_s=wait_s)

    async def learn_token(self, request: web.Request, token: str | None = None) -> None:
        """Ask the operator's service about the token of a request or a message, before :meth:`grant`."""
        given = token or authorization_token(request.headers.get("Authorization"))
        if self.token_hook is None or not given or self.access.knows(given):
            return
        address = self.asked(request).address
        if not self.lockout.wait_s(address) and await self.token_hook.learn(given):
            self.lockout.wrong(address)  # here, because not every request asks for rights

    def valid_s(self, request: web.Request, token: str | None = None) -> float | None:
        """Remaining validity of a request's signed token, seconds; None if it has none."""
        return self.access.valid_s(token or authorization_token(request.headers.get("Authorization")))

    def refusal(self, request: web.Request, role: Role, station: Station | None = None) -> str | None:
        """Reason why a request may not steer a station (or any station); None if it may.

        A page from an unknown origin is logged once, with the setting to change.
        """
        if station is not None and not station.caps().steer:
            return f"station {station.name} cannot be steered"
        if role.may_steer:
            return None
        if station is not None and station.name in self.own:
            return "only the page that made this private station may steer it"
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

    @contextlib.contextmanager
    def admitted(self, request: web.Request, give_way: Callable[[], None] | None = None) -> Iterator[None]:
        """Count a long connection during the ``with`` block.

        Args:
            give_way: ends a connection whose client cannot prove that it is alive (server-sent events). If the server
                is full, the oldest of these is ended once it is older than ``limits.silence_s``.

        Raises:
            503 with Retry-After if the server is full or shutting down.
        """
        address, key = self.asked(request).address, object()
        reason = self._no_place(address)
        if reason is not None:
            self.counters["refused"] += 1
            raise refuse(web.HTTPServiceUnavailable, "busy", reason, retry_after_s=MIN_RETRY_S)
        self.connections.enter(address)
        if give_way is not None:
            self._quiet[key] = (address, time.monotonic(), give_way)
        try:
            yield
        finally:
            if give_way is None or self._quiet.pop(key, None) is not None:  # otherwise its place was given away
                self.connections.leave(address)

    def _no_place(self, address: str) -> str | None:
        """Reason to refuse one more connection; None if there is a place."""
        if self.draining:
            return "the server is about to restart"
        reason = self.connections.refusal(address)
        if reason is None:
            return None
        aged = time.monotonic() - self.config.limits.silence_s
        for key, (other, since, give_way) in tuple(self._quiet.items()):
            if since > aged:
                break
            if other == address or self.connections.open >= self.connections.total:
                del self._quiet[key]
                self.connections.leave(other)
                give_way()
                return self.connections.refusal(address)
        return reason

    @contextlib.contextmanager
    def reserved(self, broadcast: Broadcast, kind: str) -> Iterator[Place]:
        """Reserve a listener's place during the ``with`` block. Raises 503 with Retry-After if the station is full."""
        place = broadcast.reserve(kind)
        if place is None:
            self.counters["refused"] += 1
            raise refuse(web.HTTPServiceUnavailable, "busy", "this station is full", retry_after_s=MIN_RETRY_S)
        with place:
            yield place


CONTEXT = web.AppKey("riffstream", Context)


@web.middleware
async def token_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask the operator's service about a request's token, so that handlers know its rights."""
    await request.app[CONTEXT].learn_token(request)
    return await handler(request)


def refuse(
    kind: type[web.HTTPException], code: ErrorCode, message: str, *, retry_after_s: float | None = None
) -> web.HTTPException:
    """Make an HTTP exception with a JSON body ``{code, message}``."""
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
    body = {"code": code, "message": message}

    return kind(text=json.dumps(body), content_type="application/json", headers=headers)


def narrow_send_buffer(request: web.Request, size: int) -> None:
    """Limit the kernel's send buffer, which could hide megabytes of unread audio of a stalled listener."""
    transport = request.transport
    raw = None if transport is None else transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
