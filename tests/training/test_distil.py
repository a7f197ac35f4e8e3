"""Distillation and the optimiser."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from riffstream.diffusion.family import TrainingSchedule
from riffstream.diffusion.mini.codec import Codec, CodecConfig
from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.ear import EAR
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.mini.reader import READER
from riffstream.diffusion.mini.sounds import FILE, Sounds
from riffstream.diffusion.mini.text import MiniTextEncoder
from riffstream.diffusion.schedules import flow_path
from riffstream.errors import CheckpointError, ParameterError
from riffstream.training import loop
from riffstream.training.checkpoints import load_denoiser, resume_model
from riffstream.training.denoiser import PRESETS, draw, prepare_data, train_denoiser
from riffstream.training.distil import Aim, distil, guided_velocity, make_job, teacher_target
from riffstream.training.ear import Labels
from riffstream.training.export import export, parse_blend
from riffstream.training.gradient_helper import GradientHelper
from riffstream.training.latents import LatentSet
from riffstream.training.loop import Ema, Log, Muon, load_state, save_state, step_size
from riffstream.training.sounds import build_sounds
from riffstream.training.walks import Walks
from tests.training.small import compile_eagerly, write_corpus

CPU = torch.device("cpu")


def make_data(folder: Path) -> LatentSet:
    torch.manual_seed(0)
    codec = Codec(CodecConfig(channels=4, width=8, fine_width=8)).requires_grad_(False)
    torch.nn.init.orthogonal_(codec.basis)
    data = LatentSet(write_corpus(folder, songs=4, windows=2), codec, MiniTextEncoder.random())
    data.refresh()
    return data


def random_denoiser() -> Denoiser:
    torch.manual_seed(1)
    model = Denoiser(DenoiserConfig(channels=4, width=16, layers=2, heads=2, mlp=32, text_width=16))
    for value in model.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.1)
    return model


def test_guidance_one_is_the_plain_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        loop, "preferred_dtype", lambda device: torch.float32
    )  # bfloat16 rounds a hundred times coarser
    data = make_data(tmp_path)
    model = random_denoiser()
    batch = draw(data, data.rows(held_out=False), 3, 1, CPU)
    empty = (data.tokens[:1].float(), data.mask[:1])
    with torch.no_grad():
        plain = model(batch.clean, batch.t, batch.tokens, batch.mask, batch.previous, batch.previous_mask, batch.triple)
    torch.testing.assert_close(
        guided_velocity(model, batch.clean, batch.t, batch, empty, Aim(1.0)), plain, atol=1e-5, rtol=1e-4
    )


def test_guidance_applies_above_its_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "preferred_dtype", lambda device: torch.float32)
    data = make_data(tmp_path)
    model = random_denoiser()
    batch = draw(data, data.rows(held_out=False), 4, 1, CPU)
    empty = (data.tokens[:1].float(), data.mask[:1])
    batch.tokens = torch.randn(batch.tokens.shape)  # no row has the empty caption
    times = torch.tensor([0.9, 0.2, 0.5, 0.4])
    plain = guided_velocity(model, batch.clean, times, batch, empty, Aim(1.0))
    everywhere = guided_velocity(model, batch.clean, times, batch, empty, Aim(4.0, above=0.0))
    made = guided_velocity(model, batch.clean, times, batch, empty, Aim(4.0, above=0.45))
    assert ((everywhere - plain).abs().amax((1, 2, 3)) > 1e-3).all()
    torch.testing.assert_close(made[[0, 2]], everywhere[[0, 2]], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made[[1, 3]], plain[[1, 3]], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_target_is_a_step_of_the_sampler_s_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    monkeypatch.setattr(loop, "preferred_dtype", lambda device: torch.float32)
    data = make_data(tmp_path)
    model = random_denoiser()
    empty = (data.tokens[:1].float(), data.mask[:1])
    walks = Walks(data, data.rows(held_out=False), 3, 4, shift, 1, CPU)
    walked = [level.sigma for level in flow_path(TrainingSchedule("flow", "flow", shift=shift), 4).levels]
    grid = torch.tensor(walked[::-1])
    place = (walks.t[:, None] - grid[None]).abs().argmin(1)
    assert (place > 0).all()
    torch.testing.assert_close(walks.t, grid[place])
    torch.testing.assert_close(walks.next_t, grid[place - 1])
    x, t, batch = walks.x, walks.t, walks.batch
    target = teacher_target(model, walks, empty, Aim(1.0, 4, shift))
    half = (t - grid[place - 1]) / 2
    with torch.no_grad():
        rest = (batch.tokens, batch.mask, batch.previous, batch.previous_mask, batch.triple)
        middle = model(x - model(x, t, *rest) * half[:, None, None, None], t - half, *rest)
    torch.testing.assert_close(target, middle, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("wrong", [{"guidance": 0.5}, {"steps": 0}, {"shift": 0.0}, {"above": 1.5}])
def test_an_impossible_aim_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Aim(**wrong)  # type: ignore[arg-type]


def test_the_student_comes_nearer_to_the_guided_teacher(tmp_path: Path) -> None:
    data = make_data(tmp_path / "corpus")
    train_denoiser(data, tmp_path, PRESETS["smoke"], minutes=1, max_steps=20, device=CPU)
    result = distil(data, tmp_path, PRESETS["smoke"], minutes=0.06, device=CPU, aim=Aim(4.0, 4))
    assert result["after"] < result["before"]
    assert (tmp_path / "distilled.pt").is_file()


def test_a_student_goes_on_where_it_was_left(tmp_path: Path) -> None:
    data = make_data(tmp_path / "corpus")
    train_denoiser(data, tmp_path, PRESETS["smoke"], minutes=1, max_steps=20, device=CPU)
    first = distil(data, tmp_path, PRESETS["smoke"], minutes=0.03, device=CPU, aim=Aim(4.0, 4))
    second = distil(data, tmp_path, PRESETS["smoke"], minutes=0.03, device=CPU, aim=Aim(4.0, 4))
    assert second["before"] == pytest.approx(first["after"], rel=1e-5)
    assert second["step"] > first["step"]
    assert second["examples"] == second["step"] * PRESETS["smoke"].batch // 2
    other = distil(data, tmp_path, PRESETS["smoke"], minutes=0.0, device=CPU, aim=Aim(1.0, 4))
    assert other["step"] == 0  # another guidance is another student


def test_the_student_of_a_teacher_trained_further_begins_with_what_was_learned(tmp_path: Path) -> None:
    data = make_data(tmp_path / "corpus")
    for name in ("anew", "again"):
        train_denoiser(data, tmp_path / name, PRESETS["smoke"], minutes=1, max_steps=20, device=CPU)
    distil(data, tmp_path / "again", PRESETS["smoke"], minutes=0.08, device=CPU, aim=Aim(4.0, 4))
    begins = {}
    for name in ("anew", "again"):
        train_denoiser(data, tmp_path / name, PRESETS["smoke"], minutes=1, max_steps=24, device=CPU)
        result = distil(data, tmp_path / name, PRESETS["smoke"], minutes=0.0, device=CPU, aim=Aim(4.0, 4))
        begins[name] = result["before"]
    assert begins["again"] < begins["anew"]


def test_the_denoiser_saved_last_is_exported(tmp_path: Path) -> None:
    resume_model("mini", tmp_path)
    write_corpus(tmp_path / "corpus", songs=4, windows=2)
    data = prepare_data(tmp_path / "corpus", tmp_path, CPU, Log(tmp_path, "denoiser", quiet=True))
    train_denoiser(data, tmp_path, PRESETS["smoke"], minutes=1, max_steps=2, device=CPU)
    assert export(tmp_path, tmp_path / "model").guidance > 1
    distil(data, tmp_path, PRESETS["smoke"], minutes=0.0, device=CPU, aim=Aim(3.0, 4, 2.0))
    distilled = export(tmp_path, tmp_path / "model")
    assert (distilled.guidance, distilled.steps) == (1, 4)
    assert MiniFamily.load(tmp_path / "model").schedule.shift == 2.0
    train_denoiser(data, tmp_path, PRESETS["smoke"], minutes=1, max_steps=4, device=CPU)
    assert export(tmp_path, tmp_path / "model").guidance > 1


def test_sounds_are_exported_with_their_own_codec_alone(tmp_path: Path) -> None:
    """Latents of another codec are noise, and their shape does not show it."""
    resume_model("mini", tmp_path)
    write_corpus(tmp_path / "corpus", songs=4, windows=2)
    data = prepare_data(tmp_path / "corpus", tmp_path, CPU, Log(tmp_path, "denoiser", quiet=True))
    train_denoiser(data, tmp_path, PRESETS["smoke"], minutes=1, max_steps=2, device=CPU)
    model = tmp_path / "model"
    build_sounds(data, tmp_path / FILE, 4, Labels.of(data, tmp_path / "corpus"))
    export(tmp_path, model)
    assert isinstance(sounds := MiniFamily.load(model).sounds, Sounds)
    assert len(sounds) == 4
    assert sounds.identity == Sounds(tmp_path / FILE, (20, 16, 32)).identity, "with its reader"
    assert resume_model(str(model), tmp_path / "next").sounds is not None
    for file in (FILE, READER, EAR):
        assert (tmp_path / "next" / file).read_bytes() == (model / file).read_bytes(), "the next training has them too"
    build_sounds(data, tmp_path / FILE, 3)
    export(tmp_path, model)
    assert not (model / READER).exists(), "it was of the sounds before"
    (tmp_path / "next" / "codec.pt").unlink()
    resume_model(str(model), tmp_path / "next")
    assert not (tmp_path / "next" / READER).exists(), "it was of the sounds before, too"
    state = load_state(tmp_path / "codec.pt", CPU)
    assert state is not None
    state["codec"]["latent_scale"] *= 2  # trained again
    save_state(tmp_path / "codec.pt", state)
    index = (model / "model_index.json").stat().st_mtime_ns
    with pytest.raises(CheckpointError, match=r"another codec.*riffstream train sounds"):
        export(tmp_path, model)
    assert (model / "model_index.json").stat().st_mtime_ns == index, "nothing was written"
    (tmp_path / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"another codec.*riffstream train ear"):
        export(tmp_path, model)
    (tmp_path / EAR).unlink()
    export(tmp_path, model)
    with pytest.raises(CheckpointError, match=r"model/sounds\.safetensors: .*another codec"):
        MiniFamily.load(model)


def test_a_blend_is_the_weighted_mean_of_the_weights(tmp_path: Path) -> None:
    resume_model("mini", tmp_path)
    write_corpus(tmp_path / "corpus", songs=4, windows=2)
    data = prepare_data(tmp_path / "corpus", tmp_path, CPU, Log(tmp_path, "denoiser", quiet=True))
    other, model = tmp_path / "other", tmp_path / "model"
    train_denoiser(data, tmp_path, PRESETS["smoke"], minutes=1, max_steps=2, device=CPU)
    train_denoiser(data, other, PRESETS["smoke"], minutes=1, max_steps=2, device=CPU, seed=1)
    export(tmp_path, model, blend=parse_blend([f"{other}=0.25"]))
    first, second = (load_denoiser(folder / "denoiser.pt", CPU).patch_in.bias for folder in (tmp_path, other))
    blended = MiniFamily.load(model, dtype=torch.float32).denoiser.patch_in.bias
    torch.testing.assert_close(blended, 0.75 * first + 0.25 * second, atol=1e-6, rtol=1e-2)
    assert not torch.equal(first, second)
    with pytest.raises(CheckpointError, match="other sizes"):
        export(tmp_path, model, blend=[("mini", 0.5)])


@pytest.mark.parametrize("wrong", [["mini"], ["mini=1.5"], ["mini=0"], ["=0.5"], ["mini=x"], ["mini=0.6", "other=0.4"]])
def test_an_impossible_blend_is_refused(wrong: list[str]) -> None:
    with pytest.raises(ParameterError, match="blend"):
        parse_blend(wrong)


def test_a_helper_teaches_the_student_too(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    teacher, student = random_denoiser().requires_grad_(False), random_denoiser()
    rows = data.rows(held_out=False)
    helper = GradientHelper(student, make_job, (teacher, data, rows, 2, 0, Aim(4.0, 4)))
    try:
        for value in student.parameters():
            value.grad = torch.zeros_like(value)
        give_up = time.monotonic() + 30
        while not helper.add_to(2):
            assert time.monotonic() < give_up, "the helper delivered nothing"
            time.sleep(0.05)
        sizes = [float(value.grad.norm()) for value in student.parameters() if value.grad is not None]
        assert max(sizes) > 0
        assert all(size < float("inf") for size in sizes)
    finally:
        helper.close()


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
def test_a_compiled_student_learns_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path / "corpus")
    train_denoiser(data, tmp_path, PRESETS["smoke"], minutes=1, max_steps=20, device=CPU)
    compiled = compile_eagerly(monkeypatch)
    result = distil(data, tmp_path, PRESETS["smoke"], minutes=0.3, device=CPU, aim=Aim(4.0, 4), compiled=True)
    assert len(compiled) == 2 * PRESETS["smoke"].config.layers
    assert result["after"] < result["before"]


def test_muon_steps_have_equal_singular_values() -> None:
    torch.manual_seed(0)
    wide, tall = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((8, 32), (32, 8)))
    optimiser = Muon([wide, tall], lr=1.0)
    for value in (wide, tall):
        value.grad = torch.randn(value.shape) @ torch.diag(torch.logspace(0, -2, value.shape[1]))
    optimiser.step()
    for value in (wide, tall):
        singular = torch.linalg.svdvals(value.detach()) / (0.2 * 32**0.5)
        assert singular.min() > 0.3
        assert singular.max() < 1.4


def test_average_follows_and_is_lent_out() -> None:
    layer = torch.nn.Linear(2, 2)
    ema = Ema(layer, 0.9)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    ema.update(layer)
    inside = ema.values["weight"]
    assert ((inside > start) & (inside <= start + 1)).all()
    with ema.applied(layer):
        torch.testing.assert_close(layer.weight.detach(), inside)
    torch.testing.assert_close(layer.weight.detach(), start + 1)


def test_step_size_rises_and_falls() -> None:
    assert step_size(0, 10) == 0.1
    assert step_size(50, 10) == 1.0
    assert step_size(50, 10, remaining=0.1, decay_from=0.2) == 0.5
    assert step_size(50, 10, remaining=0.0, decay_from=0.2) == 0.0
