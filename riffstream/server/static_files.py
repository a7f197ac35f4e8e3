"""The player's files and pages."""

from __future__ import annotations

import asyncio
import gzip
import html
import logging
import re
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from riffstream.server.addresses import missing, nearest
from riffstream.server.context import CONTEXT, refuse
from riffstream.server.link_preview import with_link_tags
from riffstream.server.openapi import Answer, described, internal
from riffstream.server.player_bundle import ENTRIES, PAGE, BundleError, bundled, on_demand, version_of, without_comments

__all__ = [
    "accepts_gzip",
    "client_folder",
    "embed_handler",
    "file_handler",
    "find_file",
    "prefix_handler",
    "stage_handler",
    "version_handler",
]

log = logging.getLogger(__name__)

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",  # mimetypes asks the system, which may say text/plain
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_COMPRESSED = frozenset({".css", ".js", ".mjs", ".json", ".svg", ".webmanifest"})
_HIDDEN = frozenset({"tests", "node_modules"})


def client_folder() -> Path | None:
    """Folder of the player's files, in the installed package or else in the checkout; None if missing."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "client_files", package.parent / "client"):
        if (folder / "index.html").is_file():
            return folder
    return None


@internal
async def file_handler(request: web.Request) -> web.StreamResponse:
    """Send a file of the player; ``/`` is index.html."""
    path = request.match_info.get("path", "")
    if path in ("", "index.html"):
        return await _page(request, request.query.get("station"))
    try:
        return _file(path, request)
    except web.HTTPNotFound:
        raise await nearest(request) or await missing(request) from None


@internal
async def prefix_handler(request: web.Request) -> web.Response:
    """Redirect the path of ``server.public_url`` to the path with a slash, which relative addresses need."""
    name = request.path.rpartition("/")[2]
    raise web.HTTPMovedPermanently(f"{name}/" + (f"?{request.query_string}" if request.query_string else ""))


@internal
async def version_handler(request: web.Request) -> web.StreamResponse:
    """Send a file of the player under the address of its version, which browsers keep for a year."""
    path, asked = request.match_info["path"], request.match_info["version"]
    file, folder = find_file(path), find_file("index.html").parent
    if file.suffix not in (".js", ".css"):
        return _file(path, request)
    version = await asyncio.to_thread(version_of, folder)
    # A page of an older version, or of another server of a group, gets the present file, and asks again the next time.
    keeps = "public, max-age=31536000, immutable" if asked == version else "no-cache"
    text = await asyncio.to_thread(_shortened, folder, path, version, asked == version)
    headers = {"Content-Type": _content_type(file), "Cache-Control": keeps, "Vary": "Accept-Encoding"}
    if not accepts_gzip(request):
        return web.Response(body=text, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return web.Response(body=_compressed(text), headers=headers)


@lru_cache(maxsize=200)
def _shortened(folder: Path, path: str, version: str, current: bool) -> bytes:
    """A script or style sheet without comments; with its imports for the page of this version (``current``)."""
    text = (folder / path).read_text(encoding="utf-8")
    try:
        if path in ENTRIES:
            return bundled(folder, path, version).encode()
        if current and path in on_demand(folder, version):
            return bundled(folder, path, version, PAGE).encode()
        return without_comments(text, style=path.endswith(".css")).encode()
    except BundleError as error:  # of a file changed since the page was sent
        log.warning("%s is sent as it is: %s", path, error)
        return text.encode()


@lru_cache(maxsize=200)
def _compressed(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


def _versioned(text: str) -> str:
    """The page with its modules bundled, under the address of their version; as it is where that is not possible."""
    folder = find_file("index.html").parent
    try:
        version = version_of(folder)
        for entry in ENTRIES:
            bundled(folder, entry, version)
        for path in on_demand(folder, version):
            bundled(folder, path, version, PAGE)
    except BundleError as error:
        log.warning("the player's modules are sent one by one: %s", error)
        return text
    for name in (*ENTRIES, "style.css"):
        text = text.replace(f'="./{name}"', f'="./static/{version}/{name}"')
    return text


@described("pages", Answer(("text/html",), "the page"))
async def embed_handler(request: web.Request) -> web.StreamResponse:
    """Send the player for frames on other sites. The page reads the station from its address."""
    name = request.match_info["station"]
    request.app[CONTEXT].broadcast(name)
    return await _page(request, name)


@described("pages", Answer(("text/html",), "the page"))
async def stage_handler(request: web.Request) -> web.StreamResponse:
    """Send the page of a second screen. The player of a DJ in the same browser controls it."""
    name = request.match_info["station"]
    request.app[CONTEXT].broadcast(name)
    return await _page(request, name)


async def _page(request: web.Request, station: str | None) -> web.StreamResponse:
    """Send the player's page with tags for link previews."""
    text = await asyncio.to_thread(find_file("index.html").read_text, encoding="utf-8")
    if "modules" not in request.query:  # for developers: one module after the other, with comments
        text = await asyncio.to_thread(_versioned, text)
    context = request.app[CONTEXT]
    if prefix := context.asked(request).prefix:  # also correct for an address without a trailing slash
        text = text.replace('="./', f'="{html.escape(prefix)}/')
    elif context.own_path(request).startswith(("/embed/", "/stage/")):  # one folder below the page's files
        text = text.replace('="./', '="../')
    headers = {"Cache-Control": "no-cache"}
    page = web.Response(text=with_link_tags(text, request, station), content_type="text/html", headers=headers)
    page.headers["Vary"] = "Accept-Encoding"
    if accepts_gzip(request):
        page.enable_compression(web.ContentCoding.gzip)
    return page


def find_file(path: str) -> Path:
    """Path of a file of the player. Raises 404 for other paths."""
    folder = client_folder()
    if folder is None:
        raise refuse(web.HTTPNotFound, "not_found", "the player's files are not installed; the API and streams work")
    parts = path.split("/")
    file = folder.joinpath(*parts)
    # resolve() follows links and "..": the result must still be inside the folder and of an allowed type.
    if (
        "\0" in path
        or any(part.startswith(".") or part in _HIDDEN for part in parts)
        or file.suffix not in _TYPES
        or not file.resolve().is_relative_to(folder.resolve())
        or not file.is_file()
    ):
        raise refuse(web.HTTPNotFound, "not_found", "no such page")
    return file


def _file(path: str, request: web.Request) -> web.StreamResponse:
    file = find_file(path)
    # Small files, revalidated each time, so that a reload loads a new version.
    headers = {"Content-Type": _content_type(file), "Cache-Control": "no-cache"}
    if file.suffix not in _COMPRESSED:
        return web.FileResponse(file, headers=headers)
    headers["Vary"] = "Accept-Encoding"
    if not accepts_gzip(request) or "Range" in request.headers:
        return web.FileResponse(file, headers=headers)
    status = file.stat()
    headers["ETag"] = f'"{status.st_mtime_ns:x}-{status.st_size:x}-gzip"'
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return web.Response(body=_gzipped(file, status.st_mtime_ns), headers=headers)


def accepts_gzip(request: web.Request) -> bool:
    """Whether a client takes compressed answers (RFC 9110, section 12.5.3): ``gzip;q=0`` refuses them."""
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight) is None
    return False


@lru_cache(maxsize=200)
def _gzipped(file: Path, changed_ns: int) -> bytes:
    """A file's compressed bytes, made once for each version."""
    return gzip.compress(file.read_bytes(), mtime=0)


def _content_type(file: Path) -> str:
    kind = _TYPES[file.suffix]
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or file.suffix == ".svg" else kind
