"""Refinement: the ear, the critic, and a student between them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from riffstream.diffusion.mini.ear import EarNetwork
from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey.conditions import PARTS, SIZE, BarPlan, lay_out
from riffstream.training import critic as critics
from riffstream.training import ear as ears
from riffstream.training import loop, refine
from riffstream.training.critic import Critic, critic_loss, misled, student_loss
from riffstream.training.denoiser import draw
from riffstream.training.ear import Labels, condition_error, fit_ear, load_ear, told_error
from riffstream.training.latents import LatentSet
from riffstream.training.loop import Log
from riffstream.training.playing import Examples, play
from riffstream.training.refine import Recipe, Refinement
from riffstream.training.sounds import caption_directions, choose_sounds, near_sounds
from riffstream.training.walks import as_previous
from tests.training.small import compile_eagerly, small_denoiser, small_latents
from tests.training.test_distil import CPU, random_denoiser

NONE = torch.full((18, 1), -1)  # no sounds near any clip
SMALL = Recipe(steps=3, places=2, size=4, lead=2, rate=1e-3, critic_rate=1e-3)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "preferred_dtype", lambda device: torch.float32)
    monkeypatch.setattr(ears, "JUDGE", {**ears.JUDGE, "width": 16, "blocks": 1})


@pytest.fixture
def data(tmp_path: Path) -> LatentSet:
    return small_latents(tmp_path / "corpus")


@pytest.fixture
def labels(data: LatentSet, tmp_path: Path) -> Labels:
    return Labels.of(data, tmp_path / "corpus")


def small_ear(data: LatentSet, seed: int = 0) -> EarNetwork:
    torch.manual_seed(seed)
    return ears.new_ear(data, 24, CPU, ears.JUDGE).eval().requires_grad_(False)


def sounds_near(data: LatentSet) -> torch.Tensor:
    directions = caption_directions(data)
    return near_sounds(data, directions, choose_sounds(data, directions, 4))


def refinement(data: LatentSet, labels: Labels, recipe: Recipe = SMALL) -> Refinement:
    near = sounds_near(data)
    return Refinement(random_denoiser(), data, labels, near, [small_ear(data)], recipe, 0, CPU)


def test_labels_name_the_style_and_the_instruments_of_each_clip(data: LatentSet, labels: Labels) -> None:
    assert [data.styles[i] for i in labels.style.tolist()] == [name.split("/")[0] for name in data.names]
    organ = list(ears.INSTRUMENT_CLASSES).index("organ")
    assert (labels.instruments[:, organ] == 1).all()
    assert (labels.instruments.sum(1) == 1).all()


def test_an_ear_learns_to_tell_the_styles(data: LatentSet, labels: Labels, tmp_path: Path) -> None:
    ear = fit_ear(
        data, labels, 24, minutes=0.15, seed=1, device=CPU, log=Log(tmp_path, "ear", quiet=True), sizes=ears.JUDGE,
        size=8,
    )  # fmt: skip
    heard = ear(data.latents.float(), torch.full((len(data),), 0.02), data.triple)
    assert float((heard.style.argmax(1) == labels.style).float().mean()) > 0.9
    line = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert line["style_first"] == 1.0


def test_an_ear_hears_nothing_beyond_a_clip_in_3_4(data: LatentSet) -> None:
    ear = small_ear(data)
    x = torch.randn(2, *data.latents.shape[1:])
    other = x.clone()
    other[..., 24:] = torch.randn(other[..., 24:].shape)
    t = torch.full((2,), 0.3)
    for triple, same in ((True, True), (False, False)):
        marks = torch.full((2,), triple)
        assert torch.allclose(ear(x, t, marks).style, ear(other, t, marks).style, atol=1e-5) == same


def test_a_saved_ear_is_read_and_one_of_another_corpus_is_not(data: LatentSet, labels: Labels, tmp_path: Path) -> None:
    def load() -> EarNetwork:
        log = Log(tmp_path, "ear", quiet=True)
        return load_ear(tmp_path / "ear-0.pt", data, labels, 24, minutes=0.005, seed=0, device=CPU, log=log)

    first, again = load(), load()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    data.styles = ["something", "else"]
    changed = load()
    assert not torch.equal(first.style.weight, changed.style.weight)


def test_only_given_conditions_count(data: LatentSet) -> None:
    columns = 16
    given = torch.from_numpy(lay_out([BarPlan(parts={"drums": 0.0})] * 2, columns, 4))[None]
    drums, bass = (ears.VALUES.index(25 + PARTS.index(part)) for part in ("drums", "bass"))
    values = torch.zeros(1, columns, len(ears.VALUES))
    silent, loud, other = values.clone(), values.clone(), values.clone()
    silent[..., drums], loud[..., drums], other[..., bass] = -5, 5, 5

    def error(made: torch.Tensor) -> float:
        return float(condition_error(ears.Heard(values, values, made), given))

    assert error(silent) < 0.01 < error(values) < 1 < error(loud)
    assert error(other) == error(values)
    assert float(condition_error(ears.Heard(values, values, loud), torch.zeros(1, columns, SIZE))) == 0


def test_every_condition_value_has_its_flag() -> None:
    plan = BarPlan(
        parts=dict.fromkeys(PARTS, 0.5), density=0.5, energy=0.5, brightness=0.5, starts=True, ends=False, fill=False
    )
    flags = lay_out([plan], 8, 4)[:, list(ears.FLAGS)]
    assert len(ears.FLAGS) == len(ears.VALUES)
    assert (flags[:, 24:] == 1).all()
    assert (flags[:, :24] == 0).all()  # no chord is given
    assert np.ptp(lay_out([plan], 8, 4)[:, list(ears.VALUES)[24:]]) == 0


def test_clips_without_words_may_have_any_style() -> None:
    heard = ears.Heard(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.zeros(2, 3), torch.zeros(0))
    style, instruments = torch.tensor([0, 0]), torch.ones(2, 3)
    right, _ = told_error(heard, style, instruments, torch.tensor([True, False]))
    wrong, _ = told_error(heard, style, instruments, torch.tensor([False, True]))
    none, tools = told_error(heard, style, instruments, torch.tensor([False, False]))
    assert float(right) < 1 < float(wrong)
    assert float(none) == float(tools) == 0


def test_played_examples_are_euler_steps_from_noise(data: LatentSet) -> None:
    model = random_denoiser()
    batch = draw(data, torch.arange(len(data)), 5, 3, CPU, one_shape=True)
    clips, states = play(model, batch, 4, 24)
    cells = batch.inside(24)
    assert states.shape == (4, *clips.shape)
    rest = (batch.tokens, batch.mask, batch.previous, batch.previous_mask, batch.triple, batch.conditions)
    with torch.no_grad():
        last = states[3] - cells * model(states[3], torch.full((5,), 0.25), *rest) / 4
    torch.testing.assert_close(clips, last, atol=1e-5, rtol=1e-4)
    assert float((clips * (1 - cells)).abs().max()) == 0
    assert float(states[0].abs().max()) <= 2.1


def test_some_examples_continue_the_own_clip(data: LatentSet) -> None:
    source = Examples(data, torch.arange(len(data)), NONE, 64, 5, CPU)
    source.next(0)
    before = source.picked.clone()
    made = torch.randn(64, *data.latents.shape[1:]) * 0.5
    source.played(made)
    batch = source.next(1)
    own = (batch.previous == made).flatten(1).all(1)
    assert 5 < int(own.sum()) < 30
    assert (data.previous[source.picked[own]] == before[own]).all()
    assert batch.previous_mask[own].all()


def test_some_examples_open_with_a_sound_that_the_critic_does_not_see(data: LatentSet, labels: Labels) -> None:
    work = refinement(data, labels, replace(SMALL, size=64))
    batch = work.examples.next(0)
    opens = work.examples.opens
    assert 8 < int(opens.sum()) < 40
    assert batch.previous_mask[opens].all()
    near = sounds_near(data)
    for example, clip in zip(batch.previous[opens], work.examples.picked[opens].tolist(), strict=True):
        sounds = [as_previous(data.latents[i : i + 1].float())[0] for i in near[clip].tolist() if i >= 0]
        assert any(torch.equal(example, sound) for sound in sounds)
    judged = work._unopened(batch)
    assert not judged.previous_mask[opens].any()
    assert not judged.previous[opens].any()
    assert torch.equal(judged.previous[~opens], batch.previous[~opens])
    alone = Examples(data, torch.arange(len(data)), NONE, 64, 5, CPU)
    alone.next(0)
    assert not alone.opens.any()


def test_the_critic_compares_like_with_like() -> None:
    high, low = torch.full((4, 2), 3.0), torch.full((4, 2), -3.0)
    all_rows = torch.ones(4, dtype=torch.bool)
    assert float(critic_loss(high, low, low, all_rows, 1.0)) < 0.01
    assert float(critic_loss(low, high, low, all_rows, 1.0)) > 5
    assert float(critic_loss(high, low, high, all_rows, 1.0)) == pytest.approx(0.695, abs=0.01)
    assert float(critic_loss(high, low, high, ~all_rows, 1.0)) < 0.01
    assert float(student_loss(high, low)) > 5 > 0.01 > float(student_loss(low, high))


def test_misled_examples_differ_in_words_or_conditions_alone(data: LatentSet) -> None:
    batch = draw(data, torch.arange(len(data)), 64, 3, CPU, one_shape=True)
    batch.conditions = torch.rand(batch.conditions.shape)
    batch.conditions[::4] = 0
    empty = data.tokens[:1].float()
    wrong, different = misled(batch, empty, torch.Generator().manual_seed(1))
    words = (wrong.tokens != batch.tokens).flatten(1).any(1)
    asked = (wrong.conditions != batch.conditions).flatten(1).any(1)
    assert torch.equal(different, words | asked)
    assert words.any()
    assert asked.any()
    assert (words & ~asked).any()
    assert (asked & ~words).any()
    assert not (wrong.tokens[words] == empty).flatten(1).all(1).any()
    assert wrong.conditions[asked].flatten(1).any(1).all()
    assert torch.equal(wrong.clean, batch.clean)
    assert torch.equal(wrong.previous, batch.previous)


def test_a_score_reads_words_and_hears_the_clip_alone(data: LatentSet) -> None:
    judge = Critic(random_denoiser())
    assert len(judge.heads) == 1
    batch = draw(data, torch.nonzero(data.triple).flatten(), 4, 3, CPU, one_shape=True)
    t = torch.full((4,), 0.3)
    score = judge(batch.clean, t, batch)
    beyond = batch.clean.clone()
    beyond[..., 24:] = 7.0
    torch.testing.assert_close(judge(beyond, t, batch), score)
    batch.tokens = batch.tokens.flip(0) + 1
    assert not torch.allclose(judge(batch.clean, t, batch), score)


def test_the_critic_leads_and_the_student_follows(data: LatentSet, labels: Labels) -> None:
    work = refinement(data, labels)
    first = copy.deepcopy(work.student.state_dict())
    for _ in range(SMALL.lead):
        assert set(work.advance()) == {"critic", "gap", "words"}
    assert all(torch.equal(value, first[name]) for name, value in work.student.state_dict().items())
    measured = work.advance()
    assert {"student", "style", "instruments", "conditions", "away", "norm"} <= set(measured)
    assert any(not torch.equal(value, first[name]) for name, value in work.student.state_dict().items())
    assert all(torch.equal(value, first[name]) for name, value in work.first.state_dict().items())
    assert work.count == SMALL.size


def test_the_student_learns_what_the_ear_asks(data: LatentSet, labels: Labels, tmp_path: Path) -> None:
    ear = fit_ear(
        data, labels, 24, minutes=0.15, seed=1, device=CPU, log=Log(tmp_path, "ear", quiet=True), sizes=ears.JUDGE,
        size=8,
    )  # fmt: skip
    recipe = Recipe(steps=3, places=3, size=8, lead=0, rate=3e-3, critic_rate=1e-5, heard=10.0, anchor=0.0)
    near = sounds_near(data)
    work = Refinement(random_denoiser(), data, labels, near, [ear], recipe, 0, CPU)
    errors = [float(work.advance()["style"]) for _ in range(60)]
    assert sum(errors[-10:]) < 0.7 * sum(errors[:10])


def test_a_heavy_anchor_holds_the_student(data: LatentSet, labels: Labels) -> None:
    def away(anchor: float) -> float:
        torch.manual_seed(0)
        recipe = Recipe(steps=3, size=8, lead=0, rate=1e-3, heard=3.0, anchor=anchor)
        work = refinement(data, labels, recipe)
        return sum(float(work.advance()["away"]) for _ in range(20))

    assert away(100.0) < 0.5 * away(0.0)


def test_a_refinement_goes_on_where_it_was_left(data: LatentSet, labels: Labels, tmp_path: Path) -> None:
    def go(to: int, start: int = 0) -> dict[str, object]:
        return refine.refine(
            data, labels, tmp_path / "out", random_denoiser(), minutes=5, device=CPU, recipe=SMALL,
            ear_minutes=0.002, max_steps=to,
        )  # fmt: skip

    assert go(4) == {"step": 4, "examples": 8}
    kept = torch.load(tmp_path / "out" / "refined.pt", weights_only=True)
    assert go(5) == {"step": 5, "examples": 12}
    later = torch.load(tmp_path / "out" / "refined.pt", weights_only=True)
    assert any(not torch.equal(later["model"][name], value) for name, value in kept["model"].items())
    assert later["ema"]["count"] == 3
    with pytest.raises(CheckpointError, match="steps"):
        refine.refine(
            data, labels, tmp_path / "out", random_denoiser(), minutes=1, device=CPU,
            recipe=Recipe(steps=5, size=4), ear_minutes=0.002,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # from torch's tracer
def test_compiled_blocks_are_those_of_all_three_networks(
    data: LatentSet, labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compile_eagerly(monkeypatch)
    result = refine.refine(
        data, labels, tmp_path / "out", random_denoiser(), minutes=5, device=CPU, recipe=SMALL, ear_minutes=0.002,
        max_steps=4, compiled=True,
    )  # fmt: skip
    assert len(compiled) == 3 * len(small_denoiser().blocks)
    assert result["step"] == 4


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"places": 9}, {"size": 1}, {"rate": 0.0}, {"critic_rate": 1.0}, {"heard": -1.0}, {"anchor": 101.0}],
)
def test_an_impossible_recipe_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Recipe(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), 601.0])
def test_an_untrained_ear_is_refused(data: LatentSet, labels: Labels, tmp_path: Path, minutes: float) -> None:
    with pytest.raises(ParameterError, match="ear_minutes"):
        refine.refine(data, labels, tmp_path, random_denoiser(), minutes=1, device=CPU, ear_minutes=minutes)
    assert not (tmp_path / "ear-0.pt").exists()


def test_clips_are_judged_mostly_near_music() -> None:
    times = critics.judging_times(4000, torch.Generator().manual_seed(0))
    assert 0.2 < float(times.median()) < 0.35
    assert float(times.min()) >= 0
    assert float(times.max()) <= 1
