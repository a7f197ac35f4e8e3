"""Single-file checkpoints: our map of their names against diffusers' own converters, and loading without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.sd import hub as checkpoint_hub
from riffstream.diffusion.sd import load as sd_load
from riffstream.diffusion.sd import sd15
from riffstream.diffusion.sd.family import SdOptions, StableDiffusion
from riffstream.diffusion.sd.ldm import TEXT, UNET, VAE, rename, split_single_file, unet_layout, vae_layout
from riffstream.diffusion.sd.parts import build
from riffstream.errors import CheckpointError
from tests.diffusion import tiny


def ldm_names(tensors: dict[str, Tensor], layout: dict[str, str], prefix: str) -> dict[str, Tensor]:
    """Diffusers' names to a single file's; the autoencoder's attention matrices become 1x1 filters, as there."""
    result = {}
    for name, theirs in rename(tensors, {new: old for old, new in layout.items()}).items():
        is_filter = ".attn_1." in theirs and tensors[name].ndim == 2
        result[prefix + theirs] = tensors[name][..., None, None] if is_filter else tensors[name]
    return result


@pytest.fixture(scope="module")
def tensors(tiny_sd_folder: Path) -> dict[str, Tensor]:
    """The tiny checkpoint in one file's layout, and tensors that training left in it."""
    unet, vae = (
        load_file(str(tiny_sd_folder / part / "diffusion_pytorch_model.safetensors")) for part in ("unet", "vae")
    )
    text = load_file(str(tiny_sd_folder / "text_encoder" / "model.safetensors"))
    return {
        **ldm_names(unet, unet_layout(tiny.UNET), UNET),
        **ldm_names(vae, vae_layout(tiny.VAE), VAE),
        **{TEXT + name: value for name, value in text.items()},
        "alphas_cumprod": torch.ones(1000),
        "model_ema.num_updates": torch.ones(1),
    }


