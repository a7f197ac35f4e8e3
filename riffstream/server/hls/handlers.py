"""``/hls/{station}/...``: playlists and segments over HTTP."""

from __future__ import annotations

from aiohttp import web

from riffstream.server.broadcast import Broadcast
from riffstream.server.context import CONTEXT, refuse
from riffstream.server.hls.playlists import master_playlist, media_playlist
from riffstream.server.hls.rendition import SEGMENT_S
from riffstream.server.hls.stream import Running, StationFullError
from riffstream.server.openapi import Answer, described
from riffstream.station.outlet import HLS_KBPS

__all__ = ["master_handler", "media_handler", "segment_handler"]

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
FOR_GOOD = "max-age=31536000, immutable"


@described("streams", Answer((PLAYLIST_TYPE,), "the playlist"), errors=(503,), right="listen")
async def master_handler(request: web.Request) -> web.Response:
    """Send the HLS playlist of all bit rates, and start the encoder of the middle one for the next request."""
    broadcast, visible = _broadcast(request)
    if request.method == "GET":
        await _ready(broadcast, HLS_KBPS[len(HLS_KBPS) // 2])
    text = master_playlist([kbps * 1000 for kbps in HLS_KBPS])
    return _playlist_answer(text, f"{visible}, max-age=60")


@described("streams", Answer((PLAYLIST_TYPE,), "the playlist"), errors=(503,), right="listen")
async def media_handler(request: web.Request) -> web.Response:
    """Send the HLS playlist of one bit rate: its newest segments."""
    broadcast, visible = _broadcast(request)
    kbps = _kbps(request)
    running = await _ready(broadcast, kbps)
    rendition, hls = running.rendition, broadcast.hls
    folder = f"{running.folder}/{kbps}"
    breaks = hls.first_break + rendition.breaks
    text = media_playlist(list(rendition.segments), breaks, folder, hls.began_s, list(hls.titles), hls.first_number)
    return _playlist_answer(text, f"{visible}, max-age={SEGMENT_S // 2}")


@described("streams", Answer(("video/mp4", "video/iso.segment"), "the segment"), right="listen")
async def segment_handler(request: web.Request) -> web.Response:
    """Send an HLS segment, or the header ``init.mp4`` of its bit rate. They never change."""
    broadcast, visible = _broadcast(request)
    running = broadcast.hls.running(_kbps(request))
    name = request.match_info["name"]
    body = b""
    if running is not None and request.match_info["folder"] == running.folder:
        if name == "init.mp4":
            body = running.rendition.init
        elif (segment := running.rendition.segment(int(name.removesuffix(".m4s")))) is not None:
            body = segment.data
    if not body:
        raise refuse(web.HTTPNotFound, "bad_request", "this segment is not kept any longer; read the playlist again")
    kind = "video/mp4" if name == "init.mp4" else "video/iso.segment"
    return web.Response(body=body, content_type=kind, headers={"Cache-Control": f"{visible}, {FOR_GOOD}"})


def _broadcast(request: web.Request) -> tuple[Broadcast, str]:
    """Broadcast of the station, and the cache directive of the answer (``public`` or ``private``)."""
    context = request.app[CONTEXT]
    broadcast = context.broadcast(request.match_info["station"])
    if not context.config.server.hls:
        raise refuse(web.HTTPNotFound, "bad_request", "this server does not serve HLS (server.hls = false)")
    context.listening(request)
    return broadcast, "private" if "Authorization" in request.headers else "public"


async def _ready(broadcast: Broadcast, kbps: int) -> Running:
    """Rendition with its first segments. Raises 503 without audio."""
    try:
        return await broadcast.hls.ready(kbps)
    except StationFullError as error:
        raise refuse(web.HTTPServiceUnavailable, "busy", str(error), retry_after_s=10) from None
    except TimeoutError:
        raise refuse(web.HTTPServiceUnavailable, "busy", "there is no sound yet", retry_after_s=5) from None


def _playlist_answer(text: str, cached: str) -> web.Response:
    return web.Response(text=text, content_type=PLAYLIST_TYPE, charset="utf-8", headers={"Cache-Control": cached})


def _kbps(request: web.Request) -> int:
    kbps = int(request.match_info["kbps"])
    if kbps not in HLS_KBPS:
        allowed = ", ".join(map(str, HLS_KBPS))
        raise refuse(web.HTTPNotFound, "bad_request", f"kbps: {kbps} is no bit rate here; allowed: {allowed}")
    return kbps
