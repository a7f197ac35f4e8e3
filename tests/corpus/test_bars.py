"""The facts of bars: what is written down is what was composed and played."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from riffstream.corpus.bars import bar_facts
from riffstream.corpus.drums import drum_hits
from riffstream.corpus.mels import encode_song
from riffstream.corpus.mixing import Stem
from riffstream.corpus.music import Chord, Note
from riffstream.corpus.songs import Section, Song, Voice, borders, compose, part_of
from riffstream.corpus.styles import own_styles

STYLE = next(style for style in own_styles() if style.name == "techno")
BPM, BEAT = 120.0, 24000


def _tone(bars: Sequence[int], amplitude: float, hertz: float, total: int = 4) -> np.ndarray:
    """A tone in some bars of a song of ``total``, [2, N]."""
    time = np.arange(total * 4 * BEAT) / 48000
    on = np.isin(np.arange(len(time)) // (4 * BEAT), list(bars))
    wave = amplitude * np.sin(2 * np.pi * hertz * time) * on
    return np.stack([wave, wave]).astype(np.float32)


def _song(voices: list[Voice], sections: list[Section], chords: str, per_bar: int = 1) -> Song:
    row = [Chord.parse(name) for name in chords.split()]
    return Song("techno/0", STYLE, 1, BPM, 4, row, sections, voices, "plain", chords_per_bar=per_bar)


def _facts(song: Song, stems: list[Stem]) -> list[dict]:
    mix = sum((stem.wave for stem in stems), np.zeros_like(stems[0].wave))
    codes = encode_song(mix, bpm=BPM, beats=16, beats_in_window=8)
    return bar_facts(song, mix, stems, codes)


@pytest.fixture(scope="module")
def facts() -> list[dict]:
    pad = [Note(0, 4, 57), Note(0, 4, 60), Note(4, 4, 53), Note(4, 4, 57), Note(8, 4, 61), Note(12, 4, 55)]
    bass = [Note(beat / 2, 0.4, 45) for beat in range(8)]
    hits = [(float(beat), "kick", 100) for beat in range(8, 16)]
    hits += [(15 + k / 4, "snare", 100) for k in range(4)]
    voices = [
        Voice("pad", "pad", "warm_pad", pad),
        Voice("bass", "extra", "sub", bass, part="bass"),
        Voice("drums", "drums", "drums", hits=hits),
    ]
    both, all_of_it = frozenset({"pad", "extra"}), frozenset({"pad", "drums"})
    sections = [Section(1, both), Section(1, both), Section(2, all_of_it)]
    stems = [
        Stem("pad", "pad", _tone(range(4), 0.1, 220)),
        Stem("bass", "extra", _tone([0], 0.05, 110)),
        Stem("drums", "drums", _tone([2, 3], 0.2, 6000)),
    ]
    return _facts(_song(voices, sections, "Am F C G"), stems)


def test_chords_stand_only_where_the_notes_carry_them(facts: list[dict]) -> None:
    assert [bar["chords"] for bar in facts] == [["Am"], ["F"], [None], ["G"]]  # a C sharp is no C major


def test_parts_have_their_level_under_the_loudest(facts: list[dict]) -> None:
    assert [set(bar["parts"]) for bar in facts] == [{"pad", "bass"}, {"pad"}, {"pad", "drums"}, {"pad", "drums"}]
    assert facts[0]["parts"] == {"pad": 0.0, "bass": pytest.approx(-6.0, abs=0.2)}
    assert facts[2]["parts"] == {"pad": pytest.approx(-6.0, abs=0.2), "drums": 0.0}


def test_onsets_count_a_chord_once(facts: list[dict]) -> None:
    assert [bar["onsets"] for bar in facts] == [2.25, 0.25, 1.25, 2.0]  # a beat; one snare falls on a kick


def test_level_and_brightness_are_those_of_the_sound(facts: list[dict]) -> None:
    levels, octaves = ([bar[name] for bar in facts] for name in ("level_db", "brightness"))
    assert levels[2] > levels[0] + 4
    assert octaves[2] > octaves[1] + 1


def test_the_arrangement_s_borders_and_fills_are_marked(facts: list[dict]) -> None:
    assert [bar["starts"] for bar in facts] == [True, False, True, False]  # two equal sections have no border
    assert [bar["ends"] for bar in facts] == [False, True, False, True]
    assert [bar["fill"] for bar in facts] == [False, False, False, True]


def test_half_bars_have_two_chords() -> None:
    notes = [Note(0, 2, 57), Note(2, 2, 53), Note(4, 2, 60), Note(6, 2, 55)]
    song = _song([Voice("pad", "pad", "warm_pad", notes)], [Section(4, frozenset({"pad"}))], "Am F C G Am F C G", 2)
    facts = _facts(song, [Stem("pad", "pad", _tone(range(4), 0.1, 220))])
    assert [bar["chords"] for bar in facts] == [["Am", "F"], ["C", "G"], [None, None], [None, None]]


def test_some_songs_in_four_change_chords_within_the_bar() -> None:
    songs = [compose(STYLE, index, soundfont=False) for index in range(40)]
    halves = [song for song in songs if song.chords_per_bar == 2]
    assert 1 <= len(halves) <= 12
    assert all(len(song.chords) == song.bars * song.chords_per_bar for song in songs)
    waltz = next(style for style in own_styles() if style.beats == 3)
    assert all(compose(waltz, index, soundfont=False).chords_per_bar == 1 for index in range(20))


def test_fills_lead_to_borders() -> None:
    fills = 0
    for seed in range(30):
        plain, led = (drum_hits("four", 8, np.random.default_rng(seed), borders=borders) for borders in ((), (4,)))
        last = [sum(15 <= beat < 16 and drum in ("snare", "clap", "tom", "low_tom") for beat, drum, _ in hits)
                for hits in (plain, led)]  # fmt: skip
        fills += last[1] >= last[0] + 2
    assert fills >= 10  # seven in ten


def test_borders_are_where_roles_change() -> None:
    one, two = frozenset({"pad"}), frozenset({"pad", "lead"})
    assert borders([Section(2, one), Section(4, one), Section(2, two), Section(2, one)]) == {0, 6, 8}


def test_extra_voices_are_heard_as_what_they_play() -> None:
    assert part_of("lead", "arp16") == "lead"
    kinds = {"sustain": "pad", "arp16": "arp", "walking": "bass", "bells": "lead", "stabs": "chords"}
    assert {pattern: part_of("extra", pattern) for pattern in kinds} == kinds
