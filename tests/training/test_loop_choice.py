"""Which loops of a style come into the library, what is known of them, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from riffstream.corpus.data import SongFile
from riffstream.journey.chords import parse_bars
from riffstream.models.seeds import SeedEntry
from riffstream.training.loop_choice import choose_loops
from riffstream.training.loop_levels import with_levels
from riffstream.training.loop_names import loop_name


def song(name: str, *windows: Mapping[str, Any], look: str = "plain", held_out: bool = False) -> SongFile:
    """A song with a window for each dict: ``parts`` that play, ``instruments``, ``onsets``."""
    facts: list[list[dict[str, Any]]] = [
        [
            {
                "chords": [None, "Am7"] if bar else ["F/C"],
                "parts": dict.fromkeys(window["parts"], 0.0),
                "onsets": window.get("onsets", 3.0),
                "level_db": 41.7,
                "brightness": 9.7,
                "starts": False,
                "ends": False,
                "fill": window.get("fill", False),
            }
            for bar in range(2)
        ]
        for window in windows
    ]
    return SongFile(
        path=Path(f"{name}.npy"), name=name, style="techno", bpm=120.0, beats=8, minor=True, look=look,
        held_out=held_out, sections=["full"] * len(windows),
        instruments=[tuple(window.get("instruments", ("drums", "bass"))) for window in windows],
        captions=[["techno"]] * len(windows), facts=facts, stamp=0,
    )  # fmt: skip


BAND = ("drums", "bass", "chords")


def test_the_fullest_window_is_first_and_the_next_is_unlike_it() -> None:
    songs = [
        song("techno/0", {"parts": BAND}, {"parts": (*BAND, "lead"), "instruments": ("drums", "bass", "flute")}),
        song("techno/1", {"parts": BAND, "onsets": 2.9}, {"parts": ("bass", "chords"), "instruments": ("bass",)}),
    ]
    first, second, *_ = chosen = choose_loops(songs, (), 4)
    assert (first.song.name, first.number) == ("techno/0", 1)
    assert (second.song.name, second.number) == ("techno/1", 1), "without drums"
    assert len({(each.song.name, each.number) for each in chosen}) == 4
    assert len(choose_loops(songs, (), 9)) == 4
    assert choose_loops(songs, (), 0) == []


def test_songs_without_facts_and_instruments_have_loops_too() -> None:
    """A user's own files."""
    bare = [replace(song(f"own/{k}", {"parts": (), "instruments": ()}), facts=[[]]) for k in range(3)]
    assert len(choose_loops(bare, (), 2)) == 2
    known = SeedEntry("own", "own", ("own",), "", 120.0, 8)
    assert len(choose_loops(bare, [known], 2)) == 2


def test_loops_that_are_there_already_count() -> None:
    songs = [song("techno/0", {"parts": BAND}, {"parts": ("bass", "chords"), "instruments": ("drums", "bass")})]
    for drums, expected in ((1.0, 1), (0.0, 0)):
        parts = {"drums": drums, "bass": 1.0, "chords": 1.0, "pad": 0.0, "arp": 0.0, "lead": 0.0}
        tags = ("techno", "drums", "bass")
        known = SeedEntry("techno", "techno", tags, "", 120.0, 8, (), "", parts, 0.4, 0.5, 0.5)
        assert choose_loops(songs, [known], 1)[0].number == expected


@pytest.mark.parametrize("poor", [{"look": "filtered"}, {"held_out": True}])
def test_sweeps_fills_and_held_out_songs_are_poor_starts(poor: dict[str, Any]) -> None:
    known = [SeedEntry("techno", "techno", (), "", 120.0, 8)]
    songs = [song("techno/0", {"parts": BAND}, **poor), song("techno/1", {"parts": BAND})]
    assert choose_loops(songs, known, 1)[0].song.name == "techno/1"
    assert choose_loops([songs[0], song("techno/2", {"parts": BAND})], (), 1)[0].song.name == "techno/2"
    filled = [song("techno/0", {"parts": BAND, "fill": True}, {"parts": BAND})]
    assert choose_loops(filled, known, 1)[0].number == 1


def test_a_window_knows_its_conditions() -> None:
    window = choose_loops([song("techno/0", {"parts": ("drums",)})], (), 1)[0]
    assert window.levels.parts == {"drums": 1, "bass": 0, "chords": 0, "pad": 0, "arp": 0, "lead": 0}
    assert window.levels.energy == window.levels.brightness == 0.5
    assert window.chords == "F/C N.C. / Am7"
    assert [len(bar) for bar in parse_bars(window.chords)] == [1, 2]


def test_names_say_what_sets_a_loop_apart() -> None:
    def entry(name: str, *tags: str, **parts: float) -> SeedEntry:
        return SeedEntry(name, "techno", ("techno", *tags), "", 120.0, 8, parts=parts, density=0.4)

    full = entry("techno", "drums", "bass", drums=1.0, bass=1.0, chords=1.0, pad=0.0)
    known = [full, entry("hard_techno")]
    cases = [
        ({"parts": BAND, "instruments": ("drums", "flute")}, "techno_flute"),
        ({"parts": ("bass", "chords"), "instruments": ("bass", "flute")}, "techno_flute"),
        ({"parts": (*BAND, "pad")}, "techno_2"),
        ({"parts": ("drums",)}, "techno_drums_only"),
    ]
    for window, name in cases:
        assert loop_name("techno", choose_loops([song("techno/0", window)], (), 1)[0], known) == name
    cases = [
        ({"parts": ("bass", "chords")}, "techno_no_drums"),
        ({"parts": (*BAND, "pad")}, "techno_pads"),
        ({"parts": BAND, "onsets": 0.2}, "techno_sparse"),
        ({"parts": BAND, "instruments": ("909 drums", "bass")}, "techno_909_drums"),
        ({"parts": BAND, "onsets": 3.2}, "techno_2"),
    ]
    for window, name in cases:
        assert loop_name("techno", choose_loops([song("techno/0", window)], (), 1)[0], [full]) == name
    window = choose_loops([song("techno/0", {"parts": BAND})], (), 1)[0]
    assert loop_name("Drum'n'Bass", window, [full]) == "drum_n_bass"
    assert loop_name("techno", window, [*known, entry("techno_2")]) == "techno_3"


def test_levels_of_a_loop_without_facts_are_those_of_its_sound() -> None:
    entry = SeedEntry("a", "a", ("jazz", "steel drums", "bassoon"), "", 100.0, 8)
    quiet, dark = np.zeros((2, 256, 512), np.float32), np.zeros((2, 256, 512), np.float32)
    quiet[:, 200], dark[:, 10] = 0.1, 90.0
    soft, loud = with_levels(entry, quiet), with_levels(entry, dark)
    assert soft.parts == {"drums": 0.0, "bass": 0.0}
    assert None not in (soft.energy, loud.energy, soft.brightness, loud.brightness)
    assert soft.energy < loud.energy  # type: ignore[operator]
    assert soft.brightness > loud.brightness  # type: ignore[operator]
    for instrument, parts in (("909 drums", {"drums": 1.0, "bass": 0.0}), ("tuba", {"drums": 0.0, "bass": 1.0})):
        assert with_levels(SeedEntry("a", "a", ("jazz", instrument), "", 100.0, 8), quiet).parts == parts
    assert with_levels(SeedEntry("a", "a", ("jazz",), "", 100.0, 8), quiet).parts == {}, "no instrument is known"
    told = SeedEntry("a", "a", ("jazz", "piano"), "", 100.0, 8, parts={"drums": 1.0}, energy=0.3, brightness=0.4)
    assert with_levels(told, dark) == told
