"""The structure of the package: arrows point one way, the server has no torch, and ARCHITECTURE.md shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rooms import ROOT, imports, modules, purpose, room, rooms, subrooms, table

ARCHITECTURE = (ROOT.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A path that comes back to its start; empty where there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for needed in sorted(graph[name]):
            if found := walk(needed, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {name: set(imports(path)) - {name} for name, path in modules().items()}
    assert len(graph) > 200
    assert circle(graph) == []


def test_no_room_imports_itself_by_a_detour() -> None:
    assert circle(rooms()) == []


def test_the_walk_finds_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_the_table_of_rooms_is_true() -> None:
    assert table() in ARCHITECTURE, "python -m tests.rooms prints the table that belongs there"


def test_each_room_says_what_it_is_for() -> None:
    own_rooms = {room(name) for name in modules()} - {"__init__"}
    assert len(own_rooms) > 20
    for own in own_rooms:
        for part in [own, *subrooms(own)]:
            assert purpose(part), part


@pytest.mark.parametrize(
    "entry",
    [
        "riffstream.server.app",
        "riffstream.station.hub",
        "riffstream.config",
        "riffstream.journey.wander",
        "riffstream.client",
    ],
)
def test_what_serves_needs_no_torch(entry: str) -> None:
    program = f"import sys; import {entry}; print(sorted({{'torch', 'diffusers', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("own", ["config", "journey", "protocol", "server", "client"])
def test_rooms_below_the_pipe_never_name_torch(own: str) -> None:
    """Also not inside functions, where no import of the room would show it."""
    paths = {name: path for name, path in modules().items() if room(name) == own and "worker" not in name}
    assert paths
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        assert "import torch" not in text, name
        assert "from torch" not in text, name


def test_where_to_add_what_names_places_that_exist() -> None:
    part = ARCHITECTURE.partition("## Where to add what")[2].partition("\n## ")[0]
    places = set(re.findall(r"`([\w/]+(?:\.(?:py|js|md)|/))`", part))
    assert len(places) > 30
    for place in sorted(places):
        assert (ROOT / place).exists() or (ROOT.parent / place).exists(), place


def test_files_hold_one_idea() -> None:
    """About 450 lines."""
    for path in modules().values():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 470, f"{path.relative_to(ROOT)} has {lines} lines"


def test_every_folder_of_tests_mirrors_a_room() -> None:
    tests = Path(__file__).parent
    folders = {path.name for path in tests.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    extra = {"browser", "examples"}  # the player, and the programs in examples/
    assert folders - extra <= {room(name) for name in modules()}
