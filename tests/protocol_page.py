"""Writes docs/protocol.md from ``riffstream/protocol/``: ``python -m tests.protocol_page > docs/protocol.md``.

A test compares the page with this output, so page, server and clients stay equal.
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

This page is for authors of clients: every message and the binary audio frame. It is generated from
`riffstream/protocol/`; do not edit it. `/api/schema` of any server has the same as JSON Schema 2020-12.
`tests/data/protocol_vectors.json` has test vectors for clients in other languages. The clients in Python
(`riffstream.connect`) and JavaScript (`client/riffstream.js`) implement all of it.

## A session

Open a WebSocket to `/ws/{{station}}` with the subprotocol `{subprotocol}`. Text frames are JSON objects with a
`type`, binary frames are audio. The client sends `hello` first. The server answers with `welcome`, `now` and audio,
beginning with a burst of the recent past. Then the client may steer.

```
client  {{"type":"hello","v":{version},"codecs":["opus"],"steer":true}}
server  {{"type":"welcome","v":{version},"session":"…","role":"dj","codec":"opus","rev":0, …}}
server  binary audio frames
client  {{"type":"steer","id":"1","prompts":[{{"text":"church bells"}}],"at":"bar"}}
server  {{"type":"scheduled","id":"1","rev":1,"audible_at":480000,"audible_in_ms":900}}
server  {{"type":"applied","id":"1","rev":1,"audible_at":480000}}
```

Scripts and microcontrollers can use `/ws/{{station}}/plain` instead, without `hello`: binary frames are audio (48
kHz s16le stereo, or `?codec=mp3`), a text frame is a prompt, replies are single lines of text
([server.md](server.md#plain-websocket)).

## Rules

- **Versions.** `hello.v` is the client's newest version. `welcome.v` is the version of the connection ({oldest} to
  {version} here). A client with an older version gets `rejected` with the code `unsupported_version`.
- **Extensions.** Both sides ignore unknown fields. The server answers an unknown type with `rejected`
  (`bad_request`). Clients skip unknown types and event kinds.
- **Tokens** travel in `hello`, never in the address.
- **Steering.** A steer merges into the state: an absent field keeps its value, `null` restores the station's
  default. The server answers at once with `scheduled` or `rejected`, and later with `applied` or `superseded`.
- **Sample clock.** Every position counts output samples ({rate} Hz, {channels} channels) since the station began.
  `clock` asks for the audible position, for players that stay in step with each other.
- **Resume.** `hello.resume` with the session and the last `seq` continues without a gap if the server's ring still
  holds the missed audio (`welcome.resumed`). Otherwise the stream continues live, with the flag `discontinuity`.
- **Live input.** After `input` (`action: "start"`) the client sends binary frames in the same format. `seq` and `rev`
  are ignored. `sample_pos` is the position of the station that the performer heard at the first sample, or 0 if it is
  unknown. PCM is mono or stereo as `channels` says ([server.md](server.md#live-input)).
- **Queue.** `queue` changes the prompts that follow. They live on the station, so they play without their sender. Every
  client gets the queue in `welcome` and, as `queue`, at each change. A queue has at most `limits.queue` items with
  {queue_chars:,} characters together.
- **Requests.** A station may take requests (`welcome.requests` is then not null): listeners suggest prompts, vote for
  them and react to the music; who steers takes or dismisses them. An address has one suggestion in
  `limits.request_interval_s`, with up to `limits.request_chars` characters.
- **Texts** are normalised to NFC and lose control characters; white space is collapsed. Prompts have at most
  {chars} characters, messages of clients at most {bytes} bytes.
"""

