"""The benchmark of a tree of relays and a bus compares the frames of all receivers."""

from __future__ import annotations

import json

import pytest

from riffstream.bench import bus
from riffstream.cli import main
from riffstream.errors import RiffstreamError


def test_delays_are_those_behind_the_first_receiver_and_every_other_byte_counts() -> None:
    first = {number: (float(number), b"%d" % number) for number in range(30)}
    late = {number: (at + 0.004, data) for number, (at, data) in first.items()}
    torn = {**late, 5: (5.0, b"other")}
    del torn[6]
    added, different = bus._compared([first, late, torn])
    assert (len(added), different) == (2 * 18 - 2, 2)  # two at the beginning and ten at the end are not compared
    assert added == pytest.approx([4.0] * len(added))
    with pytest.raises(RiffstreamError, match="no frame arrived everywhere"):
        bus._compared([first, {}])


@pytest.mark.slow
def test_a_tree_and_a_bus_deliver_every_frame(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "bus", "--relays", "2", "--seconds", "3", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    tree = found["tree"]
    assert tree["relays"] == 2
    assert tree["different"] == 0
    assert tree["frames"] >= 4
    assert tree["relay_us"] > 0
    if (why := bus.missing()) != "":
        assert found["bus"] == {"left_out": why}
        pytest.skip(why)
    assert found["bus"]["different"] == 0
    assert found["bus"]["frames"] >= 4
    assert found["bus"]["broker_idle_us"] > 0


def test_without_its_programs_the_bus_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert bus.missing() == "nats-server is not installed"


@pytest.mark.parametrize("option", ["--relays=1", "--seconds=0"])
def test_impossible_sizes_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "bus", option]) == 2
    assert option.split("=")[0] in capsys.readouterr().err
