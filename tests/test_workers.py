"""The sharing of the tests among several workers."""

from __future__ import annotations

import re

from tests.conftest import ROOT
from tests.workers import CAPTURED, SIMULATED, choose, kind, unit

SOUND, PAGE = "tests/browser/test_playing.py", "tests/browser/test_form.py"
SERVER, SUMS = "tests/server/test_api.py", "tests/audio/test_fades.py"
ALL = [SOUND, PAGE, SERVER, SUMS]


def order(worker: str, count: int) -> list[str]:
    """The pieces of work in the order in which a worker would take them all."""
    left, taken = list(ALL), []
    while (chosen := choose(left, worker, count)) is not None:
        taken.append(chosen)
        left.remove(chosen)
    return taken


def test_each_worker_begins_with_its_kind_and_helps_the_others() -> None:
    assert order("gw0", 3) == [SOUND, PAGE, SERVER, SUMS]
    assert order("gw1", 3) == [SERVER, PAGE, SUMS, SOUND]
    assert order("gw2", 3) == [SUMS, SERVER]
    assert order("gw2", 4) == [SERVER, SUMS]
    assert order("gw3", 4) == order("gw2", 3)
    assert order("gw1", 2) == [SERVER, PAGE, SUMS, SOUND]


def test_the_first_of_a_kind_is_taken_first() -> None:
    assert choose([SERVER, "tests/relay/test_relay.py"], "gw1", 3) == SERVER


def test_files_that_capture_sound_are_one_piece_and_the_others_their_own() -> None:
    assert {unit(f"{file}::test_x[a::b]") for file in CAPTURED} == {min(CAPTURED)}
    assert [unit(f"{file}::test_x[a::b]") for file in ALL[1:]] == ALL[1:]
    assert [kind(f"{file}::test_x") for file in ALL] == ["captured", "browser", "in time", "computed"]
    assert kind("tests/test_docs.py::test_x") == "computed"


def test_the_lists_name_the_files_that_capture_sound() -> None:
    taps = re.compile(r"listening\.(tap|record|whole_for|take)\(|createScriptProcessor")
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests" / "browser").glob("test_*.py")
        if taps.search(path.read_text(encoding="utf-8"))
    }
    assert found <= CAPTURED
    assert all((ROOT / file).is_file() for file in CAPTURED | SIMULATED)
