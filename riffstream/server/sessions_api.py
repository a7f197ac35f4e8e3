"""``/api/sessions``: a private station for one page (docs/server.md)."""

from __future__ import annotations

from aiohttp import web

from riffstream.server import answers
from riffstream.server.access import authorization_token
from riffstream.server.answers import json_answer
from riffstream.server.api import summary
from riffstream.server.bodies import json_object
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.new_stations import MUSIC_FIELDS, new_station, start_station
from riffstream.server.openapi import Answer, Body, described
from riffstream.server.origins import normal_origin
from riffstream.server.own_stations import OwnStation, QuotaError
from riffstream.server.roles import Role

__all__ = ["routes"]

routes = web.RouteTableDef()

TITLE = "A station of your own"
NEW_SESSION = new_station(
    "NewSession", "Music of a private station; without a field, the default.", MUSIC_FIELDS, named=False
)


@routes.get("/api/sessions")
@described("stations", Answer(answers.SessionPlaces, "the places"), right="listen")
async def show_sessions(request: web.Request) -> web.Response:
    """Show whether there is a place for a private station."""
    context = request.app[CONTEXT]
    context.listening(request)
    most = context.config.sessions.most
    free = min(most - len(context.own), context.config.limits.stations - len(context.hub.stations))
    return json_answer(
        answers.SessionPlaces(most=most, free=max(0, free), invited=most > 0 and _is_invited(context, request))
    )


@routes.post("/api/sessions")
@described(
    "stations",
    Answer(answers.Session, "the private station", 201, {"Location": "its address, relative to the request's"}),
    errors=(400, 401, 403, 408, 413, 429, 503),
    body=Body({"application/json": NEW_SESSION}, "the music, as in `[stations.NAME]`", required=False),
    right="listen",
)
async def create_session(request: web.Request) -> web.Response:
    """Start a private station for one page: ``{"prompts": ["calm piano"]}``.

    The answer has a token that steers this station and nothing else. The station ends after a time without a listener,
    at the end of its own time, or by ``DELETE``. A page of another site needs a place in ``server.allowed_origins``.
    ``[sessions]`` has the quotas.
    """
    context = request.app[CONTEXT]
    context.listening(request)
    _check_token(context, request)
    _check_invited(context, request)
    body = await json_object(request, optional=True)
    made = _reserved(context, request)
    try:
        await start_station(context, made.name, body, MUSIC_FIELDS, where="session", title=TITLE)
    except BaseException:  # also a client that left meanwhile
        context.own.forget(made.name)
        raise
    answer = answers.Session(
        station=made.name,
        token=made.token,
        seconds=made.seconds,
        idle_s=context.config.sessions.idle_s,
        links=summary(context.broadcast(made.name)).links,
    )
    headers = {"Location": f"stations/{made.name}", "Cache-Control": "no-store"}
    return json_answer(answer, status=201, headers=headers)


@routes.delete("/api/sessions/{station}")
@described("stations", Answer(None, "the private station has ended", 204), errors=(401, 403), right="steer")
async def end_session(request: web.Request) -> web.Response:
    """End a private station. Needs its own token, or the owner's."""
    context = request.app[CONTEXT]
    role = context.listening(request)
    name = request.match_info["station"]
    if name not in context.own:
        raise refuse(web.HTTPNotFound, "not_found", f"no private station {name!r} of a visitor")
    token = authorization_token(request.headers.get("Authorization"))
    made = context.own.read(token) if token else None
    if role is not Role.OWNER and (made is None or made.station != name):
        raise refuse(web.HTTPForbidden, "forbidden", "ending a private station needs its own token")
    await context.broadcasts.end(name, "this station has ended")
    return web.Response(status=204)


def _check_token(context: Context, request: web.Request) -> None:
    """Raise 403 if listening needs a token, and this one is a private station's, which would have no end then."""
    token = authorization_token(request.headers.get("Authorization"))
    if token and not context.access.listening_is_open and context.own.read(token) is not None:
        text = "the token of a private station makes no further ones; send that of the server"
        raise refuse(web.HTTPForbidden, "forbidden", text)


def _check_invited(context: Context, request: web.Request) -> None:
    """Raise 403 if the server makes no private stations, or not for this page."""
    if not context.config.sessions.most:
        raise refuse(web.HTTPForbidden, "forbidden", "this server makes no private stations (sessions.most is 0)")
    if not _is_invited(context, request):
        shown = normal_origin(request.headers.get("Origin", "")) or "null"
        text = f'pages from {shown} get no private station; to change that, add "{shown}" to server.allowed_origins'
        raise refuse(web.HTTPForbidden, "forbidden", text)


def _is_invited(context: Context, request: web.Request) -> bool:
    token = authorization_token(request.headers.get("Authorization"))
    return context.access.invites(token, request.headers.get("Origin"), context.asked(request).host)


def _reserved(context: Context, request: web.Request) -> OwnStation:
    """A place in the table of private stations. Raises 429, 503."""
    origin = normal_origin(request.headers.get("Origin", "")) or ""
    try:
        return context.own.open(context.asked(request).address, origin)
    except QuotaError as error:
        if error.shared:
            raise refuse(web.HTTPServiceUnavailable, "busy", str(error), retry_after_s=error.retry_after_s) from None
        raise refuse(web.HTTPTooManyRequests, "rate_limited", str(error), retry_after_s=error.retry_after_s) from None
