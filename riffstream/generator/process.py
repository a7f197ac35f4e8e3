"""The generator process: owns the model and the torch device, and serves every station.

Threading model
  Main thread     loads, renders, and is the only thread that sends.
  Reader thread   receives commands into a queue of ``COMMANDS`` (full: the pipe blocks). The end of the pipe means that
                  the server has ended, and the process exits.
  Signals         of the process group (Ctrl-C, SIGTERM, SIGHUP) are ignored: the server decides when it ends.
"""

from __future__ import annotations

import importlib
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

from riffstream._malloc import fix_thresholds
from riffstream.errors import RiffstreamError, out_of_memory
from riffstream.generator.channel import Channel
from riffstream.generator.isolation import BrokenRendererError, Isolation
from riffstream.generator.messages import (
    Cancel,
    Configure,
    DropTake,
    Failed,
    Forget,
    FromGenerator,
    Heartbeat,
    Job,
    Loading,
    Pcm,
    Ready,
    Shutdown,
    ToGenerator,
    pack,
    unpack_command,
)
from riffstream.generator.renderer import Renderer, Report
from riffstream.threads import limit_threads

__all__ = ["EXIT_FAILED", "EXIT_MEMORY", "ending", "ignore_signals", "main", "open_channel", "run", "serve"]

COMMANDS: Final = 4096  # read ahead; beyond this the pipe fills, and the server considers this process lost
BEAT_S: Final = 0.25  # between heartbeats, or longer during a long step of the model
EXIT_FAILED: Final = 3  # could not load
EXIT_MEMORY: Final = 4  # out of memory
Commands = queue.Queue[ToGenerator]


def main() -> None:
    """Entry point of the process (``python -m riffstream.generator.process``): configure, load, serve."""
    # The tensors of eight clips together stay on the heap: page faults took 40 % of their decoding.
    fix_thresholds(own_pages_kb=8192, keep_kb=65536)
    ignore_signals()
    channel = open_channel()
    commands: Commands = queue.Queue(COMMANDS)
    threading.Thread(target=_read, args=(channel, commands), name="commands", daemon=True).start()

    def send(message: FromGenerator, pcm: Pcm | None = None) -> None:
        channel.send(pack(message, pcm))

    began = time.monotonic()
    try:
        if len(sys.argv) == 3:  # import the slowest libraries before the server sends the configuration
            limit_threads(int(sys.argv[2]))
            importlib.import_module(sys.argv[1])
        run(commands, send, began=began)
    except (BrokenPipeError, ConnectionError):
        sys.exit(0)
    except Exception as error:
        send(ending(error))
        sys.exit(EXIT_MEMORY if out_of_memory(error) else EXIT_FAILED)


def ignore_signals() -> None:
    """Ignore the signals of the whole process group. This process ends with the server's pipe."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Ctrl-C, systemd, a closed terminal
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def run(commands: Commands, send: Callable[..., None], *, began: float | None = None) -> None:
    """Load what the first command, :class:`Configure`, names, and serve the others until :class:`Shutdown`.

    Args:
        commands: the server's commands.
        send: called with every message and its audio.
        began: monotonic time at which loading began; None: now.

    Raises:
        Exception: loading failed, or the generator must be replaced; :func:`ending` makes the last report of it.
    """
    began = time.monotonic() if began is None else began
    configure = commands.get()
    if not isinstance(configure, Configure):
        raise RiffstreamError(f"the first message was {type(configure).__name__}, not Configure")
    renderer = _load(configure, lambda what: send(Loading(what)))
    send(Ready(renderer.info, time.monotonic() - began))
    serve(Isolation(renderer), commands, lambda report: send(*report))


def ending(error: Exception) -> Failed:
    """Report of the exception that ends the process."""
    if out_of_memory(error):
        return Failed("", 0, 0, "memory", " ".join(str(error).split()) or "out of memory")
    if isinstance(error, RiffstreamError):
        kind = "internal" if isinstance(error, BrokenRendererError) else "parameter"
        return Failed("", 0, 0, kind, str(error))
    message = " ".join(f"{type(error).__name__}: {error}".split())
    return Failed("", 0, 0, "internal", message, "".join(traceback.format_exception(error)))


def open_channel() -> Channel:
    """Channel over the pipes, moved away from the standard descriptors. Output of libraries goes to stderr."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # the server was started with its error stream closed
        os.dup2(null, 1)
        os.dup2(null, 2)
    os.close(null)
    return Channel(os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "wb", buffering=2**20))


def _load(configure: Configure, progress: Callable[[str], None]) -> Renderer:
    limit_threads(configure.threads)
    module, _, name = configure.factory.partition(":")
    factory = getattr(importlib.import_module(module), name)
    renderer: Renderer = factory(configure.options, progress)
    return renderer


def serve(
    renderer: Renderer,
    commands: Commands,
    send: Callable[[Report], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Render until :class:`Shutdown`: in each turn the commands, one step, and a heartbeat when due."""
    beat, slowest, worked = -math.inf, 0.0, 0.0
    while True:
        try:
            while True:
                command = commands.get_nowait() if renderer.pending else commands.get(timeout=BEAT_S)
                if isinstance(command, Shutdown):
                    return
                for report in _obey(renderer, command):
                    send(report)
        except queue.Empty:
            pass
        began = clock()
        for report in renderer.step():
            send(report)
        now = clock()
        slowest, worked = max(slowest, now - began), worked + now - began
        if now - beat >= BEAT_S:
            busy = min(1.0, worked / (now - beat))
            send((Heartbeat(renderer.pending, _resident_mb(), slowest, busy, renderer.info.runtime), None))
            beat, slowest, worked = now, 0.0, 0.0


def _obey(renderer: Renderer, command: ToGenerator) -> list[Report]:
    if isinstance(command, Job):
        renderer.submit(command)
    elif isinstance(command, Cancel):
        return renderer.cancel(command.station, command.take, command.number)
    elif isinstance(command, DropTake):
        renderer.drop(command.station, command.take)
    elif isinstance(command, Forget):
        renderer.forget(command.station)
    return []


def _read(channel: Channel, commands: Commands) -> None:
    try:
        while True:
            commands.put(unpack_command(channel.receive()))
    finally:
        os._exit(0)  # the server has ended, or its data cannot be decoded


def _resident_mb() -> float:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, AttributeError):
        return 0.0


if __name__ == "__main__":
    main()
