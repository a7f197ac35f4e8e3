"""Single clips over HTTP: their rate and number, what they fail with, and their files.

Threading model
  Event loop   makes every call but :func:`mp3_file`, which runs in a thread.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from aiohttp import web

from riffstream.audio.checks import Pcm
from riffstream.audio.limiter import TruePeakLimiter
from riffstream.audio.loudness import LoudnessMeter
from riffstream.audio.writing import write_audio
from riffstream.config import TimelineSettings
from riffstream.generator.single_clips import SingleClip, SingleClipError
from riffstream.journey.keyframe import ClipSpec
from riffstream.protocol import SAMPLE_RATE
from riffstream.server.context import Context, refuse
from riffstream.station.hub import GeneratorError

__all__ = ["check_rate", "data_url", "made", "mp3_file", "turn"]

MAX_BOOST_DB: Final = 24.0
FADE: Final = SAMPLE_RATE * 5 // 1000  # against clicks between clips
RETRY_S: Final = 2.0


def check_rate(context: Context, address: str) -> None:
    """Count an address's request. Raises 503 if too many clips are in progress, 429 above the address's rate."""
    _check_room(context)
    limits = context.config.limits
    if wait := context.clip_buckets.wait_s(address):
        allowed = f"{limits.clip_burst} at once, then one every {limits.clip_interval_s:g} s"
        raise refuse(web.HTTPTooManyRequests, "rate_limited", f"too many clips; allowed: {allowed}", retry_after_s=wait)


def _check_room(context: Context) -> None:
    most = context.config.limits.clips
    if context.clips >= most:
        busy = f"{most} clips are in progress already"
        raise refuse(web.HTTPServiceUnavailable, "busy", busy, retry_after_s=RETRY_S)


@contextlib.contextmanager
def turn(context: Context) -> Iterator[None]:
    """Count a clip in progress during the ``with`` block. Raises 503 if too many are."""
    _check_room(context)
    context.clips += 1
    try:
        yield
    finally:
        context.clips -= 1


async def made(context: Context, spec: ClipSpec, *, renamed: Callable[[str], str] = str, **options: Any) -> SingleClip:
    """Make a clip. Raises 400 for a value that the model refuses, 503 if no generator makes it, and 500.

    Args:
        context: the server.
        spec: the clip.
        renamed: function that gives a refusal the names of the caller's fields.
        options: further arguments of ``Hub.clip``.
    """
    try:
        return await context.hub.clip(spec, **options)
    except GeneratorError as error:
        raise refuse(web.HTTPServiceUnavailable, "busy", str(error), retry_after_s=5) from None
    except SingleClipError as error:
        if error.kind == "parameter":
            raise refuse(web.HTTPBadRequest, "bad_request", renamed(str(error))) from None
        if error.kind == "lost":
            raise refuse(web.HTTPServiceUnavailable, "busy", str(error), retry_after_s=5) from None
        raise refuse(web.HTTPInternalServerError, "internal", str(error)) from None


def mp3_file(pcm: Pcm, settings: TimelineSettings) -> tuple[bytes, float]:
    """A clip at the stations' loudness as an MP3 file, and its duration in seconds. Runs in a thread."""
    if settings.loudness_lufs is not None:
        meter = LoudnessMeter(SAMPLE_RATE, 2, true_peak=False)
        meter.push(pcm)
        if math.isfinite(meter.integrated):
            gain_db = min(settings.loudness_lufs - meter.integrated, MAX_BOOST_DB)
            pcm = pcm * np.float32(10 ** (gain_db / 20))
    limiter = TruePeakLimiter(SAMPLE_RATE, 2, ceiling_db=settings.true_peak_dbtp)
    out = np.concatenate([limiter.push(pcm), limiter.flush()])
    fade = min(FADE, len(out) // 2)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)[:, None]
    out[:fade] *= ramp
    out[len(out) - fade :] *= ramp[::-1]
    if np.array_equal(out[:, 0], out[:, 1]):
        out = out[:, :1]
    file = io.BytesIO()
    write_audio(file, out, SAMPLE_RATE, format="mp3")
    return file.getvalue(), round(len(out) / SAMPLE_RATE, 3)


def data_url(kind: str, data: bytes) -> str:
    """A file as a ``data:`` address; ``kind``: its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
