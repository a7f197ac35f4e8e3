"""Processes that render a batch together: each loads the model, and takes the next rendering when it has room.

One thread for each process is faster than one process with as many threads: the matrices of the embedded model are
small, and everything behind the network (vocoder, loudness, encoder) is serial.

A process that dies loses the renderings that it had. They are rendered again, one at a time, by a process in its place.
A rendering whose process dies twice has failed. An error of a process ends the batch, as in one process: a full disk
would meet the others too.

Threading model
  The caller's process asks and reports; every worker makes its calls in one thread. Each worker has a pipe: it sends
  its properties, requests for the next rendering, and reports. Workers ignore Ctrl-C, which the caller's process
  handles, and end with their pipe.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Final, cast

from riffstream.commands.rendering.renderings import Again, Broken, Grown, Made, Rendering, Report, render_all
from riffstream.errors import RiffstreamError
from riffstream.generator.messages import Info

__all__ = ["Workers"]

TRIES: Final = 2  # of a rendering whose process dies
LOST_STARTS: Final = 3  # processes that die in a row before they are ready
LEAVE_S: Final = 10.0  # until processes that should end are killed


@dataclass(frozen=True, slots=True)
class _Ready:
    """A worker's model is loaded; ``memory``: the peak of its resident memory in bytes, 0 if unknown."""

    info: Info
    memory: int


@dataclass(frozen=True, slots=True)
class _Begin:
    """The answer to :class:`_Ready`: renderings at the same time, and threads."""

    at_once: int
    threads: int


@dataclass(frozen=True, slots=True)
class _Next:
    """A worker has room for a rendering."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A worker ends with this exception, or with its text."""

    error: RiffstreamError | str


@dataclass(eq=False, slots=True)
class _Worker:
    """The caller's view of a worker. ``held``: renderings in progress by name."""

    process: BaseProcess
    pipe: Connection
    careful: bool
    held: dict[str, Rendering] = field(default_factory=dict)
    ready: bool = False
    reason: str = ""


