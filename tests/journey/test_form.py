"""The planner of form: sections and borders, chords and cadences, arcs of a journey's stops, and purity."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.journey.chords import parse_bars
from riffstream.journey.form import FORMS, LONGEST, SHORTEST, Form, FormName
from riffstream.journey.harmony import families, read_harmony

NAMES = [name for name in FORMS if name != "none"]
PLANS = st.builds(
    Form,
    st.sampled_from(NAMES),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(SHORTEST, 400), max_size=5).map(tuple),
    st.booleans(),
    st.booleans(),
)
WORDS = st.lists(st.sampled_from(sorted(families())), min_size=1, max_size=4).map(tuple)
WHITE = {0, 2, 4, 5, 7, 9, 11}
BORROWED = {"E", "E7", "E5", "D", "D7", "A7", "C7", "F7", "Fm", "Fm6", "Dm7b5", "Bb"}  # leading notes, and the blues


@given(PLANS, st.integers(0, 100_000))
def test_sections_have_8_to_32_bars_and_follow_each_other(form: Form, bar: int) -> None:
    section = form.section(bar)
    assert section.start <= bar < section.end
    if not form.opens or section.start > 0:
        assert SHORTEST <= section.bars <= LONGEST
    for number in range(section.start, section.end):
        assert form.section(number) == section
    assert form.section(section.end).start == section.end
    assert form.following(bar, 2)[0] == form.section(section.end)


@given(PLANS, st.integers(0, 100_000), WORDS)
def test_a_section_is_planned_to_its_end(form: Form, bar: int, words: tuple[str, ...]) -> None:
    section = form.section(bar)
    bars = [form.bar(number, words) for number in range(section.start, section.end)]
    assert [each.starts for each in bars] == [True] + [False] * (section.bars - 1)
    assert [each.ends for each in bars] == [False] * (section.bars - 1) + [True]
    assert not any(each.fill for each in bars[:-1])
    assert all(each.section == section.name and each.bars == section.bars for each in bars)
    assert all(each.energy is not None and 0 <= each.energy <= 1 for each in bars)
    for each in bars:
        (chords,) = parse_bars(each.chords)
        for chord in chords:
            assert chord is not None
            assert chord.symbol in BORROWED or set(chord.classes) <= WHITE, each.chords


@given(PLANS, st.integers(0, 5_000), st.sampled_from(sorted(families())))
def test_sections_end_on_a_cadence(form: Form, bar: int, family: str) -> None:
    section = form.section(bar)
    if form.name == "ambient" and not families()[family].slow and family not in ("modal", "dark"):
        family = "calm"
    end = tuple(form.bar(number, (family,)).chords for number in (section.end - 2, section.end - 1))
    cadences = families()[family].close if section.last else families()[family].turn
    assert end in cadences or any(end[1:] == cadence for cadence in cadences)


@given(PLANS.filter(lambda form: form.name == "song"), st.integers(0, 100_000))
def test_following_sections_of_a_song_differ_in_their_parts(form: Form, bar: int) -> None:
    section, later = form.section(bar), form.following(bar)[0]
    rests = [frozenset(part for part, level in form.bar(each.start).parts if level == 0) for each in (section, later)]
    if form.opens:
        assert all(rest <= {"drums"} for rest in rests), "the words of a steer asked for the rest"
    elif section.arc == later.arc and section.name != later.name:
        assert rests[0] != rests[1]
    for number in range(section.start, section.end):
        assert form.bar(number).parts == form.bar(section.start).parts


@given(PLANS, st.integers(0, 10**9), WORDS)
def test_a_plan_depends_on_its_arguments_alone(form: Form, bar: int, words: tuple[str, ...]) -> None:
    copy = Form(form.name, form.seed, form.spans, form.repeats, form.opens)
    begun = time.process_time()
    assert copy.bar(bar, words) == form.bar(bar, words)
    assert time.process_time() - begun < 5  # no walk from the first bar


@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1), st.lists(st.integers(8, 300), min_size=1, max_size=5))
def test_every_stop_of_a_journey_begins_a_section(name: FormName, seed: int, spans: list[int]) -> None:
    form = Form(name, seed, tuple(spans))
    begin = 0
    for _turn in range(2):
        for span in spans:
            assert form.section(begin).start == begin
            begin += span
            assert form.section(begin - 1).last


@pytest.mark.parametrize("name", ["song", "dj"])
def test_an_arc_breathes(name: FormName) -> None:
    form = Form(name, 4, (72,))
    names = []
    bar = 0
    while bar < 72:
        section = form.section(bar)
        names.append(section.name)
        bar = section.end
    assert names[0] == "intro"
    assert names[-1] in ("outro", "return")
    assert "break" in names
    energy = {form.bar(number).section: form.bar(number).energy or 0 for number in range(72)}
    assert energy["intro"] < energy["return"]
    assert energy["break"] < energy["return"]
    assert ("drums", 0.0) in next(form.bar(n).parts for n in range(72) if form.bar(n).section == "break")


def test_drums_fill_before_a_border() -> None:
    form = Form("song", 4, (72,))
    fills = [number for number in range(72) if form.bar(number).fill]
    assert fills
    assert all(form.section(number).end == number + 1 for number in fills)
    assert not any(dict(form.bar(number).parts).get("drums") == 0 for number in fills)
    assert not any(Form("ambient", 4).bar(number).fill for number in range(200))


def test_some_songs_return_higher_and_the_next_arc_does_not() -> None:
    lifted = 0
    for seed in range(40):
        form = Form("song", seed, (72,))
        sections = [form.section(0), *form.following(0, 8)]
        for before, section in itertools.pairwise(sections):
            if section.arc == before.arc and section.key != before.key:
                assert section.name == "return"
                lifted += 1
        assert form.section(72).key == 0
    assert 5 <= lifted <= 25


def test_a_steered_form_opens_in_its_full_section() -> None:
    for seed in range(20):
        for name, section in (("song", "chorus"), ("dj", "full"), ("ambient", "full")):
            form = Form(name, seed, opens=True)
            assert form.section(0).name == section
            assert form.section(0).start == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("cool jazz trio", ("jazz", "minor_jazz")),
        ("driving hard rock with organ", ("power",)),
        ("Techno, 130 bpm", ("modal", "dark")),
        ("twelve-bar blues", ("blues",)),
        ("", ()),
        ("xyzzy", ()),
    ],
)
def test_words_choose_the_harmony(words: str, found: tuple[str, ...]) -> None:
    assert read_harmony(words) == found


def test_styles_differ_in_their_chords() -> None:
    form = Form("song", 1)
    jazz = {form.bar(bar, read_harmony("jazz")).chords for bar in range(72)}
    rock = {form.bar(bar, read_harmony("hard rock")).chords for bar in range(72)}
    assert all("5" in chords for chords in rock)
    assert not jazz & rock


def test_the_planner_needs_no_torch() -> None:
    code = "import sys, riffstream.journey.form; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
