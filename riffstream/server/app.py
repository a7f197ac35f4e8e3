"""The server: routes, start and stop.

Threading model
  Event loop     (uvloop if installed) everything here; torch is never imported in this process.
  Threads        live codecs encode in threads of the stations, recordings in the executor.
  Generator      a separate process behind the hub.
  stop()         idempotent; notifies all connections, waits ``drain_s`` for buffers to empty, then closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from riffstream.config import Config
from riffstream.server import (
    api,
    element_file,
    health,
    invitations,
    link_preview,
    logs,
    openapi,
    preview_api,
    queue_api,
    requests_api,
    responses,
    riffusion,
    sessions_api,
    static_files,
)
from riffstream.server.access import is_public_address
from riffstream.server.archive.handlers import routes as archive_routes
from riffstream.server.binding import BACKLOG, listening_sockets, shown_address
from riffstream.server.context import CONTEXT, Context, token_middleware
from riffstream.server.handover import HandoverError, Offer, handover_path
from riffstream.server.header_timeout import HEADER_TIMEOUT, HeaderTimeout
from riffstream.server.heartbeat import watch_peers
from riffstream.server.hls.handlers import master_handler, media_handler, segment_handler
from riffstream.server.interfaces import Hub
from riffstream.server.live_input.intake import LIVE_INPUTS, LiveInputs
from riffstream.server.plain_socket import plain_handler
from riffstream.server.sockets import RESTARTING, UPGRADING, socket_handler
from riffstream.server.state_file import SavedServer
from riffstream.server.state_keeper import StateKeeper
from riffstream.server.streams import icecast_status, playlist_handler, stream_handler
from riffstream.server.uploads import one_seed, seeds
from riffstream.server.uploads.intake import UPLOADS, Uploads

__all__ = ["Server", "make_app", "raise_file_limit"]

REQUEST_WAIT_S = 3.0  # after a hand-over: connections that were accepted and have not asked yet
BODY_BYTES = 64 * 1024  # of requests other than uploads


def make_app(config: Config, hub: Hub, uploads: Uploads) -> web.Application:
    """Make the application; its context is ``app[CONTEXT]``."""
    app = web.Application(middlewares=[responses.middleware, token_middleware], client_max_size=BODY_BYTES)
    context = app[CONTEXT] = Context(config, hub)
    app[UPLOADS] = uploads
    app[LIVE_INPUTS] = LiveInputs(uploads.folder, config.limits.inputs)
    app[one_seed.SEED_AUDIO] = one_seed.SeedAudio()
    app[HEADER_TIMEOUT] = HeaderTimeout(config.limits.header_s, config.limits.connections)
    app.on_response_prepare.append(responses.add_headers)
    station = "{station:[a-z0-9][a-z0-9_-]*}"
    routes: list[web.RouteDef] = [
        web.get(f"/ws/{station}", socket_handler),
        web.get(f"/ws/{station}/plain", plain_handler),
        web.get(f"/stream/{station}.{{codec:mp3|aac|ogg|wav}}", stream_handler),
        web.get(f"/hls/{station}/master.m3u8", master_handler),
        web.get(f"/hls/{station}/{{kbps:[0-9]{{1,4}}}}.m3u8", media_handler),
        web.get(
            f"/hls/{station}/{{folder:[0-9a-f]{{1,16}}}}/{{kbps:[0-9]{{1,4}}}}/{{name:init\\.mp4|[0-9]{{1,12}}\\.m4s}}",
            segment_handler,
        ),
        web.get(f"/listen/{station}.{{kind:m3u|pls}}", playlist_handler),
        web.get("/status-json.xsl", icecast_status),
        web.get(f"/embed/{station}", static_files.embed_handler),
        web.get(f"/stage/{station}", static_files.stage_handler),
        *_defined(
            health.routes,
            api.routes,
            preview_api.routes,
            queue_api.routes,
            requests_api.routes,
            sessions_api.routes,
            archive_routes,
            openapi.routes,
            seeds.routes,
            one_seed.routes,
            link_preview.routes,
            invitations.routes,
            element_file.routes,
        ),
        *_defined(riffusion.routes),
        web.get("/static/{version:[0-9a-f]{16}}/{path:.+}", static_files.version_handler),
        web.get("/{path:.*}", static_files.file_handler),
    ]
    if prefix := context.prefix:  # for proxies that do not strip it
        app.add_routes([web.get(prefix, static_files.prefix_handler)])
        app.add_routes([web.RouteDef(each.method, prefix + each.path, each.handler, each.kwargs) for each in routes])
    app.add_routes(routes)
    return app


def _defined(*tables: web.RouteTableDef) -> list[web.RouteDef]:
    return [each for table in tables for each in table if isinstance(each, web.RouteDef)]


class Server:
    """The HTTP server of a hub's stations.

    Args:
        config: the whole configuration.
        hub: started by :meth:`start`, stopped by :meth:`stop`.
        uploads: uploads in the folder that the hub's generator reads; by default none. Closed by :meth:`stop`.
        saved: state of an earlier process (``state_keeper.load_state``), whose clients may resume.

    Attributes:
        handed_over: whether a new process has taken over (:mod:`~riffstream.server.handover`); False if it has failed
            after the stations were frozen; None without one.
    """

    def __init__(
        self, config: Config, hub: Hub, uploads: Uploads | None = None, saved: SavedServer | None = None
    ) -> None:
        self._saved = saved
        self.config = config
        self.hub = hub
        self.uploads = uploads or Uploads(config)
        self.app = make_app(config, hub, self.uploads)
        self.context = self.app[CONTEXT]
        self.keeper = StateKeeper(config, hub, self.context.broadcasts, self.context.own)
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._listening: list[asyncio.Server] = []
        self._sockets: Sequence[socket.socket] = ()
        self._offer: Offer | None = None
        self.handed_over: bool | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, sockets: Sequence[socket.socket] = ()) -> str:
        """Listen, and start to warm up the generator.

        Args:
            sockets: listening sockets in place of ``server.host`` and ``server.port``
                (:func:`~riffstream.server.binding.inherited_sockets`).

        Returns:
            The URL of the server with the actual port.

        Raises:
            RiffstreamError: the address is in use or not one of this machine.
        """
        server, limits = self.config.server, self.config.limits
        raise_file_limit(2 * limits.connections + 256)  # as many may wait for their first request
        self._sockets = sockets = sockets or listening_sockets(server.host, server.port)
        for sock in sockets:
            watch_peers(sock, limits.silence_s)
        self._runner = web.AppRunner(
            self.app,
            keepalive_timeout=limits.keepalive_s,
            handler_cancellation=True,  # a listener that has left must not be counted
            access_log=None,
            logger=logs.http_logger(),
            lingering_time=min(10.0, limits.body_timeout_s),
            shutdown_timeout=1.0,
        )
        await self._runner.setup()
        assert self._runner.server is not None
        accept = self.app[HEADER_TIMEOUT].guard(self._runner.server)
        loop = asyncio.get_running_loop()
        self._listening = [await loop.create_server(accept, sock=sock, backlog=BACKLOG) for sock in sockets]
        self.context.lag.start()
        self.url = f"http://{shown_address(sockets[0])}"
        await self.hub.start()
        self._tasks = [
            asyncio.create_task(self.context.broadcasts.tend(), name="tend-broadcasts"),
            asyncio.create_task(self.context.heartbeat.run(), name="heartbeat"),
        ]
        if self._saved is not None:
            self.context.own.restore(self._saved.own, self.hub.stations)
            await self.keeper.continue_sessions(self._saved.fanouts)
        self.keeper.start()
        self.context.pushes.start()
        self.context.webhooks.start()
        if self.context.archive is not None:
            self.context.archive.start()
        if (path := handover_path(self.config)) is not None and self.hub.upstream is None:
            self._offer = Offer(path, self._hand_over, self._handed_over)
            self._offer.start()
        if any(is_public_address(sock.getsockname()[0]) for sock in sockets) and self.context.access.steering_is_open:
            logs.event("anyone who can reach this address may steer; set access.dj_token", level=logging.WARNING)
        return self.url

    async def listen_locally(self, path: str, token: str = "") -> None:
        """Listen on a Unix socket too, for other processes of this server.

        Args:
            path: path of the socket, in a folder that only this user can enter.
            token: with it, they may listen to everything.
        """
        assert self._runner is not None
        assert self._runner.server is not None
        if token:
            self.context.access.admit_workers(token)
        accept = self.app[HEADER_TIMEOUT].guard(self._runner.server)
        server = await asyncio.get_running_loop().create_unix_server(accept, path, backlog=BACKLOG)
        self._listening.append(server)

    async def stop(self) -> None:
        """Shut down cleanly: refuse new connections, send ``bye`` to all, then close stations and server."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop(), name="stop")
        await asyncio.shield(self._stopping)

    async def _hand_over(self) -> list[socket.socket]:
        """Freeze the stations and release what a new server needs. Raises HandoverError while this one can go on."""
        if self._asked.is_set():
            raise HandoverError("it is about to end")
        if not await self.keeper.save():
            raise HandoverError("it cannot write its state; see its log")
        try:
            kept = [sock.dup() for sock in self._sockets]
        except OSError as error:  # the limit of open files
            raise HandoverError(f"it cannot pass its sockets on: {error.strerror}") from None
        logs.event("a new server takes over")
        for listening in self._listening:
            listening.close()
        self.context.draining = True
        self.hub.drain()
        await self.keeper.stop()
        await self.context.pushes.stop()
        if self.context.archive is not None:
            await self.context.archive.stop()
        await self.uploads.close()
        return kept

    def _handed_over(self, taken: bool) -> None:
        if not taken:
            logs.event("the new server has failed; this one ends with an error", level=logging.ERROR)
        self.handed_over = taken
        self._asked.set()

    def catch_signals(self) -> None:
        """Let SIGTERM, SIGINT and SIGHUP end :meth:`run` in place of the process.

        A second signal does not wait for listeners. An ignored SIGHUP (``nohup``) stays ignored.
        """
        for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if number not in (signal.SIGTERM, signal.SIGINT) and signal.getsignal(number) is signal.SIG_IGN:
                continue
            with contextlib.suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        if self._asked.is_set():
            self._hurried.set()
        self._asked.set()

    async def _unless_hurried(self, work: asyncio.Future[Any]) -> None:
        """Wait until ``work`` is done, or until a second signal."""
        hurried = asyncio.ensure_future(self._hurried.wait())
        try:
            await asyncio.wait({work, hurried}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def asked(self) -> None:
        """Wait for a signal (see :meth:`catch_signals`), or for the end of a hand-over."""
        self.catch_signals()
        await self._asked.wait()

    async def run(self) -> None:
        """Wait as in :meth:`asked`, then :meth:`stop`."""
        try:
            await self.asked()
        finally:
            await self.stop()

    async def _stop(self) -> None:
        context = self.context
        context.draining = True
        if self.hub.upstream is not None and self.hub.upstream.inside:  # other processes accept the connections
            for listening in self._listening:
                listening.close()
        if self._offer is not None:
            await self._offer.stop()
        self.hub.drain()
        leaving = sum(len(broadcast.members) for broadcast in context.broadcasts.values())
        if leaving:
            logs.event("leaving", connections=leaving)
        await self.keeper.stop()
        await self._unless_hurried(
            asyncio.ensure_future(
                context.broadcasts.close(UPGRADING if self.handed_over else RESTARTING, self.config.server.drain_s)
            )
        )
        await context.pushes.stop()
        await context.webhooks.stop()
        await context.moderation.close()
        if context.token_hook is not None:
            await context.token_hook.close()
        if context.tracing is not None:
            await context.tracing.close()
        if context.archive is not None:
            await context.archive.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._listening:
            listening.close()
        if self.handed_over:
            await self._unless_hurried(
                asyncio.ensure_future(self.app[HEADER_TIMEOUT].wait_for_requests(REQUEST_WAIT_S))
            )
        if self._runner is not None:
            await self._runner.cleanup()
        if self.url:
            await self.hub.close()
        await self.app[LIVE_INPUTS].close()
        await self.uploads.close()
        await context.lag.stop()
        context.jobs.shutdown(wait=False, cancel_futures=True)


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files to ``wanted``, because each listener needs one; return the granted limit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < goal:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
            return goal
    return soft if soft != resource.RLIM_INFINITY else wanted


def loop_factory() -> Any:
    """Factory of the event loop: uvloop if installed, else asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
