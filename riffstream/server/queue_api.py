"""``/api/stations/{station}/queue``: the queue of a station over HTTP (docs/server.md)."""

from __future__ import annotations

import json
from typing import Any, Literal, get_type_hints

import msgspec
from aiohttp import web
from msgspec import UNSET

from riffstream import protocol
from riffstream.server.answers import json_answer
from riffstream.server.bodies import json_body, refused
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.interfaces import Station
from riffstream.server.moderation import Texts
from riffstream.server.openapi import Answer, Body, described

__all__ = ["changed_queue", "routes"]

routes = web.RouteTableDef()


def _change() -> type[msgspec.Struct]:
    """Shape of the body: the protocol's message ``queue`` without its id."""
    kinds = get_type_hints(protocol.Queue, include_extras=True)
    fields: list[Any] = []
    for each in msgspec.structs.fields(protocol.Queue):
        if each.name != "id":
            fields.append((each.name, kinds[each.name], *(() if each.required else (each.default,))))
    made = msgspec.defstruct("QueueChange", fields, kw_only=True)
    made.__doc__ = "A change of a station's queue, with the fields of the protocol's message `queue`."
    return made


QUEUE_CHANGE = _change()


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
    limits = context.config.limits
    body = await json_body(request)
    if not isinstance(body, dict):
        raise refuse(web.HTTPBadRequest, "bad_request", "the body is no JSON object; allowed: {op, ...}")
    unknown = sorted(set(body) - {each.name for each in msgspec.structs.fields(QUEUE_CHANGE)})
    if unknown:
        allowed = ", ".join(each.name for each in msgspec.structs.fields(QUEUE_CHANGE))
        raise refuse(web.HTTPBadRequest, "bad_request", f"key {unknown[0][:40]!r}; allowed: {allowed}")
    if wait := context.queue_buckets.wait_s(context.asked(request).address):
        raise refuse(web.HTTPTooManyRequests, "rate_limited", "too many changes of the queue", retry_after_s=wait)
    try:
        text = json.dumps({**body, "type": "queue", "id": "http"})
        message = protocol.decode_client(text, message_bytes=limits.message_bytes, prompt_chars=limits.prompt_chars)
        assert isinstance(message, protocol.Queue)
        changed = await changed_queue(context, station, message, way="http")
    except protocol.ProtocolError as error:
        raise refused(error) from None
    return json_answer(changed)
