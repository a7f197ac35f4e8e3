"""Journeys are pure, endless and continuous; their files are validated by field."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.errors import MediaError, ParameterError
from riffstream.journey.journey import ClipSpec, Journey, Keyframe, PromptPart, Stop
from riffstream.journey.wander import MOODS, wander


def noise_place(spec: ClipSpec) -> float:
    """The clip's place along the seeds, as one number."""
    return spec.start.seed + spec.alpha * (spec.end.seed - spec.start.seed)


def same_music(spec: ClipSpec, keyframe: Keyframe) -> bool:
    """Whether the clip at its own alpha is exactly the keyframe."""
    return (spec.alpha == 0 and spec.start == keyframe) or (spec.alpha == 1 and spec.end == keyframe)


def test_single_prompt_walks_from_seed_to_seed_plus_one() -> None:
    journey = Journey.single("jazz", seed=42, drift=4)
    places = [noise_place(journey.clip(i)) for i in range(9)]
    assert places == [42 + i / 4 for i in range(9)]
    assert {journey.clip(i).start.prompts for i in range(50)} == {(PromptPart("jazz"),)}
    assert journey.clip(10**12).end.seed == (42 + 10**12 // 4 + 1) % 2**32


def test_visit_keeps_the_seed_while_the_prompt_moves() -> None:
    journey = Journey.visit(["jazz", "rock"], clips_each=4, transition_clips=4, seed=7)
    moving = [journey.clip(i) for i in range(4, 8)]
    assert [spec.alpha for spec in moving] == [0, 0.25, 0.5, 0.75]
    assert all(spec.start.seed == spec.end.seed == 8 for spec in moving)
    assert moving[0].start.prompts[0].text == "jazz"
    assert moving[0].end.prompts[0].text == "rock"
    back = journey.clip(13)
    assert (back.start.prompts[0].text, back.end.prompts[0].text) == ("rock", "jazz")
    assert back.start.seed == back.end.seed == 9


def test_visit_comes_round_with_new_seeds_and_loop_repeats_exactly() -> None:
    evolving = Journey.visit(["a", "b"], 4, 4, seed=0)
    assert [noise_place(evolving.clip(i + 16)) for i in range(16)] == [
        noise_place(evolving.clip(i)) + 2 for i in range(16)
    ]
    loop = Journey.visit(["a", "b"], 4, 4, seed=0, ending="loop")
    assert [(s.start, s.end, s.alpha) for s in map(loop.clip, range(16))] == [
        (s.start, s.end, s.alpha) for s in map(loop.clip, range(160, 176))
    ]


def test_steered_travels_then_stays() -> None:
    start, end = Keyframe.of("a", seed=3), Keyframe.of("b", seed=3, guidance=5)
    journey = Journey.steered(start, end, transition_clips=2)
    assert [journey.clip(i).alpha for i in range(4)] == [0, 0.5, 0, 0.25]
    assert same_music(journey.clip(0), start)
    assert same_music(journey.clip(2), end)
    assert journey.clip(99).start.prompts[0].text == "b"
    assert same_music(Journey.steered(start, end, transition_clips=0).clip(0), end)


@st.composite
def journeys(draw: st.DrawFn) -> Journey:
    count = draw(st.integers(1, 4))
    stops = tuple(
        Stop(
            Keyframe.of(f"p{k}", seed=draw(st.integers(0, 2**32 - 1))), draw(st.integers(0, 9)), draw(st.integers(1, 5))
        )
        for k in range(count)
    )
    return Journey(stops, draw(st.sampled_from(["loop", "evolve", "stay"])), draw(st.integers(0, 6)))


@given(journeys(), st.integers(0, 10**9))
def test_clip_is_pure_and_survives_its_own_serialisation(journey: Journey, index: int) -> None:
    spec = journey.clip(index)
    assert spec == journey.clip(index)
    assert spec.index == index
    assert Journey.from_dict(json.loads(json.dumps(journey.to_dict()))).clip(index) == spec


def step(journey: Journey, index: int) -> float:
    """How far the clip after ``index`` may lie from it, in spans of two keyframes."""
    steps: list[float] = []
    for stop in journey.stops:
        steps += [stop.seeds(journey.pace) / max(1, stop.stay)] * stop.stay + [1 / stop.travel] * stop.travel
    last = journey.length - journey.stops[-1].stay - journey.stops[-1].travel
    if journey.ending == "stay" and index >= last:
        return 1 / journey.pace if journey.pace else 0.0
    return steps[index % journey.length]


def distance(one: ClipSpec, other: ClipSpec) -> float:
    """Between the clips' mixtures of keyframes: 0 where they are the same, 1 where they share nothing."""
    difference: Counter[Keyframe] = Counter()
    for clip, sign in ((one, 1), (other, -1)):
        difference[clip.start] += sign * (1 - clip.alpha)  # type: ignore[assignment]
        difference[clip.end] += sign * clip.alpha  # type: ignore[assignment]
    return sum(map(abs, difference.values())) / 2


@given(journeys(), st.integers(0, 200))
def test_the_path_has_no_jump_and_no_halt(journey: Journey, index: int) -> None:
    before, after, most = journey.clip(index), journey.clip(index + 1), step(journey, index)
    assert 0 <= before.alpha < 1
    assert distance(before, after) <= most + 1e-9
    assert distance(before, after) > most / 2 - 1e-9 or before.start == before.end


def test_interpolated_numbers_are_linear_and_defaults_stand_in() -> None:
    a = Keyframe.of("a", guidance=3, denoising=0.5, seed_image="og", bpm=100)
    b = Keyframe.of("b", guidance=7, denoising=0.9, seed_image="og", key=3)
    spec = ClipSpec(a, b, 0.25)
    assert spec.guidance(1.0) == 4.0
    assert spec.denoising(0.1) == pytest.approx(0.6)
    assert spec.bpm == 100
    assert (spec.key, ClipSpec(a, b, 0.5).key) == (0, 3)
    plain = Keyframe.of("c", denoising=0.3)
    assert ClipSpec(plain, plain, 0.5).denoising(0.7) == 1.0, "no seed image: from noise alone"
    assert ClipSpec(plain, plain, 0.5).guidance(6.5) == 6.5
    assert ClipSpec(a, plain, 0.5).denoising(0.7) == pytest.approx(0.75)


def test_described_mix_weighs_both_ends() -> None:
    a = Keyframe((PromptPart("piano", 2), PromptPart("rain", 2)))
    spec = ClipSpec(a, Keyframe.of("piano"), 0.5)
    assert spec.prompts == (PromptPart("piano", 0.75), PromptPart("rain", 0.25))


def test_toml_file_with_defaults_and_carried_seeds(tmp_path) -> None:
    path = tmp_path / "evening.toml"
    path.write_text("""
name = "evening"
ending = "evolve"
drift = 2
[defaults]
guidance = 5
prompt = "ambient"
[[keyframe]]
seed = 10
stay = 6
travel = 2
[[keyframe]]
prompts = [{text = "bells", weight = 2}, {text = "choir"}]
guidance = 9
""")
    journey = Journey.from_file(path)
    assert (journey.name, journey.ending, journey.drift) == ("evening", "evolve", 2)
    first, second = (stop.keyframe for stop in journey.stops)
    assert first.prompts == (PromptPart("ambient"),)
    assert (first.guidance, second.guidance) == (5, 9)
    assert second.seed == 13, "the seed goes on where the walk of three seeds ended"
    assert second.prompts == (PromptPart("bells", 2), PromptPart("choir"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"keyframe": []}, "keyframe"),
        ({"keyframes": []}, "did you mean 'keyframe'"),
        ({"keyframe": [{"prompt": "a", "guidence": 3}]}, "did you mean 'guidance'"),
        (
            {"keyframe": [{"prompt": "a"}, {"prompt": "a", "denoising": 1.5}]},
            r"keyframe\[1\].denoising is 1.5; allowed: 0 to 1",
        ),
        ({"keyframe": [{"prompt": "a", "bpm": 300}]}, "bpm is 300; allowed: 40 to 240 beats per minute"),
        ({"keyframe": [{"prompt": "a", "key": "C"}]}, "key is 'C'"),
        ({"keyframe": [{"prompt": "a", "seed": -1}]}, "seed is -1"),
        ({"keyframe": [{"prompt": "a", "seed": 1.5}]}, "a whole number"),
        ({"keyframe": [{"prompt": "a", "stay": 0, "travel": 0}]}, r"keyframe\[0\].stay"),
        ({"keyframe": [{"prompt": "a", "prompts": ["b"]}]}, "either prompt or prompts"),
        ({"keyframe": [{"seed": 3}]}, r"keyframe\[0\].prompts"),
        ({"keyframe": [{"prompts": [{"text": "a", "wieght": 1}]}]}, "did you mean 'weight'"),
        ({"keyframe": [{"prompts": [{"text": "a", "weight": 0}]}]}, "one weight above 0"),
        ({"keyframe": [{"prompts": "a"}]}, "a list of"),
        ({"keyframe": [3]}, r"keyframe\[0\] is 3"),
        ({"keyframe": [{"prompt": "a"}], "ending": "stop"}, "loop, evolve, stay"),
        ({"keyframe": [{"prompt": "a"}], "drift": -1}, "drift"),
        ({"keyframe": [{"prompt": "a"}], "defaults": 3}, "defaults"),
    ],
)
def test_a_bad_journey_names_the_field(table, message) -> None:
    with pytest.raises(ParameterError, match=message):
        Journey.from_dict(table)


