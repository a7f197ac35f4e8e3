"""``/api/openapi.json``: the description of the HTTP interface (OpenAPI 3.1), made from its routes.

Each handler has the decorator :func:`described` (or :func:`internal`, for what is no part of the interface) below its
route. Its docstring is the description, the structs of ``answers.py`` are the schemas. :func:`document` raises
:class:`UndescribedRouteError` for a handler without the decorator, and a test calls it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web

from riffstream import __version__
from riffstream.config import Config
from riffstream.errors import RiffstreamError
from riffstream.server.answers import Error
from riffstream.server.context import CONTEXT

__all__ = [
    "Answer",
    "Body",
    "Operation",
    "UndescribedRouteError",
    "described",
    "document",
    "internal",
    "names_of_query",
    "routes",
]

routes = web.RouteTableDef()

Handler = TypeVar("Handler", bound=Callable[..., Any])
Tag = Literal["stations", "streams", "sockets", "seeds", "clips", "server", "pages"]
Right = Literal["listen", "steer", "own"]
_REF = "#/components/schemas/{name}"

TAGS: dict[Tag, str] = {
    "stations": "Stations: list, create, delete, events, recordings.",
    "streams": "Audio over HTTP for media players.",
    "sockets": "WebSockets (docs/protocol.md).",
    "seeds": "Seed images.",
    "clips": "Single clips, in the form of Riffusion's server.",
    "server": "Health, metrics and descriptions of the interface.",
    "pages": "Pages and link previews.",
}
RIGHTS: dict[Right, str] = {
    "listen": "Needs the right to listen.",
    "steer": "Needs the right to steer.",
    "own": "Needs the owner's right.",
}
ERRORS: dict[int, str] = {
    400: "a value is invalid",
    401: "a token is missing or wrong",
    403: "the right is missing",
    404: "there is no such thing",
    408: "the body took too long",
    409: "it conflicts with the present state",
    413: "the body is too large",
    415: "the file is neither audio nor an image",
    429: "too many requests or wrong tokens; see `Retry-After`",
    501: "this format is not supported",
    503: "there is no place or no audio at present; see `Retry-After`",
}
PATH: dict[str, str] = {
    "station": "name of the station",
    "codec": "format of the stream",
    "kind": "format",
    "kbps": "bit rate, kbit/s",
    "folder": "start of the encoder, from the playlist",
    "name": "name, from a list or playlist",
}


class UndescribedRouteError(RiffstreamError):
    """A route is missing in the description of the interface."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer.

    Attributes:
        body: a struct (JSON), content types, or None for an empty body.
        about: one phrase.
        status: HTTP status.
        headers: names of headers and their meaning.
    """

    body: type[msgspec.Struct] | tuple[str, ...] | None
    about: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: content type to struct or dataclass, or to None for any bytes."""

    content: Mapping[str, type | None]
    about: str
    required: bool = True


Query = type[msgspec.Struct] | Callable[[Config], type[msgspec.Struct]]


@dataclass(frozen=True, slots=True)
class Operation:
    """Description of a handler.

    Attributes:
        endless: True for answers that end only with the connection.
    """

    tag: Tag
    answers: Sequence[Answer]
    errors: Sequence[int]
    query: Query | None
    body: Body | None
    right: Right | None
    endless: bool


def described(
    tag: Tag,
    *answers: Answer,
    errors: Sequence[int] = (),
    query: Query | None = None,
    body: Body | None = None,
    right: Right | None = None,
    endless: bool = False,
) -> Callable[[Handler], Handler]:
    """Describe a handler. The docstring of the handler is the text.

    Args:
        tag: chapter.
        answers: successful answers.
        errors: statuses of refusals (:data:`ERRORS`); paths with parameters have 404 by themselves.
        query: struct whose fields are the parameters of the query, or a function from the configuration to it.
        body: body of the request.
        right: necessary right.
        endless: True for answers that end only with the connection.
    """

    def mark(handler: Handler) -> Handler:
        operation = Operation(tag, answers, errors, query, body, right, endless)
        handler.riffstream_operation = operation  # type: ignore[attr-defined]
        return handler

    return mark


def internal(handler: Handler) -> Handler:
    """Mark a handler that is no part of the interface (files of the player)."""
    handler.riffstream_operation = None  # type: ignore[attr-defined]
    return handler


_names: dict[Query, tuple[str, ...]] = {}


def names_of_query(query: Query, config: Config) -> tuple[str, ...]:
    """Names of the parameters of a described query. They do not depend on the configuration."""
    if query not in _names:
        struct = query if isinstance(query, type) else query(config)
        _names[query] = tuple(each.encode_name for each in msgspec.structs.fields(struct))
    return _names[query]


def document(app: web.Application) -> dict[str, Any]:
    """The OpenAPI document of an application's routes.

    Raises:
        UndescribedRouteError: a route, a docstring or a path parameter has no description.
    """
    config = app[CONTEXT].config
    paths: dict[str, dict[str, Any]] = {}
    found = list(_operations(app))
    kinds: dict[str, type] = {"Error": Error}
    queries: dict[int, type[msgspec.Struct]] = {}
    for number, (_, _, _, operation, _) in enumerate(found):
        structs: list[Any] = [answer.body for answer in operation.answers]
        structs += [] if operation.body is None else list(operation.body.content.values())
        kinds |= {each.__name__: each for each in structs if isinstance(each, type)}
        if operation.query is not None:
            query = operation.query if isinstance(operation.query, type) else operation.query(config)
            queries[number] = query
    # Structs of queries become parameters, so they are no components.
    (_, components) = msgspec.json.schema_components(list(kinds.values()), ref_template=_REF)
    used: set[str] = set()
    for number, (method, path, patterns, operation, handler) in enumerate(found):
        parameters = [*_path_parameters(path, patterns), *_query_parameters(queries.get(number))]
        paths.setdefault(path, {})[method] = _described(operation, handler, parameters, _unique(handler, used))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "riffstream",
            "version": __version__,
            "description": "HTTP interface of a riffstream server. The WebSocket's messages are in `/api/schema`.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "..", "description": "this server, relative to this document"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "a token of the server"},
                "basic": {"type": "http", "scheme": "basic", "description": "any user, the token as password"},
            },
        },
    }


