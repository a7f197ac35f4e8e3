"""Requests of listeners: their rules on every way in, and ``/api/stations/{station}/requests`` (docs/server.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from aiohttp import web

from riffstream import protocol
from riffstream.protocol import ProtocolError
from riffstream.server.answers import ReactionHistory, json_answer
from riffstream.server.bodies import json_object, message_of, refused, without_id
from riffstream.server.broadcast import Broadcast
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.moderation import Texts
from riffstream.server.openapi import Answer, Body, described
from riffstream.station.requests import BUCKET_S

__all__ = ["NO_REQUESTS", "changed_requests", "routes"]

routes = web.RouteTableDef()

NO_REQUESTS = "this station takes no requests"
Tell = Callable[[protocol.ServerMessage], None]


REQUEST_CHANGE = without_id(
    protocol.Request,
    "RequestChange",
    "A request, a vote, a reaction or an answer, with the fields of the protocol's message `request`.",
)


async def changed_requests(
    context: Context,
    broadcast: Broadcast,
    message: protocol.Request,
    *,
    client: str,
    refusal: str | None,
    tell: Tell | None = None,
    way: Literal["socket", "http"],
) -> protocol.RequestList:
    """Do what a message about requests asks for; return the new list.

    Args:
        context: state of the server.
        broadcast: the station's.
        message: the message.
        client: address of the client in the form for limits; it votes once.
        refusal: reason why the client may not steer; None if it may.
        tell: receives ``scheduled`` and ``applied`` of a request that is played now.
        way: the way of the message, for the prompt hook.

    Raises:
        ProtocolError: refused; the list does not change.
    """
    station = broadcast.station
    requests = station.requests
    if requests is None:
        raise ProtocolError("forbidden", NO_REQUESTS)
    if message.op in ("take", "dismiss") and refusal is not None:
        raise ProtocolError("forbidden", refusal)
    if message.op == "suggest":
        text = await _allowed_text(context, station.name, message, client, way)
        requests.suggest(text, client)
    elif message.op == "react":
        if message.reaction is None:
            raise ProtocolError("bad_request", "reaction is missing; allowed: heart, fire or wow", field="reaction")
        _limit(context.request_gates.votes.wait_s(client), "too many reactions")
        requests.react(message.reaction)
    elif message.op == "vote":
        _limit(context.request_gates.votes.wait_s(client), "too many votes")
        requests.vote(message.item, client)
    elif message.op == "take":
        _play(context, broadcast, message, requests.text(message.item), client, tell)
        requests.remove(message.item)
    else:
        requests.remove(message.item)
    broadcast.announce_requests()
    return requests.shown()


async def _allowed_text(
    context: Context, station: str, message: protocol.Request, client: str, way: Literal["socket", "http"]
) -> str:
    """A suggestion that the rules for prompts allow. Raises ProtocolError."""
    limits = context.config.limits
    most = min(limits.request_chars, limits.prompt_chars)
    text = protocol.clean_text(message.text or "", limit=most, field="text")
    if not text:
        raise ProtocolError("prompt_rejected", f"text is empty; allowed: 1 to {most} characters", field="text")
    context.moderation.check(Texts((text,)), field="text")
    _limit(context.request_gates.suggestions.wait_s(client), "one request at a time")
    return (await context.moderation.decide(Texts((text,)), station=station, way=way)).prompts[0]


def _play(
    context: Context, broadcast: Broadcast, message: protocol.Request, text: str, client: str, tell: Tell | None
) -> None:
    """Play a request, now or later. Raises ProtocolError."""
    station, prompts = broadcast.station, (protocol.Prompt(text=text),)
    if message.play == "queue":
        station.change_queue(protocol.Queue(id=message.id, op="add", prompts=prompts))
        return
    _limit(context.request_gates.plays.wait_s(client), "too many changes")
    first: list[protocol.ServerMessage] = []

    def reply(answer: protocol.ServerMessage) -> None:
        first.append(answer)
        if isinstance(answer, protocol.Superseded):  # the id of the later change is the server's
            answer = msgspec.structs.replace(answer, by="other")
        if tell is not None and isinstance(answer, protocol.Scheduled | protocol.Applied | protocol.Superseded):
            tell(msgspec.structs.replace(answer, id=message.id))

    station.steer(protocol.Steer(id=f"request:{message.item}", prompts=prompts, at="bar"), reply, by="request")
    if first and isinstance(first[0], protocol.Rejected):
        raise ProtocolError(first[0].code, first[0].message, retry_after_ms=first[0].retry_after_ms)


def _limit(wait_s: float, what: str) -> None:
    if wait_s:
        text = f"{what}: the next one in {max(1, round(wait_s))} s"
        raise ProtocolError("rate_limited", text, retry_after_ms=round(wait_s * 1000))


def _requests(broadcast: Broadcast) -> protocol.RequestList:
    """The requests of a station. Raises 403 if it takes none."""
    found = broadcast.station.requested()
    if found is None:
        raise refuse(web.HTTPForbidden, "forbidden", NO_REQUESTS)
    return found


@routes.get("/api/stations/{station}/requests")
@described("stations", Answer(protocol.RequestList, "the requests"), errors=(403,), right="listen")
async def show_requests(request: web.Request) -> web.Response:
    """Show what listeners wish to hear, and their reactions of the last minute."""
    context = request.app[CONTEXT]
    context.listening(request)
    return json_answer(_requests(context.broadcast(request.match_info["station"])))


@routes.get("/api/stations/{station}/reactions")
@described("stations", Answer(ReactionHistory, "the reactions"), errors=(401, 403), right="steer")
async def show_reactions(request: web.Request) -> web.Response:
    """Show the reactions of listeners over the last ten minutes."""
    context = request.app[CONTEXT]
    broadcast = context.broadcast(request.match_info["station"])
    context.steering(request, "seeing the reactions over time", broadcast.station)
    _requests(broadcast)
    requests = broadcast.station.requests
    buckets = () if requests is None else requests.history()
    return json_answer(
        ReactionHistory(
            bucket_s=BUCKET_S,
            heart=tuple(each.heart for each in buckets),
            fire=tuple(each.fire for each in buckets),
            wow=tuple(each.wow for each in buckets),
        )
    )


@routes.post("/api/stations/{station}/requests")
@described(
    "stations",
    Answer(protocol.RequestList, "the requests after the change"),
    errors=(400, 401, 403, 408, 413, 429, 503),
    body=Body({"application/json": REQUEST_CHANGE}, "the fields of the protocol's message `request`, without `id`"),
    right="listen",
)
async def change_requests(request: web.Request) -> web.Response:
    """Suggest, vote and react; with the right to steer also take and dismiss: ``{"op": "suggest", "text": "rain"}``."""
    context = request.app[CONTEXT]
    role = context.listening(request)
    broadcast = context.broadcast(request.match_info["station"])
    body = await json_object(request)
    try:
        message = message_of(request, body, protocol.Request)
        changed = await changed_requests(
            context,
            broadcast,
            message,
            client=context.asked(request).address,
            refusal=context.refusal(request, role, broadcast.station),
            way="http",
        )
    except ProtocolError as error:
        raise refused(error) from None
    return json_answer(changed)
