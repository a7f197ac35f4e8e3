"""The list of requests: votes, order, limits, reactions, and a later process."""

from __future__ import annotations

import json
import logging

import msgspec
import pytest

from riffstream.protocol import ProtocolError, Reactions
from riffstream.station.requests import BUCKETS, MOST_OF_ONE, MOST_VOTES, REACTION_S, Requests


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def listed(requests: Requests) -> list[tuple[str, int]]:
    return [(item.text, item.votes) for item in requests.shown().items]


def test_the_most_wanted_come_first_and_each_client_votes_once() -> None:
    requests = Requests(5, Clock())
    for text, voter in (("rain", "a"), ("church bells", "b"), ("deep house", "c")):
        requests.suggest(text, voter)
    assert listed(requests) == [("rain", 1), ("church bells", 1), ("deep house", 1)]
    second = requests.shown().items[1].id
    for voter in ("a", "a", "b", "c"):
        requests.vote(second, voter)
    assert listed(requests)[0] == ("church bells", 3)
    requests.suggest("Deep House", "d")  # the same request
    assert listed(requests) == [("church bells", 3), ("deep house", 2), ("rain", 1)]


def test_a_request_that_is_gone_is_named() -> None:
    requests = Requests(5, Clock())
    requests.suggest("rain", "a")
    (item,) = requests.shown().items
    assert requests.text(item.id) == "rain"
    requests.remove(item.id)
    for call in (requests.text, requests.remove, lambda id_: requests.vote(id_, "a")):
        for given, words in ((item.id, "taken or dismissed"), (None, "item is missing")):
            with pytest.raises(ProtocolError, match=words) as refused:
                call(given)
            assert refused.value.field == "item"
    requests.suggest("wind", "a")
    assert requests.shown().items[0].id != item.id  # a late vote does not hit another request


def test_a_full_list_says_so_and_still_takes_votes() -> None:
    requests = Requests(2, Clock())
    requests.suggest("rain", "a")
    requests.suggest("wind", "a")
    with pytest.raises(ProtocolError, match="allowed: up to 2") as refused:
        requests.suggest("snow", "a")
    assert refused.value.code == "busy"
    requests.suggest("rain", "b")
    assert listed(requests) == [("rain", 2), ("wind", 1)]


def test_nobody_fills_the_list_alone() -> None:
    requests = Requests(50, Clock())
    for number in range(MOST_OF_ONE):
        requests.suggest(f"rain {number}", "a")
    later = Requests.opened("main", 50, Clock(), json.loads(json.dumps(requests.to_dict())))
    for each in (requests, later):
        with pytest.raises(ProtocolError, match=f"has {MOST_OF_ONE} requests from you") as refused:
            each.suggest("wind", "a")
        assert refused.value.code == "rate_limited"
        each.suggest("wind", "b")
        each.suggest("Wind", "a")  # a vote
        each.remove(each.shown().items[-1].id)
        each.suggest("snow", "a")
        assert listed(each)[0] == ("wind", 2)


def test_votes_are_bounded_because_all_of_them_are_saved() -> None:
    requests = Requests(5, Clock())
    requests.suggest("rain", "0")
    (item,) = requests.shown().items
    for number in range(1, MOST_VOTES):
        requests.vote(item.id, str(number))
    requests.vote(item.id, "7")  # not a new one
    for call in (lambda: requests.vote(item.id, "new"), lambda: requests.suggest("Rain", "new")):
        with pytest.raises(ProtocolError, match=f"has {MOST_VOTES} votes") as refused:
            call()
        assert refused.value.code == "busy"
    assert listed(requests) == [("rain", MOST_VOTES)]


def test_reactions_count_for_a_minute() -> None:
    clock = Clock()
    requests = Requests(2, clock)
    requests.react("fire")
    clock.now += REACTION_S / 2
    requests.react("fire")
    requests.react("heart")
    assert requests.shown().reactions == Reactions(fire=2, heart=1)
    clock.now += REACTION_S / 2 + 1
    assert requests.shown().reactions == Reactions(fire=1, heart=1)
    clock.now += REACTION_S
    assert requests.shown().reactions == Reactions()


def test_reactions_of_ten_minutes_are_kept_as_counts_of_ten_seconds() -> None:
    clock = Clock()
    requests = Requests(2, clock)
    clock.now = 1000.0
    for _ in range(5000):  # more than are remembered one by one
        requests.react("fire")
    clock.now = 1009.9
    requests.react("wow")
    assert requests.history()[-1] == Reactions(fire=5000, wow=1)
    clock.now = 1010.0
    requests.react("heart")
    assert requests.history()[-2:] == (Reactions(fire=5000, wow=1), Reactions(heart=1))
    clock.now = 1599.9
    history = requests.history()
    assert len(history) == BUCKETS == 60
    assert (history[0], history[1]) == (Reactions(fire=5000, wow=1), Reactions(heart=1))
    assert set(history[2:]) == {Reactions()}
    clock.now = 1600.0
    assert requests.history()[0] == Reactions(heart=1)
    for _ in range(10_000):
        clock.now += 10
        requests.react("heart")
    assert requests.history() == (Reactions(heart=1),) * BUCKETS


def test_requests_and_votes_go_on_in_a_later_process() -> None:
    requests = Requests(5, Clock())
    requests.suggest("rain", "198.51.100.7")
    requests.suggest("wind", "b")
    requests.vote(requests.shown().items[1].id, "198.51.100.7")
    kept = json.loads(json.dumps(requests.to_dict()))
    assert "198.51" not in json.dumps(kept)
    later = Requests.opened("main", 5, Clock(), kept)
    assert later.shown().items == requests.shown().items
    later.vote(later.shown().items[0].id, "198.51.100.7")  # it has voted already
    assert listed(later) == [("wind", 2), ("rain", 1)]
    later.suggest("snow", "c")
    assert len({item.id for item in later.shown().items}) == 3
    assert listed(Requests.opened("main", 1, Clock(), kept)) == [("rain", 1)]


def test_a_saved_list_that_cannot_be_read_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for kept in ({"items": 5}, {"items": [{"id": "", "text": "x", "voters": []}], "salt": "s"}, {}):
        with caplog.at_level(logging.WARNING):
            assert listed(Requests.opened("main", 5, Clock(), kept)) == []
        assert "saved requests cannot be read" in caplog.text
        with pytest.raises(msgspec.ValidationError):
            Requests(5, Clock()).restore(kept)