Found = tuple[str, str, dict[str, str], Operation, Callable[..., Any]]


def _operations(app: web.Application) -> Iterator[Found]:
    """Method, path, patterns of the path's parameters, description and handler of each route of the interface."""
    prefix = app[CONTEXT].prefix
    for route in app.router.routes():
        path = "" if route.resource is None else route.resource.canonical
        if route.method == "HEAD" or (prefix and (path == prefix or path.startswith(f"{prefix}/"))):
            continue  # HEAD belongs to each GET; a route below the prefix is the same one again
        handler = route.handler
        name = f"{handler.__module__}.{handler.__qualname__}"
        try:
            operation: Operation | None = handler.riffstream_operation  # type: ignore[attr-defined]
        except AttributeError:
            raise UndescribedRouteError(
                f"{route.method} {path} ({name}) has no description: write @described(...) of server/openapi.py below "
                f"its route, with a struct of server/answers.py for each JSON answer and the statuses of its refusals; "
                f"then run python -m tests.api_page > docs/api.md"
            ) from None
        if operation is None:
            continue
        if not inspect.getdoc(handler):
            raise UndescribedRouteError(f"{route.method} {path} ({name}) has no docstring, which is its description")
        yield route.method.lower(), path, _patterns(route), operation, handler


def _patterns(route: web.AbstractRoute) -> dict[str, str]:
    """Regular expression of each parameter in a route's path."""
    pattern = route.resource.get_info().get("pattern") if route.resource is not None else None
    return {} if pattern is None else dict(_groups(pattern.pattern))


def _groups(pattern: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"\(\?P<(\w+)>", pattern):
        depth, at = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(pattern[at], 0)
            at += 1
        yield found[1], pattern[found.end() : at - 1]


def _path_parameters(path: str, patterns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        if name not in PATH:
            raise UndescribedRouteError(f"{path}: the path parameter {name} has no words in PATH of server/openapi.py")
        pattern = patterns[name]
        if re.fullmatch(r"\w+(\|\w+)+", pattern):
            schema: dict[str, Any] = {"type": "string", "enum": pattern.split("|")}
        else:
            schema = {"type": "string", "pattern": f"^(?:{pattern})$"}
        yield {"name": name, "in": "path", "required": True, "description": PATH[name], "schema": schema}


def _query_parameters(query: type[msgspec.Struct] | None) -> Iterator[dict[str, Any]]:
    if query is None:
        return
    (reference,), components = msgspec.json.schema_components([query], ref_template=_REF)
    schema = components[reference["$ref"].rpartition("/")[2]]
    for name, shape in schema["properties"].items():
        about = shape.pop("description", "")
        required = name in schema.get("required", ())
        yield {"name": name, "in": "query", "required": required, "description": about, "schema": shape}


def _unique(handler: Callable[..., Any], used: set[str]) -> str:
    """Name of an operation; a handler with two routes has two names."""
    name, number = handler.__name__.removesuffix("_handler"), 1
    while (made := name if number == 1 else f"{name}_{number}") in used:
        number += 1
    used.add(made)
    return made


def _described(
    operation: Operation, handler: Callable[..., Any], parameters: list[dict[str, Any]], name: str
) -> dict[str, Any]:
    text = inspect.cleandoc(handler.__doc__ or "").replace("``", "`")
    summary, _, rest = text.partition("\n\n")
    about = [*([RIGHTS[operation.right]] if operation.right else []), *([rest] if rest else [])]
    made: dict[str, Any] = {"operationId": name, "tags": [operation.tag], "summary": " ".join(summary.split())}
    if about:
        made["description"] = "\n\n".join(about)
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        content = {kind: {"schema": _schema(struct)} for kind, struct in operation.body.content.items()}
        made["requestBody"] = {
            "required": operation.body.required,
            "description": operation.body.about,
            "content": content,
        }
    answers = {str(answer.status): _answer(answer) for answer in operation.answers}
    statuses = {*operation.errors, *((404,) if any(each["in"] == "path" for each in parameters) else ())}
    if operation.right is not None:
        statuses |= {401, 429}  # 429: after many wrong tokens
    if operation.query is not None:
        statuses.add(400)
    for status in sorted(statuses):
        error = {"description": ERRORS[status], "content": {"application/json": {"schema": _schema(Error)}}}
        answers.setdefault(str(status), error)
    made["responses"] = dict(sorted(answers.items()))
    if operation.right is not None:
        made["security"] = [{}, {"bearer": []}, {"basic": []}]  # a server without tokens needs none
    if operation.endless:
        made["x-endless"] = True
    return made


def _answer(answer: Answer) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.about}
    if answer.headers:
        made["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()
        }
    if isinstance(answer.body, tuple):
        made["content"] = {kind: {} for kind in answer.body}
    elif answer.body is not None:
        made["content"] = {"application/json": {"schema": _schema(answer.body)}}
    return made


def _schema(kind: type | None) -> dict[str, Any]:
    return {} if kind is None else {"$ref": _REF.format(name=kind.__name__)}


@routes.get("/api/openapi.json")
@described("server", Answer(("application/json",), "OpenAPI 3.1"))
async def openapi(request: web.Request) -> web.Response:
    """Describe the HTTP interface of this server."""
    return web.json_response(document(request.app))
