"""The bridge: a process of the server that speaks the pipe's messages on one side and calls a Ray actor on the other.

Ray ends a process that loses its cluster. So Ray is never in the server process: for the server, a bridge is a
generator process like any other, and the supervisor replaces it. The bridge ends when its actor ends. Its actor ends
with it.

When the actor's node is drained, the bridge starts a second actor, which Ray places elsewhere, and changes to it as
soon as it is ready.

Threading model
  Main thread       handles all events, in order; the only caller of ``put``.
  Reader thread     receives commands from the pipe.
  Taking threads    one for each actor: waits for its reports.
  Hand-over         one queue of events to the main thread.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from riffstream import __version__
from riffstream.generator.channel import Channel
from riffstream.generator.cluster.actor import Batch, GeneratorActor
from riffstream.generator.messages import (
    Configure,
    Failed,
    Loading,
    Ready,
    Shutdown,
    pack,
    unpack_command,
    unpack_report,
)
from riffstream.generator.process import EXIT_FAILED, ignore_signals, open_channel

__all__ = ["Bridge", "Remote", "RemoteGenerator", "failure", "main"]

RETRY_S: Final = 10.0  # after a successor that could not be started
HEAD_S: Final = 60.0  # wait for the cluster of this machine
LONGEST: Final = 400  # characters of a reason
NODE_DIED: Final = "The actor died because its node has died"


class Remote(Protocol):
    """An actor, as the bridge uses it."""

    def put(self, number: int, commands: list[bytes]) -> None:
        """Send a batch of commands; it does not wait."""

    def take(self) -> Batch:
        """Wait for reports. Raises an exception when the actor has ended."""

    def kill(self) -> None:
        """End the actor. Never raises."""


@dataclass(slots=True, eq=False)
class RemoteGenerator:
    """A generator in an actor; ``sent``: batches so far."""

    remote: Remote
    sent: int = 0

    def put(self, commands: list[bytes]) -> None:
        """Send commands in order."""
        self.remote.put(self.sent, commands)
        self.sent += 1


@dataclass(slots=True)
class _Event:
    """Commands of the server (``source`` None; none at all: the pipe has ended), or reports or the end of an actor."""

    source: RemoteGenerator | None
    commands: list[bytes] = field(default_factory=list)
    batch: Batch | None = None
    error: Exception | None = None


class Bridge:
    """The state of a bridge.

    Args:
        channel: the pipe to the server.
        make: starts an actor.
        describe: makes the report of an actor's end from its exception.
        clock: monotonic clock, seconds.
    """

    def __init__(
        self,
        channel: Channel,
        make: Callable[[], Remote],
        describe: Callable[[Exception], Failed],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel, self._make, self._describe, self._clock = channel, make, describe, clock
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._configure = b""
        self._current: RemoteGenerator | None = None
        self._successor: RemoteGenerator | None = None
        self._retry_at = 0.0
        self._between = False  # True until the server has accepted the successor

    def run(self) -> int:
        """Pass messages on until the server or the actor ends; returns the exit code."""
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        try:
            while True:
                event = self._events.get()
                if event.source is None:
                    if not event.commands or not self._command(event.commands):
                        return 0
                elif (code := self._handle(event)) is not None:
                    return code
        except (BrokenPipeError, ConnectionError):
            return 0
        finally:
            for generator in (self._current, self._successor):
                if generator is not None:
                    generator.remote.kill()

    def _command(self, commands: list[bytes]) -> bool:
        """Pass commands on. False at the last one."""
        passed: list[bytes] = []
        for command in commands:
            message = unpack_command(command)
            if isinstance(message, Shutdown):
                return False
            if isinstance(message, Configure):
                self._configure = command
                if self._current is not None:  # the successor has its configuration
                    self._between = False
                    continue
                self._current = self._start()
            if not self._between:
                passed.append(command)
        if self._current is not None and passed:
            self._current.put(passed)
        return True

    def _start(self) -> RemoteGenerator:
        generator = RemoteGenerator(self._make())
        threading.Thread(target=self._take, args=(generator,), name="reports", daemon=True).start()
        return generator

    def _handle(self, event: _Event) -> int | None:
        """Handle what an actor has sent; returns the exit code if the bridge ends."""
        assert event.source is not None
        if event.source is self._successor:
            self._handle_successor(event)
            return None
        if event.source is not self._current:  # an earlier one, killed
            return None
        if event.error is not None:
            self._channel.send(pack(self._describe(event.error)))
            return EXIT_FAILED
        assert event.batch is not None
        reports, leaving, over = event.batch
        for report in reports:
            self._channel.send(report)
        if over:
            return EXIT_FAILED
        if leaving and self._successor is None and self._clock() >= self._retry_at:
            self._say("its node is being drained; another generator is being started")
            self._successor = self._start()
            self._successor.put([self._configure])
        return None

    def _handle_successor(self, event: _Event) -> None:
        """Wait for the successor's readiness, and change to it."""
        assert self._successor is not None
        reports, over = ([], True) if event.batch is None else (event.batch[0], event.batch[2])
        for number, report in enumerate(reports):
            message = unpack_report(report)[0]
            if isinstance(message, Ready):
                earlier, self._current, self._successor = self._current, self._successor, None
                self._between = True
                if earlier is not None:
                    earlier.remote.kill()
                for each in reports[number:]:
                    self._channel.send(each)
                return
            if isinstance(message, Failed):
                self._say(f"the other generator cannot be started: {message.message}")
        if over:
            if event.error is not None:
                self._say(f"the other generator cannot be started: {self._describe(event.error).message}")
            self._successor.remote.kill()
            self._successor, self._retry_at = None, self._clock() + RETRY_S

    def _say(self, what: str) -> None:
        """Tell the server's log."""
        self._channel.send(pack(Loading(what)))

    def _read(self) -> None:
        try:
            while True:
                self._events.put(_Event(None, [self._channel.receive()]))
        except (EOFError, OSError):
            self._events.put(_Event(None))

    def _take(self, generator: RemoteGenerator) -> None:
        try:
            while True:
                batch = generator.remote.take()
                self._events.put(_Event(generator, batch=batch))
                if batch[2]:
                    return
        except Exception as error:  # every error of Ray: the actor has ended, or cannot be reached
            self._events.put(_Event(generator, error=error))


