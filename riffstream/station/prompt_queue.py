"""The queue of a station: prompts that follow each other, each for a number of bars from a bar line.

Threading model
  Event loop   makes every call. Nothing here blocks, and there is no clock: positions are beats of the station.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UNSET

from riffstream import protocol
from riffstream.protocol import ProtocolError, QueueItem, QueueList

__all__ = ["PromptQueue"]

CHANGED: Final = ("prompts", "bars", "ramp_bars", "bpm")


@dataclass(frozen=True, slots=True)
class _Playing:
    """The item at work, and the beat at which it ends."""

    item: QueueItem
    until: float


class PromptQueue:
    """Bounded list of prompts with their lengths.

    Args:
        most: largest number of items; 0: the station has no queue.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: list[QueueItem] = []
        self._loop = False
        self._playing: _Playing | None = None
        self._number = 0

    @property
    def active(self) -> bool:
        """Whether an item plays or follows."""
        return bool(self._items) or self._playing is not None

    def shown(self) -> QueueList:
        """The queue for clients."""
        playing = self._playing
        ends = playing is not None and math.isfinite(playing.until)
        return QueueList(
            items=tuple(self._items),
            loop=self._loop,
            playing=None if playing is None else playing.item,
            until=round(playing.until, 3) if playing is not None and ends else None,
        )

    # -- changes --------------------------------------------------------------------------------------------------

    def change(self, message: protocol.Queue) -> None:
        """Change the queue. A refused change changes nothing.

        Raises:
            ProtocolError: the queue is full or turned off, the item is unknown, or a field is missing.
        """
        changes: dict[str, Callable[[protocol.Queue], None]] = {
            "add": self._add,
            "edit": self._edit,
            "move": self._move,
            "remove": self._remove,
            "next": self._next,
            "loop": self._set_loop,
            "clear": self._clear,
        }
        try:
            if not self._most:
                raise ProtocolError("forbidden", "this server keeps no queue (limits.queue is 0)")
            changes[message.op](message)
        except ProtocolError as error:
            error.id = message.id
            raise

    def _add(self, message: protocol.Queue) -> None:
        if message.prompts is UNSET:
            raise ProtocolError("bad_request", "prompts is missing; allowed: 1 to 8 prompts", field="prompts")
        if len(self._items) >= self._most:
            raise ProtocolError("busy", f"the queue has {len(self._items)} items; allowed: up to {self._most}")
        item = self._changed(QueueItem(id=self._new_id(), prompts=message.prompts), message)
        items = list(self._items)
        items.insert(len(items) if message.to is None else message.to, item)
        self._replace(items)

    def _edit(self, message: protocol.Queue) -> None:
        place = self._place(message)
        if all(getattr(message, name) is UNSET for name in CHANGED):
            raise ProtocolError("bad_request", f"edit changes nothing; allowed: one or more of {', '.join(CHANGED)}")
        items = list(self._items)
        items[place] = self._changed(items[place], message)
        self._replace(items)

    def _move(self, message: protocol.Queue) -> None:
        place = self._place(message)
        if message.to is None:
            raise ProtocolError(
                "bad_request", "to is missing; allowed: a place in the queue, 0 is the first", field="to"
            )
        self._items.insert(message.to, self._items.pop(place))

    def _remove(self, message: protocol.Queue) -> None:
        del self._items[self._place(message)]

    def _next(self, message: protocol.Queue) -> None:
        if self._playing is None and not self._items:
            raise ProtocolError("bad_request", "the queue is empty: nothing follows")
        self._finish()

    def _set_loop(self, message: protocol.Queue) -> None:
        if message.loop is UNSET:
            raise ProtocolError("bad_request", "loop is missing; allowed: true or false", field="loop")
        self._loop = message.loop

    def _clear(self, message: protocol.Queue) -> None:
        self._items, self._playing = [], None

    def _place(self, message: protocol.Queue) -> int:
        if message.item is None:
            raise ProtocolError("bad_request", "item is missing; allowed: the id of an item of the queue", field="item")
        for place, item in enumerate(self._items):
            if item.id == message.item:
                return place
        what = f"item {message.item!r} is not in the queue; it has played or was removed"
        raise ProtocolError("bad_request", what, field="item")

    @staticmethod
    def _changed(item: QueueItem, message: protocol.Queue) -> QueueItem:
        given = {name: getattr(message, name) for name in CHANGED if getattr(message, name) is not UNSET}
        return msgspec.structs.replace(item, **given)

    def _replace(self, items: list[QueueItem]) -> None:
        chars = sum(len(prompt.text) for item in items for prompt in item.prompts)
        if chars > protocol.QUEUE_CHARS:
            what = f"the queue would have {chars} characters; allowed: up to {protocol.QUEUE_CHARS}"
            raise ProtocolError("bad_request", what, field="prompts")
        self._items = items

    def _new_id(self) -> str:
        taken = {item.id for item in self._items} | ({self._playing.item.id} if self._playing else set())
        while (name := f"q{self._number}") in taken:
            self._number += 1
        self._number += 1
        return name

    # -- time -----------------------------------------------------------------------------------------------------

    def due(self, line: float) -> QueueItem | None:
        """Item to request now, if any; it then counts as playing until :meth:`begins` names its end.

        Args:
            line: beat of the first bar line that a change can reach now.
        """
        if self._playing is not None and line < self._playing.until - 0.5:
            return None
        if not self._items and not (self._loop and self._playing is not None):
            return None
        self._finish()
        item = self._items.pop(0)
        self._playing = _Playing(item, math.inf)
        return item

    def over(self, beat: float) -> bool:
        """End the item at work if ``beat`` has reached its end and nothing follows; True if it has ended."""
        if self._playing is None or self._items or self._loop or beat < self._playing.until:
            return False
        self._playing = None
        return True

    def begins(self, item: QueueItem, beat: float, beats_per_bar: int) -> None:
        """Set the end of the item at work, which begins at ``beat``. Ignored for an item that has ended."""
        if self._playing is not None and self._playing.item is item:
            self._playing = _Playing(item, beat + item.bars * beats_per_bar)

    def failed(self, item: QueueItem) -> None:
        """Drop the item at work, which cannot be played."""
        if self._playing is not None and self._playing.item is item:
            self._playing = None

    def _finish(self) -> None:
        if self._playing is not None and self._loop:
            self._items.append(self._playing.item)
        self._playing = None

    # -- snapshots ------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The queue as JSON values. The item at work comes first, because its position is not kept."""
        items = ([self._playing.item] if self._playing is not None else []) + self._items
        return {"items": msgspec.to_builtins(items), "loop": self._loop}

    def restore(self, saved: Any) -> None:
        """Set the queue from :meth:`to_dict`. Items beyond the limits are left out.

        Raises:
            msgspec.ValidationError: ``saved`` is no such snapshot; the queue does not change.
        """
        snapshot = msgspec.convert(saved, _Snapshot)
        chars = itertools.accumulate(sum(len(prompt.text) for prompt in item.prompts) for item in snapshot.items)
        fitting = [item for item, sum_ in zip(snapshot.items, chars, strict=True) if sum_ <= protocol.QUEUE_CHARS]
        self._items, self._playing, self._loop = [], None, snapshot.loop
        for item in fitting[: self._most]:
            self._items.append(msgspec.structs.replace(item, id=self._new_id()))


class _Snapshot(msgspec.Struct, frozen=True):
    items: list[QueueItem]
    loop: bool = False
