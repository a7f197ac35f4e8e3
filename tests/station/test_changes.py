"""Who waits to hear a change, and changes on top of changes."""

from __future__ import annotations

import pytest

from riffstream import protocol
from riffstream.config import StationConfig
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.changes import Waiters, merged
from riffstream.station.score import Change, Score

SCORE = Score.of(StationConfig(), ToneRenderer().info, Journey.single("a"))
LATER = Score.of(StationConfig(), ToneRenderer().info, Journey.single("b"))


def waiting() -> tuple[Waiters, list[protocol.ServerMessage]]:
    requests, replies = Waiters(), list[protocol.ServerMessage]()
    assert not requests
    assert requests.newest == ""
    requests.add("one", 4, replies.append)
    requests.add("two", 5, replies.append)
    assert (len(requests), requests.newest) == (2, "two")
    return requests, replies


def test_everybody_is_answered_once_in_the_order_of_asking() -> None:
    requests, replies = waiting()
    requests.applied(4800, 7)
    requests.superseded("three")
    requests.rejected("internal", "no")
    assert replies == [
        protocol.Applied(id="one", rev=4, audible_at=4800),
        protocol.Applied(id="two", rev=5, audible_at=4800),
    ]
    assert not requests


def test_a_change_that_is_not_heard_says_why() -> None:
    requests, replies = waiting()
    requests.superseded("three")
    assert replies == [protocol.Superseded(id=ident, by="three") for ident in ("one", "two")]
    requests, replies = waiting()
    requests.rejected("bad_request", "no such seed")
    assert replies == [
        protocol.Rejected(id=ident, code="bad_request", message="no such seed") for ident in ("one", "two")
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Change(SCORE, "clip", 3, 2.0), Change(LATER, "vocoder"), Change(LATER, "clip", 3, 2.0)),
        (Change(SCORE, "clip"), Change(LATER, "vocoder", None, 1.0), Change(LATER, "clip", None, 1.0)),
        (Change(SCORE, "vocoder"), Change(LATER, "vocoder"), Change(LATER, "vocoder")),
        (Change(SCORE, "clip", 3), Change(LATER, "clip", 0, 4.0), Change(LATER, "clip", 0, 4.0)),
    ],
)
def test_where_either_change_needs_new_clips_both_get_them(before: Change, after: Change, expected: Change) -> None:
    assert merged(after, before) == expected
