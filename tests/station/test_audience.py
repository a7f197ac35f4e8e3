"""Listeners that count, and who is told what."""

from __future__ import annotations

from riffstream import protocol
from riffstream.protocol import Event, Now
from riffstream.station.audience import Audience


def playing(rev: int, clip: int, prompt: str = "a", beat: float = 0.0) -> Now:
    state = protocol.State(prompts=(protocol.Prompt(text=prompt),))
    return Now(rev=rev, sample_pos=round(beat * 100), state=state, alpha=0.0, clip=clip, beat=beat)


def test_listeners_count_by_kind_until_they_leave() -> None:
    time = [10.0]
    audience = Audience("s", lambda: time[0])
    first, second = audience.join("ws"), audience.join("http")
    assert (audience.listeners, audience.by_kind) == (2, {"ws": 1, "http": 1})
    time[0] = 20.0
    first.close()
    first.close()
    with second:
        pass
    assert (audience.listeners, audience.by_kind, audience.left_at) == (0, {}, 20.0)


def test_what_plays_is_told_when_it_is_another() -> None:
    audience = Audience("s", lambda: 0.0)
    told: list[Now | Event] = []
    leave = audience.subscribe(told.append)
    first = playing(0, 0)
    for now in (first, playing(0, 0, beat=1.0), playing(0, 1), playing(1, 1), playing(1, 1, "b")):
        audience.show(now)
    assert told == [first, playing(0, 1), playing(1, 1), playing(1, 1, "b")]
    audience.forget_shown()
    audience.show(playing(1, 1, "b", beat=2.0))
    assert len(told) == 5
    leave()
    leave()
    audience.show(playing(2, 2))
    assert (len(told), audience.subscribers) == (5, 0)


def test_one_subscriber_that_fails_leaves_the_others_told() -> None:
    audience = Audience("s", lambda: 0.0)
    told: list[Now | Event] = []

    def broken(_: Now | Event) -> None:
        raise ValueError("broken on purpose")

    audience.subscribe(broken)
    audience.subscribe(told.append)
    audience.tell(Event(kind="splice", sample_pos=0))
    assert len(told) == 1
    audience.dismiss()
    audience.tell(Event(kind="splice", sample_pos=1))
    assert len(told) == 1
