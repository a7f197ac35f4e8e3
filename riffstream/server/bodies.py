"""Bodies of requests: JSON within the server's limits of time, messages of the protocol, and refusals."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, TypeVar, get_type_hints

import msgspec
from aiohttp import web

from riffstream import protocol
from riffstream.errors import ParameterError
from riffstream.protocol import ProtocolError
from riffstream.server.context import CONTEXT, refuse

__all__ = ["json_body", "json_object", "message_of", "refused", "without_id"]

RETRY_S: Final = 5.0
Sent = TypeVar("Sent", protocol.Queue, protocol.Request, protocol.Steer)


async def json_body(request: web.Request) -> Any:
    """The value of a request's JSON body.

    Raises:
        web.HTTPRequestTimeout: the body did not arrive within ``limits.body_timeout_s``.
        web.HTTPRequestEntityTooLarge: it is larger than the server allows.
        web.HTTPBadRequest: it is not JSON.
    """
    try:
        async with asyncio.timeout(request.app[CONTEXT].config.limits.body_timeout_s):
            sent = await request.read()
    except TimeoutError:
        raise refuse(web.HTTPRequestTimeout, "bad_request", "the request's body took too long") from None
    try:
        return json.loads(sent)
    except (ValueError, RecursionError) as error:  # ValueError: also undecodable bytes and too long numbers
        text = " ".join(f"the body is not JSON: {error}".split())
        raise refuse(web.HTTPBadRequest, "bad_request", text) from None


async def json_object(request: web.Request, *, optional: bool = False) -> dict[str, Any]:
    """The object of a request's JSON body. Raises as :func:`json_body`, and 400 for another value.

    Args:
        optional: an absent body is an empty object.
    """
    body = {} if optional and not request.can_read_body else await json_body(request)
    if not isinstance(body, dict):
        raise refuse(web.HTTPBadRequest, "bad_request", str(ParameterError("the body", body, "a JSON object")))
    return body


def without_id(kind: type[msgspec.Struct], name: str, about: str) -> type[msgspec.Struct]:
    """Shape of a body that is a message of the protocol without its id.

    Args:
        kind: the message.
        name: name of the shape.
        about: its description.
    """
    kinds = get_type_hints(kind, include_extras=True)
    fields: list[Any] = []
    for each in msgspec.structs.fields(kind):
        if each.name != "id":
            fields.append((each.name, kinds[each.name], *(() if each.required else (each.default,))))
    made = msgspec.defstruct(name, fields, kw_only=True)
    made.__doc__ = about
    return made


def message_of(request: web.Request, body: dict[str, Any], kind: type[Sent]) -> Sent:
    """A message of the protocol, with the id ``http``, from the body with its fields.

    Raises:
        ProtocolError: an unknown field, or a value that is not allowed.
    """
    known = [name for name in kind.__struct_fields__ if name != "id"]
    if unknown := sorted(set(body) - set(known)):
        raise ProtocolError("bad_request", f"key {unknown[0][:40]!r}; allowed: {', '.join(known)}")
    limits = request.app[CONTEXT].config.limits
    text = json.dumps({**body, "type": kind.__struct_config__.tag, "id": "http"})  # escapes lone surrogates
    message = protocol.decode_client(text, message_bytes=limits.message_bytes, prompt_chars=limits.prompt_chars)
    assert isinstance(message, kind)
    return message


def refused(error: ProtocolError) -> web.HTTPException:
    """The answer over HTTP to what the protocol refuses: 403, 429 and 503 with the time of the next try, or 400."""
    retry_s = RETRY_S if error.retry_after_ms is None else error.retry_after_ms / 1000
    if error.code == "forbidden":
        return refuse(web.HTTPForbidden, "forbidden", error.message)
    if error.code == "busy":
        return refuse(web.HTTPServiceUnavailable, "busy", error.message, retry_after_s=retry_s)
    if error.code == "rate_limited":
        return refuse(web.HTTPTooManyRequests, "rate_limited", error.message, retry_after_s=retry_s)
    return refuse(web.HTTPBadRequest, "bad_request", " ".join(error.message.split()))