class Workers:
    """Workers of a batch. Closes with a ``with`` block.

    Args:
        args: the command's options.
        processes: most workers, 1 or more.

    Raises:
        RiffstreamError: the model cannot be loaded, or a file cannot be written.
    """

    def __init__(self, args: argparse.Namespace, processes: int) -> None:
        self._args, self._most = args, processes
        self._at_once = self._threads = 1
        self._live: list[_Worker] = []
        self._todo: deque[Rendering] = deque()
        self._suspects: deque[Rendering] = deque()
        self._deaths: Counter[str] = Counter()
        self._lost_starts = 0
        self.lost = 0  # processes that died, and may have left unfinished files

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self) -> Info:
        """Start the first worker, and wait for its model."""
        self._start(quiet=self._args.quiet)
        while True:
            for worker, message in self._messages():
                if isinstance(message, _Ready):
                    self._most = max(1, min(self._most, _fitting(message)))
                    return message.info
                if message is None and not self._live:
                    raise RiffstreamError(f"the process that loads the model ended: {worker.reason}")

    def render(self, renderings: Iterable[Rendering], at_once: int) -> Generator[Report]:
        """Render into files. The reports of several renderings are mixed.

        Args:
            renderings: begun in this order.
            at_once: number of renderings in progress, of all workers together; each has at least one.
        """
        self._todo = deque(renderings)
        workers = max(1, min(self._most, len(self._todo)))
        self._at_once = -(-min(at_once, max(1, len(self._todo))) // workers)
        self._threads = max(1, int(os.environ.get("OMP_NUM_THREADS", "1")) // workers)
        for worker in self._live:
            self._begin(worker)
        while len(self._live) < workers:
            self._start(quiet=True)
        while self._live:
            for worker, message in self._messages():
                if isinstance(message, _Ready):
                    self._lost_starts = 0
                    self._begin(worker)
                elif isinstance(message, _Next):
                    self._give(worker)
                elif isinstance(message, Grown | Made | Broken):
                    if not isinstance(message, Grown):
                        worker.held.pop(message.name, None)
                    yield message
                elif message is None:
                    yield from self._bury(worker)

    def close(self) -> None:
        """End all workers. What they had in progress is discarded. Idempotent."""
        for worker in self._live:
            worker.pipe.close()
            worker.process.terminate()
        deadline = time.monotonic() + LEAVE_S
        for worker in self._live:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            self.lost += worker.process.exitcode != 0
        self._live.clear()

    def _start(self, *, quiet: bool, careful: bool = False) -> None:
        # Spawned, because a fork of a process with threads may hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        options = argparse.Namespace(**{**vars(self._args), "quiet": quiet})
        process = context.Process(target=_work, args=(theirs, options), daemon=True, name="riffstream-render")
        with _without_interrupts():
            process.start()
        theirs.close()
        self._live.append(_Worker(process, ours, careful))

    def _begin(self, worker: _Worker) -> None:
        worker.ready = True
        self._send(worker, _Begin(1 if worker.careful else self._at_once, self._threads))

    def _give(self, worker: _Worker) -> None:
        """Give a worker the next rendering, or None at the end. Suspects go to careful workers, which take one."""
        waiting = self._suspects if worker.careful and self._suspects else self._todo
        each = waiting.popleft() if waiting else None
        if each is not None:
            worker.held[each.name] = each
        self._send(worker, each)

    def _send(self, worker: _Worker, message: object) -> None:
        with contextlib.suppress(OSError):  # it died; its pipe says so next
            worker.pipe.send(message)

    def _messages(self) -> Iterator[tuple[_Worker, object]]:
        """Wait for messages; None is the end of a worker, which is no longer live then."""
        found = {id(pipe) for pipe in wait([worker.pipe for worker in self._live])}
        for worker in [each for each in self._live if id(each.pipe) in found]:
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                worker.process.join(LEAVE_S)
                self._live.remove(worker)
                worker.pipe.close()
                worker.reason = worker.reason or _ending(worker.process.exitcode)
                yield worker, None
                continue
            if isinstance(message, _Ended):
                if isinstance(message.error, RiffstreamError):
                    raise message.error
                worker.reason = message.error
            else:
                yield worker, message

    def _bury(self, worker: _Worker) -> Iterator[Report]:
        """Queue the renderings of a dead worker again, and start one in its place if there is work for it."""
        if worker.process.exitcode == 0 and not worker.held:
            return
        self.lost += 1
        if not worker.ready:
            self._lost_starts += 1
            if self._lost_starts >= LOST_STARTS:
                raise RiffstreamError(f"{LOST_STARTS} processes ended while they loaded the model: {worker.reason}")
        for each in worker.held.values():
            self._deaths[each.name] += 1
            if self._deaths[each.name] < TRIES:
                self._suspects.append(each)
                yield Again(each.name)
            else:
                yield Broken(each.name, f"the process that rendered it ended {TRIES} times: {worker.reason}")
        if self._suspects or self._todo:
            self._start(quiet=True, careful=True)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"signal {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"exit code {code}"


def _fitting(first: _Ready) -> int:
    """Number of workers for the device and the memory of this machine."""
    if first.info.device != "cpu":
        return 1  # one process fills the device
    free = _free_memory()
    return 1 + free * 4 // 5 // first.memory if free is not None and first.memory else sys.maxsize


def _free_memory() -> int | None:
    """Bytes of memory that new processes can have; None if unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/meminfo", encoding="ascii") as file:
        found.append(1024 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError):
        limit, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=None)


def _number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())  # "max" is no number


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside are never interrupted by Ctrl-C, not even while Python starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, args: argparse.Namespace) -> None:
    """Run a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave = _Leave()
    signal.signal(signal.SIGTERM, leave)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    try:
        _serve(pipe, args, leave)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the caller's process has gone
    except Exception as error:
        text = error if isinstance(error, RiffstreamError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            pipe.send(_Ended(text))
        sys.exit(1)


class _Leave:
    """Handler of SIGTERM that ends a worker through the clean-up of unfinished files.

    An exception inside a callback of libsndfile would be printed and lost, so that a worker ends between two reports.

    Attributes:
        asked: True after the signal.
        at_once: True while the worker waits or loads: the handler itself ends it.
    """

    def __init__(self) -> None:
        self.asked, self.at_once = False, True

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self.at_once:
            sys.exit(0)

    def wait(self, pipe: Connection) -> object:
        """Receive the next message."""
        self.at_once = True
        self.check()
        message = pipe.recv()
        self.at_once = False
        return message

    def check(self) -> None:
        """End the worker if the signal came."""
        if self.asked:
            sys.exit(0)


def _serve(pipe: Connection, args: argparse.Namespace, leave: _Leave) -> None:
    from riffstream.commands.rendering.model import load_renderer

    renderer = load_renderer(args, max_batch=args.at_once, state_dir=args.state_dir)
    pipe.send(_Ready(renderer.info, _peak_memory()))
    begin = cast(_Begin, leave.wait(pipe))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(begin.threads)

    def renderings() -> Iterator[Rendering]:
        while True:
            pipe.send(_Next())
            each = cast(Rendering | None, leave.wait(pipe))
            if each is None:
                return
            yield each

    for report in render_all(renderings(), renderer, at_once=begin.at_once, images=args.image):
        leave.check()
        pipe.send(report)


def _peak_memory() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
