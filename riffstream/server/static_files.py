"""The player's files, the headers that every answer carries, and errors as JSON."""

from __future__ import annotations

import asyncio
import html
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from riffstream.server import cors, logs
from riffstream.server.context import CONTEXT, refuse
from riffstream.server.header_timeout import DOORMAN
from riffstream.server.link_preview import with_link_tags
from riffstream.station.outlet import EncoderError, StationEndedError

__all__ = ["client_folder", "embed_handler", "file_handler", "middleware", "prefix_handler"]

# The player fetches from its own origin, or from another riffstream server that it was pointed at; it runs no script
# that is not its own. Audio worklets and workers may come from blobs, artwork from data.
_POLICY = (
    "default-src 'self'; script-src 'self'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob: http: https:; connect-src 'self' ws: wss: http: https:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors {frames}"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "autoplay=*, fullscreen=*, camera=(), microphone=(), geolocation=()",
}
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
_HIDDEN = frozenset({"tests", "node_modules"})


def client_folder() -> Path | None:
    """The player's files: from the installed package, else from the checkout; None where there are none."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "client_files", package.parent / "client"):
        if (folder / "index.html").is_file():
            return folder
    return None


async def file_handler(request: web.Request) -> web.StreamResponse:
    """A file of the player; ``/`` is index.html."""
    path = request.match_info.get("path", "")
    if path in ("", "index.html"):
        return await _page(request, request.query.get("station"))
    return _file(path)


async def prefix_handler(request: web.Request) -> web.Response:
    """The path of ``server.public_url`` without its slash: relative addresses need it."""
    name = request.path.rpartition("/")[2]
    raise web.HTTPMovedPermanently(f"{name}/" + (f"?{request.query_string}" if request.query_string else ""))


async def embed_handler(request: web.Request) -> web.StreamResponse:
    """The player for frames on other sites. The page reads the station from its address."""
    name = request.match_info["station"]
    request.app[CONTEXT].broadcast(name)
    return await _page(request, name)


async def _page(request: web.Request, station: str | None) -> web.StreamResponse:
    """The player's page, which tells whoever shows a link to it what is heard there."""
    text = await asyncio.to_thread(_find("index.html").read_text, encoding="utf-8")
    context = request.app[CONTEXT]
    if prefix := context.asked(request).prefix:  # holds for an address without a slash at its end as well
        text = text.replace('="./', f'="{html.escape(prefix)}/')
    elif context.own_path(request).startswith("/embed/"):  # one folder below the files that the page names
        text = text.replace('="./', '="../')
    headers = {"Cache-Control": "no-cache"}
    return web.Response(text=with_link_tags(text, request, station), content_type="text/html", headers=headers)


def _find(path: str) -> Path:
    """A file of the player. Raises 404 for anything else."""
    folder = client_folder()
    if folder is None:
        raise refuse(web.HTTPNotFound, "not_found", "the player's files are not installed; the API and streams work")
    parts = path.split("/")
    file = folder.joinpath(*parts)
    # resolve() follows links and "..": whatever comes out must still lie inside, and be of a kind that we serve.
    if (
        "\0" in path
        or any(part.startswith(".") or part in _HIDDEN for part in parts)
        or file.suffix not in _TYPES
        or not file.resolve().is_relative_to(folder.resolve())
        or not file.is_file()
    ):
        raise refuse(web.HTTPNotFound, "not_found", "no such page")
    return file


def _file(path: str) -> web.StreamResponse:
    file = _find(path)
    # Small files, revalidated each time: a new version is there at the next reload.
    return web.FileResponse(file, headers={"Content-Type": _content_type(file), "Cache-Control": "no-cache"})


def _content_type(file: Path) -> str:
    kind = _TYPES[file.suffix]
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or file.suffix == ".svg" else kind


@web.middleware
async def middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors as ``{code, message}``; nothing internal leaves the server."""
    request.app[DOORMAN].let_in(request)
    if (answer := cors.preflight(request)) is not None:
        return answer
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status >= 400 and error.content_type != "application/json":
            error.text = json.dumps({"code": "bad_request", "message": error.reason})
            error.content_type = "application/json"
        raise
    except StationEndedError as error:
        raise refuse(web.HTTPNotFound, "not_found", str(error)) from None
    except EncoderError as error:
        raise refuse(web.HTTPServiceUnavailable, "busy", str(error), retry_after_s=error.retry_s) from None
    except Exception as error:  # whatever the fault is, the client gets JSON without internals and the log the rest
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            return web.Response(status=499)  # the client has gone: nobody reads this, and it is no fault of ours
        request.app[CONTEXT].counters["errors"] += 1
        logs.event("request failed", level=logging.ERROR, path=request.path, exc_info=True)
        raise refuse(web.HTTPInternalServerError, "internal", "something went wrong; the log says what") from None


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Security headers and, for what any site may use, CORS. A signal, so that streams have them as well."""
    if response.status == 101:
        return
    path = request.app[CONTEXT].own_path(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "riffstream"  # versions are nobody's business but /healthz's
    if response.content_type == "application/json":
        response.headers.setdefault("Cache-Control", "no-store")  # what plays is old in a second
    if response.content_type == "text/html":
        frames = "*" if path.startswith("/embed/") else "'self'"
        response.headers["Content-Security-Policy"] = _POLICY.format(frames=frames)
        if frames != "*":
            response.headers["X-Frame-Options"] = "SAMEORIGIN"
    cors.allow(request, response)
