"""The wire protocol ``riffstream.v1``: every message, the binary audio frame, and the schema of both.

This file is the only definition. The JSON Schema (:func:`json_schema`), docs/protocol.md and the golden test vectors of
the Python and JavaScript clients are generated from it. It imports only the errors
and the ranges from this package.

Text frames are JSON objects ``{"type": ..., ...}``. Unknown types are answered with ``rejected``; unknown fields are
ignored, so that either side may be newer. Binary frames are audio: a 24-byte little-endian header, then the payload.
"""

from __future__ import annotations

import enum
import re
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from riffstream.errors import RiffstreamError
from riffstream.ranges import RANGES, SEEDS

__all__ = [
    "Applied",
    "AudioFrame",
    "Bye",
    "Caps",
    "ClientMessage",
    "Clock",
    "ClockReply",
    "Codec",
    "Event",
    "Flags",
    "Hello",
    "Kind",
    "Limits",
    "Now",
    "Prompt",
    "ProtocolError",
    "Rejected",
    "Resume",
    "Scheduled",
    "ServerMessage",
    "State",
    "Stats",
    "Steer",
    "Superseded",
    "Transport",
    "Welcome",
    "clean_text",
    "decode_client",
    "decode_server",
    "encode",
    "explained",
    "join_packets",
    "json_schema",
    "negotiate",
    "pack_frame",
    "split_packets",
    "unpack_frame",
]

VERSION: Final = 1
OLDEST_VERSION: Final = 1
SUBPROTOCOL: Final = "riffstream.v1"
PROMPT_CHARS: Final = 300
PROMPTS: Final = 8
# Fits the largest steer that the limits allow: 8 prompts and a negative one of 300 characters of 12 bytes each (a JSON
# encoder may write each character outside the basic plane as two escapes), and 4.4 kB for the other fields.
MAX_MESSAGE_BYTES: Final = 36_864
SAMPLE_RATE: Final = 48_000
CHANNELS: Final = 2

# Numbers of a steer; ``welcome.limits`` sends their ranges to clients.
NUMBERS: Final = ("weight", "seed", "denoising", "guidance", "bpm", "key", "ramp_s")
_ALLOWED: Final[dict[str, str]] = {name: RANGES[name].words for name in NUMBERS} | {
    "bpm": f"{RANGES['bpm'].words}, or auto",
    "prompts": f"1 to {PROMPTS} prompts",
    "text": f"1 to {PROMPT_CHARS} characters",
    "negative": f"up to {PROMPT_CHARS} characters",
    "at": "asap, beat, bar or clip",
    "op": "pause, resume, reset or skip",
    "id": "1 to 64 characters",
    "if_rev": "a revision number, 0 or more",
    "v": "a whole number of 1 or more",
    "codecs": "up to 8 codec names; none: control messages only",
    "seed_image": "the name of a seed image, auto or none; 1 to 200 characters",
}

Code = Literal[
    "bad_request",
    "unauthorised",
    "forbidden",
    "rate_limited",
    "busy",
    "stale_rev",
    "prompt_rejected",
    "unsupported_version",
    "internal",
]
Role = Literal["listener", "dj", "owner"]
At = Literal["asap", "beat", "bar", "clip"]
Op = Literal["pause", "resume", "reset", "skip"]
CodecName = Literal["opus", "pcm_s16"]

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Rev = Annotated[int, Meta(ge=0, le=2**53)]
SamplePos = Annotated[int, Meta(ge=0, le=2**53)]
Weight = Annotated[float, RANGES["weight"].meta]
Seed = Annotated[int, RANGES["seed"].meta]
Denoising = Annotated[float, RANGES["denoising"].meta]
Guidance = Annotated[float, RANGES["guidance"].meta]
Bpm = Annotated[float, RANGES["bpm"].meta] | Literal["auto"]
Key = Annotated[float, RANGES["key"].meta]
RampS = Annotated[float, RANGES["ramp_s"].meta]
SeedImage = Annotated[str, Meta(min_length=1, max_length=200)]


