"""Tempo and metre from words: numbers, genres, pace, negation, and what people expect of sixty prompts."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.corpus.styles import groove_styles, own_styles
from riffstream.journey.pace import Pace, blend, read_pace
from tests.journey import tempo_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "bpm"),
    [
        ("techno at 138 bpm", 138.0),
        ("90bpm rap", 90.0),
        ("rap, 92.5 BPM", 92.5),
        ("rap 92,5 bpm", 92.5),
        ("BPM: 101 jazz", 101.0),
        ("tempo 72 piano", 72.0),
        ("♩ = 66", 66.0),
        ("100 beats per minute", 100.0),
        ("90-100 bpm funk", 95.0),
        ("300 bpm speedcore", 150.0),
        ("20 bpm drone", 40.0),
        ("128-bpm house", 128.0),
    ],
)
def test_a_number_wins(text: str, bpm: float) -> None:
    pace = read_pace(text)
    assert pace.bpm == bpm
    assert pace.because == f"the text says {bpm:g} bpm"


@pytest.mark.parametrize("text", ["disco 1978", "80s synthwave", "symphony no 9", "house at 4 am", "tempo 4/4 techno"])
def test_other_numbers_are_no_tempo(text: str) -> None:
    assert "the text says" not in read_pace(text).because


def test_the_head_of_the_phrase_decides() -> None:
    assert read_pace("ambient techno").bpm == read_pace("minimal techno").bpm
    assert read_pace("dark techno with ambient pads").bpm == read_pace("techno").bpm
    assert read_pace("jazz ballad").because.startswith("jazz ballad")
    assert read_pace("piano house").because.startswith("piano house")
    assert read_pace("reggae for running").because.endswith("reggae: 66 to 90 bpm")  # a genre before a use


def test_pace_words_go_to_the_ends_of_the_span() -> None:
    slow, plain, fast = (read_pace(text).bpm or 0.0 for text in ("slow techno", "techno", "fast techno"))
    assert (slow, fast) == (128, 142)
    assert slow < plain < fast
    assert (read_pace("very slow techno").bpm or 0.0) < slow
    assert (read_pace("very fast techno").bpm or 0.0) > fast
    assert (read_pace("slow").bpm, read_pace("fast").bpm) == (72, 148)


@pytest.mark.parametrize(
    "text", ["not slow techno", "not too slow techno", "techno, never slow", "techno without calm"]
)
def test_what_is_negated_does_not_count(text: str) -> None:
    assert read_pace(text).bpm == read_pace("techno").bpm


@pytest.mark.parametrize(
    ("text", "beats"),
    [
        ("a waltz for two", 3),
        ("viennese waltz", 3),
        ("celtic tune in 6/8", 3),
        ("piano in 3/4", 3),
        ("folk in triple time", 3),
        ("waltz in 4/4", 4),
        ("slow blues 12/8", 4),
        ("techno", 4),
        ("string quartet waltz", 3),
        ("orchestral, minuet", 3),
        ("techno, not a waltz", 4),
        ("Mazurka", 3),
        ("drum and bass in 3/4", 3),
        ("march in 2/4", 4),
        ("prog rock in 7/8", None),
        ("jazz in 5/4", None),
        ("rain", None),
        ("", None),
    ],
)
def test_metre(text: str, beats: int | None) -> None:
    assert read_pace(text).beats == beats


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("waltz in 4/4", "the text says 4/4"),
        ("folk in triple time", "the text says triple time"),
        ("a waltz for two", "waltz: 3 beats to the bar"),
        ("techno", "techno: 4 beats to the bar"),
        ("prog rock in 7/8", "7/8 is not available"),
        ("released 11/2 of 1998", ""),
        ("rain", ""),
    ],
)
def test_the_reason_for_the_metre(text: str, because: str) -> None:
    assert read_pace(text).beats_because == because


@pytest.mark.parametrize(
    ("mix", "beats"),
    [
        ([("waltz", 0.1), ("techno", 0.9)], 4),
        ([("techno", 0.4), ("waltz", 0.3), ("minuet", 0.31)], 3),
        ([("rain", 9.0), ("waltz", 1.0)], 3),
        ([("waltz", 1.0), ("techno", 1.0)], 3),
        ([("techno", 1.0), ("waltz", 1.0)], 4),
        ([("waltz", 0.0), ("rain", 1.0)], None),
    ],
)
def test_the_metre_of_a_mix_is_that_of_its_larger_part(mix: list[tuple[str, float]], beats: int | None) -> None:
    pace = blend([(read_pace(text), weight) for text, weight in mix])
    assert pace.beats == beats
    if beats is not None:
        assert f"{beats} beats to the bar" in pace.beats_because


@pytest.mark.parametrize("text", ["", "   ", "purple", "🎷", "zzz qqq", "x" * 5000])
def test_texts_that_say_nothing(text: str) -> None:
    assert read_pace(text) == Pace()


@pytest.mark.parametrize(
    "text", ["drum and bass", "Drum & Bass", "drum'n'bass", "Drum ’n’ Bass", "DRUM-AND-BASS", "dnb", "d&b"]
)
def test_spellings(text: str) -> None:
    assert read_pace(text).bpm == pytest.approx(174, abs=0.1)


@given(st.text(max_size=200))
def test_any_text_gives_a_tempo_in_range_or_none(text: str) -> None:
    pace = read_pace(text)
    assert pace.bpm is None or 40 <= pace.bpm <= 240
    assert pace.beats in (None, 3, 4)
    assert (pace.bpm is None) == (pace.because == "")


def test_blend() -> None:
    slow, fast, nothing = Pace(60, 3, "a"), Pace(120, None, "b"), Pace()
    assert blend([]) == Pace()
    assert blend([(nothing, 1.0)]) == Pace()
    assert blend([(slow, 1.0), (nothing, 9.0)]) == slow
    assert blend([(slow, 1.0), (fast, 1.0)]) == Pace(84.9, 3, "a; b")
    assert blend([(slow, 0.0), (fast, 1.0)]) == fast
    assert (blend([(slow, 1.0), (fast, 3.0)]).bpm or 0) > (blend([(slow, 1.0), (fast, 1.0)]).bpm or 0)


def test_tags_of_the_corpus_get_tempos_of_their_styles() -> None:
    styles = [*own_styles(), *groove_styles().values()]
    tags = [(tag, style.bpm) for style in styles for tag in style.tags]
    right = [tag for tag, span in tags if tempo_table.near(read_pace(tag).bpm, span)]
    assert len(tags) > 500
    assert len(right) >= 0.9 * len(tags)


def test_sixty_prompts_get_the_tempo_that_people_expect() -> None:
    rows = tempo_table.rows()
    assert len(rows) >= 60
    known = {tag for style in [*own_styles(), *groove_styles().values()] for tag in style.tags}
    assert not [text for text, _, _ in rows if text.lower().split(",")[0] in known]
    right = [text for text, span, pace in rows if tempo_table.near(pace.bpm, span)]
    assert len(right) >= 0.8 * len(rows)


def test_the_table_in_the_docs_is_current() -> None:
    assert (ROOT / "docs" / "tempo.md").read_text("utf-8") == tempo_table.page()


def test_the_data_names_nothing_twice() -> None:
    data = tomllib.loads((ROOT / "riffstream" / "journey" / "paces.toml").read_text("utf-8"))
    names = [name for group in ("genres", "scenes") for entries in data[group].values() for name in entries]
    assert len(names) == len(set(names))
