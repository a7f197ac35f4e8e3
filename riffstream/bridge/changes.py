"""Changes from machines on their way to a station: joined, at a bounded rate, and with complaints instead of errors.

Threading model
  One event loop makes every call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from riffstream.client import Radio
from riffstream.errors import ParameterError, RadioError

__all__ = ["Changes", "Complaints"]

EVERY_S = 0.1  # between two steers; a fader sends a hundred values a second
PER_PERIOD, PERIOD_S = 5, 10.0


class Complaints:
    """A log with a limited rate: a machine with a fault may send a thousand bad messages a second.

    Args:
        write: sink of lines.
        clock: monotonic clock, seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._began = clock()
        self._written = self.left_out = 0

    def __call__(self, line: str) -> None:
        if self._clock() - self._began > PERIOD_S:
            if self.left_out:
                self._write(f"{self.left_out} more messages were refused")
            self._began, self._written, self.left_out = self._clock(), 0, 0
        if self._written >= PER_PERIOD:
            self.left_out += 1
            return
        self._written += 1
        self._write(line)


class Changes:
    """Fields of a steer that wait for their turn. Values of one field replace each other; ``mix`` and ``parts`` join.

    Args:
        radio: connection to the station.
        complain: log of refusals.
    """

    def __init__(self, radio: Radio, complain: Callable[[str], None]) -> None:
        self._radio, self._complain = radio, complain
        self._fields: dict[str, Any] = {}
        self._waiting = asyncio.Event()
        self._asked: set[asyncio.Task[None]] = set()

    def put(self, fields: Mapping[str, Any]) -> None:
        """Add fields."""
        for name, value in fields.items():
            held = self._fields.get(name)
            self._fields[name] = {**held, **value} if isinstance(held, dict) and isinstance(value, dict) else value
        self._waiting.set()

    def operate(self, op: Any) -> None:
        """Send a transport message."""
        self._start(self._radio.transport(op), op)

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                await self._waiting.wait()
                self._waiting.clear()
                fields, self._fields = self._fields, {}
                prompts = fields.pop("prompts", None)
                self._start(self._radio.steer(prompts, **fields), ", ".join(fields) or "prompts")
                await asyncio.sleep(EVERY_S)
        finally:
            for task in self._asked:
                task.cancel()

    def _start(self, asked: Any, what: str) -> None:
        task = asyncio.create_task(self._ask(asked, what))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _ask(self, asked: Any, what: str) -> None:
        try:
            await asked
        except (RadioError, ParameterError) as error:
            if getattr(error, "code", "") != "superseded":  # a later value of the same fader
                self._complain(f"{what}: {error}")
