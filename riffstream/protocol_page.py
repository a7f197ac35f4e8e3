"""Writes docs/protocol.md from ``protocol.py``: ``python -m riffstream.protocol_page > docs/protocol.md``.

A test holds the page to what this gives, so that page, server and clients cannot drift apart.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

import msgspec
from msgspec import inspect as types

from riffstream import protocol

__all__ = ["page"]

_INTRODUCTION = """# The wire protocol {subprotocol}

Generated from `riffstream/protocol.py`; do not edit. The same in machine-readable form: `/api/schema` of any server
(JSON Schema 2020-12). Golden vectors for clients in other languages: `tests/data/protocol_vectors.json`.

## Connecting

Open a WebSocket to `/ws/{{station}}` with the subprotocol `{subprotocol}`. Text frames are JSON objects
`{{"type": ..., ...}}`; binary frames are audio. Send `hello` first; the server answers `welcome` and audio begins, with
a burst of the recent past. Tokens travel in `hello`, never in the address.

- **Versions.** `hello.v` is the newest version that the client speaks; `welcome.v` is what both speak from then on
  ({oldest} to {version} here). A client that is too old gets `rejected` with the code `unsupported_version`.
- **Both sides may be newer.** Unknown fields are ignored. An unknown type gets `rejected` (`bad_request`); clients skip
  types and event kinds that they do not know.
- **Steering.** A steer merges into the state: absent fields keep their value, `null` returns one to the station's
  default. It is answered at once with `scheduled` or `rejected`, and later with `applied` or `superseded`.
- **The sample clock.** Every position is a count of output samples ({rate} Hz, {channels} channels) since the station
  began. `clock` tells which sample is audible now, for players that keep in step with each other.
- **Coming back.** `hello.resume` with the session and the last `seq` continues without a gap while the server's ring
  still holds what was missed (`welcome.resumed`); otherwise the stream goes on live, with the flag `discontinuity`.
- **Texts** are normalised to NFC, stripped of control characters, and their white space is collapsed. Prompts have at
  most {chars} characters, messages of clients at most {bytes} bytes.

For ten-line clients there is `/ws/{{station}}/plain`: no `hello`; binary frames are bare audio (48 kHz s16le stereo, or
`?codec=mp3`); a text frame is a prompt to steer to; replies are single lines of text.
"""

_FRAME = """## The binary frame

A header of {size} bytes, little-endian, then the payload.

| offset | type | field | meaning |
|---|---|---|---|
| 0 | u8 | `ver` | {version} |
| 1 | u8 | `kind` | {kinds} |
| 2 | u8 | `codec` | {codecs} |
| 3 | u8 | `flags` | {flags}; unknown bits are ignored |
| 4 | u32 | `seq` | number of the frame, one more than the one before, modulo 2³² |
| 8 | u64 | `sample_pos` | sample clock of the first sample |
| 16 | u32 | `n_samples` | samples per channel |
| 20 | u32 | `rev` | the revision that is heard at its end |

- **Opus**: packets of 20 ms, one or more, each after its length as u16. Configure decoders at 48,000 Hz and 2 channels;
  no header is needed.
- **PCM**: 16-bit signed little-endian, interleaved.
- `discontinuity`: something is missing before this frame; decoders and jitter buffers start anew.
- `silence`: nothing but zeros.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [
        _INTRODUCTION.format(
            subprotocol=protocol.SUBPROTOCOL,
            oldest=protocol.OLDEST_VERSION,
            version=protocol.VERSION,
            rate=f"{protocol.SAMPLE_RATE:,}",
            channels=protocol.CHANNELS,
            chars=protocol.PROMPT_CHARS,
            bytes=f"{protocol.MAX_MESSAGE_BYTES:,}",
        ),
        "## Client to server\n",
        *(_message(kind) for kind in get_args(protocol.ClientMessage)),
        "## Server to client\n",
        *(_message(kind) for kind in get_args(protocol.ServerMessage) if kind is not protocol.Bye),
        "`bye` may come from either side.\n",
        "## Parts of messages\n",
        *(
            _message(kind)
            for kind in (protocol.Prompt, protocol.Resume, protocol.State, protocol.Limits, protocol.Caps)
        ),
        "## Codes of `rejected`\n",
        ", ".join(f"`{code}`" for code in get_args(protocol.Code)) + ".\n",
        _FRAME.format(
            size=protocol.HEADER_BYTES,
            version=protocol.VERSION,
            kinds=", ".join(f"{kind.value}: {kind.name.lower()}" for kind in protocol.Kind),
            codecs=", ".join(f"{codec.value}: {codec.name.lower()}" for codec in protocol.Codec),
            flags=", ".join(f"{flag.value}: {flag.name.lower()}" for flag in protocol.Flags if flag.name),
        ),
    ]
    return "\n".join(parts)


def _message(kind: type) -> str:
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    title = f"`{info.tag}`" if info.tag else kind.__name__
    lines = [f"### {title}\n", inspect.cleandoc(kind.__doc__ or "").replace("``", "`") + "\n"]
    if info.fields:
        lines += ["| field | value | default |", "|---|---|---|"]
        lines += [f"| `{field.encode_name}` | {_words(field.type)} | {_default(field)} |" for field in info.fields]
        lines.append("")
    return "\n".join(lines)


def _default(field: types.Field) -> str:
    if field.required:
        return "required"
    if field.default is msgspec.NODEFAULT:  # what UNSET is reported as
        return "unchanged"
    return f"`{msgspec.json.encode(field.default).decode()}`"


def _words(kind: types.Type) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(_words(each) for each in kind.types)
    if isinstance(kind, types.Metadata):
        return _words(kind.type)
    if isinstance(kind, types.NoneType):
        return "null"
    if isinstance(kind, types.StructType):
        return kind.cls.__name__
    if isinstance(kind, types.LiteralType):
        return ", ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, types.VarTupleType):
        return f"list of {_words(kind.item_type)}{_bounds(kind.min_length, kind.max_length, 'items')}"
    if isinstance(kind, types.TupleType):
        return "[lowest, highest]"
    if isinstance(kind, types.StrType):
        return f"text{_bounds(kind.min_length, kind.max_length, 'characters')}"
    if isinstance(kind, (types.IntType, types.FloatType)):
        name = "whole number" if isinstance(kind, types.IntType) else "number"
        return f"{name}{_bounds(kind.ge, kind.le, '')}"
    return {"BoolType": "true or false"}.get(type(kind).__name__, re.sub("Type$", "", type(kind).__name__).lower())


def _bounds(low: Any, high: Any, unit: str) -> str:
    if low is None and high is None:
        return ""
    words = f"{low or 0:,g} to {high:,.12g}" if high is not None else f"{low:g} or more"
    if high == 2**53:
        words = f"{low or 0:g} to 2⁵³"
    return f", {words}{f' {unit}' if unit else ''}"


if __name__ == "__main__":
    print(page(), end="")