# -- Ray ------------------------------------------------------------------------------------------------------------


class RayActor:
    """A :class:`GeneratorActor` on the cluster. ``cpus`` and ``gpus``: what it reserves."""

    def __init__(self, cpus: float, gpus: float) -> None:
        import ray

        self._ray: Any = ray
        # The supervisor decides when there is another one, and Ray where.
        self._actor = (
            self._ray.remote(GeneratorActor)
            .options(num_cpus=cpus, num_gpus=gpus, max_concurrency=2, max_restarts=0, scheduling_strategy="SPREAD")
            .remote(__version__)
        )

    def put(self, number: int, commands: list[bytes]) -> None:
        self._actor.put.remote(number, commands)

    def take(self) -> Batch:
        batch: Batch = self._ray.get(self._actor.take.remote())
        return batch

    def kill(self) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(self._actor)


def failure(error: Exception) -> Failed:
    """Report of an actor's end, or of a cluster that cannot be reached."""
    text = " ".join(str(error).split()) or type(error).__name__
    kind = "machine" if NODE_DIED in text else "internal"
    text = text[max(0, text.find("The actor is dead because"), text.find(NODE_DIED)) :]
    text = text.partition(" Some common causes include")[0]
    return Failed("", 0, 0, kind, f"its Ray actor ended: {shortened(text)}")


def shortened(text: str) -> str:
    """The beginning of a long text, and its end, where Ray puts the cause."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def connect(address: str | None, **options: Any) -> None:
    """Connect this process to the cluster at ``address``; None: start one. Raises whatever Ray raises."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="riffstream", **options)


def _address(backend: str, address_file: str) -> str:
    """Ray's address of a backend. ``address_file``: the file in which the cluster of this machine announces itself."""
    if backend != "ray:local":
        return "auto" if backend == "ray:auto" else backend
    until = time.monotonic() + HEAD_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if address := Path(address_file).read_text():
                return address
        time.sleep(0.05)
    raise TimeoutError(f"the Ray cluster of this machine did not start within {HEAD_S:g} s")


def main() -> None:
    """Entry point (``python -m riffstream.generator.cluster.bridge``)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backend")
    parser.add_argument("--cpus", type=float, default=1.0)
    parser.add_argument("--gpus", type=float, default=0.0)
    parser.add_argument("--address-file", default="")
    args = parser.parse_args()
    ignore_signals()
    channel = open_channel()
    try:
        channel.send(pack(Loading(f"connecting to {args.backend}")))
        connect(_address(args.backend, args.address_file))
    except Exception as error:
        why = shortened(" ".join(str(error).split()) or type(error).__name__)
        hint = "is it running, and is RAY_AUTH_TOKEN its token?"
        reason = f"the Ray cluster {args.backend} cannot be reached ({hint}): {why}"
        channel.send(pack(Failed("", 0, 0, "internal", reason)))
        sys.exit(EXIT_FAILED)
    ignore_signals()  # Ray has set its own
    channel.send(pack(Loading("waiting for a place on the Ray cluster")))
    code = Bridge(channel, lambda: RayActor(args.cpus, args.gpus), failure).run()
    channel.close()
    os._exit(code)  # Ray's own end waits for its threads; the actor has been killed


if __name__ == "__main__":
    main()
