"""Supervision of the generator process: start, heartbeat, and restart after a crash or a stall.

Threading model
  Event loop   makes every call and receives every callback. ``link.py`` owns the threads of the pipe.
  Exceptions   of callbacks are logged. After any failure one of these holds: the process is watched, a timer will start
               another, or the state is failed or stopped.
  close()      idempotent; asks the process to exit, kills it after ``LEAVE_S``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast

import msgspec

from riffstream.config import GeneratorSettings
from riffstream.errors import RiffstreamError
from riffstream.generator.channel import Channel
from riffstream.generator.link import Link
from riffstream.generator.messages import (
    NO_PCM,
    Configure,
    Done,
    Failed,
    FromGenerator,
    Heartbeat,
    Info,
    Job,
    Loading,
    Pcm,
    Ready,
    Runtime,
    Shutdown,
    ToGenerator,
)

__all__ = ["GeneratorError", "Launcher", "Supervisor", "configuration", "start_process"]

log = logging.getLogger(__name__)

RENDERER: Final = "riffstream.generator.model_renderer:make_renderer"
LEAVE_S: Final = 3.0
PATIENCE: Final = 6.0  # times the slowest recent step: a busy or small machine is slow, not stalled
HEALTHY_S: Final = 20.0  # after this time with finished clips, the next restart is immediate
STARTS: Final = 5  # attempts without getting ready until the model is given up (batches of 16, 8, 4, 2 and 1)
REAP_S: Final = 0.05  # delay from the end of the pipe until the exit code is available
State = Literal["stopped", "loading", "ready", "waiting", "failed"]
Launcher = Callable[[], subprocess.Popen[bytes]]  # starts a process that speaks the messages over its standard pipes
WHERE: Final = {"backend", "workers", "cpus", "gpus"}  # settings of the place, not of the renderer
SMOOTH: Final = 0.1  # weight of the newest heartbeat in the load: a time constant of 2.5 s


class GeneratorError(RiffstreamError):
    """The generator cannot load; the message gives the reason."""


def configuration(settings: GeneratorSettings, uploads: Path | None = None) -> Configure:
    """First message to the process; ``uploads``: folder of uploaded seed images."""
    if settings.model == "tone":
        return Configure("riffstream.generator.renderer:make_tone", {})
    options = {key: value for key, value in msgspec.to_builtins(settings).items() if key not in WHERE}
    return Configure(RENDERER, options | {"uploads": None if uploads is None else str(uploads)}, settings.threads)


def start_process(settings: GeneratorSettings, *, preload: bool = True) -> subprocess.Popen[bytes]:
    """Start a generator process, which loads its libraries and waits for its configuration.

    It exits when its standard input ends. The server starts it before loading its own libraries, so that both load at
    the same time.

    Args:
        settings: the generator's settings.
        preload: True loads the model's libraries at once.
    """
    early = [RENDERER.partition(":")[0], str(settings.threads)] if preload and settings.model != "tone" else []
    return subprocess.Popen(
        [sys.executable, "-m", "riffstream.generator.process", *early],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        bufsize=2**18,
    )


class Supervisor:
    """Owner of the generator process: starts it, watches its heartbeat, and replaces it after a crash or a stall.

    Args:
        settings: the model and the time limits.
        on_ready: called when a generator is warmed up.
        on_lost: called when a generator has ended or was replaced, with the reason, and with False if no clip can be
            the cause.
        on_report: called with each message about a station and its audio.
        configure: first message to the process; by default from ``settings``.
        clock: monotonic clock, seconds.
        process: a process from :func:`start_process` to use first.
        launch: starts the process; by default :func:`start_process`.

    Attributes:
        state: stopped, loading, ready, waiting (for a restart) or failed (permanently).
        restarts: number of restarts so far.
        reason: reason of the last end.
        loading: current activity while loading.
        load_s: loading time of the last generator, seconds.
        rss_mb: resident memory at the last heartbeat, MB.
        pending: number of jobs at the last heartbeat.
        busy: share of the last seconds that the generator worked, 0 to 1.
        info: properties of the last generator; None before the first one was ready.
        runtime: what evaluates its network, at the last heartbeat.
    """

    def __init__(
        self,
        settings: GeneratorSettings,
        *,
        on_ready: Callable[[Info], None],
        on_lost: Callable[[str, bool], None],
        on_report: Callable[[FromGenerator, Pcm], None],
        configure: Configure | None = None,
        clock: Callable[[], float] = time.monotonic,
        process: subprocess.Popen[bytes] | None = None,
        launch: Launcher | None = None,
    ) -> None:
        self.settings = settings
        self._early = process
        self._launch = launch or self._start_here
        self.state: State = "stopped"
        self.reason = ""
        self.restarts = 0
        self.loading = ""
        self.load_s = 0.0
        self.rss_mb = 0.0
        self.pending = 0
        self.busy = 0.0
        self.info: Info | None = None
        self.runtime = Runtime()
        self._configure = configure or configuration(settings)
        self._on_ready, self._on_lost, self._on_report = on_ready, on_lost, on_report
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._dying: list[subprocess.Popen[bytes]] = []  # killed, exit code not read yet
        self._link: Link | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._ready_at = 0.0
        self._faults = 0  # failures since the last working generator
        self._made = False  # True once this generator has finished a clip
        self._step_s = 0.0
        self._never_ready = True
        self._closed = self._draining = False
        self._settled = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id of the generator; None if it does not run."""
        return self._process.pid if self._process is not None else None

    async def wait_settled(self) -> None:
        """Wait until the first generator is ready. Raises GeneratorError if it cannot load."""
        await self._settled.wait()
        if self.state == "failed":
            raise GeneratorError(self.reason)

    def start(self) -> None:
        """Start the process; ``on_ready`` and :meth:`wait_settled` report when it is warmed up."""
        self._closed = False
        self._spawn()

    def drain(self) -> None:
        """Stop replacing the generator, because the server is about to exit."""
        self._draining = True
        if self.state == "waiting":
            self._end_process()
            self.state = "stopped"

    def send(self, messages: Iterable[ToGenerator]) -> None:
        """Send messages; they are dropped without a generator. A job that cannot be sent is reported as failed."""
        for message in messages:
            if self._link is None or self.state != "ready":
                return
            try:
                self._link.send([message])
            except Exception as error:
                log.exception("a %s cannot be sent to the generator", type(message).__name__)
                if isinstance(message, Job):
                    why = f"the clip could not be asked for: {type(error).__name__}"
                    failed = Failed(message.station, message.take, message.number, "internal", why)
                    self._loop.call_soon(self._report, failed, NO_PCM)

    def _spawn(self) -> None:
        process, self._early = self._early, None
        self.state, self.loading = "loading", ""
        self._heard = self._clock()
        self._made = False
        self._step_s = 0.0
        try:
            if process is None or process.poll() is not None:
                process = None
                process = self._launch()
            self._process = process
            self._link = self._make_link(process)
            self._link.send([self._configure])
        except Exception as error:  # a limit of files, memory or threads; the next attempt may succeed
            for pipe in (process.stdin, process.stdout) if process is not None else ():
                if pipe is not None:
                    with contextlib.suppress(OSError, ValueError):
                        pipe.close()
            self._lost(f"it cannot be started: {error}")
            return
        self._schedule_watch()

    def _start_here(self) -> subprocess.Popen[bytes]:
        return start_process(self.settings, preload=self._configure.factory == RENDERER)

    def _make_link(self, process: subprocess.Popen[bytes]) -> Link:
        channel = Channel(cast(BinaryIO, process.stdout), cast(BinaryIO, process.stdin))
        return Link(channel, self._receive, lambda: self._ended(process))

    def _receive(self, message: FromGenerator, pcm: Pcm) -> None:
        if self._closed:
            return
        self._heard = self._clock()
        if isinstance(message, Heartbeat):
            self.rss_mb, self.pending = message.rss_mb, message.pending
            self._step_s = max(message.step_s, self._step_s * 0.99)
            self.busy += SMOOTH * (message.busy - self.busy)
            self._note(message.runtime)
            if message.pending == 0:
                self._report(message, pcm)
        elif isinstance(message, Loading):
            self.loading = message.what
            log.info("generator: %s", message.what)
        elif isinstance(message, Ready):
            self._begin(message)
        elif isinstance(message, Failed) and not message.station:
            self._fatal(message)
        else:
            self._made = self._made or isinstance(message, Done)
            self._report(message, pcm)

    def _begin(self, message: Ready) -> None:
        """Handle a generator that is warmed up, perhaps in place of one that still works."""
        if self.state == "ready" and self._link is not None:  # the earlier one's machine is about to leave
            self._link.send([self._configure])  # everything before it was for the earlier one
            self._call(self._on_lost, "it moves to another machine", False)
        self.state, self.load_s, self._ready_at = "ready", message.seconds, self._heard
        self.info, self.busy = message.info, 0.0
        self._never_ready = False
        log.info("generator ready: %s on %s, %.1f s", message.info.model, message.info.device, message.seconds)
        self.runtime = Runtime()
        self._note(message.info.runtime)
        self._settled.set()
        self._call(self._on_ready, message.info)

    def _note(self, runtime: Runtime) -> None:
        """Log a change of what evaluates the network."""
        if runtime != self.runtime:
            self.runtime = runtime
            log.log(
                logging.WARNING if runtime.fault else logging.INFO, "generator: the network is evaluated by %s", runtime
            )

    def _report(self, message: FromGenerator, pcm: Pcm) -> None:
        self._call(self._on_report, message, pcm)

    @staticmethod
    def _call(callback: Callable[..., None], *args: object) -> None:
        try:
            callback(*args)
        except Exception:  # of one station; the others continue
            log.exception("a report of the generator could not be handled")

    def _fatal(self, message: Failed) -> None:
        """Handle the process's report of a fatal error."""
        if message.detail:
            log.error("the generator failed:\n%s", message.detail.rstrip())
        if message.kind == "memory":
            options = dict(self._configure.options)
            if options.get("max_batch", 1) > 1:
                options["max_batch"] //= 2
                self._configure = msgspec.structs.replace(self._configure, options=options)
            self._lost(f"out of memory: {message.message}")
        elif message.kind == "parameter" and self._never_ready:
            self._end_process()
            self._give_up(message.message)
        else:
            self._lost(message.message, blame=message.kind != "machine")

    def _give_up(self, reason: str) -> None:
        self.state, self.reason = "failed", reason
        self._settled.set()

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        """Handle the end of the pipe; the exit code follows shortly."""
        if process is not self._process:
            return
        if process.poll() is None:
            self._loop.call_later(REAP_S, self._gone, process)
        else:
            self._gone(process)

    def _gone(self, process: subprocess.Popen[bytes]) -> None:
        if process is self._process:
            self._lost(_ending(process.poll()))

    def _lost(self, reason: str, *, blame: bool = True) -> None:
        if self._closed or self.state in ("waiting", "failed", "stopped"):
            return
        was_ready = self.state == "ready"
        if was_ready and self._made and self._clock() - self._ready_at > HEALTHY_S:
            self._faults = 0
        self.state, self.reason = "waiting", reason
        self._end_process()
        self._faults += 1
        if self._draining:
            self.state = "stopped"
            log.info("generator lost (%s) while the server leaves", reason)
        elif self._never_ready and self._faults >= STARTS:
            hint = "; try a smaller model or another device" if reason.startswith("out of memory") else ""
            self._give_up(f"the generator ended {STARTS} times before it was ready, the last time: {reason}{hint}")
        else:
            wait = min(self.settings.backoff_max_s, self.settings.backoff_s * 2.0 ** min(self._faults - 1, 30))
            self.restarts += 1
            self._watch = self._loop.call_later(wait, self._respawn)
            log.warning("generator lost (%s); restarting in %.2f s", reason, wait)
        if was_ready:
            self._call(self._on_lost, reason, blame)

    def _respawn(self) -> None:
        if not self._closed and not self._draining:
            self._spawn()

    @property
    def _limit_s(self) -> float:
        """Longest allowed time without a message from the generator, seconds."""
        if self.state != "ready":
            return self.settings.load_s
        return max(self.settings.stall_s, PATIENCE * self._step_s)

    def _schedule_watch(self) -> None:
        limit = self._limit_s
        self._watch = self._loop.call_later(max(0.02, min(1.0, limit / 4)), self._check)

    def _check(self) -> None:
        if self._closed or self.state not in ("loading", "ready"):
            return
        limit = self._limit_s
        if self._clock() - self._heard > limit:
            self._lost(f"no heartbeat for {limit:g} s")
            return
        if self._process is not None and (code := self._process.poll()) is not None:
            self._lost(_ending(code))
            return
        self._schedule_watch()

    def _end_process(self) -> None:
        """Close the link and end the process."""
        if self._watch is not None:
            self._watch.cancel()
        if self._link is not None:
            self._link.close()
            self._link = None
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            self._dying = [each for each in (*self._dying, process) if each.poll() is None]

    def health(self) -> dict[str, Any]:
        """State and counters for the health page and metrics, as JSON values."""
        return {
            "state": self.state,
            "reason": self.reason,
            "loading": self.loading if self.state == "loading" else "",
            "restarts": self.restarts,
            "load_s": round(self.load_s, 3),
            "rss_mb": round(self.rss_mb, 1),
            "pending": self.pending,
            "busy": round(self.busy, 3),
            "runtime": str(self.runtime),
            "pid": self.pid,
        }

    async def close(self) -> None:
        """End the process. Idempotent."""
        if self._closed:
            return
        self._closed = True
        early, self._early = self._early, None
        if early is not None:  # never used
            early.kill()
            self._dying.append(early)
        self.state = "stopped"
        if self._watch is not None:
            self._watch.cancel()
        process, self._process = self._process, None
        if self._link is not None:
            self._link.send([Shutdown()])
            until = self._loop.time() + LEAVE_S
            while process is not None and process.poll() is None and self._loop.time() < until:
                await asyncio.sleep(0.02)
            self._link.close()
            self._link = None
        if process is not None:
            process.kill()
            self._dying.append(process)
        while self._dying:
            self._dying = [each for each in self._dying if each.poll() is None]
            await asyncio.sleep(0.01)
        self._settled.set()


def _ending(code: int | None) -> str:
    """Description of an exit code."""
    if code is None:
        return "it closed its pipe"
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"it was ended by {name}" + (", perhaps because memory ran out" if name == "SIGKILL" else "")