class ProtocolError(RiffstreamError):
    """A message that cannot be accepted.

    Attributes:
        code: one of :data:`Code`.
        message: one line for users.
        field: path of the invalid field (``prompts[0].weight``), or None.
        id: id of the request, or "" if it could not be read.
        retry_after_ms: delay after which a repeat may succeed, or None.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str | None = None,
        id: str = "",  # noqa: A002  (the wire's name)
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.field = field
        self.id = id
        self.retry_after_ms = retry_after_ms

    def reply(self, id: str | None = None) -> Rejected:  # noqa: A002  (the wire's name)
        """The ``rejected`` message for the sender."""
        return Rejected(
            id=self.id if id is None else id,
            code=self.code,
            message=self.message,
            field=self.field,
            retry_after_ms=self.retry_after_ms,
        )


class _Message(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base class of all messages; optional fields with their default value are not sent."""


class Prompt(Struct, frozen=True, kw_only=True):
    """One part of a prompt mix: ``text``, and its ``weight`` relative to the other parts."""

    text: Annotated[str, Meta(min_length=1, max_length=4096)]
    weight: Weight = 1.0


class State(Struct, frozen=True, kw_only=True):
    """The music of a station. Every field is always present; null is the model's default. ``bpm_reason``: the words
    that determined the tempo; null if the tempo was set as a number."""

    prompts: tuple[Prompt, ...]
    negative: str = ""
    seed: int = 0
    seed_image: str | None = None
    denoising: float | None = None
    guidance: float | None = None
    bpm: float | None = None
    bpm_reason: str | None = None
    key: float = 0.0
    paused: bool = False
    steered: bool = False  # False: on the station's default journey


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of this server. A range is [lowest, highest]."""

    prompt_chars: int = PROMPT_CHARS
    prompts: int = PROMPTS
    message_bytes: int = MAX_MESSAGE_BYTES
    steer_interval_s: float = 2.0
    steer_burst: int = 3
    weight: tuple[float, float] = RANGES["weight"].ends
    seed: tuple[int, int] = (0, SEEDS - 1)
    denoising: tuple[float, float] = RANGES["denoising"].ends
    guidance: tuple[float, float] = RANGES["guidance"].ends
    bpm: tuple[float, float] = RANGES["bpm"].ends
    key: tuple[float, float] = RANGES["key"].ends
    ramp_s: tuple[float, float] = RANGES["ramp_s"].ends


class Caps(Struct, frozen=True, kw_only=True):
    """Abilities of this station. ``bpm``, ``denoising`` and ``guidance`` are the values behind a null in the state."""

    codecs: tuple[str, ...] = ("opus", "pcm_s16")
    at: tuple[str, ...] = ("asap", "beat", "bar", "clip")
    ops: tuple[str, ...] = ("pause", "resume", "reset", "skip")
    model: str = ""
    beats_per_clip: float | None = None
    bpm: float | None = None
    denoising: float | None = None
    guidance: float | None = None
    steer: bool = True
    resume: bool = True


class Resume(Struct, frozen=True, kw_only=True):
    """Request for the missed audio: the ``session`` of an earlier ``welcome`` and the last received frame."""

    session: Annotated[str, Meta(min_length=1, max_length=64)]
    last_seq: Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Hello(_Message, frozen=True, tag="hello"):
    """First message of a client: protocol version, codecs in order of preference, intent to steer."""

    v: Annotated[int, Meta(ge=0, le=2**31)]
    codecs: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=8)] = ("opus",)
    token: Annotated[str, Meta(max_length=512)] | None = None
    resume: Resume | None = None
    steer: bool = False


class Steer(_Message, frozen=True, tag="steer"):
    """Change the music. An absent field keeps its value; null restores the station's default. The default of ``bpm`` is
    "auto": the words of the prompts choose the tempo."""

    id: Id
    prompts: Annotated[tuple[Prompt, ...], Meta(min_length=1, max_length=PROMPTS)] | UnsetType | None = UNSET
    negative: Annotated[str, Meta(max_length=4096)] | UnsetType | None = UNSET
    seed: Seed | UnsetType | None = UNSET
    seed_image: SeedImage | UnsetType | None = UNSET
    denoising: Denoising | UnsetType | None = UNSET
    guidance: Guidance | UnsetType | None = UNSET
    bpm: Bpm | UnsetType | None = UNSET
    key: Key | UnsetType | None = UNSET
    at: At = "asap"
    ramp_s: RampS = 0.0
    if_rev: Rev | None = None


class Transport(_Message, frozen=True, tag="transport"):
    """Playback control. ``reset``: back to the default journey. ``skip``: to its next part (or a new variation)."""

    id: Id
    op: Op


class Clock(_Message, frozen=True, tag="clock"):
    """Request for the audible position. ``t0`` is the sender's clock in ms; the answer returns it unchanged."""

    t0: float


