"""Chord symbols as people type them."""

from __future__ import annotations

import pytest

from riffstream.errors import ParameterError
from riffstream.journey.chords import Chord, parse_bars


@pytest.mark.parametrize(
    ("symbol", "root", "bass", "classes"),
    [
        ("C", 0, 0, {0, 4, 7}),
        ("Am", 9, 9, {9, 0, 4}),
        ("Cmaj7", 0, 0, {0, 4, 7, 11}),
        ("CM7", 0, 0, {0, 4, 7, 11}),
        ("F#m7b5", 6, 6, {6, 9, 0, 4}),
        ("B♭maj7", 10, 10, {10, 2, 5, 9}),
        ("E-7", 4, 4, {4, 7, 11, 2}),
        ("Bdim", 11, 11, {11, 2, 5}),
        ("G7sus4", 7, 7, {7, 0, 2, 5}),
        ("G/B", 7, 11, {7, 11, 2}),
        ("C6/9", 0, 0, {0, 4, 7, 9, 2}),
        ("Dm9/A", 2, 9, {2, 5, 9, 0, 4}),
        ("C(add9)", 0, 0, {0, 4, 7, 2}),
        ("Abø7", 8, 8, {8, 11, 2, 6}),
    ],
)
def test_symbols_are_read(symbol: str, root: int, bass: int, classes: set[int]) -> None:
    chord = Chord.parse(symbol)
    assert (chord.root, chord.bass, set(chord.classes)) == (root, bass, classes)
    assert chord.symbol == symbol


@pytest.mark.parametrize("symbol", ["H7", "", "Cx", "am", "C/H", "7", "Cmaj8", "♭"])
def test_what_is_no_symbol_is_refused(symbol: str) -> None:
    with pytest.raises(ParameterError, match="chord"):
        Chord.parse(symbol)


def _symbols(text: str) -> list[list[str | None]]:
    return [[chord and chord.symbol for chord in bar] for bar in parse_bars(text)]


def test_a_row_has_a_symbol_for_each_bar() -> None:
    assert _symbols("Am F C G") == [["Am"], ["F"], ["C"], ["G"]]
    assert _symbols("| Am | F | C, G |") == [["Am"], ["F"], ["C"], ["G"]]
    assert _symbols("N.C. G") == [[None], ["G"]]


def test_a_slash_is_a_bass_note_or_halves_the_bar() -> None:
    """As musicians write it: a bare note name is a bass, everything else is a chord."""
    assert _symbols("F/C G") == [["F/C"], ["G"]]
    assert _symbols("F / C G") == [["F", "C"], ["G"]]
    assert _symbols("Am/Dm7 G") == [["Am", "Dm7"], ["G"]]
    assert _symbols("Am7/D/G7/C") == [["Am7", "D", "G7", "C"]]
    assert _symbols("F/A / G/B C") == [["F/A", "G/B"], ["C"]]


@pytest.mark.parametrize(
    "text", ["", "   ", "Am / ", "/ Am", "Am / / F", "Am / F / G", "C " * 65, "Am Hm", "Am Fq C", 7]
)
def test_a_row_that_cannot_be_read_names_the_field(text: str) -> None:
    with pytest.raises(ParameterError) as error:
        parse_bars(text)
    assert error.value.field == "chords"


def test_a_chord_moves_with_its_bass() -> None:
    moved = Chord.parse("D/F#").moved(-2)
    assert (moved.root, moved.bass, set(moved.classes)) == (0, 4, {0, 4, 7})
