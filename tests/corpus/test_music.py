"""Composition: key, sections, patterns, styles, captions. Nothing here makes a sound."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.corpus.captions import ClipFacts, captions
from riffstream.corpus.drums import GM_DRUMS, KITS, PATTERNS, drum_hits
from riffstream.corpus.instrument_classes import INSTRUMENT_CLASSES, instrument_class
from riffstream.corpus.instruments import INSTRUMENTS
from riffstream.corpus.melodies import melody, swung
from riffstream.corpus.mixing import LOOKS
from riffstream.corpus.music import MAJOR, Chord, Note, nearest, progression, voicing
from riffstream.corpus.patterns import PARTS
from riffstream.corpus.songs import compose, cut_to_sections, lay_out
from riffstream.corpus.styles import groove_styles, own_styles, parse_parts, style_of
from riffstream.corpus.synths import PATCHES
from riffstream.errors import ParameterError

KINDS = ("major", "minor", "jazz", "minor_jazz", "blues", "calm", "dark", "modal", "power")


def test_every_style_names_things_that_exist() -> None:
    for style in own_styles():
        for part in style.parts:
            assert set(part.instruments) <= set(INSTRUMENTS), style.name
            assert set(part.patterns) <= set(PARTS), style.name
        assert set(style.drums) <= set(PATTERNS), style.name
        assert all(kit in KITS or kit.startswith("gm") for kit in style.kits), style.name
        assert set(style.production) <= set(LOOKS), style.name
        assert set(style.harmony) <= set(KINDS), style.name
        assert 50 <= style.bpm[0] < style.bpm[1] <= 240, style.name
        assert style.tags, style.name
        assert style.moods, style.name
        assert style.scenes, style.name
    assert {instrument.patch for instrument in INSTRUMENTS.values()} <= set(PATCHES)
    assert len({style.name for style in own_styles()} | {style.name for style in groove_styles().values()}) >= 220


def test_patterns_fit_their_bar() -> None:
    assert len(PATTERNS) > 20
    for name, voices in PATTERNS.items():
        lengths = {len(row) for rows in voices.values() for row in rows}
        assert lengths in ({16}, {12}), name
        assert set("".join(row for rows in voices.values() for row in rows)) <= set(".xXor?"), name
        assert set(voices) <= set(GM_DRUMS), name


def test_three_four_styles_use_twelve_step_drums() -> None:
    used: set[int] = set()
    for style in own_styles():
        for pattern in style.drums:
            steps = len(next(iter(PATTERNS[pattern].values()))[0])
            assert steps == 4 * style.beats, (style.name, pattern)
            used.add(steps)
    assert used == {12, 16}


@pytest.mark.parametrize("kind", KINDS)
def test_progressions_stay_near_c_major(kind: str) -> None:
    rng = np.random.default_rng(0)
    count: Counter[bool] = Counter()
    for _ in range(60):
        for chord in progression(kind, 16, rng):
            count.update(pitch in MAJOR for pitch in chord.classes)
    assert count[True] / count.total() > 0.82, kind  # blues sevenths and borrowed chords are the rest


def test_composed_notes_lie_on_the_white_keys() -> None:
    for style in own_styles()[::7]:
        song = compose(style, 0)
        weight: Counter[bool] = Counter()
        for voice in song.voices:
            for note in voice.notes:
                weight[note.pitch % 12 in MAJOR] += 1
        assert weight.total() > 0, style.name
        assert weight[True] >= 0.8 * weight.total(), style.name


def test_the_same_song_twice_and_another_seed() -> None:
    style = next(style for style in own_styles() if style.name == "jazz_trio")
    first, again, other, later = compose(style, 3), compose(style, 3), compose(style, 3, seed=1), compose(style, 4)
    assert first == again
    assert first != other
    assert first != later


def test_no_patch_sounds_without_a_soundfont_for_missing_kits() -> None:
    for style in own_styles():
        voices = compose(style, 1, soundfont=False).voices
        assert voices, style.name
        for voice in voices:
            assert voice.kit in KITS or voice.instrument != "drums", style.name


@given(
    st.sets(st.sampled_from(["drums", "bass", "chords", "pad", "arp", "lead", "extra"]), min_size=1), st.integers(0, 99)
)
def test_sections_fill_the_song_with_roles_it_has(roles: set[str], seed: int) -> None:
    sections = lay_out(roles, 16, np.random.default_rng(seed))
    assert sum(section.bars for section in sections) == 16
    assert all(section.roles and section.roles <= roles for section in sections)
    assert any(section.roles == roles for section in sections)


def test_notes_end_where_their_section_ends() -> None:
    notes = [Note(0, 100, 60), Note(4, 1, 60), Note(8, 2, 60), Note(14, 9, 60)]
    kept = cut_to_sections(notes, [True, False, True, True], 4)
    assert [(note.start, note.length) for note in kept] == [(0, 4), (8, 2), (14, 2)]


def test_long_notes_enter_where_their_section_begins() -> None:
    kept = cut_to_sections([Note(0, 16, 45), Note(2, 2.5, 60)], [False, True, True, False], 4)
    assert [(note.start, note.length, note.pitch) for note in kept] == [(4, 8, 45)]


def test_no_window_is_left_silent() -> None:
    style = next(style for style in own_styles() if style.name == "indian")
    for index in range(12):
        song = compose(style, index)
        assert song.bars >= 2
        for window in range(song.bars // 2):
            first, last = window * 2 * style.beats, (window + 1) * 2 * style.beats
            notes = [n for v in song.voices for n in v.notes if n.start < last and n.start + n.length > first]
            hits = [beat for v in song.voices for beat, *_ in v.hits if first <= beat < last]
            assert notes or hits, (index, window)


@given(st.floats(0, 64), st.floats(-0.25, 0.25))
def test_swing_keeps_the_beat_and_the_order(beat: float, amount: float) -> None:
    assert abs(swung(float(round(beat)), amount) - round(beat)) < 1e-5
    assert swung(beat + 0.05, amount) > swung(beat, amount)
    assert abs(swung(beat, amount) - beat) <= abs(amount) + 1e-5


def test_swing_makes_triplets() -> None:
    assert swung(3.5, 1 / 6) == pytest.approx(3 + 2 / 3, abs=1e-5)


@given(st.sampled_from(sorted(PARTS)), st.sampled_from(KINDS), st.sampled_from([3, 4]), st.integers(0, 9999))
@settings(max_examples=150, deadline=None)
def test_parts_stay_inside_the_bars_and_the_keyboard(part: str, kind: str, beats: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    notes = PARTS[part](progression(kind, 8, rng), beats, rng, 55)
    assert notes
    for note in notes:
        assert 0 <= note.start < 8 * beats + 1e-6, part
        assert note.length > 0
        assert 12 <= note.pitch <= 115, part
        assert 1 <= note.velocity <= 127


def test_melody_repeats_itself() -> None:
    rng = np.random.default_rng(5)
    notes = melody([Chord.parse("C")] * 16, 4, rng, 72)
    bars = [tuple(n.start % 8 for n in notes if 8 * k <= n.start < 8 * k + 8) for k in range(8)]
    assert Counter(bars).most_common(1)[0][1] >= 3


@given(st.integers(0, 11), st.integers(30, 90))
def test_nearest_is_nearest(pitch_class: int, around: int) -> None:
    pitch = nearest(pitch_class, around)
    assert pitch % 12 == pitch_class
    assert abs(pitch - around) <= 6


def test_voicings_move_little() -> None:
    first = voicing(Chord.parse("C"), 60)
    second = voicing(Chord.parse("Am"), 60, first)
    assert {pitch % 12 for pitch in second} == {9, 0, 4}
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) <= 5


def test_drums_rest_where_they_are_told_to() -> None:
    hits = drum_hits("four", 4, np.random.default_rng(0), active=[True, False, False, True])
    assert {int(beat // 4) for beat, _, _ in hits} == {0, 3}


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ParameterError, match="role instruments patterns"):
        parse_parts(["lead flute"])
    with pytest.raises(ParameterError, match="tempo"):
        style_of("x", {"tempo": 3})
    with pytest.raises(ParameterError, match="a chord symbol such as"):
        Chord.parse("H7")


def _facts(**change: object) -> ClipFacts:
    values: dict[str, object] = {
        "tags": ("house", "deep house"), "moods": ("happy", "warm"), "scenes": ("a party",), "description": "",
        "instruments": ("drums", "rhodes", "synth bass"), "lead": "", "section": "full", "drums": True,
        "drums_in_song": True, "bpm": 124.0, "minor": False, "beats_per_bar": 4, "look": (),
    }  # fmt: skip
    return ClipFacts(**{**values, **change})  # type: ignore[arg-type]


def test_captions_are_many_and_differ() -> None:
    seen: set[str] = set()
    for seed in range(40):
        made = captions(_facts(), np.random.default_rng(seed))
        assert len(made) >= 5
        assert len(set(made)) == len(made)
        assert all(text == text.strip() and "  " not in text and ", ," not in text and text for text in made)
        seen.update(made)
    assert len(seen) > 120
    assert any(text in ("house", "deep house") for text in seen)
    assert any("rhodes" in text for text in seen)


def test_captions_say_what_is_special() -> None:
    def said(word: str, **change: object) -> float:
        lines = [line for seed in range(20) for line in captions(_facts(**change), np.random.default_rng(seed))]
        return sum(word in line for line in lines) / len(lines)

    assert said("drums", section="drums alone", instruments=("drums",)) > 0.3
    assert said("vinyl crackle", look=("vinyl crackle",)) > 0.2
    assert said("vinyl crackle") == 0
    assert said("flute", lead="flute", instruments=("flute", "drums")) > 0.25
    assert said("rhodes", section="drums alone", instruments=("drums",)) == 0
    without = ("no drums", "without drums", "drumless")
    quiet = [line for s in range(20) for line in captions(_facts(section="breakdown"), np.random.default_rng(s))]
    assert any(any(word in line for word in without) for line in quiet)


def test_every_instrument_has_a_class() -> None:
    unknown = [word for i in INSTRUMENTS.values() for word in i.words if instrument_class(word) is None]
    assert unknown in ([], ["timpani"])
    assert instrument_class("upright bass") == "bass"
    assert instrument_class("electric piano") == "electric piano"
    assert instrument_class("grand piano") == "piano"
    assert instrument_class("church organ") == "organ"
    assert set(map(instrument_class, INSTRUMENT_CLASSES)) <= {*INSTRUMENT_CLASSES, None}
