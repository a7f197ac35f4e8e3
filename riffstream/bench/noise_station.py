"""A station with prepared noise, to measure the server without a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from riffstream import protocol
from riffstream.audio.checks import Pcm
from riffstream.config import StationConfig
from riffstream.generator.messages import InputImage, Stages
from riffstream.generator.single_clips import SingleClip
from riffstream.generator.supervisor import GeneratorError
from riffstream.server.interfaces import Reply
from riffstream.station.audition import AuditionError
from riffstream.station.block import Block
from riffstream.station.live_input import Beats
from riffstream.station.outlet import SHARED, Outlet
from riffstream.station.preview import Preview
from riffstream.station.saved import SavedStation

__all__ = ["NoiseHub", "NoiseStation"]

BLOCK = 4800  # 100 ms, the block of a real station
LOOP_BLOCKS = 40
REFUSAL = protocol.ProtocolError("forbidden", "the noise station cannot be steered")


class _Lease:
    def close(self) -> None:
        """Does nothing: the noise never pauses."""


class NoiseStation:
    """Pink noise in a loop, committed every 100 ms. It uses the full bit rate of Opus."""

    rev = 0
    epoch = "noise"
    first_pos = 0
    title = "noise"
    description = "for measurements"

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = protocol.State(prompts=(protocol.Prompt(text="noise"),))
        white = np.random.default_rng(0).standard_normal((BLOCK * LOOP_BLOCKS, 2))
        spectrum = np.fft.rfft(white, axis=0) / np.sqrt(np.arange(1, BLOCK * LOOP_BLOCKS // 2 + 2))[:, None]
        pink = np.fft.irfft(spectrum, axis=0)
        self._noise: Pcm = (0.2 * pink / np.abs(pink).max()).astype(np.float32)
        self._blocks = 0
        self._outlets: dict[str, Outlet] = {}
        self._task = asyncio.get_running_loop().create_task(self._commit())

    @property
    def sample_pos(self) -> int:
        return self._blocks * BLOCK

    def now(self) -> protocol.Now:
        return protocol.Now(rev=0, sample_pos=self.sample_pos, state=self.state, alpha=0.0, clip=0)

    def caps(self) -> protocol.Caps:
        return protocol.Caps(model="noise", steer=False)

    def limits(self) -> protocol.Limits:
        return protocol.Limits()

    def recording(self, seconds: float) -> tuple[int, Pcm]:
        return 0, self._noise[: round(seconds * 48_000)]

    def outlet(self, codec: str) -> Outlet:
        codec = SHARED.get(codec, codec)
        if codec not in self._outlets:
            rate = None if codec == "pcm_s16" else 128_000
            self._outlets[codec] = Outlet(codec, self._recent, bit_rate=rate)
        return self._outlets[codec]

    def join(self, kind: str = "ws") -> _Lease:
        return _Lease()

    def subscribe(self, sink: Callable[[protocol.Now | protocol.Event], None]) -> Callable[[], None]:
        return lambda: None

    def steer(self, steer: protocol.Steer, reply: Reply, *, by: str = "", trace: str = "") -> None:
        reply(REFUSAL.reply(steer.id))

    def follow_traces(self, rendered: Callable[[str, Stages | None], None]) -> None:
        """Does nothing: there is no generator."""

    def transport(self, op: protocol.Transport, reply: Reply, *, by: str = "") -> None:
        reply(REFUSAL.reply(op.id))

    requests = None

    def requested(self) -> None:
        return None

    def queued(self) -> protocol.QueueList:
        return protocol.QueueList()

    def preview(self, steer: protocol.Steer) -> Preview:
        raise protocol.ProtocolError("forbidden", "there is no generator", id=steer.id)

    def change_queue(self, message: protocol.Queue) -> protocol.QueueList:
        """Raises ProtocolError: the noise cannot be steered."""
        raise REFUSAL

    @property
    def input_used(self) -> str | None:
        return None

    def last_beats(self, behind: int = 0) -> Beats | None:
        return None

    def hear(self, image: InputImage | None, first: int = 0, *, live: bool = True) -> None:
        """Does nothing: there is no generator."""

    def stats(self) -> dict[str, Any]:
        return {}

    async def close(self) -> None:
        """Stop committing."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for outlet in self._outlets.values():
            outlet.close()

    def _block(self, number: int) -> Block:
        first = number % LOOP_BLOCKS * BLOCK
        return Block(number * BLOCK, self._noise[first : first + BLOCK], 0, False)

    def _recent(self) -> list[Block]:
        return [self._block(number) for number in range(max(0, self._blocks - 50), self._blocks)]

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            block = self._block(self._blocks)
            self._blocks += 1
            for outlet in self._outlets.values():
                outlet.push(block)
            await asyncio.sleep(max(0.0, began + self.sample_pos / 48_000 - loop.time()))


class NoiseHub:
    """A hub with one such station, ``main``."""

    ready = True
    info = None
    upstream = None

    def __init__(self) -> None:
        self.stations: dict[str, NoiseStation] = {}

    async def start(self) -> None:
        await self.create("main")

    async def create(self, name: str, station: StationConfig | None = None) -> NoiseStation:
        made = self.stations[name] = NoiseStation(name)
        return made

    async def clip(self, *_: Any, **__: Any) -> SingleClip:
        raise GeneratorError("there is no generator")

    async def delete(self, name: str) -> None:
        await self.stations.pop(name).close()

    async def audition(self, name: str, *, bpm: float, key: float = 0.0, beats: int = 8) -> Pcm:
        """Raises AuditionError: there is no generator."""
        raise AuditionError("there is no generator")

    def drain(self) -> None:
        """Does nothing: there is no generator."""

    def health(self) -> dict[str, Any]:
        return {"ready": True, "generator": {}}

    async def close(self) -> None:
        for name in tuple(self.stations):
            await self.delete(name)

    def save(self) -> dict[str, SavedStation]:
        """There is no state."""
        return {}

    def freeze(self, recent_s: float = 0.0) -> dict[str, SavedStation]:
        """There is no state."""
        return {}
