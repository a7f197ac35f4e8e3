"""The queue by itself, and beside a timeline: each item begins at its bar line and lasts its bars."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from riffstream import protocol
from riffstream.protocol import Event, Prompt, ProtocolError, Queue, QueueState
from riffstream.station.prompt_queue import PromptQueue
from riffstream.station.queue_player import QueuePlayer
from tests.station.sim import FRAME, Sim


def add(text: str, bars: int = 4, **more: object) -> Queue:
    return Queue(id="1", op="add", prompts=(Prompt(text=text),), bars=bars, **more)  # type: ignore[arg-type]


def texts(queue: PromptQueue) -> list[str]:
    return [item.prompts[0].text for item in queue.shown().items]


def ids(queue: PromptQueue) -> dict[str, str]:
    return {item.prompts[0].text: item.id for item in queue.shown().items}


class Played(Sim):
    """A timeline with a queue."""

    def __init__(self, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.told: list[QueueState | Event] = []
        self.queue = PromptQueue(32)
        self.player = QueuePlayer("main", self.queue, self.told.append, lambda: self.time)
        self.words: list[tuple[float, str]] = []

    def play(self, seconds: float) -> None:
        for _ in range(round(seconds * 48_000 / FRAME)):
            self.run(FRAME / 48_000)
            self.player.step(self.timeline)
            now = self.timeline.now(self.timeline.playout.committed - 1)
            self.words.append((now.beat, now.state.prompts[0].text))

    def first(self, text: str) -> float:
        return next(beat for beat, word in self.words if word == text)


@pytest.mark.parametrize("waits", [1, 8, 20])
def test_each_item_begins_at_a_bar_line_and_lasts_its_bars(waits: int) -> None:
    sim = Played(waits=waits)
    sim.play(6)
    for text, bars in (("one", 2), ("two", 3), ("three", 1), ("four", 2)):
        sim.queue.change(add(text, bars))
    sim.play(40)
    beats = [sim.first(text) for text in ("one", "two", "three", "four")]
    # A block is 0.2 beats at most: it tells the line that lies before it.
    assert [round(beat) % 4 for beat in beats] == [0, 0, 0, 0], beats
    assert [round(b - a) for a, b in itertools.pairwise(beats)] == [8, 12, 4], beats
    assert not sim.queue.active
    assert isinstance(sim.told[-1], QueueState)
    assert sim.told[-1].queue == protocol.QueueList()
    assert sim.words[-1][1] == "four"  # the last one goes on


def test_a_loop_goes_round_and_next_ends_an_item_at_the_next_bar() -> None:
    sim = Played()
    sim.play(4)
    sim.queue.change(add("long", 64))
    sim.queue.change(add("short", 1))
    sim.queue.change(Queue(id="2", op="loop", loop=True))
    sim.play(8)
    playing = sim.queue.shown().playing
    assert playing is not None
    assert playing.prompts[0].text == "long"
    begun, asked = sim.first("long"), sim.words[-1][0]
    sim.queue.change(Queue(id="3", op="next"))
    sim.play(6)
    assert sim.first("short") - asked < 8
    assert (sim.first("short") - begun) % 4 == pytest.approx(0, abs=0.3)
    assert [word for _, word in sim.words][-1] == "long"  # again
    assert texts(sim.queue) == ["short"]


def test_a_pause_stops_the_count_and_a_steer_does_not_move_the_queue() -> None:
    sim = Played()
    sim.play(4)
    sim.queue.change(add("one", 4))
    sim.queue.change(add("two", 4))
    sim.play(5)
    sim.steer("s", "by hand")
    sim.play(1)
    sim.transport("pause")
    for _ in range(20):
        sim.play(1)
    assert texts(sim.queue) == ["two"]
    sim.transport("resume")
    sim.play(8)
    assert round(sim.first("two") - sim.first("one")) == 16


def test_an_item_that_cannot_be_played_is_left_out_with_a_word() -> None:
    sim = Played()
    sim.play(2)
    sim.queue.change(add("three", 1))
    sim.queue.change(add("after", 1))
    refuse = sim.timeline.steer

    def steer(message: protocol.Steer, reply: object, now: float) -> None:
        if isinstance(message.prompts, tuple) and message.prompts[0].text == "three":
            reply(ProtocolError("bad_request", "no such metre").reply(message.id))  # type: ignore[operator]
        else:
            refuse(message, reply, now)  # type: ignore[arg-type]

    sim.timeline.steer = steer  # type: ignore[method-assign]
    sim.play(6)
    assert Event(kind="queue", reason="no such metre") in sim.told
    assert sim.first("after") > 0


def test_an_internal_error_costs_one_item_and_no_music() -> None:
    sim = Played()
    sim.play(2)
    sim.queue.change(add("broken", 1))
    sim.queue.change(add("after", 1))
    works = sim.timeline.steer

    def steer(message: protocol.Steer, reply: object, now: float) -> None:
        if isinstance(message.prompts, tuple) and message.prompts[0].text == "broken":
            raise RuntimeError("a fault")
        works(message, reply, now)  # type: ignore[arg-type]

    sim.timeline.steer = steer  # type: ignore[method-assign]
    sim.play(6)
    assert any(isinstance(each, Event) and each.kind == "queue" for each in sim.told)
    assert sim.first("after") > 0


def test_items_are_added_edited_moved_and_removed() -> None:
    queue = PromptQueue(4)
    for text in ("a", "b", "c"):
        queue.change(add(text))
    queue.change(add("first", to=0))
    assert texts(queue) == ["first", "a", "b", "c"]
    queue.change(Queue(id="1", op="move", item=ids(queue)["c"], to=1))
    assert texts(queue) == ["first", "c", "a", "b"]
    queue.change(Queue(id="1", op="edit", item=ids(queue)["a"], bars=32, bpm=90.0))
    edited = queue.shown().items[2]
    assert (edited.prompts[0].text, edited.bars, edited.bpm, edited.ramp_bars) == ("a", 32, 90.0, 0)
    queue.change(Queue(id="1", op="remove", item=ids(queue)["first"]))
    assert texts(queue) == ["c", "a", "b"]
    queue.change(Queue(id="1", op="clear"))
    assert texts(queue) == []


@pytest.mark.parametrize(
    ("message", "code", "field", "words"),
    [
        (Queue(id="x", op="add"), "bad_request", "prompts", "missing"),
        (Queue(id="x", op="remove"), "bad_request", "item", "missing"),
        (Queue(id="x", op="remove", item="nope"), "bad_request", "item", "'nope' is not in the queue"),
        (Queue(id="x", op="edit", item="q0"), "bad_request", None, "changes nothing"),
        (Queue(id="x", op="move", item="q0"), "bad_request", "to", "missing"),
        (Queue(id="x", op="loop"), "bad_request", "loop", "missing"),
        (add("third"), "busy", None, "2 items; allowed: up to 2"),
    ],
)
def test_a_refused_change_says_why_and_changes_nothing(
    message: Queue, code: str, field: str | None, words: str
) -> None:
    queue = PromptQueue(2)
    queue.change(add("one"))
    queue.change(add("two"))
    before = queue.shown()
    with pytest.raises(ProtocolError, match=words) as refused:
        queue.change(message)
    assert (refused.value.code, refused.value.field, refused.value.id) == (code, field, message.id)
    assert queue.shown() == before


def test_the_size_of_a_queue_is_bounded_and_may_be_nothing() -> None:
    queue = PromptQueue(200)
    for _ in range(26):
        queue.change(add("x" * 300))
    with pytest.raises(ProtocolError, match="8100 characters; allowed: up to 8000"):
        queue.change(add("x" * 300))
    assert len(protocol.encode(QueueState(queue=queue.shown()))) < 36_864
    with pytest.raises(ProtocolError, match=r"limits\.queue is 0"):
        PromptQueue(0).change(add("one"))


def test_a_queue_survives_as_json() -> None:
    queue = PromptQueue(8)
    for text in ("now", "then", "last"):
        queue.change(add(text, 4, bpm=90.0))
    queue.change(Queue(id="1", op="loop", loop=True))
    assert queue.due(0.0) is not None
    saved = msgspec.json.decode(msgspec.json.encode(queue.to_dict()))
    again = PromptQueue(8)
    again.restore(saved)
    assert texts(again) == ["now", "then", "last"]
    assert again.shown().loop
    assert again.shown().items[0].bpm == 90.0
    again.change(add("new"))
    assert len(set(ids(again).values())) == 4
    smaller = PromptQueue(2)
    smaller.restore(saved)
    assert texts(smaller) == ["now", "then"]
    with pytest.raises(msgspec.ValidationError):
        again.restore({"items": [{"text": "no"}]})
    assert texts(again) == ["now", "then", "last", "new"]
