from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from riffstream.server.limits import ConnectionCounter, TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_bucket_allows_a_burst_then_one_per_interval() -> None:
    clock = Clock()
    bucket = TokenBucket(2.0, 3, clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_s() == 2.0
    clock.now += 1.5
    assert not bucket.take()
    assert bucket.wait_s() == 0.5
    clock.now += 0.5
    assert bucket.take()
    assert not bucket.take()


@given(st.lists(st.floats(0, 10), max_size=60))
def test_bucket_never_exceeds_its_rate(pauses: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(2.0, 3, clock)
    taken = 0
    for pause in pauses:
        clock.now += pause
        taken += bucket.take()
    assert taken <= 3 + sum(pauses) / 2.0 + 1e-6


def test_bucket_survives_a_clock_that_jumps_back() -> None:
    clock = Clock()
    bucket = TokenBucket(2.0, 1, clock)
    assert bucket.take()
    clock.now -= 1000
    assert not bucket.take()
    clock.now += 2
    assert bucket.take()


def test_bucket_without_an_interval_allows_everything() -> None:
    bucket = TokenBucket(0.0, 1, Clock())
    assert all(bucket.take() for _ in range(100))
    assert bucket.wait_s() == 0.0


def test_counter_refuses_by_address_and_in_total() -> None:
    counter = ConnectionCounter(total=3, per_address=2)
    for _ in range(2):
        assert counter.refusal("a") is None
        counter.enter("a")
    assert counter.refusal("a") == "too many connections from a (2 are allowed)"
    assert counter.refusal("b") is None
    counter.enter("b")
    assert counter.refusal("c") == "the server is full (3 connections)"
    counter.leave("a")
    assert counter.refusal("a") is None
    for address in ("a", "b"):
        counter.leave(address)
    assert counter.open == 0
