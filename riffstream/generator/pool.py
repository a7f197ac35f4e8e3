"""The pool of generators: one or more workers for each model, and the worker of each station.

A station keeps its worker until the worker ends, or is overloaded while another one has time. It then moves: the audio
that it has plays on, and its next clips come from the other worker. Without a ready worker it waits for the next one.

Threading model
  Event loop   makes every call and receives every callback.
  close()      idempotent; a few seconds at most.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from riffstream.config import GeneratorSettings
from riffstream.generator.messages import Configure, Forget, FromGenerator, Heartbeat, Info, Pcm, ToGenerator
from riffstream.generator.single_clips import seat_of
from riffstream.generator.supervisor import Launcher, Supervisor

__all__ = ["DEFAULT", "Model", "Pool", "Seat"]

log = logging.getLogger(__name__)

DEFAULT: Final = ""  # name of the model of ``[generator]``
FULL: Final = 0.9  # load above which a worker is late soon
ROOM: Final = 0.15  # load by which another worker must be below that, with the station on top
SETTLE_S: Final = 10.0  # between moves because of load: the loads are means of some seconds


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the pool: its settings, the first message to its workers, and their launcher (None: local)."""

    settings: GeneratorSettings
    configure: Configure
    launch: Launcher | None = None


@dataclass(slots=True, eq=False)
class Seat:
    """The place of a station (or of the single clips, or the auditions) at a worker.

    Attributes:
        name: name in the messages.
        model: name of the model.
        on_ready: called with the model's properties when there is a worker.
        on_lost: called when there is none any more, with the reason, and with False if no clip can be the cause.
        on_report: called with each message of the worker about ``name``, and with its heartbeats.
        light: True for a seat with little work, which does not count when stations are distributed.
        worker: the worker; None: the seat waits for one.
    """

    name: str
    model: str
    on_ready: Callable[[Info], None]
    on_lost: Callable[[str, bool], None]
    on_report: Callable[[FromGenerator, Pcm], object]
    light: bool = False
    worker: Supervisor | None = None

    def send(self, messages: Iterable[ToGenerator]) -> None:
        """Send messages to the worker; they are dropped without one."""
        if self.worker is not None:
            self.worker.send(messages)


@dataclass(slots=True, eq=False)
class _Group:
    """The workers of one model."""

    workers: list[Supervisor]
    info: Info | None = None  # of the newest ready worker
    moved_at: float = field(default=float("-inf"))


