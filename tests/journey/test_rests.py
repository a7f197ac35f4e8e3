"""Rests from words: what people type, what only looks like it, mixes, negative prompts, and the order of precedence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.journey.conditions import PARTS
from riffstream.journey.form import PlannedBar
from riffstream.journey.journey import ClipSpec, Keyframe
from riffstream.journey.prompts import PromptPart
from riffstream.journey.rests import Reading, read_negative, read_rests, said_rests

ASKED = {
    "no drums": "drums",
    "No Drums!!!": "drums",
    "NO DRUMS 🥁🚫": "drums",
    "ambient pads, no drums": "drums",
    "piano no drums relaxing": "drums",
    "no drum, just vibes": "drums",
    "with no drums at all": "drums",
    "absolutely no drums whatsoever": "drums",
    "no drums, thanks": "drums",
    "no more drums": "drums",
    "no percussion": "drums",
    "no drum kit": "drums",
    "no drum sounds": "drums",
    "no beat": "drums",
    "no beats": "drums",
    "without any drums": "drums",
    "techno without the drums please": "drums",
    "w/o drums": "drums",
    "w/out drums, piano": "drums",
    "sans drums": "drums",
    "minus drums": "drums",
    "drumless": "drums",
    "rock, drum-less": "drums",
    "beatless ambient techno": "drums",
    "drum-free ambient": "drums",
    "#nodrums": "drums",
    "drums off": "drums",
    "drums: none": "drums",
    "drums: off, piano": "drums",
    "drums = 0": "drums",
    "drums: no": "drums",
    "drums and bass off": "drums bass",
    "drums are muted": "drums",
    "remove the drums": "drums",
    "turn off the drums": "drums",
    "don't use drums": "drums",
    "I don’t want any drums": "drums",
    "everything except drums": "drums",
    "(no drums:1.3), piano": "drums",
    "rock [no drums]": "drums",
    "lofi beat, no drums": "drums",
    "lofi beats without drums": "drums",
    "drum & bass, no drums": "drums",
    "steel drums, no drums": "drums",
    "string quartet, no drums": "drums",
    "breakdown without drums": "drums",
    "fast breakbeat, drumless": "drums",
    "minus bass": "bass",
    "no bass": "bass",
    "no bass line": "bass",
    "no bass 90 bpm": "bass",
    "like before but no bass": "bass",
    "no 808s or drums": "drums",
    "bass:off drums:off": "drums bass",
    "funk without a bass guitar": "bass",
    "bassless": "bass",
    "heavy drums, no bass": "bass",
    "drums no bass": "bass",
    "no pads": "pad",
    "no synth pads": "pad",
    "no chords": "chords",
    "no lead": "lead",
    "no lead guitar": "lead",
    "synthwave without melody": "lead",
    "no arpeggio": "arp",
    "no arps": "arp",
    "no rhythm section": "drums bass",
    "no drums or bass": "drums bass",
    "no drums, no bass": "drums bass",
    "no drums and bass": "drums bass",
    "no drums and no bass": "drums bass",
    "no drums/bass": "drums bass",
    "neither drums nor bass": "drums bass",
    "without drums, bass and pads": "drums bass pad",
    "no drums, bass or pads": "drums bass pad",
    "no vocals or drums": "drums",
    "without vocals, drums or bass": "drums bass",
    # What the list does not say plays.
    "no drums, bass and pads": "drums",
    "no drums, bass": "drums",
    "no drums and a warm bass": "drums",
    "no drums and lots of bass": "drums",
    "no snare, no drums": "drums",
    "no drums + bass + pads": "drums",
    "no drums, mostly piano": "drums",
    "no drums or guitar solos": "drums",
    "no bass this time": "bass",
    "drums w/o bass": "bass",
}

ALONE = {
    "drums only": "bass",
    "drums only, no melody": "bass lead",
    "just drums": "bass",
    "only the drums": "bass",
    "nothing but drums": "bass",
    "drums and nothing else": "bass",
    "breakbeat drums alone": "bass",
    "drum solo": "bass",
    "techno, drums only": "bass",
    "pads only": "bass",
    "house, only pads": "drums bass",
    "just piano and drums": "bass",
    "no drums, bass only": "drums",
    "solo piano": "pad arp",
    "Solo Piano, gentle and sad": "pad arp",
    "solo piano, 60 beats per minute": "pad arp",
    "solo up-beat piano": "pad arp",
    "solo jazz piano": "pad arp",
    "a solo acoustic guitar": "pad arp",
    "classical, solo piano": "pad arp",
    "piano alone": "pad arp",
    "solo piano, no vocals": "pad arp",
    "no strings, just piano": "pad arp",
    "without voice, solo violin": "chords pad arp",
    "just a soft piano in a big hall": "pad arp",
    "piano, no other instruments": "pad arp",
    "piano only, jazz": "drums bass pad arp",
    "just piano, jazz": "drums bass pad arp",
    "solo violin": "chords pad arp",
    "sad violin solo": "chords pad arp",
    "lone trumpet at night": "chords pad arp",
    "cello by itself": "chords pad arp",
    "unaccompanied violin": "chords pad arp",
    "flute, unaccompanied": "chords pad arp",
    "solo violin, no drums": "drums chords pad arp",
    "a cappella gospel": "drums bass",
    "choir alone": "arp",
}

NOTHING = (
    "",
    "   ",
    "drums",
    "drum and bass",
    "Drum'n'Bass",
    "drum & bass, fast",
    "rock with heavy drums and bass",
    "no vocals",
    "no singing",
    "no drum and bass",
    "not too much bass",
    "not much drums",
    "not so loud drums",
    "less drums",
    "soft drums",
    "minimal percussion",
    "a little bass",
    "no heavy drums",
    "no distorted bass",
    "no bass drop",
    "no bass solo",
    "no drum solo",
    "no drums solo",
    "no drum fills",
    "no drum machine",
    "no kick",
    "no bass drum",
    "no bass clarinet",
    "no lead vocals",
    "no off-beats",
    "not without drums",
    "never without bass",
    "no song without drums",
    "not only drums",
    "not just drums",
    "no to drums",
    "no vocals and drums",
    "no vocals, drums and bass",
    "drums, no drums",
    "no drums but hand percussion",
    "almost no drums",
    "hardly any bass, no drums sometimes",
    "no drums in the intro",
    "no drums until the drop",
    "starts without drums",
    "drums off beat",
    "drums=0.5",
    "drums 0.8",
    "sin batería",
    "ohne schlagzeug",
    "no durms",
    "symphony no 9 with drums",
    "drum loop",
    "drums and bass only",
    "a cappella choir",
    "only soft drums",
    "just enough bass",
    "just the right amount of bass",
    "techno, drums only in the chorus",
    "if only drums could talk",
    "vocals only",
    "just piano and vocals",
    "home alone",
    "-drums",
    "rock with a guitar solo",
    "a song with a piano solo",
    "jazz, bass solo",
    "jazz drum solo",
    "jazz, solo violin",
    "techno, solo piano",
    "epic guitar solo",
    "lead synth solo",
    "lead guitar solo",
    "sax solo",
    "violin solo over a beat",
    "violin solo, over atmospheric sounds",
    "synth lead solo, drum'n'bass",
    "solo cello with strings",
    "then a solo violin",
    "solo violin and orchestra",
    "solo violin, string quartet",
    "solo synth",
    "solo artist",
    "guitar solos",
    "piano",
    "violin and piano",
    # Words that turn the sense of a negation, or limit it to a kind or a place.
    "don't remove the bass",
    "don't leave out the drums",
    "don't use only drums",
    "don't want the drums to stop",
    "don't play the drums loud",
    "don't have the drums too loud",
    "no drums too loud",
    "no drums that sound cheap",
    "there is no drummer like this one",
    "no distorted guitar or bass",
    "no harsh synths/drums",
    "no bass or drum solos",
    "no drum, bass or guitar solos",
    "take out the drums for a moment",
    "no vocals w/ drums",
    "no drums, then the beat drops",
    "no drums, until the drop",
    "no drums for 30 seconds",
    "in the intro, no drums",
    "house, no bass in the breakdown",
    "just pads, then a big drop",
    "more than just piano",
    "no drumless parts",
    "without drums reverb",
    "sub-zero bass",
    "acapella house remix",
    "acapella vocals over a house beat",
    "house with acapella vocals",
    "funk com peso no bass",
    "música no estilo drums",
)


@pytest.mark.parametrize(("text", "parts"), [*ASKED.items(), *ALONE.items()])
def test_parts_that_are_asked_to_rest(text: str, parts: str) -> None:
    assert " ".join(part for part, _ in read_rests(text).rests) == parts


@pytest.mark.parametrize("text", NOTHING)
def test_texts_that_let_nothing_rest(text: str) -> None:
    assert read_rests(text).rests == ()


def test_the_words_are_told() -> None:
    assert dict(read_rests("rock, NO drums").rests) == {"drums": "no drums"}
    assert dict(read_rests("without drums, bass and pads").rests)["pad"] == "without drums, bass and pads"
    assert dict(read_rests("drums: none").rests) == {"drums": "drums: none"}


@pytest.mark.parametrize(
    ("negative", "parts"),
    [
        ("drums, vocals", "drums"),
        ("Drums", "drums"),
        ("vocals, the bass and drums", "drums bass"),
        ("melody/chords", "chords lead"),
        ("percussion; bad quality", "drums"),
        ("distorted bass, loud drums", ""),
        ("distorted drums and bass", ""),
        ("drums and bass distortion", ""),
        ("bad vocals or drums", ""),
        ("no drums", ""),
        ("drum and bass", ""),
        ("drum solo", ""),
        ("", ""),
    ],
)
def test_negative_prompts(negative: str, parts: str) -> None:
    assert " ".join(part for part, _ in read_negative(negative)) == parts


def mix(*parts: tuple[str, float]) -> tuple[PromptPart, ...]:
    return tuple(PromptPart(text, weight) for text, weight in parts)


@pytest.mark.parametrize(
    ("parts", "negative", "rests"),
    [
        (mix(("rain, no drums", 1)), "", "drums"),
        (mix(("rain, no drums", 0.6), ("techno", 0.4)), "", "drums"),
        (mix(("rain, no drums", 1), ("techno", 1)), "", ""),
        (mix(("rain, no drums", 0.2), ("bells, without drums", 0.4), ("techno", 0.5)), "", "drums"),
        (mix(("rain, no drums", 9), ("loud drums", 0.1)), "", ""),
        (mix(("rain, no drums", 9), ("lofi beat", 0.1)), "", ""),
        (mix(("rain, no drums", 1), ("loud drums", 0)), "", "drums"),
        (mix(("rain, no drums", 0), ("techno", 1)), "", ""),
        (mix(("techno", 1)), "drums, bass", "drums bass"),
        (mix(("techno with drums", 1)), "drums, bass", "bass"),
        (mix(("techno, no drums", 1)), "drums", "drums"),
    ],
)
def test_a_mix_rests_by_the_larger_part_of_its_weight(parts: tuple[PromptPart, ...], negative: str, rests: str) -> None:
    assert " ".join(part for part, _ in said_rests(parts, negative)) == rests


def test_silence_is_what_nobody_means() -> None:
    assert read_rests("no drums, bass, chords, pads, arps or melody").rests == ()
    assert len(read_rests("no drums, bass, chords, pads or arps").rests) == 5


@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    reading = read_rests(text)
    assert {part for part, _ in reading.rests} <= set(PARTS)
    assert {part for part, _ in read_negative(text)} <= set(PARTS)


WORDS = (
    "no",
    "without",
    "drums",
    "bass",
    "and",
    "or",
    ",",
    "only",
    "solo",
    "piano",
    "not",
    ".",
    "pads",
    "alone",
    "the",
)


@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_any_order_of_these_words_is_read(words: list[str]) -> None:
    reading = read_rests(" ".join(words))
    assert len(reading.rests) < len(PARTS)


@given(
    before=st.lists(st.sampled_from(("warm", "jazz", "slow", "solo piano", "deep", "night", "trio")), max_size=5),
    part=st.sampled_from(("drums", "bass", "chords", "pad", "arp", "lead")),
    joint=st.sampled_from((" with ", ", ", " and ", " over soft ", " ")),
    after=st.lists(st.sampled_from(("rain", "in the night", "gentle", "groovy", "please")), max_size=3),
)
def test_a_part_that_a_plain_text_names_never_rests(before: list[str], part: str, joint: str, after: list[str]) -> None:
    text = " ".join(before) + joint + f"{part} " + ", ".join(after)
    assert part not in dict(read_rests(text).rests), text


def test_long_texts_let_nothing_rest() -> None:
    assert read_rests("rain, " * 70 + "no drums").rests
    assert read_rests("rain, " * 80 + "no drums") == Reading()
    for text in ("no drums " * 900, "piano, " * 900, "x" * 100_000, "solo piano and " * 900):
        read_rests(text)


def spec(prompt: str, **fields: object) -> ClipSpec:
    keyframe = Keyframe.of(prompt, **fields)
    return ClipSpec(keyframe, keyframe, 0.0)


def levels(asked: ClipSpec, **more: bool) -> dict[str, float]:
    bars = asked.bars(2, 0.0, **more)
    return {} if bars is None else dict(bars[0].parts or {})


def test_levels_come_before_the_words_and_the_words_before_the_plan() -> None:
    plan = (PlannedBar(parts=(("drums", 0.6), ("pad", 0.0))),) * 2
    assert levels(spec("rock, no drums")) == {"drums": 0.0}
    assert levels(replace(spec("rock, no drums"), plan=plan)) == {"drums": 0.0, "pad": 0.0}
    assert levels(replace(spec("rock"), plan=plan)) == {"drums": 0.6, "pad": 0.0}
    assert levels(replace(spec("rock, no drums", parts={"drums": 0.8}), plan=plan)) == {"drums": 0.8, "pad": 0.0}
    assert Keyframe.of("rock, no drums, no bass", parts={"drums": 0.8}).rests == (("bass", "no bass"),)
    assert spec("rock, no drums").resting(2) == (frozenset({"drums"}),) * 2
    assert spec("rock", negative="drums").resting(2) == (frozenset({"drums"}),) * 2


def test_models_that_take_words_alone_get_no_conditions() -> None:
    assert spec("rock, no drums").bars(2, 0.0, words=False) is None
    assert levels(spec("rock, no drums", parts={"bass": 0.0}), words=False) == {"bass": 0.0}
    assert spec("rock, no drums").resting(2, words=False) == (frozenset(), frozenset())


def test_other_texts_have_no_conditions() -> None:
    assert spec("rock with drums").bars(2, 0.0) is None


def test_between_two_keyframes_the_nearer_one_decides() -> None:
    ways = [ClipSpec(Keyframe.of("rock"), Keyframe.of("rock, no drums"), alpha) for alpha in (0.25, 0.75)]
    assert [levels(way) for way in ways] == [{}, {"drums": 0.0}]
    loud = ClipSpec(Keyframe.of("rock", parts={"drums": 0.8}), Keyframe.of("rock, no drums"), 0.25)
    assert levels(loud)["drums"] == pytest.approx(0.6), "a level on both sides moves from one to the other"
