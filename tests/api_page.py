"""Writes docs/api.md from the OpenAPI document: ``python -m tests.api_page > docs/api.md``.

A test compares the page with this output.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from riffstream import protocol
from riffstream.config import Config
from riffstream.server.app import make_app
from riffstream.server.openapi import document
from riffstream.server.uploads.intake import Uploads
from tests.server.fakes import FakeHub

__all__ = ["described_api", "page"]

_INTRODUCTION = """# The HTTP API

This page is for programs that read or manage a server over HTTP: every address, its parameters and its answers. It is
generated from the server's routes and answers; do not edit it. Each server has the same as OpenAPI 3.1 at
`/api/openapi.json`, for generators of clients and for documentation viewers. [server.md](server.md#http-api) explains
the use.

- Errors are `{"code", "message"}`. The message names the value and the allowed range. `Retry-After` says when a
  repetition can succeed.
- A token travels in `Authorization: Bearer TOKEN`, or as the password of `Basic`. A server without tokens needs none.
- Links in answers are relative to the answer's own address, so they are valid behind a path prefix.
- `HEAD` works wherever `GET` does.
"""


def described_api() -> dict[str, Any]:
    """The OpenAPI document of a server with the default configuration."""
    config = Config()
    return document(make_app(config, FakeHub("main"), Uploads(config)))


def page(api: Mapping[str, Any]) -> str:
    """Text of the page in Markdown."""
    lines = [_INTRODUCTION]
    for tag in api["tags"]:
        lines += [f"## {tag['name'].capitalize()}\n", f"{tag['description']}\n"]
        for path, methods in api["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    lines += _operation(f"{method.upper()} {path}", operation)
    lines += ["## Shapes\n", "The protocol's own shapes are in [protocol.md](protocol.md#parts-of-messages).\n"]
    for name, schema in api["components"]["schemas"].items():
        if not _of_protocol(name):
            lines += _shape(name, schema)
    return "\n".join(lines)


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{title}`\n"
    yield _wrapped(" ".join([operation["summary"], *operation.get("description", "").split()]))
    if parameters := [each for each in operation.get("parameters", ()) if each["name"] != "station"]:
        yield "| parameter | in | value | meaning |\n|---|---|---|---|"
        for each in parameters:
            yield f"| `{each['name']}` | {each['in']} | {_words(each['schema'])} | {each['description']} |"
        yield ""
    if body := operation.get("requestBody"):
        kinds = [f"`{kind}`{_of(content)}" for kind, content in body["content"].items()]
        yield _wrapped(f"Body: {body['description']}. {' or '.join(kinds)}.")
    yield "| status | answer |\n|---|---|"
    for status, answer in operation["responses"].items():
        kinds = [f"`{kind}`{_of(content)}" for kind, content in answer.get("content", {}).items()]
        headers = [f"`{name}`: {header['description']}" for name, header in answer.get("headers", {}).items()]
        shown = "" if "Error" in "".join(kinds) else "; ".join([", ".join(kinds), *headers]).strip("; ")
        yield f"| {status} | {answer['description']}{f' ({shown})' if shown else ''} |"
    yield ""


def _of(content: Mapping[str, Any]) -> str:
    schema = content.get("schema")
    return f" {_words(schema)}" if schema else ""


def _shape(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    yield _wrapped(" ".join(schema.get("description", "").replace("``", "`").split()))
    yield "| field | value | meaning |\n|---|---|---|"
    required = schema.get("required", ())
    for field, kind in schema["properties"].items():
        optional = "" if field in required else ", optional"
        yield f"| `{field}` | {_words(kind)}{optional} | {kind.get('description', '')} |"
    yield ""


def _of_protocol(name: str) -> bool:
    return isinstance(getattr(protocol, name, None), type)


def _words(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}]({'protocol.md' if _of_protocol(name) else ''}#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_words(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        words = ", ".join(f"`{value}`" for value in values)
    elif schema.get("type") == "array":
        words = f"array of {_words(schema['items'])}"
    else:
        words = schema.get("type", "any")
    low = schema.get("minimum", schema.get("minLength", schema.get("exclusiveMinimum")))
    high = schema.get("maximum", schema.get("maxLength"))
    unit = " characters" if "maxLength" in schema or "minLength" in schema else ""
    if high is not None:
        above = "above " if "exclusiveMinimum" in schema else ""
        words += f", {above}{low or 0:,.12g} to {high:,.12g}{unit}"
    elif low is not None:
        words += f", above {low:g}" if "exclusiveMinimum" in schema else f", {low:g} or more{unit}"
    if "default" in schema and schema["default"] not in (None, ""):
        words += f" (default `{json.dumps(schema['default'])}`)"
    return words.replace("|", "\\|")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


if __name__ == "__main__":
    print(page(described_api()), end="")
