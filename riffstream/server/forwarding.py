"""Requests that a relay passes on: seed images, uploads, recordings, the archive, and the making of stations.

A worker passes on those of HLS too.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import re
from typing import Final

import aiohttp
from aiohttp import web

from riffstream.server.context import Context, refuse
from riffstream.server.interfaces import Upstream

__all__ = ["is_forwarded", "pass_on"]

# Addresses of the API that a relay answers itself; it passes on all others.
_OWN: Final = re.compile(r"/api/(?:openapi\.json|schema|prompts/random|stations(?:/[a-z0-9_-]+(?:/events)?)?)")
_PASSED: Final = (
    "Accept",
    "Accept-Encoding",
    "Authorization",
    "Content-Type",
    "Content-Length",
    "Origin",
    "Range",
    "If-None-Match",
    "If-Range",
)
_RETURNED: Final = (
    "Accept-Ranges",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Location",
    "Retry-After",
)


def is_forwarded(context: Context, request: web.Request) -> bool:
    """Whether the server behind this relay answers a request."""
    path = context.own_path(request)
    if path.startswith("/run_inference"):
        return True
    if path.startswith("/hls/") and context.hub.upstream is not None and context.hub.upstream.inside:
        return True  # the next request of a player may reach another worker, whose encoder has other segments
    return path.startswith("/api/") and not (request.method in ("GET", "HEAD") and _OWN.fullmatch(path))


def _encoded(context: Context, request: web.Request) -> str:
    """Path without the prefix and query as the client sent them: decoded ones could name another address."""
    sent, prefix = request.rel_url.raw_path_qs, context.prefix
    return sent[len(prefix) :] if prefix and sent.startswith(f"{prefix}/") else sent


async def pass_on(context: Context, upstream: Upstream, request: web.Request) -> web.StreamResponse:
    """Send a request to the server behind this relay, and its answer to the client. Raises 503 if it is lost."""
    asked = context.asked(request)
    headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
    headers |= {
        "X-Forwarded-For": asked.address.partition("/")[0],
        "X-Forwarded-Host": asked.host,
        "X-Forwarded-Proto": asked.scheme,
    }
    path = _encoded(context, request)
    body = request.content if request.can_read_body else None
    response: web.StreamResponse | None = None
    try:
        async with upstream.http(request.method, path, headers, body) as answer:
            response = web.StreamResponse(status=answer.status)
            for name in _RETURNED:
                if name in answer.headers:
                    response.headers[name] = answer.headers[name]
            if answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response
    except (aiohttp.ClientError, TimeoutError):
        if response is not None and response.prepared:
            if request.transport is not None:
                request.transport.abort()  # the answer is incomplete
            return response
        raise refuse(
            web.HTTPServiceUnavailable, "busy", "the server behind this relay cannot be reached", retry_after_s=2
        ) from None
