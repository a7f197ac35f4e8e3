"""A station without a generator: a sine whose pitch tells the revision, paced by the test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from riffstream import protocol
from riffstream.config import StationConfig
from riffstream.server.ports import Notice

CHUNK = 960
RING = 30 * 48_000


def tone(rev: int, start: int, stop: int) -> NDArray[np.float32]:
    """Samples [n, 2] of revision ``rev``: 300 Hz and 200 more for each revision."""
    t = np.arange(start, stop) / 48_000
    wave = 0.3 * np.sin(2 * np.pi * (300 + 200 * (rev % 8)) * t)
    return np.stack([wave, wave], 1).astype(np.float32)


def pitch(samples: NDArray[np.float32]) -> float:
    """Frequency in Hz of the strongest component of [n, 2] samples."""
    spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples)), 48_000))
    return float(spectrum.argmax())


@dataclass(frozen=True)
class FakeChunk:
    sample_pos: int
    pcm: NDArray[np.float32]
    rev: int


class FakeStation:
    """Commits when told to (:meth:`advance`) or by itself (:meth:`play`); a change is heard 4,800 samples later."""

    def __init__(self, name: str = "main", config: StationConfig | None = None) -> None:
        config = config or StationConfig(title="The Test Tone")
        self.name, self.title, self.description = name, config.title, config.description
        self.rev = 0
        self.state = protocol.State(prompts=(protocol.Prompt(text="a test tone"),))
        self.caps = protocol.Caps(model="fake", steer=config.steer)
        self.committed = 0
        self.attached = 0
        self.steers: list[protocol.Steer | protocol.Transport] = []
        self.revs: list[tuple[int, int]] = [(0, 0)]
        self.pending: list[tuple[int, str, int]] = []
        self.callbacks: list[Callable[[Notice], None]] = []
        self.moved = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def audible(self) -> int:
        return max(0, self.committed - 12_000)

    @property
    def ring_start(self) -> int:
        return max(0, self.committed - RING)

    def rev_at(self, pos: int) -> int:
        return next(rev for start, rev in reversed(self.revs) if start <= pos)

    def now(self) -> protocol.Now:
        return protocol.Now(rev=self.rev, sample_pos=self.audible, state=self.state, alpha=0.0, clip=0)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        if start < self.ring_start or stop > self.committed:
            raise IndexError("outside the ring")
        edges = [start, *(pos for pos, _ in self.revs if start < pos < stop), stop]
        parts = [tone(self.rev_at(a), a, b) for a, b in itertools.pairwise(edges)]
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)

    async def listen(self, start: int | None = None) -> AsyncIterator[FakeChunk]:
        pos = self.committed if start is None else start
        while True:
            while pos < self.committed:
                rev = self.rev_at(pos)
                stop = min([pos + CHUNK, self.committed, *(at for at, _ in self.revs if at > pos)])
                yield FakeChunk(pos, tone(rev, pos, stop), rev)
                pos = stop
            moved = self.moved
            await moved.wait()

    def attach(self) -> None:
        self.attached += 1

    def detach(self) -> None:
        self.attached -= 1

    def subscribe(self, callback: Callable[[Notice], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def notify(self, notice: Notice) -> None:
        for callback in list(self.callbacks):
            callback(notice)

    def steer(self, steer: protocol.Steer) -> protocol.Scheduled:
        if steer.if_rev is not None and steer.if_rev != self.rev:
            raise protocol.ProtocolError("stale_rev", f"the revision is {self.rev}", field="if_rev")
        for _, id_, _ in self.pending:
            self.notify(protocol.Superseded(id=id_, by=steer.id))
        self.pending.clear()
        if isinstance(steer.prompts, tuple):
            self.state = msgspec.structs.replace(self.state, prompts=steer.prompts)
        if isinstance(steer.bpm, float):
            self.state = msgspec.structs.replace(self.state, bpm=steer.bpm)
        assert steer.seed is UNSET or steer.seed is None or steer.seed >= 0
        return self._schedule(steer)

    def transport(self, transport: protocol.Transport) -> protocol.Scheduled:
        self.state = msgspec.structs.replace(self.state, paused=transport.op == "pause")
        return self._schedule(transport)

    def _schedule(self, message: protocol.Steer | protocol.Transport) -> protocol.Scheduled:
        self.steers.append(message)
        self.rev += 1
        at = self.committed + 4800
        self.pending.append((at, message.id, self.rev))
        return protocol.Scheduled(id=message.id, rev=self.rev, audible_at=at, audible_in_ms=350.0)

    def advance(self, samples: int) -> None:
        """Commit this much more."""
        self.committed += samples
        for at, id_, rev in [each for each in self.pending if each[0] < self.committed]:
            self.pending.remove((at, id_, rev))
            self.revs.append((at, rev))
            self.notify(protocol.Applied(id=id_, rev=rev, audible_at=at))
            self.notify(self.now())
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()

    def play(self, speed: float = 1.0) -> None:
        """Commit 20 ms at a time, ``speed`` times as fast as real time."""

        async def run() -> None:
            loop = asyncio.get_running_loop()
            begin, done = loop.time(), 0
            while True:
                due = int((loop.time() - begin) * speed * 48_000) // CHUNK * CHUNK
                if due > done:
                    self.advance(due - done)
                    done = due
                await asyncio.sleep(0.005)

        self.task = asyncio.get_running_loop().create_task(run())

    def metrics(self) -> Mapping[str, float]:
        return {"underruns": 0.0}


class FakeStations:
    """Stations that are ready at once."""

    def __init__(self, *names: str, preroll: int = 48_000, speed: float | None = None) -> None:
        self.ready = True
        self.speed = speed
        self.preroll = preroll
        self.stations: dict[str, FakeStation] = {}
        self.names = names or ("main",)
        self.stopped = False

    async def start(self) -> None:
        for name in self.names:
            self.create(name, StationConfig(title="The Test Tone"))

    def create(self, name: str, config: StationConfig) -> FakeStation:
        station = self.stations[name] = FakeStation(name, config)
        station.advance(self.preroll)
        if self.speed is not None:
            station.play(self.speed)
        return station

    async def delete(self, name: str) -> None:
        station = self.stations.pop(name)
        if station.task is not None:
            station.task.cancel()
            await asyncio.gather(station.task, return_exceptions=True)

    async def stop(self) -> None:
        self.stopped = True
        for name in tuple(self.stations):
            await self.delete(name)

    def metrics(self) -> Mapping[str, float]:
        return {"restarts": 0.0}