_FRAME = """## The binary frame

A header of {size} bytes, little-endian, then the payload.

| offset | type | field | meaning |
|---|---|---|---|
| 0 | u8 | `ver` | {version} |
| 1 | u8 | `kind` | {kinds} |
| 2 | u8 | `codec` | {codecs} |
| 3 | u8 | `flags` | {flags}; unknown bits are ignored |
| 4 | u32 | `seq` | number of the frame, modulo 2³²; increases by one |
| 8 | u64 | `sample_pos` | sample clock of the first sample |
| 16 | u32 | `n_samples` | samples per channel |
| 20 | u32 | `rev` | the audible revision at the end of the frame |

- **Opus**: one or more packets of 20 ms, each after its length as u16. Configure the decoder for 48,000 Hz and 2
  channels; it needs no header.
- **PCM**: 16-bit signed little-endian, interleaved.
- `discontinuity`: audio is missing before this frame. Reset the decoder and the jitter buffer.
- `silence`: all samples are zero.
"""

_CODES: dict[str, str] = {
    "bad_request": "the message is invalid; `field` names the field if it is known",
    "unauthorised": "a token is missing or wrong",
    "forbidden": "this connection or this station may not be steered",
    "rate_limited": "too many messages; try again after `retry_after_ms`",
    "busy": "no place is free, or no encoder runs; try again after `retry_after_ms`",
    "stale_rev": "`if_rev` is not the current revision",
    "prompt_rejected": "a text is empty or too long after cleaning",
    "unsupported_version": "the client's protocol version is too old",
    "internal": "a fault of the server; its log has the details",
}


def page() -> str:
    """Text of the page in Markdown."""
    parts = [
        _INTRODUCTION.format(
            subprotocol=protocol.SUBPROTOCOL,
            oldest=protocol.OLDEST_VERSION,
            version=protocol.VERSION,
            rate=f"{protocol.SAMPLE_RATE:,}",
            channels=protocol.CHANNELS,
            chars=protocol.PROMPT_CHARS,
            bytes=f"{protocol.MAX_MESSAGE_BYTES:,}",
            queue_chars=protocol.QUEUE_CHARS,
        ),
        "## Client to server\n",
        *(_message(kind) for kind in get_args(protocol.ClientMessage)),
        "## Server to client\n",
        *(_message(kind) for kind in get_args(protocol.ServerMessage) if kind is not protocol.Bye),
        "Both sides may send `bye`.\n",
        "## Parts of messages\n",
        *(
            _message(kind)
            for kind in (
                protocol.Prompt,
                protocol.PartsChange,
                protocol.Parts,
                protocol.Coming,
                protocol.QueueList,
                protocol.QueueItem,
                protocol.RequestList,
                protocol.RequestItem,
                protocol.Reactions,
                protocol.MixChange,
                protocol.Mix,
                protocol.Resume,
                protocol.State,
                protocol.Limits,
                protocol.Caps,
            )
        ),
        "## Codes of `rejected`\n",
        "| code | meaning |\n|---|---|",
        *(f"| `{code}` | {_CODES[code]} |" for code in get_args(protocol.Code)),
        "",
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
    if field.default_factory not in (msgspec.NODEFAULT, None):
        return f"`{msgspec.json.encode(field.default_factory()).decode()}`"
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
        return f"array of {_words(kind.item_type)}{_bounds(kind.min_length, kind.max_length, 'items')}"
    if isinstance(kind, types.DictType):
        return f"object of {_words(kind.value_type)}"
    if isinstance(kind, types.TupleType):
        return "[lowest, highest]"
    if isinstance(kind, types.StrType):
        return f"string{_bounds(kind.min_length, kind.max_length, 'characters')}"
    if isinstance(kind, (types.IntType, types.FloatType)):
        name = "integer" if isinstance(kind, types.IntType) else "number"
        return f"{name}{_bounds(kind.ge, kind.le, '')}"
    return {"BoolType": "boolean"}.get(type(kind).__name__, re.sub("Type$", "", type(kind).__name__).lower())


def _bounds(low: Any, high: Any, unit: str) -> str:
    if low is None and high is None:
        return ""
    words = f"{low or 0:,g} to {high:,.12g}" if high is not None else f"{low:g} or more"
    if high == 2**53:
        words = f"{low or 0:g} to 2⁵³"
    return f", {words}{f' {unit}' if unit else ''}"


if __name__ == "__main__":
    print(page(), end="")
