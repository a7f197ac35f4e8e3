"""What an OSC message asks for, and how wrong ones are refused."""

from __future__ import annotations

from typing import Any

import pytest

from riffstream.bridge.changes import Complaints
from riffstream.bridge.osc import change_of
from riffstream.errors import RiffstreamError

PROMPTS = [("piano", 1.0), ("rain", 0.3)]


@pytest.mark.parametrize(
    ("address", "args", "fields"),
    [
        ("/prompt", ["deep house"], {"prompts": [("deep house", 1.0)]}),
        ("/riffstream/prompts", ["a", 0.5, "b"], {"prompts": [("a", 0.5), ("b", 1.0)]}),
        ("/weight", [2, 0.9], {"prompts": [("piano", 1.0), ("rain", 0.9)]}),
        ("/weight", [1.0, 0.2], {"prompts": [("piano", 0.2), ("rain", 0.3)]}),
        ("/tempo", [98.5], {"bpm": 98.5}),
        ("/bpm", ["auto"], {"bpm": "auto"}),
        ("/bpm", ["default"], {"bpm": None}),
        ("/key", [None], {"key": None}),
        ("/key", [-3], {"key": -3}),
        ("/seed", [7.0], {"seed": 7}),
        ("/at", ["bar"], {"at": "bar"}),
        ("/chords", ["Am F C G"], {"chords": "Am F C G"}),
        ("/energy", [0.5], {"energy": 0.5}),
        ("/parts/drums", [0.0], {"parts": {"drums": 0.0}}),
        ("/desk/filter", [-0.4], {"mix": {"filter": -0.4}}),
        ("/mix/hold", [1], {"mix": {"hold": True}}),
        ("/mix/mute", ["drums bass"], {"mix": {"mute": ["drums", "bass"]}}),
    ],
)
def test_a_message_is_a_change(address: str, args: list[Any], fields: dict[str, Any]) -> None:
    assert change_of(address, args, PROMPTS) == fields


@pytest.mark.parametrize(
    ("address", "args", "words"),
    [
        ("/bpm", [9000.0], ("bpm", "40 to 240")),
        ("/bpm", ["fast"], ("bpm", "auto")),
        ("/bpm", [], ("/bpm", "one value")),
        ("/key", ["C"], ("key", "-6 to 6")),
        ("/prompt", [], ("/prompt", "a text")),
        ("/prompt", [0.5], ("/prompt", "texts")),
        ("/prompt", ["a", 11.0], ("weight", "0 to 10")),
        ("/weight", [3, 1.0], ("/weight", "1 to 2")),
        ("/weight", ["rain"], ("/weight", "number")),
        ("/bmp", [120], ("/bmp", "bpm")),
        ("/id", ["x"], ("/id", "prompts")),
        ("/mix/basss", [1.0], ("basss", "drums, tonal")),
        ("/parts/drums", [2.0], ("drums", "0 to 1")),
        ("/", [1], ("'/'", "prompts")),
    ],
)
def test_a_wrong_message_is_refused_by_name_and_range(address: str, args: list[Any], words: tuple[str, str]) -> None:
    with pytest.raises(RiffstreamError) as refused:
        change_of(address, args, PROMPTS)
    for word in words:
        assert word in str(refused.value)


def test_a_flood_of_bad_messages_is_five_lines_and_a_count() -> None:
    lines: list[str] = []
    time = 0.0
    complain = Complaints(lines.append, lambda: time)
    for number in range(1000):
        complain(f"bad {number}")
    assert lines == [f"bad {number}" for number in range(5)]
    time = 11.0
    complain("bad again")
    assert lines[5:] == ["995 more messages were refused", "bad again"]
