"""The Ray actor: a generator whose messages arrive and leave in batches, as calls.

The messages are those of the pipe (``messages.py``), packed. The bridge makes an actor of the class, so each node of
the cluster needs riffstream in the same version.

Threading model
  Generator thread   loads, renders, and appends every report.
  Call threads       two of Ray. ``put`` never waits, and may be called in both; ``take`` waits up to ``WAIT_S`` for a
                     report, and is called again after its answer.
  Watch thread       asks whether this node is being drained.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from riffstream import __version__
from riffstream.generator.messages import FromGenerator, Pcm, ToGenerator, pack, unpack_command
from riffstream.generator.process import ending, run

__all__ = ["Batch", "GeneratorActor", "VersionError", "node_is_drained"]

log = logging.getLogger(__name__)

WAIT_S: Final = 1.0  # longest wait of a call for a report
BATCH: Final = 64  # reports of one call: about 32 beats with their ends
LOOK_S: Final = 1.0  # between looks at the state of the node
Batch = tuple[list[bytes], bool, bool]  # reports; True if the node is being drained; True if no more will follow


def node_is_drained() -> bool:
    """Whether the node of this process is being drained."""
    import ray
    from ray._private.state import state  # the public API does not tell

    return ray.get_runtime_context().get_node_id() in state.get_draining_nodes()


class VersionError(RuntimeError):
    """A node has another version of riffstream than the server."""


class GeneratorActor:
    """A generator in a process of a Ray cluster.

    Args:
        version: the server's version of riffstream.
        draining: function that tells whether this node is being drained.

    Raises:
        VersionError: another version is installed here.
    """

    def __init__(self, version: str, draining: Callable[[], bool] = node_is_drained) -> None:
        if version != __version__:
            raise VersionError(f"this node has riffstream {__version__}, the server has {version}; install the same")
        self._commands: queue.Queue[ToGenerator] = queue.Queue()
        self._reports: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._early: dict[int, Sequence[bytes]] = {}  # commands that have overtaken others
        self._next = 0
        self._order = threading.Lock()
        self._leaving = self._over = False
        threading.Thread(target=self._generate, name="generator", daemon=True).start()
        threading.Thread(target=self._watch, args=(draining,), name="node", daemon=True).start()

    def put(self, number: int, commands: Sequence[bytes]) -> None:
        """Accept the batch of commands ``number``, counted from 0. Ray may deliver large batches late."""
        with self._order:
            self._early[number] = commands
            while (batch := self._early.pop(self._next, None)) is not None:
                self._next += 1
                for command in batch:
                    self._commands.put(unpack_command(command))

    def take(self) -> Batch:
        """Return the next reports, waiting for the first one up to ``WAIT_S``."""
        reports: list[bytes] = []
        try:
            report = self._reports.get(timeout=WAIT_S)
            while True:
                if report is None:
                    self._over = True
                    break
                reports.append(report)
                if len(reports) == BATCH:
                    break
                report = self._reports.get_nowait()
        except queue.Empty:
            pass
        return reports, self._leaving, self._over

    def _generate(self) -> None:
        def send(message: FromGenerator, pcm: Pcm | None = None) -> None:
            self._reports.put(pack(message, pcm))

        try:
            run(self._commands, send)
        except Exception as error:
            send(ending(error))
        finally:
            self._reports.put(None)

    def _watch(self, draining: Callable[[], bool]) -> None:
        while not self._leaving:
            try:
                self._leaving = draining()
            except Exception:  # without the cluster's answer the generator goes on; its calls show what is wrong
                log.debug("the state of this node is unknown", exc_info=True)
            time.sleep(LOOK_S)
