"""Limits of a server, and abilities of a station."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from riffstream.protocol.base import MAX_MESSAGE_BYTES, PROMPT_CHARS
from riffstream.protocol.mix import MIX_NUMBERS
from riffstream.protocol.prompt import PROMPTS
from riffstream.protocol.requests import REQUEST_CHARS
from riffstream.ranges import RANGES, SEEDS

__all__ = ["Caps", "Limits"]


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of this server. A range is [lowest, highest]. ``queue``: longest queue; 0: none. ``request_chars``:
    longest request. ``request_interval_s``: time between the requests of one client. ``bars_ahead``: how far ahead a
    steer may name its ``bar``; 0: this server ignores it."""

    prompt_chars: int = PROMPT_CHARS
    prompts: int = PROMPTS
    message_bytes: int = MAX_MESSAGE_BYTES
    steer_interval_s: float = 2.0
    desk_interval_s: float = 0.1
    steer_burst: int = 3
    queue: int = 32
    request_chars: int = REQUEST_CHARS
    request_interval_s: float = 60.0
    bars_ahead: int = 0
    weight: tuple[float, float] = RANGES["weight"].ends
    seed: tuple[int, int] = (0, SEEDS - 1)
    denoising: tuple[float, float] = RANGES["denoising"].ends
    guidance: tuple[float, float] = RANGES["guidance"].ends
    bpm: tuple[float, float] = RANGES["bpm"].ends
    beats_per_bar: tuple[float, float] = RANGES["beats_per_bar"].ends
    key: tuple[float, float] = RANGES["key"].ends
    ramp_s: tuple[float, float] = RANGES["ramp_s"].ends
    mix: dict[str, tuple[float, float]] = msgspec.field(
        default_factory=lambda: {name: each.ends for name, each in MIX_NUMBERS.items()}
    )


class Caps(Struct, frozen=True, kw_only=True):
    """Abilities of this station. ``bpm``, ``seed_image`` (null: noise), ``denoising`` and ``guidance`` are the values
    behind a null in the state. ``conditions``: whether its model follows ``chords``, ``parts``, ``energy``,
    ``density``, ``brightness`` and a ``form`` of ``forms``."""

    codecs: tuple[str, ...] = ("opus", "pcm_s16")
    at: tuple[str, ...] = ("asap", "beat", "bar", "clip")
    ops: tuple[str, ...] = ("pause", "resume", "reset", "skip")
    model: str = ""
    beats_per_clip: float | None = None
    bpm: float | None = None
    seed_image: str | None = None
    denoising: float | None = None
    guidance: float | None = None
    conditions: bool = False
    forms: tuple[str, ...] = ("none",)
    steer: bool = True
    resume: bool = True