class Stats(_Message, frozen=True, tag="stats"):
    """Report of a client, every 5 s: buffered audio, underruns since it joined, samples played."""

    buffer_ms: Annotated[float, Meta(ge=0, le=1e9)]
    underruns: Annotated[int, Meta(ge=0, le=2**53)]
    played: Annotated[int, Meta(ge=0, le=2**53)]


class Welcome(_Message, frozen=True, tag="welcome", omit_defaults=False):
    """Answer to ``hello``; audio frames follow. ``codec`` is the chosen codec. ``resumed`` is true if no audio was
    missed. ``reason`` says why this connection may not steer; null if it may."""

    v: int
    session: str
    role: Role
    station: str
    sample_rate: int
    channels: int
    codec: CodecName | None
    frame_ms: int
    sample_pos: int
    rev: int
    state: State
    limits: Limits
    caps: Caps
    resumed: bool = False
    reason: str | None = None


class Scheduled(_Message, frozen=True, tag="scheduled"):
    """A change was accepted. ``audible_at`` (sample clock) is the expected position of its splice. ``bpm``: the tempo
    after the change. ``bpm_reason``: the words that determined it; null if it was set as a number."""

    id: str
    rev: int
    audible_at: SamplePos
    audible_in_ms: float
    bpm: float | None = None
    bpm_reason: str | None = None


class Applied(_Message, frozen=True, tag="applied"):
    """A change was spliced. ``audible_at`` (sample clock) is exact."""

    id: str
    rev: int
    audible_at: SamplePos


class Superseded(_Message, frozen=True, tag="superseded"):
    """A later change, ``by``, replaced this one before it became audible. Its fields are merged into the later one."""

    id: str
    by: str


class Rejected(_Message, frozen=True, tag="rejected"):
    """A message was refused; nothing has changed. ``id`` is "" if the message had none."""

    code: Code
    message: str
    id: str = ""
    field: str | None = None
    retry_after_ms: int | None = None


class Now(_Message, frozen=True, tag="now", omit_defaults=False):
    """The music at ``sample_pos``; sent at every change. ``alpha`` is the position between two keyframes, ``clip`` the
    number of the clip, ``beat`` the musical position in beats since the station began."""

    rev: int
    sample_pos: SamplePos
    state: State
    alpha: float
    clip: int
    beat: float = 0.0


class Event(_Message, frozen=True, tag="event"):
    """Something happened on the station. Clients ignore unknown kinds. ``kind`` is one of:

    - ``splice``: a change became audible at ``sample_pos``.
    - ``late``: the generator is late and renders with less effort (``reason``).
    - ``repeat``, ``underrun``, ``recovered``: audio repeats; silence begins; new audio is there again.
    - ``skipped``: a clip could not be made and was omitted.
    - ``fallback``: several clips in a row could not be made; the station returned to an earlier state.
    - ``generator``: the generator process changed its state (``reason``).
    - ``paused``, ``resumed``: playback stopped; playback continues.
    - ``listeners``: the number of ``listeners`` changed.
    - ``clock_jump``: the server's system clock jumped.
    """

    kind: str
    sample_pos: int | None = None
    rev: int | None = None
    reason: str | None = None
    listeners: int | None = None


class ClockReply(_Message, frozen=True, tag="clock"):
    """Answer to ``clock``. ``t1``, ``t2``: the server's clock in ms at receipt and reply. ``sample_pos``: audible at
    ``t2``."""

    t0: float
    t1: float
    t2: float
    sample_pos: SamplePos


class Bye(_Message, frozen=True, tag="bye"):
    """The sender is about to close. Reconnect after ``reconnect_ms`` (null: do not reconnect)."""

    reason: str
    reconnect_ms: int | None = None


ClientMessage = Hello | Steer | Transport | Clock | Stats | Bye
ServerMessage = Welcome | Scheduled | Applied | Superseded | Rejected | Now | Event | ClockReply | Bye

_encoder = msgspec.json.Encoder()
_from_client = msgspec.json.Decoder(ClientMessage)
_from_server = msgspec.json.Decoder(ServerMessage)


class _Envelope(Struct):
    """Minimal decoder of an invalid message: its id for the reply."""

    id: Any = ""


_envelope = msgspec.json.Decoder(_Envelope)
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)


def encode(message: ClientMessage | ServerMessage) -> str:
    """Encode a message as the text of a WebSocket frame."""
    return _encoder.encode(message).decode()