@pytest.fixture
def file(tensors: dict[str, Tensor], tiny_sd_folder: Path, tmp_path: Path) -> Path:
    """The file, with a folder of configs beside it."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, str(tmp_path / "model.safetensors"))
    shutil.copytree(tiny_sd_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "model.safetensors"


def test_names_agree_with_diffusers_converters(tensors: dict[str, Tensor], tiny_sd_folder: Path) -> None:
    ours = split_single_file(tensors, {"unet": tiny.UNET, "vae": tiny.VAE})
    for part, convert, config in (
        ("unet", convert_ldm_unet_checkpoint, {**tiny.UNET, "class_embed_type": None, "addition_embed_type": None}),
        ("vae", convert_ldm_vae_checkpoint, tiny.VAE),
    ):
        theirs = convert(dict(tensors), config)
        stored = load_file(str(tiny_sd_folder / part / "diffusion_pytorch_model.safetensors"))
        assert set(theirs) == set(stored) == set(ours[part])
        for name, value in theirs.items():
            assert torch.equal(value, stored[name]), name
            assert torch.equal(value.flatten(), ours[part][name].flatten()), name


@pytest.mark.parametrize(
    ("kind", "config", "layout", "count"),
    [
        ("UNet2DConditionModel", sd15.UNET, unet_layout(sd15.UNET), 859_520_964),
        ("AutoencoderKL", sd15.VAE, vae_layout(sd15.VAE), 83_653_863),
    ],
)
def test_shipped_configs_are_those_of_version_1(
    kind: str, config: dict[str, object], layout: dict[str, str], count: int
) -> None:
    import diffusers

    with torch.device("meta"):
        module = getattr(diffusers, kind).from_config(config)
    assert sum(parameter.numel() for parameter in module.parameters()) == count
    covered = rename(module.state_dict(), {new: old for old, new in layout.items()})
    assert set(covered) == set(module.state_dict())
    assert len(set(covered.values())) == len(covered)


def test_the_shipped_text_encoder_is_that_of_version_1() -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        module = CLIPTextModel(CLIPTextConfig(**sd15.TEXT_ENCODER))
    assert sum(parameter.numel() for parameter in module.parameters()) == 123_060_480


def test_a_single_file_gives_the_same_model(file: Path, tiny_sd: StableDiffusion, tmp_path: Path) -> None:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = tiny_sd.encode_text(["jazz"])
    elsewhere = file.with_suffix("").rename(tmp_path / "configs")
    for options in (SdOptions(config=elsewhere), None):
        if options is None:
            elsewhere.rename(file.with_suffix(""))
        family = Checkpoint.load(file, device="cpu", dtype="float32", options=options, progress=False)
        assert isinstance(family, StableDiffusion)
        assert family.params == tiny_sd.params
        assert torch.equal(family.encode_text(["jazz"]).tokens, text.tokens)
        ours, theirs = (each.denoise(x, torch.tensor([500]), text) for each in (family, tiny_sd))
        assert torch.allclose(ours, theirs, atol=1e-5)  # weights may lie at other alignments, and sums differ by that
        assert torch.allclose(family.pixels(x), tiny_sd.pixels(x), atol=1e-5)


def test_a_file_without_a_tokenizer_says_where_to_put_one(
    file: Path, tiny_sd_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(file.with_suffix("") / "tokenizer")

    def unreachable(repository: str, **_: object) -> Path:
        raise CheckpointError(f"{repository} cannot be reached")

    monkeypatch.setattr(sd_load, "download", unreachable)
    with pytest.raises(CheckpointError, match=r"put vocab.json and merges.txt of openai.*into .*model/tokenizer"):
        Checkpoint.load(file, device="cpu", progress=False)
    monkeypatch.setattr(sd_load, "download", lambda repository, **_: tiny_sd_folder / "tokenizer")
    assert isinstance(Checkpoint.load(file, device="cpu", progress=False), StableDiffusion)


def test_a_file_of_another_kind_is_refused(file: Path, tensors: dict[str, Tensor]) -> None:
    for prefix, part in ((TEXT, "text_encoder"), (VAE, "vae"), (UNET, "unet")):
        rest = {name: value.contiguous() for name, value in tensors.items() if not name.startswith(prefix)}
        save_file(rest, str(file))
        with pytest.raises(CheckpointError, match=f"the file holds no {part}"):
            Checkpoint.load(file, device="cpu", progress=False)


def test_a_missing_config_folder_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no config folder"):
        Checkpoint.load(file, device="cpu", progress=False, options=SdOptions(config=tmp_path / "nowhere"))


def test_a_folder_with_a_single_file_hints_at_it(file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"to load the single file in it, give .*model\.safetensors"):
        Checkpoint.load(file.parent, device="cpu")


def test_hub_ids_are_told_from_paths() -> None:
    assert checkpoint_hub.is_hub_id("riffusion/riffusion-model-v1")
    for path in ("/models/sd", "models", "a/b/c", "../up", "./here", ""):
        assert not checkpoint_hub.is_hub_id(path)


def test_a_table_that_cannot_be_computed_is_named() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("window", torch.zeros(3), persistent=False)

    with pytest.raises(CheckpointError, match="odd: table window"):
        build("odd", Odd, {}, torch.float32)


def test_the_text_encoder_may_lack_a_level(
    file: Path, tensors: dict[str, Tensor], tiny_sd: StableDiffusion, tmp_path: Path
) -> None:
    level = f"{TEXT}text_model."
    for old, new in ((level, TEXT), (TEXT, level)):
        renamed = {
            (name.replace(old, new, 1) if name.startswith(old) and level not in new + name.removeprefix(old) else name):
            value.contiguous() for name, value in tensors.items()
        }  # fmt: skip
        save_file(renamed, str(file))
        family = Checkpoint.load(file, device="cpu", dtype="float32", progress=False)
        assert isinstance(family, StableDiffusion)
        for name, value in tiny_sd.text_encoder.state_dict().items():
            assert torch.equal(family.text_encoder.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conditioner.embedders.1.model.ln_final.bias", "Stable Diffusion XL"),
        ("cond_stage_model.model.ln_final.bias", "Stable Diffusion 2"),
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.0.x", "Flux"),
        ("lora_unet_down_blocks_0.alpha", "a LoRA"),
        ("down_blocks.0.resnets.0.conv1.bias", "a single part in diffusers' names"),
        ("model.diffusion_model.input_blocks.0.0.weight", "takes 9 channels in place of 4: inpainting"),
    ],
)
def test_files_of_other_models_are_named(name: str, words: str, file: Path, tensors: dict[str, Tensor]) -> None:
    more = {name: torch.zeros(8, 9, 3, 3)}
    save_file({key: value.contiguous() for key, value in {**tensors, **more}.items()}, str(file))
    with pytest.raises(CheckpointError, match=words):
        Checkpoint.load(file, device="cpu", progress=False)
