"""Writes the types of the JavaScript kit from the protocol's schema: ``python -m tests.protocol_types``.

The files are client/src/messages.d.ts and client/src/fields.js. A test compares both with this output.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from riffstream.protocol import json_schema
from tests.conftest import ROOT

__all__ = ["files"]

_HEAD = "// Made from riffstream/protocol/ by python -m tests.protocol_types; do not edit.\n"


def files() -> dict[Path, str]:
    """Path and text of each file."""
    schema = json_schema()
    steer = schema["$defs"]["Steer"]["properties"]
    fields = [name for name in steer if name not in ("type", "id")]
    listed = textwrap.fill(json.dumps(fields)[1:-1], 116, initial_indent="  ", subsequent_indent="  ")
    return {
        ROOT / "client" / "src" / "messages.d.ts": _types(schema),
        ROOT / "client" / "src" / "fields.js": f"// @ts-check\n{_HEAD}\n"
        "/** Fields of a steer that a caller may set. */\n"
        f"export const STEER_FIELDS = Object.freeze([\n{listed},\n]);\n",
    }


def _types(schema: Mapping[str, Any]) -> str:
    parts = [_HEAD]
    parts += [f"export type Code = {' | '.join(json.dumps(code) for code in schema['codes'])};\n"]
    for name, shape in schema["$defs"].items():
        if "properties" not in shape:
            parts.append(f"export type {name} = {_type(shape)};\n")
            continue
        # The server sends each field of these with a value; clients may leave out fields with a default.
        parts.append(f"{_comment(shape.get('description', ''), '')}export interface {name} {{")
        parts += _fields(name, shape)
        parts.append("}\n")
    return "\n".join(parts)


COMPLETE = {
    "Welcome",
    "Now",
    "State",
    "Limits",
    "Caps",
    "QueueList",
    "QueueItem",
    "QueueState",
    "RequestItem",
    "RequestList",
    "Reactions",
    "RequestsState",
}  # always sent with every field


def _fields(name: str, shape: Mapping[str, Any]) -> Iterator[str]:
    required = shape.get("required", ())
    for field, kind in shape["properties"].items():
        optional = "" if field in required or name in COMPLETE else "?"
        bounds = _bounds(kind)
        yield f"  {f'/** {bounds} */ ' if bounds else ''}{field}{optional}: {_type(kind)};"


def _bounds(kind: Mapping[str, Any]) -> str:
    found = [each for each in [kind, *kind.get("anyOf", [])] if "minimum" in each or "maximum" in each]
    if not found:
        return ""
    low, high = found[0].get("minimum", 0), found[0].get("maximum")
    return f"{low:.12g} to {high:.12g}" if high is not None and high < 2**53 else f"{low:.12g} or more"


def _type(kind: Mapping[str, Any]) -> str:
    if "$ref" in kind:
        return str(kind["$ref"].rpartition("/")[2])
    if "anyOf" in kind:
        return " | ".join(_type(each) for each in kind["anyOf"])
    if "enum" in kind:
        return " | ".join(json.dumps(value) for value in kind["enum"])
    if "prefixItems" in kind:
        return f"[{', '.join(_type(each) for each in kind['prefixItems'])}]"
    if kind.get("type") == "array":
        inner = _type(kind["items"])
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if kind.get("type") == "object":
        values = kind.get("additionalProperties")
        return f"Record<string, {_type(values)}>" if isinstance(values, Mapping) else "Record<string, unknown>"
    names = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}
    return names[kind["type"]] if "type" in kind else "unknown"


def _comment(text: str, indent: str) -> str:
    words = " ".join(text.replace("``", "`").split())
    return f"{indent}/** {words} */\n{indent}" if words else ""


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
