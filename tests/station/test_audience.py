"""Listeners that count, and who is told what."""

from __future__ import annotations

from riffstream import protocol
from riffstream.protocol import Event, Now
from riffstream.station.audience import Audience


def playing(rev: int, clip: int, prompt: str = "a", beat: float = 0.0) -> Now:
    state = protocol.State(prompts=(protocol.Prompt(text=prompt),))
    return Now(rev=rev, sample_pos=round(beat * 100), state=state, alpha=0.0, clip=clip, beat=beat)


def show(audience: Audience, now: Now) -> None:
    audience.show((), lambda: now)


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
        show(audience, now)
    assert told == [first, playing(0, 1), playing(1, 1), playing(1, 1, "b")]
    audience.forget_shown()
    show(audience, playing(1, 1, "b", beat=2.0))
    assert len(told) == 5
    leave()
    leave()
    show(audience, playing(2, 2))
    assert (len(told), audience.subscribers) == (5, 0)


def test_what_plays_is_not_made_where_the_moment_is_the_same() -> None:
    audience = Audience("s", lambda: 0.0)
    told: list[Now | Event] = []
    made: list[Now] = []
    audience.subscribe(told.append)

    def make() -> Now:
        made.append(playing(0, 0))
        return made[-1]

    for moment in ((0, 1), (0, 1), (0, 2)):
        audience.show(moment, make)
    assert (len(made), len(told)) == (2, 1)
    audience.forget_shown()
    audience.show((0, 2), make)
    assert (len(made), len(told)) == (3, 2)


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
