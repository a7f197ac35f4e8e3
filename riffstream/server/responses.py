"""Common parts of all answers: security headers, CORS headers, errors as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from riffstream.server import cors, logs
from riffstream.server.addresses import methods_of, nearest
from riffstream.server.context import CONTEXT, refuse
from riffstream.server.forwarding import is_forwarded, pass_on
from riffstream.server.header_timeout import HEADER_TIMEOUT
from riffstream.server.queries import check_query
from riffstream.station.outlet import EncoderError, StationEndedError

__all__ = ["add_headers", "middleware"]

# The player fetches from its own origin or from another riffstream server; it runs only its own scripts. Audio worklets
# and workers may come from blobs, artwork from data.
_POLICY = (
    "default-src 'self'; script-src 'self'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob: http: https:; connect-src 'self' ws: wss: http: https:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors {frames}"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "autoplay=*, fullscreen=*, camera=(), microphone=(self), geolocation=()",
}


@web.middleware
async def middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer errors as ``{code, message}`` without internal details.

    A connection that the client has closed becomes an unlogged 499; every other unexpected exception becomes a logged
    500.
    """
    request.app[HEADER_TIMEOUT].stop(request)
    if (answer := await cors.preflight(request)) is not None:
        return answer
    try:
        context = request.app[CONTEXT]
        if (upstream := context.hub.upstream) is not None:
            if is_forwarded(context, request):
                return await pass_on(context, upstream, request)
            name = request.match_info.get("station")
            if name is not None and name not in context.hub.stations:
                await upstream.find(name)
        check_query(request)
        return await handler(request)
    except web.HTTPException as error:
        if isinstance(error, web.HTTPMethodNotAllowed):
            if (redirect := await nearest(request)) is not None:
                raise redirect from None
            allowed = ", ".join(await methods_of(request) or sorted(error.allowed_methods))
            error.headers["Allow"] = allowed
            error.text = json.dumps(
                {"code": "bad_request", "message": f"method is {error.method[:20]}; allowed: {allowed}"}
            )
            error.content_type = "application/json"
        if error.status >= 400 and error.content_type != "application/json":
            error.text = json.dumps({"code": "bad_request", "message": error.reason})
            error.content_type = "application/json"
        raise
    except StationEndedError as error:
        raise refuse(web.HTTPNotFound, "not_found", str(error)) from None
    except EncoderError as error:
        raise refuse(web.HTTPServiceUnavailable, "busy", str(error), retry_after_s=error.retry_s) from None
    except Exception as error:  # JSON without details for the client, the traceback for the log
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            return web.Response(status=499)  # the client has closed the connection: not an error of the server
        request.app[CONTEXT].counters["errors"] += 1
        logs.event("request failed", level=logging.ERROR, path=request.path, exc_info=True)
        raise refuse(web.HTTPInternalServerError, "internal", "internal error; see the server's log") from None


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add security and CORS headers. It is a signal handler, so that streams have them too."""
    if response.status == 101:
        return
    path = request.app[CONTEXT].own_path(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "riffstream"  # the version is shown only by /healthz
    if response.content_type == "application/json":
        response.headers.setdefault("Cache-Control", "no-store")  # the current music changes every second
    if response.content_type == "text/html":
        frames = "*" if path.startswith("/embed/") else "'self'"
        response.headers["Content-Security-Policy"] = _POLICY.format(frames=frames)
        if frames != "*":
            response.headers["X-Frame-Options"] = "SAMEORIGIN"
    cors.allow(request, response)
