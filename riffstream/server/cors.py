"""CORS: answers that pages of other sites may read, and the preflight requests of their browsers.

Nothing here grants rights: programs can send every request without a preflight, and :mod:`riffstream.server.access`
checks the token and the ``Origin`` of each request.
"""

from __future__ import annotations

from aiohttp import web

from riffstream.server.addresses import methods_of
from riffstream.server.context import CONTEXT

__all__ = ["allow", "preflight"]

_OPEN_PREFIXES = ("/api/", "/stream/", "/hls/", "/listen/", "/healthz", "/status-json.xsl")
# A page that is not listed gets a refusal there, which says what to change.
_REFUSALS_READABLE = "/api/sessions"
_REQUEST_HEADERS = (
    "Authorization, Cache-Control, Content-Type, Icy-MetaData, If-Range, Last-Event-ID, Range, Riffstream-Remove-Key"
)
_ANSWER_HEADERS = (
    "Content-Disposition, Content-Length, Content-Range, Retry-After, "
    "icy-br, icy-description, icy-metaint, icy-name, icy-pub, icy-sr, icy-url"
)


async def preflight(request: web.Request) -> web.Response | None:
    """Answer to OPTIONS on every existing path; None for other requests."""
    error = request.match_info.http_exception
    if request.method != "OPTIONS" or not isinstance(error, web.HTTPMethodNotAllowed):
        return None
    methods = ", ".join(await methods_of(request) or sorted(error.allowed_methods))
    headers = {"Allow": f"{methods}, OPTIONS"}
    if "Access-Control-Request-Method" in request.headers:
        headers |= {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": _REQUEST_HEADERS,
            "Access-Control-Max-Age": "7200",
        }
        if request.headers.get("Access-Control-Request-Private-Network") == "true" and _may_come_from_outside(request):
            headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)


def allow(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of other sites read the answers to reads, and to changes that they may make."""
    path = request.app[CONTEXT].own_path(request)
    is_open = path.startswith(_OPEN_PREFIXES)
    if request.method in ("GET", "HEAD") and (is_open or response.content_type != "text/html"):
        # No credentials are involved: every program that can send the request may read the answer.
        response.headers.setdefault("Access-Control-Allow-Origin", "*")
        response.headers.setdefault("Access-Control-Expose-Headers", _ANSWER_HEADERS)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "cross-origin")
    elif (
        path.startswith(("/api/", "/run_inference"))
        and request.method in ("POST", "DELETE")
        and (path == _REFUSALS_READABLE or _is_invited(request, brings_token="Authorization" in request.headers))
    ):
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = "Location, Retry-After"


def _is_invited(request: web.Request, *, brings_token: bool) -> bool:
    """Whether a page of another site may make changes: it has a token, or its origin is listed."""
    return brings_token or request.app[CONTEXT].access.lists(request.headers.get("Origin", ""))


def _may_come_from_outside(request: web.Request) -> bool:
    """Whether a page on the public internet may send this request to a server in a private network."""
    if request.headers["Access-Control-Request-Method"].upper() in ("GET", "HEAD"):
        return True
    announced = request.headers.get("Access-Control-Request-Headers", "").lower().replace(" ", "").split(",")
    return _is_invited(request, brings_token="authorization" in announced)