def decode_client(
    data: str | bytes, *, message_bytes: int = MAX_MESSAGE_BYTES, prompt_chars: int = PROMPT_CHARS
) -> ClientMessage:
    """Decode a client's message and clean its texts (:func:`clean_text`).

    Args:
        data: the text frame.
        message_bytes: largest size in bytes, as in ``welcome.limits``.
        prompt_chars: longest prompt in characters, as in ``welcome.limits``.

    Raises:
        ProtocolError: malformed, too large, of an unknown type, or out of range. ``field`` and ``message`` name the
            field and the allowed values.
    """
    message: ClientMessage = _decode(data, _from_client, message_bytes)
    return _cleaned(message, prompt_chars) if isinstance(message, Steer) else message


def decode_server(data: str | bytes) -> ServerMessage:
    """Decode a server's message of any size. Raises :class:`ProtocolError`; clients skip unknown types."""
    message: ServerMessage = _decode(data, _from_server, None)
    return message


def _decode(data: str | bytes, decoder: Any, limit: int | None) -> Any:
    try:
        raw = data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError:
        raise ProtocolError("bad_request", "the message is not valid Unicode") from None
    if limit is not None and len(raw) > limit:
        raise ProtocolError("bad_request", f"the message has {len(raw)} bytes; allowed: up to {limit}")
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _explain(error, raw) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ProtocolError("bad_request", f"the message is no JSON object: {reason}") from None


def _explain(error: msgspec.ValidationError, raw: bytes) -> ProtocolError:
    try:
        envelope = _envelope.decode(raw)
        sender = envelope.id[:64] if isinstance(envelope.id, str) else ""
    except (msgspec.DecodeError, RecursionError):
        sender = ""
    return explained(error, sender)


def explained(error: msgspec.ValidationError, sender: str = "") -> ProtocolError:
    """Error message that names the invalid field and its range, if any.

    Args:
        error: the error from msgspec.
        sender: id of the request.
    """
    match = _PLACE.match(str(error))
    what, path = (match["what"], match["path"]) if match else (str(error), None)
    missing = re.search(r"missing required field `(\w+)`", what)
    field = ".".join(part for part in (path, missing[1] if missing else None) if part) or None
    leaf = re.sub(r"\[[^\]]*\]", "", field or "").rsplit(".", 1)[-1]
    if leaf == "type":
        return ProtocolError("bad_request", f"unknown message type: {what}", field="type", id=sender)
    allowed = f"; allowed: {_ALLOWED[leaf]}" if leaf in _ALLOWED else ""
    return ProtocolError("bad_request", f"{field or 'message'}: {what}{allowed}", field=field, id=sender)


# Allowed invisible characters: the joiners of scripts and emoji.
_JOINERS = frozenset("‌‍")


def clean_text(text: str, *, limit: int = PROMPT_CHARS, field: str = "text") -> str:
    """Normalise a text: NFC, no control, format, private or unassigned characters, white space collapsed.

    Raises:
        ProtocolError: ``prompt_rejected`` if more than ``limit`` characters remain.
    """
    normal = unicodedata.normalize("NFC", " ".join(text.split()))
    kept = "".join(c for c in normal if c in _JOINERS or not unicodedata.category(c).startswith("C"))
    kept = " ".join(kept.split())
    if len(kept) > limit:
        raise ProtocolError(
            "prompt_rejected", f"{field} has {len(kept)} characters; allowed: up to {limit}", field=field
        )
    return kept


def _cleaned(steer: Steer, limit: int) -> Steer:
    try:
        prompts = steer.prompts
        if prompts is not UNSET and prompts is not None:
            prompts = tuple(_clean_prompt(prompt, limit, f"prompts[{n}].text") for n, prompt in enumerate(prompts))
            if not any(prompt.weight > 0 for prompt in prompts):
                raise ProtocolError("bad_request", "prompts: every weight is 0; one must be above", field="prompts")
        negative = steer.negative
        if isinstance(negative, str):
            negative = clean_text(negative, limit=limit, field="negative")
    except ProtocolError as error:
        error.id = steer.id
        raise
    return msgspec.structs.replace(steer, prompts=prompts, negative=negative)


def _clean_prompt(prompt: Prompt, limit: int, field: str) -> Prompt:
    text = clean_text(prompt.text, limit=limit, field=field)
    if not text:
        raise ProtocolError("prompt_rejected", f"{field} is empty; allowed: 1 to {limit} characters", field=field)
    return Prompt(text=text, weight=prompt.weight)