def test_unreadable_files_are_one_clear_error(tmp_path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("keyframe = [")
    for path in (broken, tmp_path / "absent.json"):
        with pytest.raises(MediaError, match=path.name):
            Journey.from_file(path)
    listing = tmp_path / "list.json"
    listing.write_text("[]")
    with pytest.raises(MediaError, match="top level"):
        Journey.from_file(listing)


def test_wander_keeps_an_hour_interesting() -> None:
    journey = wander(5)
    hour = [journey.clip(i) for i in range(720)]
    assert len({spec.start.prompts for spec in hour}) > 35
    assert all(b.seed == a.seed for a, b in ((s.start, s.end) for s in hour) if a.prompts != b.prompts)
    jumps = [abs((a.bpm or 0) - (b.bpm or 0)) for a, b in itertools.pairwise(hour)]
    assert max(jumps) <= 20, "tempo moves gently from clip to clip"
    assert journey == wander(5)
    assert journey != wander(6)
    assert len({noise_place(journey.clip(i)) for i in range(10_000) if not journey.clip(i).alpha}) > 1000


def test_moods_lead_only_to_moods() -> None:
    assert all(set(mood.near) <= set(MOODS) for mood in MOODS.values())


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys; from riffstream.diffusion import clip; from riffstream.journey import journey, wander; "
        "wander.wander().clip(3); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_manual_s_journey_is_valid() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "engine.md").read_text(encoding="utf-8")
    journey = Journey.from_dict(tomllib.loads(manual.split("```toml\n")[1].split("```")[0]))
    assert [stop.stay for stop in journey.stops] == [8, 12]
    assert journey.stops[1].keyframe.seed == 44


def test_a_journey_without_drift_goes_at_the_models_pace() -> None:
    journey = Journey.visit(["jazz", "techno", "choir"], clips_each=6, transition_clips=2, seed=10)
    assert journey.drift is None
    assert [stop.keyframe.seed for stop in journey.stops] == [10, 12, 14]
    brisk = journey.paced(1)
    assert [stop.keyframe.seed for stop in brisk.stops] == [10, 16, 22]
    assert [brisk.clip(n).start.seed for n in range(8)] == [10, 11, 12, 13, 14, 15, 16, 16]
    assert brisk.clip(7).end.seed == 16, "travel keeps the seed"
    assert brisk.paced(4) == brisk
    assert Journey.from_dict(journey.to_dict()) == journey


def test_seeds_of_ones_own_stay_at_any_pace() -> None:
    stops = tuple(Stop(Keyframe.of(text, seed=seed), stay=4) for text, seed in (("jazz", 1), ("techno", 99)))
    assert [stop.keyframe.seed for stop in Journey(stops).paced(1).stops] == [1, 99]
    assert Journey(stops, drift=3).paced(1).drift == 3
