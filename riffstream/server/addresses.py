"""Addresses that no route has: a redirect to the address that was meant, or a refusal that says what there is.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from riffstream.server.context import CONTEXT, refuse

__all__ = ["methods_of", "missing", "nearest"]

METHODS: Final = ("DELETE", "GET", "HEAD", "POST")
FORMATS: Final = {
    "stream": ("mp3", "aac", "ogg", "wav"),
    "listen": ("m3u", "pls"),
    "card": ("png",),
    "qr": ("svg", "png"),
}
FOLDERS: Final = {  # folders of stations without formats: what to ask for
    "hls": "/hls/{}/master.m3u8",
    "embed": "/embed/{}",
    "stage": "/stage/{}",
    "ws": "/ws/{} or /ws/{}/plain",
}


async def nearest(request: web.Request) -> web.HTTPException | None:
    """Redirect of an address with needless slashes (``/stream/main.mp3/``, ``//api/stations``); None for others.

    The redirect keeps the method, and is relative where possible, so that it is valid behind a path prefix.
    """
    sent = request.rel_url.raw_path
    parts = [part for part in sent.split("/") if part]
    meant = "/" + "/".join(parts)
    if meant == sent or not parts:
        return None
    found = await request.app.router.resolve(request.clone(rel_url=request.rel_url.with_path(meant, encoded=True)))
    if found.http_exception is not None or getattr(found.handler, "riffstream_operation", None) is None:
        return None
    location = "../" * (sent.count("/") - 1) + meant[1:]
    if sent.startswith("//"):  # ffmpeg resolves relative addresses in another way there
        context = request.app[CONTEXT]
        root = context.config.server.public_url.rstrip("/") or context.asked(request).url
        location = root + meant.removeprefix(context.prefix)
    if request.rel_url.raw_query_string:
        location += f"?{request.rel_url.raw_query_string}"
    if request.method in ("GET", "HEAD"):
        return web.HTTPMovedPermanently(location)  # the one that every player follows
    return web.HTTPPermanentRedirect(location)


async def methods_of(request: web.Request) -> list[str]:
    """Methods that the address of a request takes, sorted; the player's files, which have any address, do not count."""
    found = []
    for method in METHODS:
        route = (await request.app.router.resolve(request.clone(method=method))).handler
        if getattr(route, "riffstream_operation", None) is not None:
            found.append(method)
    return found


async def missing(request: web.Request) -> web.HTTPException:
    """Refusal of a request that no route takes: 405 if its address takes other methods, else 404."""
    context = request.app[CONTEXT]
    if methods := await methods_of(request):
        return web.HTTPMethodNotAllowed(request.method, methods)
    folder, _, rest = context.own_path(request).strip("/").partition("/")
    name = rest.partition("/")[0]
    if folder == "api":
        return refuse(web.HTTPNotFound, "not_found", "no such address; /api/openapi.json lists them")
    if not rest or folder not in {*FORMATS, *FOLDERS}:
        return refuse(web.HTTPNotFound, "not_found", "no such page")
    ending = ""
    if folder in FORMATS:
        name, _, ending = name.partition(".")
    if name not in context.broadcasts:
        shown = name[:60]
        return refuse(web.HTTPNotFound, "not_found", f"no station {shown!r}; /api/stations lists them")
    if folder in FORMATS and ending in FORMATS[folder]:
        text = f"no such address; there is /{folder}/{name}.{ending}"
    elif folder in FORMATS:
        allowed = ", ".join(FORMATS[folder])
        address = f"/{folder}/{name}.{FORMATS[folder][0]}"
        text = f"format is {ending[:20]!r}; allowed: {allowed}, as in {address}"
    else:
        text = f"no such address; there is {FOLDERS[folder].format(name, name)}"
    return refuse(web.HTTPNotFound, "not_found", text)
