"""Plain HTTP audio for any player: ``/stream/{station}.mp3`` and its siblings, playlists, and Icecast's status page."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import HttpVersion11, web

from riffstream import __version__, protocol
from riffstream.server.context import CONTEXT, Context, narrow_send_buffer, refuse
from riffstream.server.fanout import Fanout
from riffstream.server.frames import http_chunk
from riffstream.server.icy import METAINT, IcyInserter
from riffstream.server.listener import Listener
from riffstream.server.ports import Station
from riffstream.server.rooms import Member, Room

__all__ = ["base_url", "icecast_status", "playlist_handler", "stream_handler", "title_of"]

# Safari asks for the first two bytes, and plays only where the answer names a total. A live stream has none, so it
# gets the largest that every client can count to: three days of MP3 at 128 kbit/s.
ENDLESS = 2**32 - 1
CONTENT_TYPES = {"mp3": "audio/mpeg", "aac": "audio/aac", "ogg": "audio/ogg", "wav": "audio/wav"}


def title_of(state: protocol.State) -> str:
    """What a player shows: the prompts, the strongest first."""
    parts = sorted(state.prompts, key=lambda part: -part.weight)
    return " + ".join(part.text for part in parts if part.weight > 0) or "riffstream"


def base_url(context: Context, request: web.Request) -> str:
    """How listeners reach this server, as configured or as they just did."""
    if context.config.server.public_url:
        return context.config.server.public_url.rstrip("/")
    scheme = request.scheme
    if request.remote in context.proxies:
        scheme = "https" if request.headers.get("X-Forwarded-Proto", "").strip() == "https" else scheme
    return f"{scheme}://{request.host}"


async def stream_handler(request: web.Request) -> web.StreamResponse:
    """An endless response; burst first, then live."""
    context = request.app[CONTEXT]
    room, codec = context.room(request.match_info["station"]), request.match_info["codec"]
    if context.grant(request) is None:
        raise refuse(web.HTTPUnauthorized, "unauthorised", "send Authorization: Bearer TOKEN, or Basic with it")
    headers = {"Content-Type": CONTENT_TYPES[codec], "Cache-Control": "no-cache, no-store", "Accept-Ranges": "bytes"}
    ranged = request.headers.get("Range")
    asked = re.fullmatch(r"bytes=0-([0-9]{0,20})", ranged.strip()) if ranged is not None else None
    if asked is not None and asked[1] and int(asked[1]) < 1024:
        last = int(asked[1])
        headers["Content-Range"] = f"bytes 0-{last}/{ENDLESS}"
        body = await _first_bytes(room, codec, last + 1)
        return web.Response(status=206, body=body, headers=headers)
    if request.method == "HEAD":
        return web.Response(headers=headers)
    if room.full:
        context.counters["refused"] += 1
        raise refuse(web.HTTPServiceUnavailable, "busy", "this station is full", retry_after_s=5)
    address = context.admit(request)
    try:
        narrow_send_buffer(request, context.config.limits.send_buffer_bytes)
        station, icy = room.station, None
        headers["X-Accel-Buffering"] = "no"
        headers |= {"icy-name": station.title or station.name, "icy-pub": "0"}
        if codec in ("mp3", "aac"):
            headers["icy-br"] = str(getattr(context.config.encoders, f"{codec}_kbps"))
            if request.headers.get("Icy-MetaData") == "1":
                headers["icy-metaint"] = str(METAINT)
                icy = IcyInserter()
        if asked is not None:
            headers["Content-Range"] = f"bytes 0-{ENDLESS - 1}/{ENDLESS}"
        response = web.StreamResponse(status=200 if asked is None else 206, headers=_latin(headers))
        chunked = request.version >= HttpVersion11
        if chunked:
            response.enable_chunked_encoding()
        feed = await room.feed(codec)
        await response.prepare(request)
        # The fan-out writes to the transport behind aiohttp's back, so the headers must be out first.
        await response.write(feed.source.header)
        wire = "chunked" if chunked and icy is None else "raw"
        fanout = feed.fanout(wire, room.config.timeline.passive_frame_ms)
        await _Streaming(context, room, fanout, request, icy, chunked).run()
        return response
    finally:
        context.connections.leave(address)


class _Streaming:
    """One player."""

    def __init__(
        self,
        context: Context,
        room: Room,
        fanout: Fanout,
        request: web.Request,
        icy: IcyInserter | None,
        chunked: bool,
    ) -> None:
        assert request.transport is not None
        self.context, self.room, self.fanout, self.icy = context, room, fanout, icy
        self.listener = Listener(request.transport, policy=room.policy, on_closed=self._lost)
        self.done = asyncio.Event()
        if icy is not None:
            write = request.transport.write
            self.listener.write = lambda data: write(http_chunk(icy.push(data)) if chunked else icy.push(data))
        self.member = Member(told=self._told)

    async def run(self) -> None:
        """Until the player leaves (the handler is cancelled), is too slow, or the server goes."""
        self.room.members.add(self.member)
        self.room.leavers.add(self.leave)
        try:
            with self.room.listening(self.fanout, self.listener, "http"):
                self._told(self.room.station.now())
                self.fanout.attach(self.listener, burst_samples=self.room.burst_samples(steering=False))
                await self.done.wait()
        finally:
            self.room.leavers.discard(self.leave)
            self.room.members.discard(self.member)

    async def leave(self, reason: str) -> None:
        """End the body."""
        self.fanout.detach(self.listener)
        self.done.set()

    def _told(self, message: protocol.ServerMessage) -> None:
        if self.icy is not None and isinstance(message, protocol.Now):
            self.icy.set_title(title_of(message.state))

    def _lost(self, reason: str) -> None:
        self.context.counters[f"closed_{reason.replace(' ', '_')}"] += 1
        self.done.set()


async def _first_bytes(room: Room, codec: str, count: int) -> bytes:
    """The first bytes that a new listener would get."""
    feed = await room.feed(codec)
    fanout = feed.fanout("raw", room.config.timeline.passive_frame_ms)
    found = feed.source.header
    for _ in range(50):
        if len(found) >= count or fanout.next_seq > fanout.first_seq:
            break
        await asyncio.sleep(0.1)
    if len(found) < count and fanout.next_seq > fanout.first_seq:
        found += fanout.frame(fanout.first_seq).wire
    return found[:count].ljust(count, b"\0")


def _latin(headers: dict[str, str]) -> dict[str, str]:
    """HTTP headers hold Latin-1 without line ends; titles may hold anything."""
    clean = {name: " ".join(value.split()).encode("latin-1", "replace") for name, value in headers.items()}
    return {name: value.decode("latin-1") for name, value in clean.items()}


async def playlist_handler(request: web.Request) -> web.Response:
    """``/listen/{station}.m3u`` and ``.pls``: a file that opens in the player of one's choice."""
    context = request.app[CONTEXT]
    station: Station = context.room(request.match_info["station"]).station
    url = f"{base_url(context, request)}/stream/{station.name}.mp3"
    title = " ".join((station.title or f"riffstream {station.name}").split())
    if request.match_info["kind"] == "m3u":
        text, kind = f"#EXTM3U\n#EXTINF:-1,{title}\n{url}\n", "audio/x-mpegurl"
    else:
        text = f"[playlist]\nNumberOfEntries=1\nFile1={url}\nTitle1={title}\nLength1=-1\nVersion=2\n"
        kind = "audio/x-scpls"
    name = f"{station.name}.{request.match_info['kind']}"
    headers = {"Content-Disposition": f'inline; filename="{name}"'}
    return web.Response(text=text, content_type=kind, charset="utf-8", headers=headers)


async def icecast_status(request: web.Request) -> web.Response:
    """``/status-json.xsl``: what directories and dashboards read from an Icecast server."""
    context = request.app[CONTEXT]
    sources: list[dict[str, Any]] = []
    for name in context.hub.stations:
        room = context.room(name)
        sources.append(
            {
                "listenurl": f"{base_url(context, request)}/stream/{name}.mp3",
                "server_name": room.station.title or name,
                "server_description": room.station.description,
                "server_type": "audio/mpeg",
                "bitrate": context.config.encoders.mp3_kbps,
                "samplerate": protocol.SAMPLE_RATE,
                "channels": protocol.CHANNELS,
                "listeners": room.listeners,
                "title": title_of(room.station.state),
            }
        )
    stats = {"server_id": f"riffstream {__version__}", "host": request.host, "source": sources}
    return web.json_response({"icestats": stats})
