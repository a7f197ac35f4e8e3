"""Pending requests of the client.

Threading model
  One event loop makes every call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from riffstream import protocol
from riffstream.errors import ParameterError, RadioError

__all__ = ["Requests", "Words", "prompt_parts", "queue_message", "request_message", "steer_message"]

Key = TypeVar("Key")
Answer = TypeVar("Answer")
Sent = TypeVar("Sent", protocol.Steer, protocol.Queue, protocol.Request)
Words = str | Sequence[str | tuple[str, float]] | None


class Requests:
    """Table of pending requests: changes that are not audible yet, and clock requests without an answer.

    Args:
        listens: True if the client receives audio. Otherwise a change counts as audible when it is applied.
    """

    def __init__(self, *, listens: bool) -> None:
        self._listens = listens
        self._waiting: dict[str, asyncio.Future[protocol.Applied]] = {}
        self._unheard: list[tuple[asyncio.Future[protocol.Applied], protocol.Applied]] = []
        self._clocks: dict[float, asyncio.Future[protocol.ClockReply]] = {}
        self._inputs: dict[str, asyncio.Future[protocol.InputState]] = {}
        self._queues: dict[str, asyncio.Future[protocol.QueueState]] = {}
        self._wishes: dict[str, asyncio.Future[protocol.RequestsState]] = {}

    @contextlib.contextmanager
    def change(self, ident: str) -> Iterator[asyncio.Future[protocol.Applied]]:
        """Future of a change's answer; it raises :class:`RadioError` if the change fails."""
        with _expected(self._waiting, ident) as future:
            try:
                yield future
            finally:
                self._unheard = [pair for pair in self._unheard if pair[0] is not future]

    def clock(self, t0: float) -> contextlib.AbstractContextManager[asyncio.Future[protocol.ClockReply]]:
        """Future of the answer to the clock message ``t0``."""
        return _expected(self._clocks, t0)

    def input(self, ident: str) -> contextlib.AbstractContextManager[asyncio.Future[protocol.InputState]]:
        """Future of the answer to an ``input``; it raises :class:`RadioError` if the server refuses."""
        return _expected(self._inputs, ident)

    def queue(self, ident: str) -> contextlib.AbstractContextManager[asyncio.Future[protocol.QueueState]]:
        """Future of the answer to a change of the queue; it raises :class:`RadioError` if the server refuses."""
        return _expected(self._queues, ident)

    def request(self, ident: str) -> contextlib.AbstractContextManager[asyncio.Future[protocol.RequestsState]]:
        """Future of the answer to a ``request``; it raises :class:`RadioError` if the server refuses."""
        return _expected(self._wishes, ident)

    def take(self, message: protocol.ServerMessage, received: int) -> None:
        """Complete the requests answered by a message; ``received``: sample clock after the last received audio."""
        if isinstance(message, protocol.ClockReply):
            clock = self._clocks.get(message.t0)
            if clock is not None and not clock.done():
                clock.set_result(message)
        elif isinstance(message, protocol.InputState):
            if (given := self._inputs.get(message.id)) is not None and not given.done():
                given.set_result(message)
        elif isinstance(message, protocol.QueueState):
            if (changed := self._queues.get(message.id)) is not None and not changed.done():
                changed.set_result(message)
        elif isinstance(message, protocol.RequestsState):
            if (wished := self._wishes.get(message.id)) is not None and not wished.done():
                wished.set_result(message)
        elif isinstance(message, protocol.Applied | protocol.Rejected | protocol.Superseded):
            tables: list[dict[str, asyncio.Future[Any]]] = [self._waiting, self._inputs, self._queues, self._wishes]
            waiting = next((table[message.id] for table in tables if message.id in table), None)
            if waiting is None or waiting.done():
                return
            if isinstance(message, protocol.Applied):
                if message.id not in self._waiting:
                    return  # of a request that plays now; its answer is the list
                self._unheard.append((waiting, message))
                self.heard(received)
            elif isinstance(message, protocol.Rejected):
                error = RadioError(
                    message.code, message.message, field=message.field, retry_after_ms=message.retry_after_ms
                )
                waiting.set_exception(error)
            else:
                waiting.set_exception(RadioError("superseded", "replaced by a later change"))

    def heard(self, received: int) -> None:
        """Complete the changes whose first sample has been received."""
        if not self._unheard:
            return
        heard = [pair for pair in self._unheard if pair[1].audible_at < received or not self._listens]
        self._unheard = [pair for pair in self._unheard if pair not in heard]
        for future, applied in heard:
            if not future.done():
                future.set_result(applied)

    def fail(self, code: str, text: str) -> None:
        """Fail all pending requests."""
        waiting: list[asyncio.Future[Any]] = [
            *self._waiting.values(),
            *self._clocks.values(),
            *self._inputs.values(),
            *self._queues.values(),
            *self._wishes.values(),
        ]
        for future in waiting:
            if not future.done():
                future.set_exception(RadioError(code, text, retry_after_ms=1000))


def steer_message(
    ident: str, prompt: str | Sequence[str | tuple[str, float]] | None, changes: Mapping[str, Any]
) -> protocol.Steer:
    """Make a steer from the arguments of ``Radio.steer``.

    Raises:
        ParameterError: an unknown argument.
        RadioError: an argument of the wrong type or out of its range; ``field`` names it.
    """
    fields: dict[str, Any] = {"type": "steer", "id": ident, **changes}
    if prompt is not None:
        fields["prompts"] = prompt_parts(prompt)
    return _message(protocol.Steer, fields, "steer")


def queue_message(ident: str, op: str, prompt: Words, changes: Mapping[str, Any]) -> protocol.Queue:
    """Make a change of the queue from the arguments of ``Radio.change_queue``; raises as :func:`steer_message`."""
    fields: dict[str, Any] = {"type": "queue", "id": ident, "op": op, **changes}
    if prompt is not None:
        fields["prompts"] = prompt_parts(prompt)
    return _message(protocol.Queue, fields, "change_queue")


def request_message(ident: str, op: str, text: str | None, fields: Mapping[str, Any]) -> protocol.Request:
    """Make a message about requests for ``Radio.change_requests``; raises as :func:`steer_message`."""
    given: dict[str, Any] = {"type": "request", "id": ident, "op": op, **fields}
    if text is not None:
        given["text"] = text
    return _message(protocol.Request, given, "change_requests")


def prompt_parts(prompt: str | Sequence[str | tuple[str, float]]) -> list[dict[str, Any]]:
    """A prompt mix as JSON values."""
    parts = [prompt] if isinstance(prompt, str) else list(prompt)
    pairs = [(part, 1.0) if isinstance(part, str) else part for part in parts]
    return [{"text": text, "weight": weight} for text, weight in pairs]


def _message(kind: type[Sent], fields: dict[str, Any], name: str) -> Sent:
    known = [each.name for each in msgspec.structs.fields(kind)]
    unknown = set(fields) - set(known) - {"type"}
    if unknown:
        raise ParameterError(name, sorted(unknown)[0], ", ".join(each for each in known if each != "id"))
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        told = protocol.explained(error, str(fields["id"]))
        raise RadioError(told.code, told.message, field=told.field) from None


@contextlib.contextmanager
def _expected(waiting: dict[Key, asyncio.Future[Answer]], key: Key) -> Iterator[asyncio.Future[Answer]]:
    """Future of an answer, registered under ``key`` while a caller waits for it."""
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    waiting[key] = future
    try:
        yield future
    finally:
        waiting.pop(key, None)
