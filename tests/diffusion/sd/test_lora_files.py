"""The strength of LoRA files: where alpha comes from, against peft's own merge and diffusers' own loader."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.sd.family import StableDiffusion
from riffstream.diffusion.sd.ldm import rename, unet_layout
from riffstream.diffusion.sd.lora import LoraSpec, merge_lora
from riffstream.diffusion.sd.lora_files import read_lora
from riffstream.errors import CheckpointError
from tests.diffusion import tiny
from tests.diffusion.sd.test_lora import CONV, OUT, QUERY, TEXT

RANK = 4
LAYERS = (QUERY, OUT, CONV, TEXT)


@pytest.fixture
def own(tiny_sd_folder: Path) -> dict[str, nn.Module]:
    """A fresh model that a test may change."""
    family = Checkpoint.load(tiny_sd_folder, device="cpu", dtype="float32", progress=False)
    assert isinstance(family, StableDiffusion)
    return {"unet": family.unet, "text_encoder": family.text_encoder}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The libraries that are compared with warn about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def layer(own: dict[str, nn.Module], name: str) -> Tensor:
    module = own["text_encoder" if name == TEXT else "unet"].get_submodule(name)
    assert isinstance(module.weight, Tensor)
    return module.weight


def pairs(own: dict[str, nn.Module], naming: str = "peft", *, ranks: dict[str, int] | None = None) -> dict[str, Tensor]:
    """Random pairs for all :data:`LAYERS`."""
    generator = torch.Generator().manual_seed(5)
    tensors: dict[str, Tensor] = {}
    for name in LAYERS:
        shape = layer(own, name).shape
        rank = (ranks or {}).get(name, RANK)
        down = torch.randn(rank, *shape[1:], generator=generator)
        up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator)
        dotted = f"text_encoder.text_model.{name}" if name == TEXT else f"unet.{name}"
        flat = dotted.replace("text_encoder.", "lora_te.").replace("unet.", "lora_unet.").replace(".", "_")
        ends = (".lora_A.weight", ".lora_B.weight") if naming == "peft" else (".lora_down.weight", ".lora_up.weight")
        stem = dotted if naming == "peft" else flat
        tensors |= {stem + ends[0]: down, stem + ends[1]: up}
    return tensors


def change(own: dict[str, nn.Module], path: Path, scale: float = 1.0) -> dict[str, Tensor]:
    """What merging does to each layer; the model is put back."""
    before = {part: {n: v.clone() for n, v in module.state_dict().items()} for part, module in own.items()}
    merge_lora(own, LoraSpec(path, scale))
    after = {name: layer(own, name).clone() for name in LAYERS}
    for part, module in own.items():
        module.load_state_dict(before[part])
    return {name: after[name] - layer(own, name) for name in LAYERS}


def write(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "lora.safetensors"
    save_file({name: value.contiguous() for name, value in tensors.items()}, str(file), metadata=metadata)
    return file


def both(**settings: Any) -> dict[str, str]:
    """Settings of both parts as diffusers writes them."""
    values = {f"{part}.{key}": value for part in ("unet", "text_encoder") for key, value in settings.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(values)}


@pytest.mark.parametrize(
    ("naming", "metadata", "config", "factor"),
    [
        ("peft", None, None, 1.0),
        ("peft", both(r=4, lora_alpha=8), None, 2.0),
        ("peft", both(r=4, lora_alpha=8, use_rslora=True), None, 4.0),
        ("peft", {"lora_alpha": "8", "r": "4"}, None, 2.0),
        ("peft", {"unet.lora_alpha": "8", "text_encoder.lora_alpha": "8"}, None, 2.0),
        ("peft", {"ss_network_alpha": "2", "ss_network_dim": "4"}, None, 0.5),
        ("kohya", {"ss_network_alpha": "2.0", "ss_network_dim": "4"}, None, 0.5),
        ("kohya", {"ss_network_alpha": "None"}, None, 1.0),
        ("peft", None, {"r": 4, "lora_alpha": 8}, 2.0),
        ("peft", None, {"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
        ("peft", both(r=4, lora_alpha=8), {"r": 4, "lora_alpha": 400}, 2.0),
    ],
)
def test_alpha_comes_from_the_header_or_from_beside(
    naming: str, metadata: dict[str, str] | None, config: dict[str, Any] | None, factor: float,
    own: dict[str, nn.Module], tmp_path: Path,
) -> None:  # fmt: skip
    plain = change(own, write(tmp_path / "plain", pairs(own)))
    file = write(tmp_path / "lora", pairs(own, naming), metadata)
    if config is not None:
        (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config))
    for name, value in change(own, file).items():
        assert torch.allclose(value, factor * plain[name], atol=1e-5), name


def test_a_tensor_of_alpha_wins_and_each_pair_has_its_own_rank(own: dict[str, nn.Module], tmp_path: Path) -> None:
    ranks = {QUERY: 2, OUT: 8}
    tensors = pairs(own, ranks=ranks)
    plain = change(own, write(tmp_path / "plain", tensors))
    tensors[f"unet.{OUT}.alpha"] = torch.tensor(2.0, dtype=torch.float16)
    got = change(own, write(tmp_path / "lora", tensors, both(r=4, lora_alpha=8)))
    for name, factor in {QUERY: 4.0, OUT: 0.25, CONV: 2.0, TEXT: 2.0}.items():
        assert torch.allclose(got[name], factor * plain[name], atol=1e-4), name


def test_patterns_name_single_layers(own: dict[str, nn.Module], tmp_path: Path) -> None:
    plain = change(own, write(tmp_path / "plain", pairs(own)))
    patterns = {"attn2.to_q": 12, r"down_blocks\.\d\.resnets\.0\.conv1": 2, "no.such": 99, "[": 1}
    values = {"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": patterns, "text_encoder.r": 4}
    values |= {"text_encoder.alpha_pattern": {f"text_model.{TEXT}": 8}}
    got = change(own, write(tmp_path / "lora", pairs(own), {"lora_adapter_metadata": json.dumps(values)}))
    for name, factor in {QUERY: 3.0, CONV: 0.5, OUT: 1.0, TEXT: 2.0}.items():
        assert torch.allclose(got[name], factor * plain[name], atol=1e-5), name


def test_half_precision_is_merged_in_single(own: dict[str, nn.Module], tmp_path: Path) -> None:
    tensors = {name: value.half() for name, value in pairs(own).items()}
    got = change(own, write(tmp_path / "half", tensors))
    single = change(own, write(tmp_path / "single", {name: value.float() for name, value in tensors.items()}))
    assert all(torch.equal(got[name], single[name]) for name in LAYERS)


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 8},
        {"r": 4, "lora_alpha": 8, "use_rslora": True},
        {"r": 4, "lora_alpha": 8, "rank_pattern": {"attn2.to_q": 2}, "alpha_pattern": {"attn2.to_q": 6, "conv1": 1}},
        {"r": 3, "lora_alpha": 5, "use_dora": True},
    ],
    ids=["plain", "rank-stabilised", "patterns", "DoRA"],
)
def test_folders_of_peft_give_its_own_merge(
    settings: dict[str, Any], own: dict[str, nn.Module], tiny_sd_folder: Path, tmp_path: Path
) -> None:
    theirs = Checkpoint.load(tiny_sd_folder, device="cpu", dtype="float32", progress=False)
    assert isinstance(theirs, StableDiffusion)
    for part, targets in (("unet", ["to_q", "to_out.0", "conv1"]), ("text_encoder", ["q_proj", "fc1"])):
        config = peft.LoraConfig(target_modules=targets, init_lora_weights=False, **settings)
        torch.manual_seed(3)
        model = peft.get_peft_model(getattr(theirs, part), config)
        for name, value in model.named_parameters():
            if "lora_magnitude" in name:
                value.data *= 1 + 0.3 * torch.rand_like(value)
        model.save_pretrained(str(tmp_path / part))
        merged = model.merge_and_unload().state_dict()
        count = merge_lora(own, LoraSpec(tmp_path / part))
        assert count >= 2
        for name, value in own[part].state_dict().items():
            assert torch.allclose(value, merged[name], atol=1e-4), name


def test_a_folder_with_a_folder_for_each_part(own: dict[str, nn.Module], tmp_path: Path) -> None:
    tensors = pairs(own)
    for part in ("unet", "text_encoder"):
        (tmp_path / "lora" / part).mkdir(parents=True)
        mine = {
            f"base_model.model.{name.removeprefix(f'{part}.')}": value
            for name, value in tensors.items()
            if name.startswith(part)
        }
        save_file(mine, str(tmp_path / "lora" / part / "adapter_model.safetensors"))
        (tmp_path / "lora" / part / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    got = change(own, tmp_path / "lora")
    plain = change(own, write(tmp_path / "plain", tensors))
    assert all(torch.allclose(got[name], 2 * plain[name], atol=1e-5) for name in LAYERS)


@pytest.mark.parametrize("kind", ["diffusers", "old diffusers", "mixed ranks"])
def test_files_give_what_diffusers_makes_of_them(
    kind: str, own: dict[str, nn.Module], tiny_sd_folder: Path, tmp_path: Path
) -> None:
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    tensors = pairs(own, ranks={QUERY: 2} if kind == "mixed ranks" else None)
    metadata = None
    if kind == "diffusers":
        metadata = {"lora_adapter_metadata": json.dumps(
            {f"{part}.{key}": value for part, targets in (("unet", ["to_q", "to_out.0", "conv1"]),
                                                          ("text_encoder", ["q_proj"]))
             for key, value in {"r": 4, "lora_alpha": 10, "target_modules": targets}.items()}
        )}  # fmt: skip
    if kind == "old diffusers":
        tensors = {
            name.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up."): value
            for name, value in tensors.items()
            if "text_encoder" not in name
        }
    file = write(tmp_path / "lora", tensors, metadata)
    fresh = Checkpoint.load(tiny_sd_folder, device="cpu", dtype="float32", progress=False)
    assert isinstance(fresh, StableDiffusion)
    pipeline = StableDiffusionPipeline(
        vae=fresh.vae, text_encoder=fresh.text_encoder, tokenizer=fresh.tokenizer, unet=fresh.unet,
        scheduler=PNDMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()
    merge_lora(own, LoraSpec(file, 0.7))
    for part, module in own.items():
        theirs = getattr(pipeline, part).state_dict()
        assert set(theirs) == set(module.state_dict())
        for name, value in module.state_dict().items():
            assert torch.allclose(value, theirs[name], atol=1e-4), name


@pytest.mark.parametrize("dora", [False, True])
def test_diffusers_names_of_every_kohya_layer_change_the_same_layers(
    dora: bool, own: dict[str, nn.Module], tmp_path: Path
) -> None:
    # What diffusers' own loader calls; it removes dora_scale before, so the converter is called directly.
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers as convert

    generator = torch.Generator().manual_seed(3)
    tensors: dict[str, Tensor] = {}
    count = 0
    for part, prefix in (("unet", "lora_unet"), ("text_encoder", "lora_te")):
        for name, module in own[part].named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                shape = module.weight.shape
                level = "text_model_" if part == "text_encoder" and not name.startswith("text_model.") else ""
                stem = f"{prefix}_{level}{name.replace('.', '_')}"
                tensors[f"{stem}.lora_down.weight"] = torch.randn(2, *shape[1:], generator=generator)
                tensors[f"{stem}.lora_up.weight"] = torch.randn(
                    shape[0], 2, *[1] * (len(shape) - 2), generator=generator
                )
                if dora:
                    tensors[f"{stem}.dora_scale"] = torch.rand(shape[0], 1, generator=generator) + 0.5
                count += 1
    converted, _ = convert(dict(tensors))
    assert len(converted) == len(tensors) == (3 if dora else 2) * count
    after = []
    for folder, names in (("kohya", tensors), ("converted", converted)):
        before = {part: {n: v.clone() for n, v in module.state_dict().items()} for part, module in own.items()}
        assert merge_lora(own, LoraSpec(write(tmp_path / folder, names))) == count
        after.append({(part, n): v.clone() for part, module in own.items() for n, v in module.state_dict().items()})
        for part, module in own.items():
            module.load_state_dict(before[part])
    assert all(torch.equal(value, after[1][name]) for name, value in after[0].items())


def test_names_of_single_files_and_without_a_level_are_met(own: dict[str, nn.Module], tmp_path: Path) -> None:
    tensors = pairs(own, "kohya")
    plain = change(own, write(tmp_path / "plain", tensors))
    renamed = {}
    ldm = rename([QUERY, OUT, CONV], {new: old for old, new in unet_layout(tiny.UNET).items()})
    for name, value in tensors.items():
        for ours, theirs in ldm.items():
            name = name.replace(f"lora_unet_{ours.replace('.', '_')}.", f"lora_unet_{theirs.replace('.', '_')}.")
        renamed[name.replace("lora_te_text_model_", "lora_te1_")] = value
    assert not set(renamed) & set(tensors)
    got = change(own, write(tmp_path / "ldm", renamed))
    assert all(torch.equal(got[name], plain[name]) for name in LAYERS)
    dotted = {re.sub(r"^lora_(unet|te)_", r"lora_\1.", name): value for name, value in tensors.items()}
    assert all(torch.equal(value, plain[name]) for name, value in change(own, write(tmp_path / "dot", dotted)).items())


def test_filters_in_tucker_form_are_three_filters_in_a_row(own: dict[str, nn.Module], tmp_path: Path) -> None:
    outputs, inputs = layer(own, CONV).shape[:2]
    generator = torch.Generator().manual_seed(1)
    down, mid, up = (
        torch.randn(*shape, generator=generator) for shape in ((3, inputs, 1, 1), (2, 3, 3, 3), (outputs, 2, 1, 1))
    )
    stem = f"lora_unet_{CONV.replace('.', '_')}"
    tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_mid.weight": mid, f"{stem}.lora_up.weight": up}
    got = change(own, write(tmp_path / "lora", tensors))[CONV]
    x = torch.randn(1, inputs, 7, 7, generator=generator)
    in_a_row = nn.functional.conv2d(nn.functional.conv2d(nn.functional.conv2d(x, down), mid, padding=1), up)
    assert torch.allclose(nn.functional.conv2d(x, got, padding=1), in_a_row, atol=1e-3)


def test_a_checkpoint_is_no_lora(tmp_path: Path) -> None:
    file = write(tmp_path / "lora", {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2, 2)})
    with pytest.raises(CheckpointError, match=r"is a checkpoint, no LoRA .* --model"):
        read_lora(file)


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ("hada_w1_a", "LoHa"), ("lokr_w1", "LoKr"), ("diff", "whole weights"), ("oft_blocks", "OFT"),
        ("on_input", r"\(IA\)3"), ("lora_B.bias", "lora_bias"),
    ],
)  # fmt: skip
def test_other_adapters_are_refused_by_name(end: str, kind: str, own: dict[str, nn.Module], tmp_path: Path) -> None:
    file = write(tmp_path / "lora", {**pairs(own), f"unet.{QUERY}.{end}": torch.ones(2, 2)})
    with pytest.raises(CheckpointError, match=kind):
        merge_lora(own, LoraSpec(file))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "LOHA"}, "an adapter of the kind LOHA"),
        ({"peft_type": "LORA", "init_lora_weights": "pissa_niter_16"}, "began from pissa"),
        ({"peft_type": "LORA", "use_dora": True}, "holds no lora_magnitude_vector"),
        ({"peft_type": "LORA", "lora_alpha": "loud"}, "lora_alpha is 'loud'"),
    ],
)
def test_settings_that_would_give_a_wrong_result_are_refused(
    config: dict[str, Any], words: str, own: dict[str, nn.Module], tmp_path: Path
) -> None:
    file = write(tmp_path / "lora", pairs(own))
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=words):
        merge_lora(own, LoraSpec(file))


def test_files_for_other_models_and_several_adapters_are_named(own: dict[str, nn.Module], tmp_path: Path) -> None:
    cases = {
        "Stable Diffusion XL": {"lora_te2_text_model_x.lora_down.weight": torch.ones(1, 1)},
        "several adapters": {f"unet.{QUERY}.lora_A.b.weight": torch.ones(4, 16)},
        "over the inputs": {f"lora_unet_{QUERY.replace('.', '_')}.dora_scale": torch.ones(1, 16)},
        "not finite": {f"unet.{QUERY}.alpha": torch.tensor(torch.inf)},
    }
    for words, more in cases.items():
        with pytest.raises(CheckpointError, match=words):
            merge_lora(own, LoraSpec(write(tmp_path / "lora", {**pairs(own), **more})))
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "adapter_model.bin").touch()
    for folder, words in (("empty", "holds no adapter_model"), ("pickled", "pickled weights")):
        with pytest.raises(CheckpointError, match=words):
            merge_lora(own, LoraSpec(tmp_path / folder))
    assert load_file(str(tmp_path / "lora" / "lora.safetensors"))
