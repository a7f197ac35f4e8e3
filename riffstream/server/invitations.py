"""What helps a page to bring others here: QR codes of a station's page, and whether a site's pages may control it."""

from __future__ import annotations

import asyncio
import io
from functools import lru_cache
from typing import Annotated
from urllib.parse import quote

import msgspec
import segno
from aiohttp import web
from msgspec import Meta

from riffstream.server import answers
from riffstream.server.answers import json_answer
from riffstream.server.context import CONTEXT, refuse
from riffstream.server.openapi import Answer, described
from riffstream.server.origins import normal_origin
from riffstream.server.streams import base_url

__all__ = ["routes"]

routes = web.RouteTableDef()

ORIGIN_CHARS = 300
ADDRESS_CHARS = 400  # of a page; the time for a code grows with them, and phones cannot read dense ones
TYPES = {"svg": "image/svg+xml", "png": "image/png"}


class OriginQuery(msgspec.Struct):
    """Parameters of the question about an origin."""

    origin: Annotated[
        str, Meta(max_length=ORIGIN_CHARS, description="an `Origin` header, such as `https://shop.example`")
    ]


@routes.get("/api/origins")
@described("server", Answer(answers.Origin, "the origin"), errors=(400,), query=OriginQuery, right="listen")
async def show_origin(request: web.Request) -> web.Response:
    """Say whether pages of a site may control a player in a frame: its origin is in ``server.allowed_origins``."""
    context = request.app[CONTEXT]
    context.listening(request)
    given = request.query.get("origin", "")
    if not given or len(given) > ORIGIN_CHARS:
        text = f"origin is {given[:60]!r}; allowed: 1 to {ORIGIN_CHARS} characters, such as https://shop.example"
        raise refuse(web.HTTPBadRequest, "bad_request", text)
    return json_answer(answers.Origin(origin=normal_origin(given) or "null", allowed=context.access.lists(given)))


@routes.get("/qr/{station:[a-z0-9][a-z0-9_-]*}.{kind:svg|png}")
@described("pages", Answer(tuple(TYPES.values()), "the picture"), errors=(400,))
async def qr_code(request: web.Request) -> web.Response:
    """Send a QR code of the station's page, black on white with a quiet border."""
    context, name, kind = request.app[CONTEXT], request.match_info["station"], request.match_info["kind"]
    context.broadcast(name)
    address = f"{base_url(context, request)}/?station={quote(name)}"
    if len(address) > ADDRESS_CHARS:
        text = f"the page's address has {len(address)} characters; allowed: up to {ADDRESS_CHARS}"
        raise refuse(web.HTTPBadRequest, "bad_request", text)
    picture = await asyncio.to_thread(_qr_code, address, kind)
    return web.Response(body=picture, headers={"Content-Type": TYPES[kind], "Cache-Control": "no-cache"})


@lru_cache(maxsize=64)
def _qr_code(address: str, kind: str) -> bytes:
    """A QR code as a file. It takes some 10 ms, so it belongs in a thread."""
    picture = io.BytesIO()
    segno.make(address, error="m", micro=False).save(picture, kind=kind, border=4, scale=8, dark="#000", light="#fff")
    return picture.getvalue()
