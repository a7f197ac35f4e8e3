"""Steers merge into the score."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.config import StationConfig
from riffstream.generator.messages import Info
from riffstream.journey.journey import Journey
from riffstream.protocol import Prompt, ProtocolError, Steer, decode_client
from riffstream.station.score import Here, Score

INFO = Info(model="test")
JOURNEY = Journey.visit(["calm", "loud", "strange"], 4, 2, seed=5)


def score(journey: Journey = JOURNEY, **station: object) -> Score:
    return Score.of(StationConfig(**station), INFO, journey)  # type: ignore[arg-type]


def here(of: Score, index: int = 0, beat: float = 0.0) -> Here:
    return Here(of.spec(index, beat), beat, 4.0)


def test_absent_fields_keep_their_value() -> None:
    first = score()
    second = first.steer(Steer(id="1", bpm=90.0), here(first)).score
    third = second.steer(Steer(id="2", key=3.0), here(second)).score
    state = third.state(third.spec(0, 0.0), 0.0)
    assert (state.bpm, state.key) == (90.0, 3.0)
    assert [prompt.text for prompt in state.prompts] == ["calm"]
    assert state.steered


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"bpm": 90.0}, "vocoder"),
        ({"key": 2.0}, "vocoder"),
        ({"bpm": 90.0, "guidance": 7.0}, "clip"),
        ({"negative": "drums"}, "clip"),
        ({"prompts": (Prompt(text="jazz"),)}, "clip"),
        ({"seed": 9}, "clip"),
        ({}, "none"),
    ],
)
def test_only_what_the_model_decides_needs_new_clips(fields: dict[str, object], kind: str) -> None:
    first = score()
    assert first.steer(Steer(id="1", **fields), here(first)).kind == kind  # type: ignore[arg-type]


def test_null_returns_one_field_to_the_default() -> None:
    first = score(bpm=100.0)
    second = first.steer(Steer(id="1", bpm=150.0, key=1.0), here(first)).score
    third = second.steer(Steer(id="2", bpm=None), here(second)).score
    state = third.state(third.spec(0, 0.0), 0.0)
    assert (state.bpm, state.key) == (100.0, 1.0)


def test_prompts_leave_the_journey_and_reset_comes_back() -> None:
    first = score()
    change = first.steer(Steer(id="1", prompts=(Prompt(text="jazz", weight=2.0), Prompt(text="rain"))), here(first))
    assert change.index == 0
    state = change.score.state(change.score.spec(30, 240.0), 240.0)
    assert [prompt.text for prompt in state.prompts] == ["jazz", "rain"]
    assert change.score.reset().score == first
    assert change.score.steer(Steer(id="2", prompts=None), here(change.score)).score.path is first.path


def test_tempo_and_key_of_the_journey_stay_when_prompts_are_steered() -> None:
    journey = Journey.single("calm", bpm=84.0, key=-2.0)
    first = score(journey)
    steered = first.steer(Steer(id="1", prompts=(Prompt(text="blue glass"),)), here(first)).score
    state = steered.state(steered.spec(0, 0.0), 0.0)
    assert (state.bpm, state.bpm_reason, state.key) == (84.0, None, -2.0)


def test_words_choose_the_tempo_until_somebody_sets_a_number() -> None:
    first = score(Journey.single("calm", bpm=84.0))
    techno = first.steer(Steer(id="1", prompts=(Prompt(text="techno"),)), here(first)).score
    state = techno.state(techno.spec(0, 0.0), 0.0)
    assert 128 <= (state.bpm or 0) <= 142
    assert state.bpm_reason == "techno: 128 to 142 bpm"
    numbered = techno.steer(Steer(id="2", bpm=100.0), here(techno))
    assert numbered.kind == "vocoder"
    state = numbered.score.state(numbered.score.spec(0, 0.0), 0.0)
    assert (state.bpm, state.bpm_reason) == (100.0, None)
    jazz = numbered.score.steer(Steer(id="3", prompts=(Prompt(text="slow jazz"),)), here(numbered.score)).score
    assert jazz.tempo(jazz.spec(0, 0.0), 0.0) == 100.0
    for back in ("auto", None):
        again = jazz.steer(Steer(id="4", bpm=back), here(jazz)).score
        tempo = again.tempo(again.spec(0, 0.0), 0.0)
        assert 55 <= (tempo or 0) <= 75


def test_a_mix_of_prompts_mixes_their_tempos() -> None:
    first = score()
    mix = (Prompt(text="dubstep"), Prompt(text="a slow waltz", weight=1.0), Prompt(text="blue glass", weight=3.0))
    mixed = first.steer(Steer(id="1", prompts=mix), here(first)).score
    tempo = mixed.tempo(mixed.spec(0, 0.0), 0.0)
    assert tempo == pytest.approx((140.9 * 69.3) ** 0.5, abs=0.1)


def test_a_long_ramp_of_prompts_passes_through_mixes() -> None:
    first = score(Journey.single("calm", seed=5))
    change = first.steer(Steer(id="1", prompts=(Prompt(text="jazz"),), ramp_s=32.0), here(first, 3, 24.0))
    assert change.index == 1
    weights = []
    for index in range(1, 9):
        mix = {part.text: part.weight for part in change.score.spec(index, 0.0).prompts}
        weights.append(mix.get("jazz", 0.0))
    assert weights == pytest.approx([index / 8 for index in range(1, 9)], abs=1e-3)


def test_a_short_ramp_of_prompts_is_a_long_crossfade() -> None:
    first = score()
    change = first.steer(Steer(id="1", prompts=(Prompt(text="jazz"),), ramp_s=3.0), here(first))
    assert change.fade_s == 3.0


def test_a_tempo_ramp_moves_beat_by_beat() -> None:
    first = score(Journey.single("calm", bpm=100.0))
    steered = first.steer(Steer(id="1", bpm=140.0, ramp_s=4.0), here(first, beat=16.0)).score
    spec = steered.spec(2, 16.0)
    tempi = [steered.tempo(spec, beat) for beat in (10.0, 16.0, 20.0, 24.0, 100.0)]
    assert tempi == pytest.approx([100, 100, 120, 140, 140])


def test_skip_goes_to_the_next_stop_or_to_another_variation() -> None:
    first = score()
    change = first.skip(1, here(first, 1))
    assert [part.text for part in change.score.spec(change.index or 0, 0.0).prompts] == ["loud"]
    single = score(Journey.single("calm", seed=5))
    change = single.skip(1, here(single, 1))
    assert change.score.spec(0, 0.0).start.seed != single.spec(1, 0.0).start.seed


def test_samples_per_beat_follow_the_tempo() -> None:
    first = score(Journey.single("calm", bpm=90.0))
    assert first.samples_per_beat(first.spec(0, 0.0), 0.0) == pytest.approx(60 / 90 * 48_000)


FIELDS = {
    "prompts": st.none() | st.lists(st.builds(dict, text=st.text(min_size=1, max_size=20)), min_size=1, max_size=3),
    "negative": st.none() | st.text(max_size=10),
    "seed": st.none() | st.integers(0, 2**32 - 1),
    "denoising": st.none() | st.floats(0, 1),
    "guidance": st.none() | st.floats(0, 30),
    "bpm": st.none() | st.floats(40, 240),
    "key": st.none() | st.floats(-6, 6),
    "ramp_s": st.floats(0, 120),
}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=FIELDS), max_size=6))
def test_every_accepted_steer_gives_a_score_that_can_be_played(steers: list[dict[str, object]]) -> None:
    now = score()
    for number, fields in enumerate(steers):
        try:
            steer = decode_client(msgspec.json.encode({"type": "steer", "id": str(number), **fields}))
        except ProtocolError:  # texts that are nothing but control characters
            continue
        assert isinstance(steer, Steer)
        change = now.steer(steer, here(now, 2, 16.0))
        now = change.score
        for index in (change.index or 0, 7, 100):
            spec = now.spec(index, index * 8.0)
            assert 40 * 0.99 <= (now.tempo(spec, 0.0) or 120) <= 240 * 1.01
            assert now.state(spec, 0.0).prompts
    assert now.reset().score.state(now.spec(0, 0.0), 0.0).steered is False


def test_a_song_goes_on_at_its_place_whatever_is_steered() -> None:
    first = score(Journey.single("calm", seed_image="song:main"))
    assert first.spec(3, 24.0).place == 3.0
    second = first.steer(Steer(id="1", prompts=(Prompt(text="jazz"),)), here(first, 3, 24.0)).score
    assert second.spec(0, 28.0).place == 3.5  # the steered path begins at 0, the song does not
    assert score().spec(3, 24.0).place is None
