"""A server process with a real model: time to first sound, and delay of steers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from riffstream.bench.playback import BUFFER_S, Playback
from riffstream.client import Radio, RadioError, connect
from riffstream.errors import RiffstreamError
from riffstream.protocol import SAMPLE_RATE, Mix

__all__ = ["FIELDS", "SteerDelays", "change", "field_delays", "first_sound", "known", "serving", "steer_delays"]

AUDIBLE = 1e-3  # -60 dBFS
LEAVE_S = 15.0  # longer than the drain time of a server
PROMPTS = (
    "church bells",
    "deep house",
    "solo piano",
    "acoustic guitar",
    "string quartet",
    "drum and bass",
    "jazz trio",
)


@contextlib.asynccontextmanager
async def serving(
    arguments: Sequence[str], *, listeners: int = 1000, command: str = "serve"
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Run ``riffstream serve`` (or ``relay``) on a free port for this number of listeners; yields its address and
    process. SIGTERM ends it; after ``LEAVE_S`` it is killed."""
    most = str(max(4000, listeners + 100))
    limits = {"CONNECTIONS_PER_ADDRESS": "1000000", "CONNECTIONS": most, "LISTENERS_PER_STATION": most}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "riffstream",
        command,
        "--port",
        "0",
        "--json",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {f"RIFFSTREAM_LIMITS_{name}": value for name, value in limits.items()},
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 120)
        if not line:
            raise RiffstreamError(f"riffstream {command} ended at once; run it by hand to see why")
        yield json.loads(line)["url"], process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), LEAVE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def joined(url: str, **options: Any) -> Radio:
    """A connection, once the station exists."""
    give_up = time.monotonic() + 600
    while True:
        try:
            return await connect(url, **options).__aenter__()
        except RadioError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.02)


async def first_sound(arguments: Sequence[str]) -> float:
    """Seconds from the command to the first audible sample of a listener with 200 ms of buffer."""
    began = time.monotonic()
    async with serving(arguments) as (url, _):
        radio = await joined(url)
        try:
            heard = 0.0
            async for block in radio:
                if abs(block.samples).max() > AUDIBLE:
                    heard += len(block.samples) / SAMPLE_RATE
                    if heard >= BUFFER_S:  # playback starts now
                        return time.monotonic() - began
        finally:
            await radio.close()
    raise RiffstreamError("the server ended before the first audible sample")


class Player:
    """Plays a radio like the browser player, without a sound card."""

    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.playback = Playback()
        self.gaps = 0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for block in self.radio:
            self.gaps += block.discontinuity
            self.playback.receive(
                time.monotonic(), block.sample_pos, len(block.samples), discontinuity=block.discontinuity
            )

    @property
    def played_s(self) -> float:
        """Seconds of received audio."""
        return self.playback.received / SAMPLE_RATE

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@dataclass(slots=True)
class SteerDelays:
    """Seconds from sending a steer to its first audible sample.

    Attributes:
        seconds: delays in seconds, one per steer.
        failed: number of rejected or inaudible steers.
        underruns: number of underruns at the listener.
        gaps: number of gaps at the listener.
        played_s: received audio, in seconds.
    """

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    underruns: int = 0
    gaps: int = 0
    played_s: float = 0.0

    def quantile(self, q: float) -> float:
        """A percentile of the delays; nan without any."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain JSON values; None for unknown values."""
        return {
            "steers": len(self.seconds),
            "failed": self.failed,
            "p50_s": known(self.quantile(0.5), 3),
            "p95_s": known(self.quantile(0.95), 3),
            "worst_s": known(self.quantile(1.0), 3),
            "underruns": self.underruns,
            "gaps": self.gaps,
        }


def known(value: float, digits: int) -> float | None:
    """``value`` rounded; None for a non-finite value, which JSON does not support."""
    return round(value, digits) if math.isfinite(value) else None


# Fields of steers: ``prompt``, ``bpm``, ``key``, and those of the desk (``mix.low``).
FIELDS = ("prompt", "bpm", "key", *(f"mix.{name}" for name in Mix.__struct_fields__))
_MIX: dict[str, Any] = {
    "hold": True,
    "fade": True,
    "mute": ["drums"],
    "solo": ["drums"],
    "width": 0.2,
    "filter": -0.5,
    "tilt": 2.0,
}


def change(field: str, n: int) -> dict[str, Any]:
    """Arguments of the ``n``-th steer of one of :data:`FIELDS`."""
    if field == "prompt":
        return {"prompt": PROMPTS[n % len(PROMPTS)], "seed": n}
    if field in ("bpm", "key"):
        return {field: (100.0 + 7 * (n % 5)) if field == "bpm" else float(n % 5 - 2)}
    name = field.removeprefix("mix.")
    return {"mix": {name: _MIX.get(name, -12.0) if n % 2 == 0 else None}}


async def steer_delays(
    url: str, count: int, every_s: float, at: str = "asap", result: SteerDelays | None = None, limit_s: float = math.inf
) -> SteerDelays:
    """Steer ``count`` times through a real socket during playback.

    Args:
        result: filled during the measurement, for observers.
        limit_s: time limit in seconds for new steers. Slow steers take more than ``every_s``.

    Raises:
        RiffstreamError: the audio ended.
    """
    result = SteerDelays() if result is None else result
    radio = await joined(url)
    player = Player(radio)
    try:
        while player.played_s < 1:
            await asyncio.sleep(0.05)
        await _steers(radio, player, result, count, every_s, at=at, until=time.monotonic() + limit_s)
    finally:
        await player.stop()
        await radio.close()
    return result


async def _steers(
    radio: Radio,
    player: Player,
    result: SteerDelays,
    count: int,
    every_s: float,
    *,
    at: str = "asap",
    until: float = math.inf,
    field: str = "prompt",
) -> None:
    for n in range(count):
        began = time.monotonic()
        if began >= until:
            break
        if player.task.done():
            raise RiffstreamError(f"the audio ended after {player.played_s:.0f} s")
        try:
            applied = await radio.steer(**change(field, n), at=at, timeout_s=30)
            result.seconds.append(player.playback.audible_at(applied.audible_at) - began)
        except RadioError:
            result.failed += 1
        await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))
        result.underruns, result.gaps, result.played_s = player.playback.underruns, player.gaps, player.played_s


async def field_delays(
    url: str, count: int, settle_s: float, told: Callable[[str, SteerDelays], None] = lambda field, found: None
) -> dict[str, SteerDelays]:
    """Steer each field ``count`` times for one listener.

    Args:
        count: steers of each field.
        settle_s: playback before the first steer, in which the buffer adapts to the line, seconds.
        told: called after each field.
    """
    radio = await joined(url)
    player = Player(radio)
    found: dict[str, SteerDelays] = {}
    try:
        while player.played_s < 1:
            await asyncio.sleep(0.05)
        await asyncio.sleep(settle_s)
        for field in FIELDS:
            every_s = 0.63 if field.startswith("mix.") else 3.13  # no whole number of frames
            before, gaps = player.playback.underruns, player.gaps
            found[field] = SteerDelays()
            await _steers(radio, player, found[field], count, every_s, field=field)
            found[field].underruns -= before
            found[field].gaps -= gaps
            told(field, found[field])
            await radio.steer(mix=None, timeout_s=30)
            await asyncio.sleep(every_s)
    finally:
        await player.stop()
        await radio.close()
    return found