class Pool:
    """Owner of all workers.

    Args:
        models: models by name; :data:`DEFAULT` must be one of them.
        clock: monotonic clock, seconds.
        process: a process from ``supervisor.start_process`` for the first worker of the default model.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        clock: Callable[[], float] = time.monotonic,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._clock = clock
        self._seats: dict[str, Seat] = {}
        self._groups: dict[str, _Group] = {}
        for name, model in models.items():
            self._groups[name] = group = _Group([])
            for number in range(model.settings.workers):
                early, process = (process, None) if name == DEFAULT else (None, process)
                group.workers.append(self._supervisor(name, model, number, early))

    def _supervisor(self, name: str, model: Model, number: int, process: subprocess.Popen[bytes] | None) -> Supervisor:
        configure = model.configure
        if number and "device" in configure.options:  # of several GPUs, each worker takes the next one
            configure = msgspec.structs.replace(configure, options={**configure.options, "worker": number})
        made: list[Supervisor] = []  # the callbacks name their sender
        made.append(
            Supervisor(
                model.settings,
                on_ready=lambda info: self._on_ready(name, made[0], info),
                on_lost=lambda reason, blame: self._on_lost(name, made[0], reason, blame=blame),
                on_report=lambda message, pcm: self._on_report(name, made[0], message, pcm),
                configure=configure,
                clock=self._clock,
                process=process,
                launch=model.launch,
            )
        )
        return made[0]

    @property
    def first(self) -> Supervisor:
        """The first worker of the default model."""
        return self._groups[DEFAULT].workers[0]

    @property
    def workers(self) -> list[Supervisor]:
        """All workers."""
        return [worker for group in self._groups.values() for worker in group.workers]

    def info(self, model: str = DEFAULT) -> Info | None:
        """Properties of a model; None until a worker was ready once."""
        return self._groups[model].info

    def failure(self, model: str = DEFAULT) -> str | None:
        """Reason why a model cannot be loaded, if all its workers have given up."""
        workers = self._groups[model].workers
        return workers[0].reason if all(worker.state == "failed" for worker in workers) else None

    def ready(self, model: str = DEFAULT) -> bool:
        """Whether a model has a ready worker."""
        return bool(self._ready(model))

    def start(self) -> None:
        """Start all workers."""
        for worker in self.workers:
            worker.start()

    async def wait_settled(self) -> None:
        """Wait until each model has a ready worker. Raises GeneratorError if one cannot be loaded."""
        await asyncio.gather(*(self._wait_for(group) for group in self._groups.values()))

    @staticmethod
    async def _wait_for(group: _Group) -> None:
        waiting = {asyncio.ensure_future(worker.wait_settled()) for worker in group.workers}
        failure: BaseException | None = None
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                failures = [task.exception() for task in done]
                if None in failures:
                    return
                failure = failures[0]
        finally:
            for task in waiting:
                task.cancel()
        assert failure is not None
        raise failure

    def join(self, seat: Seat) -> None:
        """Give a seat a worker now or as soon as one is ready. A model that was ready once is told to it at once."""
        self._seats[seat.name] = seat
        group = self._groups[seat.model]
        if group.info is not None:
            self._place(seat)
            if seat.worker is None:
                seat.on_ready(group.info)
                seat.on_lost("restarting", False)

    def leave(self, seat: Seat) -> None:
        """Remove a seat."""
        self._seats.pop(seat.name, None)
        seat.worker = None

    def _ready(self, model: str) -> list[Supervisor]:
        return [worker for worker in self._groups[model].workers if worker.state == "ready"]

    def _seats_at(self, worker: Supervisor) -> list[Seat]:
        return [seat for seat in self._seats.values() if seat.worker is worker]

    def _stations_at(self, worker: Supervisor) -> list[Seat]:
        return [seat for seat in self._seats_at(worker) if not seat.light]

    def _place(self, seat: Seat) -> None:
        """Give a seat the ready worker with the fewest seats, and the least load among equals."""
        ready = self._ready(seat.model)
        if ready:
            seat.worker = min(ready, key=lambda worker: (len(self._stations_at(worker)), worker.busy))
            assert seat.worker.info is not None
            _call(seat.on_ready, seat.worker.info)

    def _move(self, seat: Seat, worker: Supervisor, reason: str) -> None:
        """Move a seat from one ready worker to another."""
        log.info("station %s moves to another generator: %s", seat.name, reason)
        seat.send([Forget(seat.name)])
        seat.worker = None
        _call(seat.on_lost, reason, False)
        seat.worker = worker
        assert worker.info is not None
        _call(seat.on_ready, worker.info)

    def _on_ready(self, model: str, worker: Supervisor, info: Info) -> None:
        self._groups[model].info = info
        for seat in [each for each in self._seats.values() if each.model == model and each.worker is None]:
            self._place(seat)
        self._level(model, worker)

    def _level(self, model: str, worker: Supervisor) -> None:
        """Move stations to a worker that has just become ready, until none has two more."""
        while True:
            fullest = max(self._ready(model), key=lambda each: len(self._stations_at(each)))
            seats = self._stations_at(fullest)
            if len(seats) - len(self._stations_at(worker)) < 2:
                return
            self._move(seats[-1], worker, "a further generator is ready")

    def _on_lost(self, model: str, worker: Supervisor, reason: str, *, blame: bool) -> None:
        seats = self._seats_at(worker)
        for seat in seats:
            seat.worker = None
            _call(seat.on_lost, reason, blame)
        for seat in seats:
            if worker.state != "ready":  # otherwise its successor is about to be announced
                self._place(seat)

    def _on_report(self, model: str, worker: Supervisor, message: FromGenerator, pcm: Pcm) -> None:
        if isinstance(message, Heartbeat):
            for seat in self._seats_at(worker):
                _call(seat.on_report, message, pcm)
            self._relieve()
            return
        name = getattr(message, "station", "")
        found = self._seats.get(seat_of(name))
        if found is not None and found.worker is worker:  # else it has moved meanwhile
            _call(found.on_report, message, pcm)

    def _relieve(self) -> None:
        """Move one station of an overloaded worker to another with time for it, at most every ``SETTLE_S``."""
        now = self._clock()
        for model, group in self._groups.items():
            ready = self._ready(model)
            if len(ready) < 2 or now - group.moved_at < SETTLE_S:
                continue
            fullest, calmest = max(ready, key=lambda each: each.busy), min(ready, key=lambda each: each.busy)
            seats = self._stations_at(fullest)
            if fullest.busy > FULL and len(seats) > 1 and calmest.busy + fullest.busy / len(seats) < FULL - ROOM:
                group.moved_at = now
                self._move(seats[-1], calmest, "its generator has too much work")

    def drain(self) -> None:
        """Stop replacing the workers, because the server is about to exit."""
        for worker in self.workers:
            worker.drain()

    def health(self) -> dict[str, Any]:
        """State and counters of all workers together, as JSON values; state and reason are those of the first."""
        each = [worker.health() for worker in self.workers]
        together = dict(each[0])
        for key in ("restarts", "rss_mb", "pending"):
            together[key] = round(sum(one[key] for one in each), 1)
        together["load_s"] = max(one["load_s"] for one in each)
        together["busy"] = max(one["busy"] for one in each)
        together["workers"] = len(each)
        together["workers_ready"] = sum(one["state"] == "ready" for one in each)
        return together

    async def close(self) -> None:
        """End all workers. Idempotent."""
        await asyncio.gather(*(worker.close() for worker in self.workers))


def _call(callback: Callable[..., object], *args: object) -> None:
    try:
        callback(*args)
    except Exception:  # of one station; the others continue
        log.exception("a station could not handle its generator")
