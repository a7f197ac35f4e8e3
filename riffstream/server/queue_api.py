"""``/api/stations/{station}/queue``: the queue of a station over HTTP (docs/server.md)."""

from __future__ import annotations

from typing import Literal

import msgspec
from aiohttp import web
from msgspec import UNSET

from riffstream import protocol
from riffstream.server.answers import json_answer
from riffstream.server.bodies import json_object, message_of, refused, without_id
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.interfaces import Station
from riffstream.server.moderation import Texts
from riffstream.server.openapi import Answer, Body, described

__all__ = ["changed_queue", "routes"]

routes = web.RouteTableDef()


QUEUE_CHANGE = without_id(
    protocol.Queue, "QueueChange", "A change of a station's queue, with the fields of the protocol's message `queue`."
)


async def changed_queue(
    context: Context, station: Station, message: protocol.Queue, *, way: Literal["socket", "http"]
) -> protocol.QueueList:
    """Change a queue with the prompts that the server's rules allow; return the new queue.

    Args:
        way: the way of the message, for the prompt hook.

    Raises:
        ProtocolError: refused; the queue does not change.
    """
    if message.prompts is not UNSET:
        texts = tuple(prompt.text for prompt in message.prompts)
        allowed = (await context.moderation.decide(Texts(texts, ""), station=station.name, way=way)).prompts
        pairs = zip(message.prompts, allowed, strict=True)
        prompts = tuple(protocol.Prompt(text=text, weight=prompt.weight) for prompt, text in pairs)
        message = msgspec.structs.replace(message, prompts=prompts)
    return station.change_queue(message)


@routes.get("/api/stations/{station}/queue")
@described("stations", Answer(protocol.QueueList, "the queue"), right="listen")
async def show_queue(request: web.Request) -> web.Response:
    """Show the prompts that follow on a station."""
    context = request.app[CONTEXT]
    context.listening(request)
    return json_answer(context.broadcast(request.match_info["station"]).station.queued())


@routes.post("/api/stations/{station}/queue")
@described(
    "stations",
    Answer(protocol.QueueList, "the queue after the change"),
    errors=(400, 401, 403, 408, 413, 429, 503),
    body=Body({"application/json": QUEUE_CHANGE}, "the fields of the protocol's message `queue`, without `id`"),
    right="steer",
)
async def change_queue(request: web.Request) -> web.Response:
    """Change the queue: ``{"op": "add", "prompts": [{"text": "church bells"}], "bars": 16}``."""
    context = request.app[CONTEXT]
    station = context.broadcast(request.match_info["station"]).station
    context.steering(request, "changing the queue", station)
    body = await json_object(request)
    if wait := context.queue_buckets.wait_s(context.asked(request).address):
        raise refuse(web.HTTPTooManyRequests, "rate_limited", "too many changes of the queue", retry_after_s=wait)
    try:
        message = message_of(request, body, protocol.Queue)
        changed = await changed_queue(context, station, message, way="http")
    except protocol.ProtocolError as error:
        raise refused(error) from None
    return json_answer(changed)
