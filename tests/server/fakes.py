"""A station without a generator: a sine whose pitch tells the revision, paced by the test."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from riffstream import protocol
from riffstream.config import StationConfig, check_station_name
from riffstream.errors import ParameterError
from riffstream.generator.messages import Info, InputImage
from riffstream.generator.pictures import jpeg
from riffstream.generator.single_clips import SingleClip
from riffstream.journey.keyframe import ClipSpec, Keyframe
from riffstream.server.interfaces import Reply
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.station.audience import Sink
from riffstream.station.block import Block
from riffstream.station.hub import TooManyStationsError, UnknownStationError
from riffstream.station.live_input import Beats
from riffstream.station.outlet import SHARED, Outlet
from riffstream.station.preview import Preview
from riffstream.station.prompt_queue import PromptQueue
from riffstream.station.requests import Requests
from riffstream.station.saved import SavedStation

BLOCK = 4800
MOST_AT_ONCE = 10 * BLOCK
"""Samples that a station commits in one step: one that made up for any delay would delay a busy loop still more."""


def tone(rev: int, start: int, stop: int) -> NDArray[np.float32]:
    """Samples [n, 2] of revision ``rev``: 300 Hz and 200 more for each revision."""
    t = np.arange(start, stop) / 48_000
    wave = 0.3 * np.sin(2 * np.pi * (300 + 200 * (rev % 8)) * t)
    return np.stack([wave, wave], 1).astype(np.float32)


def pitch(samples: NDArray[np.float32]) -> float:
    """Frequency in Hz of the strongest component of [n, 2] samples."""
    spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples)), 48_000))
    return float(spectrum.argmax())


class FakeLease:
    def __init__(self, station: FakeStation) -> None:
        self.station = station
        station.attached += 1

    def close(self) -> None:
        self.station.attached -= 1


class FakeStation:
    """Commits when told to (:meth:`advance`) or by itself (:meth:`play`); a change is heard 9,600 samples later.

    Its outlets are the real ones.
    """

    def __init__(self, name: str = "main", config: StationConfig | None = None) -> None:
        config = config or StationConfig(title="The Test Tone")
        self.name, self.title, self.description = name, config.title, config.description
        self.steerable = config.steer
        self.epoch = secrets.token_urlsafe(6)  # as the real one: its audio is not that of the one before a restart
        self.first_pos = 0
        self.rev = 0
        self.state = protocol.State(prompts=(protocol.Prompt(text="a test tone"),))
        self.committed = 0
        self.closed = False
        self.attached = 0
        self.steers: list[protocol.Steer | protocol.Transport] = []
        self.revs: list[tuple[int, int]] = [(0, 0)]
        self.pending: list[tuple[int, str, int, Reply]] = []
        self.sinks: list[Sink] = []
        self.outlets: dict[str, Outlet] = {}
        self.balance = 1.0  # level of the right channel, against the left
        self.task: asyncio.Task[None] | None = None
        self.hears = False
        self.heard: list[tuple[InputImage, int] | None] = []
        self.input_used: str | None = None
        self.queue = PromptQueue(32)
        self.requests = Requests(3, time.monotonic) if config.requests else None

    @property
    def sample_pos(self) -> int:
        return max(0, self.committed - 21_600)

    def last_beats(self, behind: int = 0) -> Beats | None:
        """Beats of half a second, as at 120 bpm."""
        last = (self.sample_pos - behind) // 24_000
        if last < 8:
            return None
        return Beats(last - 8, tuple(24_000 * beat for beat in range(last - 8, last + 1)), 0.0, 120.0)

    def hear(self, image: InputImage | None, first: int = 0, *, live: bool = True) -> None:
        self.hears = live
        self.heard.append(None if image is None else (image, first))

    def caps(self) -> protocol.Caps:
        return protocol.Caps(model="fake", steer=self.steerable)

    def limits(self) -> protocol.Limits:
        return protocol.Limits()

    def rev_at(self, pos: int) -> int:
        return next(rev for start, rev in reversed(self.revs) if start <= pos)

    def now(self) -> protocol.Now:
        return protocol.Now(rev=self.rev, sample_pos=self.sample_pos, state=self.state, alpha=0.0, clip=0)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """What was, or will be, committed."""
        edges = [start, *(pos for pos, _ in self.revs if start < pos < stop), stop]
        parts = [tone(self.rev_at(a), a, b) for a, b in itertools.pairwise(edges)]
        wave = np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
        return wave * np.array([1, self.balance], np.float32)

    def recording(self, seconds: float) -> tuple[int, NDArray[np.float32]]:
        start = max(0, self.committed - round(seconds * 48_000))
        return start, self.read(start, self.committed)

    def outlet(self, codec: str) -> Outlet:
        codec = SHARED.get(codec, codec)
        if codec not in self.outlets:
            recent = self.recent_for_hls if codec.startswith("aac-") else self.recent
            self.outlets[codec] = Outlet(codec, recent, bit_rate=None if codec == "pcm_s16" else 128_000)
            if self.closed:
                self.outlets[codec].close()
        return self.outlets[codec]

    def recent(self) -> list[Block]:
        first = max(0, self.committed - 5 * 48_000) // BLOCK * BLOCK
        return [self.block(pos) for pos in range(first, self.committed, BLOCK)]

    def recent_for_hls(self) -> list[Block]:
        first = max(0, self.committed - 12 * 48_000)
        first += -first % 76_800  # where an AAC frame and a block begin together
        return [self.block(pos) for pos in range(first, self.committed, BLOCK)]

    def block(self, pos: int) -> Block:
        return Block(pos, self.read(pos, pos + BLOCK), self.rev_at(pos + BLOCK - 1), False)

    def join(self, kind: str = "ws") -> FakeLease:
        return FakeLease(self)

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        self.sinks.append(sink)
        return lambda: self.sinks.remove(sink)

    def tell(self, message: protocol.Now | protocol.Event | protocol.QueueState | protocol.RequestsState) -> None:
        for sink in list(self.sinks):
            sink(message)

    def steer(self, steer: protocol.Steer, reply: Reply, *, by: str = "") -> None:
        if self._refused(steer.id, reply):
            return
        if steer.if_rev is not None and steer.if_rev != self.rev:
            error = protocol.ProtocolError("stale_rev", f"the revision is {self.rev}", field="if_rev")
            reply(error.reply(steer.id))
            return
        superseded = list(self.pending)
        self.pending.clear()
        if isinstance(steer.prompts, tuple):
            self.state = msgspec.structs.replace(self.state, prompts=steer.prompts)
        if isinstance(steer.bpm, float):
            self.state = msgspec.structs.replace(self.state, bpm=steer.bpm)
        self._schedule(steer, reply)
        for _, id_, _, other in superseded:
            other(protocol.Superseded(id=id_, by=steer.id))

    def transport(self, op: protocol.Transport, reply: Reply, *, by: str = "") -> None:
        if self._refused(op.id, reply):
            return
        self.state = msgspec.structs.replace(self.state, paused=op.op == "pause")
        self._schedule(op, reply)

    def queued(self) -> protocol.QueueList:
        return self.queue.shown()

    def requested(self) -> protocol.RequestList | None:
        return None if self.requests is None else self.requests.shown()

    def preview(self, steer: protocol.Steer) -> Preview:
        if not self.steerable:
            raise protocol.ProtocolError("forbidden", f"station {self.name} cannot be steered")
        keyframe = Keyframe.of("a test tone", seed=7)
        return Preview(ClipSpec(keyframe, keyframe, 0.0), 120.0, 0.0, 4, None, True, "")

    def change_queue(self, message: protocol.Queue) -> protocol.QueueList:
        if not self.steerable:
            raise protocol.ProtocolError("forbidden", f"station {self.name} cannot be steered", id=message.id)
        self.queue.change(message)
        self.tell(protocol.QueueState(queue=self.queue.shown()))
        return self.queue.shown()

    def _refused(self, ident: str, reply: Reply) -> bool:
        """Nobody steers a station that is not to be steered, as in the real one."""
        if not self.steerable:
            reply(protocol.ProtocolError("forbidden", f"station {self.name} cannot be steered").reply(ident))
        return not self.steerable

    def _schedule(self, message: protocol.Steer | protocol.Transport, reply: Reply) -> None:
        self.steers.append(message)
        self.rev += 1
        at = self.committed + 2 * BLOCK
        self.pending.append((at, message.id, self.rev, reply))
        reply(protocol.Scheduled(id=message.id, rev=self.rev, audible_at=at, audible_in_ms=350.0))

    def advance(self, samples: int) -> None:
        """Commit this much more, a multiple of 4,800."""
        for pos in range(self.committed, self.committed + samples, BLOCK):
            self.committed = pos + BLOCK
            due = [each for each in self.pending if each[0] < self.committed]
            for each in due:
                self.pending.remove(each)
                self.revs.append((each[0], each[2]))
            for outlet in self.outlets.values():
                outlet.push(self.block(pos))
            for at, id_, rev, reply in due:
                reply(protocol.Applied(id=id_, rev=rev, audible_at=at))
                self.tell(self.now())

    def play(self, speed: float = 1.0) -> None:
        """Commit 100 ms at a time, ``speed`` times as fast as real time, or as fast as this machine allows."""

        async def run() -> None:
            loop = asyncio.get_running_loop()
            played_until = loop.time()
            while True:
                due = int((loop.time() - played_until) * speed * 48_000) // BLOCK * BLOCK
                if due > MOST_AT_ONCE:
                    played_until, due = loop.time(), MOST_AT_ONCE
                else:
                    played_until += due / 48_000 / speed
                self.advance(due)
                await asyncio.sleep(0.005)

        self.task = asyncio.get_running_loop().create_task(run())

    def stats(self) -> dict[str, Any]:
        return {"underruns": 0, "asleep": False, "outlets": []}

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None
        self.closed = True
        self.tell(protocol.Event(kind="closed", sample_pos=self.committed))
        for outlet in self.outlets.values():
            outlet.close()


class FakeHub:
    """Stations that are ready at once."""

    def __init__(self, *names: str, preroll: int = 48_000, speed: float | None = None, requests: bool = False) -> None:
        self.ready = True
        self.upstream = None
        self.info = Info(model="tone", seed_image="auto")
        self.speed = speed
        self.preroll = preroll
        self.requests = requests
        self.stations: dict[str, FakeStation] = {}
        self.names = names or ("main",)
        self.closed = self.draining = False
        self.auditions: list[str] = []
        self.audition_error: Exception | None = None
        self.audition_gate = asyncio.Event()
        self.audition_gate.set()

    async def start(self) -> None:
        for name in self.names:
            await self.create(name, StationConfig(title="The Test Tone", requests=self.requests))

    async def create(self, name: str, station: StationConfig | None = None) -> FakeStation:
        check_station_name(name)
        if name in self.stations:
            raise ParameterError("station", name, "a name that is not taken")
        if len(self.stations) >= 3:
            raise TooManyStationsError("there are 3 stations already; allowed: 3")
        made = self.stations[name] = FakeStation(name, station)
        made.advance(self.preroll)
        if self.speed is not None:
            made.play(self.speed)
        return made

    async def clip(self, spec: ClipSpec, **_: object) -> SingleClip:
        return SingleClip(tone(0, 0, 9600), jpeg(np.ones((1, 512, 512), np.float32), SpectrogramParams()))

    async def delete(self, name: str) -> None:
        if name not in self.stations:
            raise UnknownStationError("station", name, ", ".join(self.stations))
        await self.stations.pop(name).close()

    async def close(self) -> None:
        self.closed = True
        for name in tuple(self.stations):
            await self.delete(name)

    async def audition(self, name: str, *, bpm: float, key: float = 0.0, beats: int = 8) -> NDArray[np.float32]:
        self.auditions.append(name)
        if self.audition_error is not None:
            raise self.audition_error
        await self.audition_gate.wait()
        return tone(0, 0, round(beats * 60 / bpm * 48_000))

    def drain(self) -> None:
        self.draining = True

    def save(self) -> dict[str, SavedStation]:
        return {}

    def freeze(self, recent_s: float = 0.0) -> dict[str, SavedStation]:
        return {}

    def health(self) -> dict[str, Any]:
        return {"ready": self.ready, "generator": {"state": "ready", "restarts": 0}}
