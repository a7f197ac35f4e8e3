"""LoRA files in their four namings, against the sum written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.sd.family import StableDiffusion
from riffstream.diffusion.sd.lora import LoraSpec, merge_lora, parse_lora
from riffstream.errors import CheckpointError, ParameterError

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "encoder.layers.0.self_attn.q_proj"
RANK = 2

# For each naming: the stems of the unet's, the text encoder's layers, and the ends of the two halves.
Naming = tuple[Callable[[str], str], Callable[[str], str], str, str]
NAMINGS: dict[str, Naming] = {
    "kohya": (
        lambda name: f"lora_unet_{name.replace('.', '_')}",
        lambda name: f"lora_te_text_model_{name.replace('.', '_')}",
        ".lora_down.weight",
        ".lora_up.weight",
    ),
    "peft": (
        lambda name: f"unet.{name}",
        lambda name: f"text_encoder.text_model.{name}",
        ".lora_A.weight",
        ".lora_B.weight",
    ),
    "diffusers": (
        lambda name: f"unet.{name}",
        lambda name: f"text_encoder.text_model.{name}",
        ".lora.down.weight",
        ".lora.up.weight",
    ),
    "bare peft": (
        lambda name: f"base_model.model.{name}",
        lambda name: f"text_encoder.base_model.model.text_model.{name}",
        ".lora_A.default.weight",
        ".lora_B.default.weight",
    ),
}


def weight(family: StableDiffusion, name: str) -> Tensor:
    module = family.text_encoder if name == TEXT else family.unet
    found: Tensor = module.get_submodule(name).weight
    return found


def halves(shape: torch.Size, seed: int) -> tuple[Tensor, Tensor]:
    """Down and up matrices (filters for a filter) that fit a weight."""
    generator = torch.Generator().manual_seed(seed)
    tail = (1,) * (len(shape) - 2)
    down = torch.randn(RANK, *shape[1:], generator=generator)
    return down, torch.randn(shape[0], RANK, *tail, generator=generator)


def product(down: Tensor, up: Tensor, shape: torch.Size) -> Tensor:
    return torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)).reshape(shape)


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, str(path))
    return path


@pytest.mark.parametrize("naming", NAMINGS)
def test_each_naming_adds_the_same_change(
    naming: str, tiny_sd: StableDiffusion, tiny_sd_folder: Path, tmp_path: Path
) -> None:
    unet_name, text_name, down_end, up_end = NAMINGS[naming]
    tensors, expected = {}, {}
    for seed, name in enumerate((QUERY, OUT, CONV, TEXT)):
        before = weight(tiny_sd, name)
        down, up = halves(before.shape, seed)
        stem = text_name(name) if name == TEXT else unet_name(name)
        tensors |= {stem + down_end: down, stem + up_end: up}
        factor = 0.5
        if naming == "kohya":
            tensors[f"{stem}.alpha"] = torch.tensor(1.0)
            factor *= 1.0 / RANK
        expected[name] = before + factor * product(down, up, before.shape)
    file = write(tmp_path / "lora.safetensors", tensors)
    family = Checkpoint.load(tiny_sd_folder, device="cpu", dtype="float32", lora=[(file, 0.5)], progress=False)
    assert isinstance(family, StableDiffusion)
    for name, value in expected.items():
        assert torch.allclose(weight(family, name), value, atol=1e-5), name
    untouched = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
    assert torch.equal(weight(family, untouched), weight(tiny_sd, untouched))


def modules(tiny_sd_folder: Path) -> dict[str, nn.Module]:
    family = Checkpoint.load(tiny_sd_folder, device="cpu", dtype="float32", progress=False)
    assert isinstance(family, StableDiffusion)
    return {"unet": family.unet, "text_encoder": family.text_encoder}


def test_files_of_the_oldest_diffusers_are_read(tiny_sd_folder: Path, tmp_path: Path) -> None:
    own = modules(tiny_sd_folder)
    before = own["unet"].get_submodule(OUT).weight
    assert isinstance(before, Tensor)
    original = before.clone()
    down, up = halves(before.shape, 0)
    stem = f"unet.{OUT.removesuffix('.to_out.0')}.processor.to_out_lora"
    file = write(tmp_path / "old.safetensors", {f"{stem}.down.weight": down, f"{stem}.up.weight": up})
    assert merge_lora(own, LoraSpec(file)) == 1
    assert torch.allclose(before, original + product(down, up, before.shape), atol=1e-5)


def test_a_merge_with_the_opposite_scale_undoes_it(tiny_sd_folder: Path, tmp_path: Path) -> None:
    own = modules(tiny_sd_folder)
    layer = own["unet"].get_submodule(QUERY).weight
    assert isinstance(layer, Tensor)
    original = layer.clone()
    down, up = halves(layer.shape, 0)
    file = write(tmp_path / "a.safetensors", {f"{QUERY}.lora_A.weight": down, f"{QUERY}.lora_B.weight": up})
    merge_lora(own, LoraSpec(file, 1.5))
    assert not torch.allclose(layer, original, atol=0.1)
    merge_lora(own, LoraSpec(file, -1.5))
    assert torch.allclose(layer, original, atol=1e-5)


DOWN, UP = torch.ones(RANK, 8), torch.ones(8, RANK)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no LoRA weights"),
        ({f"{QUERY}.lora_A.weight": DOWN}, "only one half of its pair"),
        ({"no.such.layer.lora_A.weight": DOWN, "no.such.layer.lora_B.weight": UP}, "unet has no layer no.such.layer"),
        ({f"{QUERY}.lora_A.weight": DOWN[:, :7], f"{QUERY}.lora_B.weight": UP}, "do not fit the layer's weight"),
        ({f"{QUERY}.lora_A.weight": DOWN, f"{QUERY}.lora_B.weight": UP[:, :1]}, "do not fit the layer's weight"),
        (
            {f"{QUERY}.hada_w1_a": DOWN},
            "an adapter of the kind LoHa; LoRA, LoCon and DoRA are read",
        ),
        ({f"{QUERY}.weight": DOWN}, "is no LoRA weight"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(
    tensors: dict[str, Tensor], message: str, tiny_sd: StableDiffusion, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in tiny_sd.unet.state_dict().items()}
    good = {f"{OUT}.lora_A.weight": DOWN, f"{OUT}.lora_B.weight": UP} if tensors else {}
    file = write(tmp_path / "bad.safetensors", {**good, **tensors})
    with pytest.raises(CheckpointError, match=message):
        merge_lora({"unet": tiny_sd.unet, "text_encoder": tiny_sd.text_encoder}, LoraSpec(file))
    assert all(torch.equal(value, before[name]) for name, value in tiny_sd.unet.state_dict().items())


def test_pickled_and_absent_files_are_refused(tiny_sd: StableDiffusion, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        merge_lora({"unet": tiny_sd.unet}, LoraSpec(tmp_path / "lora.pt"))
    with pytest.raises(CheckpointError, match="there is no file"):
        merge_lora({"unet": tiny_sd.unet}, LoraSpec(tmp_path / "lora.safetensors"))


def test_a_scale_may_stand_behind_the_name(tmp_path: Path) -> None:
    assert parse_lora("a.safetensors:0.8") == LoraSpec(Path("a.safetensors"), 0.8)
    assert parse_lora("a.safetensors") == LoraSpec(Path("a.safetensors"), 1.0)
    assert parse_lora(("a.safetensors", -1)) == LoraSpec(Path("a.safetensors"), -1.0)
    odd = tmp_path / "a:2"
    odd.touch()
    assert parse_lora(str(odd)) == LoraSpec(odd, 1.0)
    for wrong in ("a.safetensors:7", ("a.safetensors", "much")):
        with pytest.raises(ParameterError, match="lora scale"):
            parse_lora(wrong)
