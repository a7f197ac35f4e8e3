"""``/v1/riff-stream.js``: the element for other sites as one file, at an address that keeps its meaning.

``v1`` is the version of the element's attributes, methods and events. ``/v1/HASH/riff-stream.js`` is one content of it,
which browsers keep for a year; with the hash of ``/api/element`` a page refuses any other (Subresource Integrity).
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from riffstream.server import answers
from riffstream.server.answers import json_answer
from riffstream.server.openapi import Answer, described, internal
from riffstream.server.player_bundle import ENTRIES, bundled, version_of, without_comments
from riffstream.server.static_files import accepts_gzip, find_file

__all__ = ["ELEMENT", "element_text", "routes"]

routes = web.RouteTableDef()

ELEMENT = "riff-stream.js"
DAY_S, YEAR_S = 86_400, 31_536_000


@lru_cache(maxsize=32)
def element_text(folder: Path, path: str, version: str) -> bytes:
    """A file of the element; first modules with all that they import.

    Raises:
        BundleError: the files of the player cannot be put together.
    """
    if path == ELEMENT or path in ENTRIES:
        return bundled(folder, path, version).encode()
    return without_comments((folder / path).read_text(encoding="utf-8")).encode()


@lru_cache(maxsize=32)
def _compressed(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


async def _element() -> bytes:
    folder = find_file(ELEMENT).parent
    return await asyncio.to_thread(element_text, folder, ELEMENT, await asyncio.to_thread(version_of, folder))


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


@routes.get("/api/element")
@described("pages", Answer(answers.ElementFile, "the addresses and the hash"))
async def show_element(request: web.Request) -> web.Response:
    """Show the addresses of ``<riff-stream>`` for other sites, and its hash for the attribute ``integrity``."""
    text = await _element()
    integrity = base64.b64encode(hashlib.sha384(text).digest()).decode()
    return json_answer(
        answers.ElementFile(
            latest=f"../v1/{ELEMENT}", pinned=f"../v1/{_hash(text)}/{ELEMENT}", integrity=f"sha384-{integrity}"
        )
    )


@routes.get("/v1/{path:.+}")
@routes.get("/v1/{hash:[0-9a-f]{16}}/{path:.+}")
@internal
async def element_file(request: web.Request) -> web.Response:
    """Send the element, or a file that it fetches."""
    path, asked = request.match_info["path"], request.match_info.get("hash")
    file = find_file(path)
    if file.suffix != ".js":
        raise web.HTTPNotFound
    folder = find_file(ELEMENT).parent
    version = await asyncio.to_thread(version_of, folder)
    text = await asyncio.to_thread(element_text, folder, path, version)
    if asked is None:
        keeps = f"public, max-age={DAY_S}"
    elif asked == _hash(await _element()):
        keeps = f"public, max-age={YEAR_S}, immutable"
    else:  # of another version of the server: the present file, which is asked for again
        keeps = "no-cache"
    etag = f'"{_hash(text)}"'
    headers = {"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": keeps, "Vary": "Accept-Encoding"}
    headers["ETag"] = etag
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    if not accepts_gzip(request):
        return web.Response(body=text, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return web.Response(body=_compressed(text), headers=headers)