def negotiate(v: int) -> int:
    """Protocol version for a client that offers ``v``: the newest version that both support.

    Raises:
        ProtocolError: ``unsupported_version`` if the client is too old for this server.
    """
    if v < OLDEST_VERSION:
        raise ProtocolError("unsupported_version", f"v is {v}; allowed: {OLDEST_VERSION} to {VERSION}", field="v")
    return min(v, VERSION)


class Kind(enum.IntEnum):
    """Content of a binary frame."""

    AUDIO = 1


class Codec(enum.IntEnum):
    """Payload of an audio frame. OPUS: packets of 20 ms, each after its u16 length. PCM_S16: interleaved."""

    OPUS = 1
    PCM_S16 = 2


class Flags(enum.IntFlag):
    """DISCONTINUITY: something is missing before this frame. SILENCE: nothing but zeros."""

    NONE = 0
    DISCONTINUITY = 1
    SILENCE = 2


_HEADER: Final = struct.Struct("<BBBBIQII")
HEADER_BYTES: Final = _HEADER.size  # 24


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """A binary frame with audio.

    Attributes:
        seq: number of the frame, modulo 2**32; one more than that of the previous frame.
        sample_pos: sample clock of its first sample.
        n_samples: samples per channel.
        rev: the station's revision at the end of the frame.
        payload: packets or samples, see :class:`Codec`.
    """

    seq: int
    sample_pos: int
    n_samples: int
    rev: int
    payload: bytes
    codec: Codec = Codec.OPUS
    flags: Flags = Flags.NONE
    kind: Kind = Kind.AUDIO


def pack_frame(frame: AudioFrame) -> bytes:
    """Encode a frame. ``seq`` and ``rev`` wrap at 32 bits."""
    return (
        _HEADER.pack(
            VERSION,
            frame.kind,
            frame.codec,
            frame.flags,
            frame.seq & 0xFFFFFFFF,
            frame.sample_pos,
            frame.n_samples,
            frame.rev & 0xFFFFFFFF,
        )
        + frame.payload
    )


def unpack_frame(data: bytes) -> AudioFrame:
    """Decode a frame; unknown flags are ignored.

    Raises:
        ProtocolError: too short, or of an unknown version, kind or codec.
    """
    if len(data) < HEADER_BYTES:
        raise ProtocolError("bad_request", f"a binary frame has {len(data)} bytes; allowed: {HEADER_BYTES} or more")
    ver, kind, codec, flags, seq, sample_pos, n_samples, rev = _HEADER.unpack_from(data)
    if ver != VERSION:
        raise ProtocolError("unsupported_version", f"binary frame of version {ver}; allowed: {VERSION}", field="ver")
    try:
        return AudioFrame(
            seq=seq,
            sample_pos=sample_pos,
            n_samples=n_samples,
            rev=rev,
            payload=bytes(data[HEADER_BYTES:]),
            codec=Codec(codec),
            flags=Flags(flags & 3),
            kind=Kind(kind),
        )
    except ValueError as error:
        raise ProtocolError("bad_request", f"binary frame: {error}") from None


def join_packets(packets: Sequence[bytes]) -> bytes:
    """Join Opus packets, each after its length (u16, little-endian). Raises ValueError above 65,535 bytes."""
    for packet in packets:
        if len(packet) > 0xFFFF:
            raise ValueError(f"a packet has {len(packet)} bytes; allowed: up to 65535")
    return b"".join(len(packet).to_bytes(2, "little") + packet for packet in packets)


def split_packets(payload: bytes) -> list[bytes]:
    """Inverse of :func:`join_packets`. Raises :class:`ProtocolError` on a truncated payload."""
    packets = []
    at = 0
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 2], "little")
        if at + 2 + size > len(payload):
            raise ProtocolError("bad_request", f"an Opus payload ends inside a packet, at byte {at}")
        packets.append(payload[at + 2 : at + 2 + size])
        at += 2 + size
    return packets


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of every message, by direction."""
    (client, server), defs = msgspec.json.schema_components(
        [ClientMessage, ServerMessage], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SUBPROTOCOL,
        "version": VERSION,
        "codes": list(get_args(Code)),
        "$defs": defs | {"ClientMessage": client, "ServerMessage": server},
        "anyOf": [{"$ref": "#/$defs/ClientMessage"}, {"$ref": "#/$defs/ServerMessage"}],
    }
