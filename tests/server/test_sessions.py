"""Sessions: who may come back, for how long, and what they cost."""

from __future__ import annotations

from riffstream.server.sessions import Sessions


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def nothing() -> None:
    """Of a connection that need not be ended."""


def test_a_session_can_be_resumed_once_within_its_time_and_on_its_own_fanout() -> None:
    clock = Clock()
    sessions = Sessions(60.0, clock=clock)
    one, two, three = (sessions.open(7, nothing) for _ in range(3))
    for name in (one, two, three):
        sessions.leave(name)
        sessions.leave(name)
    clock.now = 59.9
    assert not sessions.resume("unknown", 7)
    assert sessions.resume(one, 7)
    assert not sessions.resume(one, 7)
    assert not sessions.resume(two, 8)
    clock.now = 60.0
    assert not sessions.resume(three, 7)
    assert len(sessions) == 0


def test_sessions_left_long_ago_go_with_the_next_that_is_opened() -> None:
    clock = Clock()
    sessions = Sessions(60.0, clock=clock)
    for _ in range(500):
        sessions.leave(sessions.open(1, nothing))
        clock.now += 120.0
    assert len(sessions) <= 1


def test_a_connected_session_does_not_expire() -> None:
    clock = Clock()
    sessions = Sessions(60.0, clock=clock)
    name = sessions.open(1, nothing)
    clock.now = 1e6
    sessions.expire()
    assert len(sessions) == 1
    sessions.leave(name)
    assert sessions.resume(name, 1)


def test_no_more_than_so_many_are_kept_and_the_oldest_goes() -> None:
    sessions = Sessions(60.0, most=3, clock=Clock())
    names = [sessions.open(1, nothing) for _ in range(5)]
    for name in names:
        sessions.leave(name)
    assert [sessions.resume(name, 1) for name in names] == [False, False, True, True, True]


def test_whoever_comes_back_first_ends_the_old_connection() -> None:
    sessions = Sessions(clock=Clock())
    ended: list[str] = []
    name = sessions.open(1, lambda: ended.append("old"))
    assert not sessions.resume(name, 1)  # still in use
    sessions.take_over(name)
    sessions.take_over(name)
    sessions.take_over("unknown")
    assert ended == ["old"]
    assert sessions.resume(name, 1)
