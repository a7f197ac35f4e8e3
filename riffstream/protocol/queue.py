"""Parts of messages about a station's queue: the prompts that follow, each for some bars."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from riffstream.protocol.prompt import PROMPTS, Prompt
from riffstream.ranges import RANGES

__all__ = ["QUEUE_CHARS", "Bars", "ItemId", "Prompts", "QueueBpm", "QueueItem", "QueueList", "QueueOp", "RampBars"]

# A queue is sent to every listener at each change: this bounds the message at 32 kB.
QUEUE_CHARS: Final = 8_000

QueueOp = Literal["add", "edit", "move", "remove", "next", "loop", "clear"]
ItemId = Annotated[str, Meta(min_length=1, max_length=16)]
Prompts = Annotated[tuple[Prompt, ...], Meta(min_length=1, max_length=PROMPTS)]
Bars = Annotated[int, Meta(ge=1, le=1024)]
RampBars = Annotated[int, Meta(ge=0, le=64)]
QueueBpm = Annotated[float, RANGES["bpm"].meta] | None


class QueueItem(Struct, frozen=True, kw_only=True):
    """A prompt mix of the queue. It plays for ``bars`` bars, and blends in over the first ``ramp_bars``. ``bpm``: its
    tempo; null: its words choose, unless the tempo of the station was set."""

    id: ItemId
    prompts: Prompts
    bars: Bars = 8
    ramp_bars: RampBars = 0
    bpm: QueueBpm = None


class QueueList(Struct, frozen=True, kw_only=True):
    """The queue of a station. ``playing`` is the item at work until the beat ``until`` (as in ``now.beat``), null
    between items. ``loop``: an item that has played goes to the end of the queue."""

    items: tuple[QueueItem, ...] = ()
    loop: bool = False
    playing: QueueItem | None = None
    until: float | None = None
