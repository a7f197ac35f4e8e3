"""What the client asks: steers from arguments, and answers that come, or do not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from riffstream import protocol
from riffstream.client import RadioError
from riffstream.client.requests import Requests, steer_message
from riffstream.errors import ParameterError


def test_a_steer_says_only_what_it_is_given() -> None:
    steer = steer_message("s1", ["bells", ("rain", 0.3)], {"bpm": 90, "seed": None})
    assert steer.id == "s1"
    assert steer.prompts == (protocol.Prompt(text="bells", weight=1.0), protocol.Prompt(text="rain", weight=0.3))
    assert (steer.bpm, steer.seed, steer.key) == (90.0, None, msgspec.UNSET)
    assert steer_message("s2", None, {}).prompts is msgspec.UNSET
    assert steer_message("s3", "bells", {}).prompts == (protocol.Prompt(text="bells"),)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [({"tempo": 90}, ParameterError, "tempo"), ({"bpm": "fast"}, RadioError, "bpm"), ({"at": "now"}, RadioError, "at")],
)
def test_a_steer_that_is_none_is_refused(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        steer_message("s1", None, changes)


def test_what_is_out_of_range_is_told_with_its_field_and_range() -> None:
    with pytest.raises(RadioError, match=r"bpm: .*allowed: .*40.*240") as refused:
        steer_message("s1", None, {"bpm": 500})
    assert (refused.value.code, refused.value.field) == ("bad_request", "bpm")
    with pytest.raises(RadioError, match="weight") as refused:
        steer_message("s1", [("bells", "loud")], {})  # type: ignore[list-item]
    assert refused.value.field == "prompts[0].weight"


async def test_a_change_is_answered_when_its_first_sample_is_there() -> None:
    requests = Requests(listens=True)
    with requests.change("a") as answer:
        applied = protocol.Applied(id="a", rev=3, audible_at=4800)
        requests.take(applied, 100)
        requests.heard(4800)
        assert not answer.done()
        requests.heard(4801)
        assert answer.result() == applied


async def test_without_audio_a_change_is_answered_when_it_is_applied() -> None:
    requests = Requests(listens=False)
    with requests.change("a") as answer:
        requests.take(protocol.Applied(id="a", rev=3, audible_at=4800), 0)
        assert answer.result().rev == 3


async def test_changes_fail_with_the_connection_and_only_while_somebody_waits() -> None:
    requests = Requests(listens=True)
    with requests.change("a") as answer:
        requests.fail("disconnected", "gone")
        with pytest.raises(RadioError, match="gone"):
            answer.result()
    requests.take(protocol.Superseded(id="a", by="b"), 0)
    requests.fail("disconnected", "gone")
