"""Where the time of a steer goes: from the client's socket through server and generator to the listener."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

from riffstream import protocol
from riffstream.bench.live import PROMPTS, Player, joined
from riffstream.client import Radio, RadioError

__all__ = ["KINDS", "STAGES", "Trace", "trace"]

KINDS: Final = ("prompt", "key")  # a change that needs a new clip, and one that needs the vocoder only
GENERATOR: Final = ("queue", "text", "denoise", "decode", "vocode")
STAGES: Final = {
    "answer": "socket to the station's answer and back",
    "queue": "generator: other work first",
    "text": "generator: text and seed image",
    "denoise": "generator: evaluations of the network",
    "decode": "generator: decoding",
    "vocode": "generator: vocoder to the first piece",
    "splice": "pipes, further pieces, splice and commit",
    "deliver": "encoder, frame and socket",
    "buffer": "the listener's buffer",
}
SETTLE_S: Final = 40.0  # the listener's buffer adapts to the line in this time


@dataclass(slots=True)
class Trace:
    """Steers of one kind, by stage.

    Attributes:
        stages: stage -> seconds, one value for each steer.
        total: seconds from sending a steer to its first audible sample.
        failed: number of rejected steers.
    """

    stages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STAGES})
    total: list[float] = field(default_factory=list)
    failed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Medians of the stages, and p50, p95 and the worst of the total, in milliseconds; None without steers."""
        ordered = sorted(self.total)
        if not ordered:
            return {"steers": 0, "failed": self.failed}
        return {
            "steers": len(ordered),
            "failed": self.failed,
            "stages_ms": {name: round(1000 * statistics.median(values), 1) for name, values in self.stages.items()},
            "p50_ms": round(1000 * statistics.median(ordered), 1),
            "p95_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
            "worst_ms": round(1000 * ordered[-1], 1),
        }


async def trace(
    url: str, count: int, every_s: float = 5.0, *, settle_s: float = SETTLE_S
) -> tuple[dict[str, Trace], int]:
    """Send ``count`` steers of each kind, one every ``every_s`` seconds, after ``settle_s`` seconds of audio.

    Returns:
        The traces by kind, and the number of underruns of the listener's buffer.
    """
    traces = {kind: Trace() for kind in KINDS}
    radio = await joined(url)
    player = Player(radio)
    try:
        while player.played_s < settle_s:
            await asyncio.sleep(0.05)
        for n in range(count * len(KINDS)):
            began = time.monotonic()
            await _steer(url, radio, player, n, traces[KINDS[n % len(KINDS)]])
            await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))
        return traces, player.playback.underruns
    finally:
        await player.stop()
        await radio.close()


async def _steer(url: str, radio: Radio, player: Player, n: int, found: Trace) -> None:
    """One steer, and its times."""
    times: dict[str, float] = {}
    listening = asyncio.create_task(_listen(radio, times))
    await asyncio.sleep(0)
    prompt = PROMPTS[n // len(KINDS) % len(PROMPTS)] if n % len(KINDS) == 0 else None
    change = {"seed": n} if prompt is not None else {"key": n % 5 - 2}
    began = time.monotonic()
    try:
        applied = await radio.steer(prompt, at="asap", timeout_s=30, **change)
    except RadioError:
        found.failed += 1
        return
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
    received = time.monotonic()
    audible = player.playback.audible_at(applied.audible_at)
    figures = await asyncio.to_thread(_figures, url)
    inside = sum(figures.values())
    answered, committed = times.get("scheduled", began), times.get("applied", received)
    stages = {
        "answer": answered - began,
        **figures,
        "splice": committed - answered - inside,
        "deliver": received - committed,
        "buffer": audible - received,
    }
    for name, seconds in stages.items():
        found.stages[name].append(seconds)
    found.total.append(audible - began)


async def _listen(radio: Radio, times: dict[str, float]) -> None:
    async for message in radio.messages():
        if isinstance(message, protocol.Scheduled):
            times.setdefault("scheduled", time.monotonic())
        elif isinstance(message, protocol.Applied):
            times.setdefault("applied", time.monotonic())


def _figures(url: str) -> dict[str, float]:
    """Times of the last change in the generator, seconds, from the server's metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    told = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
    return {stage: told.get(f'riffstream_station_change_{stage}_seconds{{station="main"}}', 0.0) for stage in GENERATOR}
