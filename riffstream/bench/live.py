"""A real server as a process with a real model: time to first sound, and the delay of steers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from riffstream.client import Radio, RadioError, connect
from riffstream.errors import RiffstreamError

__all__ = ["SteerDelays", "first_sound", "known", "serving", "steer_delays"]

AUDIBLE = 1e-3  # -60 dBFS
PLAYER_BUFFER_S = 0.2
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
    arguments: Sequence[str], *, listeners: int = 1000
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """``riffstream serve`` on a free port, for so many listeners: its address and process; ended by SIGTERM."""
    most = str(max(4000, listeners + 100))
    limits = {"CONNECTIONS_PER_ADDRESS": "1000000", "CONNECTIONS": most, "LISTENERS_PER_STATION": most}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "riffstream",
        "serve",
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
            raise RiffstreamError("riffstream serve ended at once; run it by hand to see why")
        yield json.loads(line)["url"], process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _joined(url: str, **options: Any) -> Radio:
    """A connection, as soon as there is a station to connect to."""
    give_up = time.monotonic() + 600
    while True:
        try:
            return await connect(url, **options).__aenter__()
        except RadioError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.02)


async def first_sound(arguments: Sequence[str]) -> float:
    """Seconds from the command to the first audible sample at a listener with 200 ms of buffer."""
    began = time.monotonic()
    async with serving(arguments) as (url, _):
        radio = await _joined(url)
        try:
            heard = 0.0
            async for block in radio:
                if abs(block.samples).max() > AUDIBLE:
                    heard += len(block.samples) / 48_000
                    if heard >= PLAYER_BUFFER_S:  # the player starts now
                        return time.monotonic() - began
        finally:
            await radio.close()
    raise RiffstreamError("the server ended before it made a sound")


class _Player:
    """Plays a radio with a buffer of 200 ms, on the wall clock: tells what is audible when, and counts underruns."""

    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.underruns = 0
        self.gaps = 0
        self.played = 0
        self._edge = 0  # sample clock behind the last block received
        self._anchor: tuple[float, int] | None = None  # (when, sample) of playing
        self._first = 0.0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for block in self.radio:
            now = time.monotonic()
            self.gaps += block.discontinuity
            end = block.sample_pos + len(block.samples)
            if self._anchor is None or block.discontinuity:
                self._anchor = now + PLAYER_BUFFER_S, block.sample_pos
            elif self.position(now) > self._edge:
                self.underruns += 1
                self._anchor = now + PLAYER_BUFFER_S, block.sample_pos
            self.played += len(block.samples)
            self._edge = end

    def position(self, now: float) -> float:
        """The sample that is audible."""
        if self._anchor is None:
            return 0.0
        when, sample = self._anchor
        return sample + (now - when) * 48_000

    def audible_at(self, sample: int) -> float:
        """When (monotonic) a sample is, was or will be audible."""
        assert self._anchor is not None
        when, first = self._anchor
        return when + (sample - first) / 48_000

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@dataclass(slots=True)
class SteerDelays:
    """Seconds from sending a steer to its first audible sample.

    Attributes:
        seconds: one for each steer. failed: those that were refused or not heard.
        underruns, gaps: at the listener meanwhile. played_s: sound that it received.
    """

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    underruns: int = 0
    gaps: int = 0
    played_s: float = 0.0

    def quantile(self, q: float) -> float:
        """Of the delays; nan where there are none."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain JSON values; what is not known is None."""
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
    """``value`` rounded; None where it is not finite, which JSON cannot say."""
    return round(value, digits) if math.isfinite(value) else None


async def steer_delays(
    url: str, count: int, every_s: float, at: str = "asap", result: SteerDelays | None = None, limit_s: float = math.inf
) -> SteerDelays:
    """Steer ``count`` times through a real socket while playing.

    Args:
        result: filled while it goes on, for whoever watches.
        limit_s: no steer is sent after so long, however many are left (slow ones take more than ``every_s``).

    Raises:
        RiffstreamError: the sound ended.
    """
    result = SteerDelays() if result is None else result
    radio = await _joined(url)
    player = _Player(radio)
    try:
        while player.played < 48_000:
            await asyncio.sleep(0.05)
        until = time.monotonic() + limit_s
        for n in range(count):
            began = time.monotonic()
            if began >= until:
                break
            if player.task.done():
                raise RiffstreamError(f"the sound ended after {player.played / 48_000:.0f} s of it")
            try:
                applied = await radio.steer(PROMPTS[n % len(PROMPTS)], seed=n, at=at, timeout_s=30)
                result.seconds.append(player.audible_at(applied.audible_at) - began)
            except RadioError:
                result.failed += 1
            await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))
            result.underruns, result.gaps, result.played_s = player.underruns, player.gaps, player.played / 48_000
    finally:
        await player.stop()
        await radio.close()
    return result
