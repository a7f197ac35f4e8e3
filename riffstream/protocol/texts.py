"""Text frames: encoding, decoding with errors that name the field, and cleaning of prompts."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from riffstream.protocol.base import MAX_MESSAGE_BYTES, PROMPT_CHARS
from riffstream.protocol.form import CHORDS_CHARS, PartsChange
from riffstream.protocol.messages import (
    BARS_AHEAD,
    NUMBERS,
    ClientMessage,
    ProtocolError,
    Queue,
    ServerMessage,
    Steer,
)
from riffstream.protocol.mix import MIX_NUMBERS
from riffstream.protocol.prompt import PROMPTS, Prompt
from riffstream.ranges import RANGES

_ALLOWED: Final[dict[str, str]] = {name: RANGES[name].words for name in NUMBERS} | {
    "bpm": f"{RANGES['bpm'].words}, or auto",
    "beats_per_bar": f"{RANGES['beats_per_bar'].words}, or auto",
    "prompts": f"1 to {PROMPTS} prompts",
    "text": f"1 to {PROMPT_CHARS} characters",
    "negative": f"up to {PROMPT_CHARS} characters",
    "at": "asap, beat, bar or clip",
    "bar": f"the number of a bar, up to {BARS_AHEAD} after now.bar",
    "op": "pause, resume, reset or skip; of a queue: add, edit, move, remove, next, loop or clear; of a request: "
    "suggest, vote, take, dismiss or react",
    "bars": "1 to 1024 bars",
    "ramp_bars": "0 to 64 bars",
    "item": "the id of an item of the queue, or of a request",
    "reaction": "heart, fire or wow",
    "play": "queue or now",
    "to": "a place in the queue, 0 is the first",
    "loop": "true or false",
    "id": "1 to 64 characters",
    "if_rev": "a revision number, 0 or more",
    "v": "a whole number of 1 or more",
    "codecs": "up to 8 codec names; none: control messages only",
    "action": "start or stop",
    "codec": "opus or pcm_s16",
    "channels": "1 or 2",
    "strength": RANGES["strength"].words,
    "seed_image": "the name of a seed image, auto or none; 1 to 200 characters",
    "form": "song, dj, ambient or none",
    "chords": f"chord symbols, one a bar, 1 to {CHORDS_CHARS} characters",
    "parts": f"levels of 0 to 1 of {', '.join(PartsChange.__struct_fields__)}",
    **{name: RANGES[name].words for name in ("energy", "density", "brightness")},
    **{f"parts.{name}": RANGES["part"].words for name in PartsChange.__struct_fields__},
    **{f"mix.{name}": each.words for name, each in MIX_NUMBERS.items()},
    "mix.hold": "true or false",
    "mix.fade": "true or false",
    "mix.mute": "a list of drums, bass",
    "mix.solo": "a list of drums, bass",
    "mix": "an object of drums, tonal, low, mid, high, tilt, width, filter, hold, fade, mute, solo, ramp_s",
}

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
    if isinstance(message, Queue):
        return _cleaned_queue(message, prompt_chars)
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
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
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
    plain = re.sub(r"\[[^\]]*\]", "", field or "")
    leaf = plain.rsplit(".", 1)[-1]
    if leaf == "type":
        return ProtocolError("bad_request", f"unknown message type: {what}", field="type", id=sender)
    words = _ALLOWED.get(plain, None if plain.startswith("mix.") and leaf != "ramp_s" else _ALLOWED.get(leaf))
    allowed = f"; allowed: {words}" if words else ""
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
            prompts = _clean_prompts(prompts, limit)
        negative = steer.negative
        if isinstance(negative, str):
            negative = clean_text(negative, limit=limit, field="negative")
    except ProtocolError as error:
        error.id = steer.id
        raise
    return msgspec.structs.replace(steer, prompts=prompts, negative=negative)


def _cleaned_queue(message: Queue, limit: int) -> Queue:
    if message.prompts is UNSET:
        return message
    try:
        return msgspec.structs.replace(message, prompts=_clean_prompts(message.prompts, limit))
    except ProtocolError as error:
        error.id = message.id
        raise


def _clean_prompts(prompts: tuple[Prompt, ...], limit: int) -> tuple[Prompt, ...]:
    cleaned = tuple(_clean_prompt(prompt, limit, f"prompts[{n}].text") for n, prompt in enumerate(prompts))
    if not any(prompt.weight > 0 for prompt in cleaned):
        raise ProtocolError("bad_request", "prompts: every weight is 0; one must be above", field="prompts")
    return cleaned


def _clean_prompt(prompt: Prompt, limit: int, field: str) -> Prompt:
    text = clean_text(prompt.text, limit=limit, field=field)
    if not text:
        raise ProtocolError("prompt_rejected", f"{field} is empty; allowed: 1 to {limit} characters", field=field)
    return Prompt(text=text, weight=prompt.weight)
