"""HTTP streams for any player (``/stream/{station}.mp3`` and other codecs), playlists, and Icecast's status page."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

from aiohttp import web

from riffstream import __version__, protocol
from riffstream.audio.ogg import one_line
from riffstream.server.answers import IcecastSource, IcecastStats, IcecastStatus, json_answer
from riffstream.server.broadcast import Broadcast, Place
from riffstream.server.connection import Connection
from riffstream.server.context import CONTEXT, Context, narrow_send_buffer, refuse
from riffstream.server.fanout import DropPolicy
from riffstream.server.feeds import Feed
from riffstream.server.icy import IcyInserter
from riffstream.server.interfaces import Station
from riffstream.server.openapi import Answer, described
from riffstream.server.ranges import ByteRange, parse_range
from riffstream.server.stream_body import Body
from riffstream.server.titles import title_of
from riffstream.station.outlet import StationEndedError

__all__ = ["base_url", "icecast_status", "playlist_handler", "stream_handler"]

CONTENT_TYPES = {"mp3": "audio/mpeg", "aac": "audio/aac", "ogg": "audio/ogg", "wav": "audio/wav"}
PROBE_BYTES = 16 * 1024  # a range up to this size is answered from kept frames, without a listener
PROBE_S = 10.0
WAV_BYTES_S = protocol.SAMPLE_RATE * protocol.CHANNELS * 2


def base_url(context: Context, request: web.Request) -> str:
    """URL of this server for listeners, from the configuration or the request, without a trailing slash."""
    return context.config.server.public_url.rstrip("/") or context.asked(request).url


@described(
    "streams",
    Answer(tuple(CONTENT_TYPES.values()), "the stream", headers={"icy-name": "title of the station"}),
    Answer(tuple(CONTENT_TYPES.values()), "a range with both ends", 206, {"Content-Range": "the range"}),
    errors=(503,),
    right="listen",
    endless=True,
)
async def stream_handler(request: web.Request) -> web.StreamResponse:
    """Send an endless stream: a burst, then live audio. A range with both ends gets exactly its bytes.

    `Icy-MetaData: 1` in the request inserts ICY titles.
    """
    context = request.app[CONTEXT]
    broadcast, codec = context.broadcast(request.match_info["station"]), request.match_info["codec"]
    context.listening(request)
    icy = IcyInserter() if request.headers.get("Icy-MetaData", "").strip() == "1" else None
    headers = _headers(context, broadcast.station, codec, icy)
    if request.method == "HEAD":  # ranges are defined for GET alone
        return _Bare(headers=headers)
    asked = parse_range(request.headers.getall("Range", ()), conditional="If-Range" in request.headers)
    if asked is not None:
        headers["Content-Range"] = asked.content_range
    with context.admitted(request):
        narrow_send_buffer(request, context.config.limits.send_buffer_bytes)
        streaming = _Streaming(context, broadcast, request, icy, asked, codec)
        if asked is not None and asked.length <= PROBE_BYTES:
            return web.Response(status=206, body=await streaming.first_bytes(codec), headers=headers)
        with context.reserved(broadcast, "http") as place:
            feed = await place.feed(codec)
            response = _Bare(status=200 if asked is None else 206, headers=headers)
            if asked is not None:
                response.content_length = asked.length
            await response.prepare(request)
            await streaming.run(feed, place)
            return response


class _Bare(web.StreamResponse):
    """A response without chunked encoding that ends with its connection, as from Icecast.

    Radios, microcontrollers and many small players decode chunk sizes as audio. A browser treats an interrupted chunked
    body as a damaged file and skips the part it has played. The end of this body is a normal end.
    """

    _length_check = False  # as in aiohttp's WebSocketResponse; otherwise it would use chunks

    def __init__(self, *, status: int = 200, headers: dict[str, str]) -> None:
        super().__init__(status=status, headers=headers | {"Connection": "close"})
        self.force_close()


class _Streaming(Connection):
    """One player's stream.

    Args:
        icy: inserter of ICY titles; None if the player did not request them.
        asked: byte range to send; None: everything.
    """

    def __init__(
        self,
        context: Context,
        broadcast: Broadcast,
        request: web.Request,
        icy: IcyInserter | None,
        asked: ByteRange | None,
        codec: str,
    ) -> None:
        assert request.transport is not None
        super().__init__(context, broadcast, request.transport, told=self._told, policy=_policy(broadcast, codec))
        self.wire = "ogg" if codec == "ogg" else "raw"
        self.body = Body(codec, icy, asked, artist=broadcast.station.title or broadcast.station.name)
        self.send = request.transport.write
        self.frame_ms = broadcast.frame_ms(codec, steering=False)
        if not self.body.is_plain:
            self.listener.write = self._write
        self.done = asyncio.Event()

    async def run(self, feed: Feed, place: Place) -> None:
        """Stream until the player leaves (cancelled), has its range or is too slow, or until the station ends."""
        broadcast, self.place = self.broadcast, place
        fanout = feed.fanout(self.wire, self.frame_ms)
        with contextlib.suppress(StationEndedError), broadcast.joined(self.member):
            self._told(broadcast.station.now())
            self.send(self.body.begin(feed.source.header))
            place.attach(fanout, self.listener, burst_samples=broadcast.burst_samples(steering=False))
            await self.done.wait()

    async def first_bytes(self, codec: str) -> bytes:
        """Answer to a short range: the first bytes of a new listener. Raises 503 without audio."""
        self._told(self.broadcast.station.now())
        async with self.broadcast.holding(codec) as feed:
            return await self._first_bytes(feed)

    async def _first_bytes(self, feed: Feed) -> bytes:
        fanout = feed.fanout(self.wire, self.frame_ms)
        found = self.body.begin(feed.source.header)
        seq, burst = fanout.next_seq, self.broadcast.burst_samples(steering=False)
        while seq > fanout.first_seq and burst > 0:
            seq -= 1
            burst -= fanout.frame(seq).n_samples
        deadline = time.monotonic() + PROBE_S
        while not self.body.is_complete:
            if seq < fanout.next_seq:
                seq = max(seq, fanout.first_seq)
                found += self.body.push(fanout.frame(seq).wire)
                seq += 1
            elif time.monotonic() < deadline:
                await asyncio.sleep(0.1)
            else:
                raise refuse(web.HTTPServiceUnavailable, "busy", "there is no audio yet", retry_after_s=5)
        return found

    def _write(self, wire: bytes) -> None:
        if data := self.body.push(wire):
            self.send(data)
        if self.body.is_complete:
            self.done.set()

    async def hang_up(self) -> None:
        self.done.set()

    def _told(self, message: protocol.ServerMessage) -> None:
        if isinstance(message, protocol.Now):
            self.body.set_title(title_of(message.state))

    def lost(self, reason: str) -> None:
        super().lost(reason)
        self.done.set()


def _policy(broadcast: Broadcast, codec: str) -> DropPolicy:
    """Drop policy of this player. Reading the burst at playback speed must not lose audio."""
    encoders, policy = broadcast.config.encoders, broadcast.policy
    rate = WAV_BYTES_S if codec == "wav" else getattr(encoders, f"{codec}_kbps") * 125
    burst_bytes = 2 * rate * broadcast.burst_samples(steering=False) // protocol.SAMPLE_RATE
    if burst_bytes <= policy.skip_bytes:
        return policy
    return replace(policy, skip_bytes=burst_bytes, close_bytes=max(policy.close_bytes, 2 * burst_bytes))


def _headers(context: Context, station: Station, codec: str, icy: IcyInserter | None) -> dict[str, str]:
    """Headers of a stream, also for HEAD. Names are UTF-8, as from Icecast."""
    headers = {
        "Content-Type": CONTENT_TYPES[codec],
        "Cache-Control": "no-cache, no-store",
        "X-Accel-Buffering": "no",
        "icy-name": one_line(station.title or station.name),
        "icy-pub": "0",
        "icy-sr": str(protocol.SAMPLE_RATE),
    }
    if codec != "wav":
        headers["icy-br"] = str(getattr(context.config.encoders, f"{codec}_kbps"))
    if station.description:
        headers["icy-description"] = one_line(station.description)
    if context.config.server.public_url:
        headers["icy-url"] = context.config.server.public_url
    if icy is not None:
        headers["icy-metaint"] = str(icy.metaint)
    return headers


@described("streams", Answer(("audio/x-mpegurl", "audio/x-scpls"), "the playlist"))
async def playlist_handler(request: web.Request) -> web.Response:
    """Send ``/listen/{station}.m3u`` or ``.pls``, a playlist that opens in the user's player."""
    context = request.app[CONTEXT]
    station: Station = context.broadcast(request.match_info["station"]).station
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


@described("server", Answer(IcecastStatus, "the status"))
async def icecast_status(request: web.Request) -> web.Response:
    """Send ``/status-json.xsl``, the status of an Icecast server for directories and dashboards."""
    context = request.app[CONTEXT]
    sources: list[IcecastSource] = []
    for name in context.listed_stations():
        broadcast = context.broadcast(name)
        sources.append(
            IcecastSource(
                listenurl=f"{base_url(context, request)}/stream/{name}.mp3",
                server_name=broadcast.station.title or name,
                server_description=broadcast.station.description,
                server_type="audio/mpeg",
                bitrate=context.config.encoders.mp3_kbps,
                samplerate=protocol.SAMPLE_RATE,
                channels=protocol.CHANNELS,
                listeners=broadcast.listeners,
                title=title_of(broadcast.station.state),
            )
        )
    stats = IcecastStats(server_id=f"riffstream {__version__}", host=context.asked(request).host, source=tuple(sources))
    return json_answer(IcecastStatus(icestats=stats))
