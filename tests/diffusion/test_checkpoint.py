"""``Checkpoint.load``: what it takes, what it refuses, and that each message names the part."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from riffstream import Checkpoint
from riffstream.diffusion import checkpoint_device
from riffstream.diffusion.checkpoint_device import pick_device, pick_dtype
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.sd.family import SdOptions, StableDiffusion
from riffstream.errors import CheckpointError, ParameterError
from riffstream.spectrogram.params import SpectrogramParams

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_sd_folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may damage."""
    return shutil.copytree(tiny_sd_folder, tmp_path / "checkpoint")


def load(source: str | Path, **options: Any) -> StableDiffusion:
    family = Checkpoint.load(source, device="cpu", dtype="float32", progress=False, **options)
    assert isinstance(family, StableDiffusion)
    return family


def edit(path: Path, **changes: Any) -> None:
    """Change values of a JSON file; None removes a key."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(str(path))
    change(tensors)
    path.unlink()
    save_file(tensors, str(path))


def same_output(one: StableDiffusion, other: StableDiffusion) -> bool:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    results = [
        torch.cat([f.denoise(x, torch.tensor([500]), f.encode_text(["jazz"])).flatten(), f.pixels(x).flatten()])
        for f in (one, other)
    ]
    return torch.allclose(*results, atol=1e-5)


def test_a_folder_in_the_diffusers_layout_loads(tiny_sd: StableDiffusion) -> None:
    assert tiny_sd.schedule.beta_end == 0.012
    assert tiny_sd.params == SpectrogramParams(num_frequencies=64)
    assert tiny_sd.frames == 64
    assert not any(parameter.requires_grad for parameter in tiny_sd.unet.parameters())


def test_spectrogram_parameters_may_stand_in_the_index(folder: Path) -> None:
    (folder / "riffstream_spectrogram.json").unlink()
    assert load(folder).params == SpectrogramParams.riffusion()
    edit(folder / "model_index.json", spectrogram={"stereo": True, "num_frequencies": 96})
    assert load(folder).params == SpectrogramParams(stereo=True, num_frequencies=96)
    edit(folder / "model_index.json", spectrogram={"bins": 96})
    with pytest.raises(CheckpointError, match=r"model_index\.json: bins"):
        load(folder)
    edit(folder / "model_index.json", spectrogram={"num_frequencies": 100})
    with pytest.raises(CheckpointError, match="num_frequencies is 100"):
        load(folder)


def test_shards_make_one_part(folder: Path, tiny_sd: StableDiffusion) -> None:
    tensors = load_file(str(folder / "unet" / WEIGHTS))
    names = sorted(tensors)
    (folder / "unet" / WEIGHTS).unlink()
    weight_map = {}
    for number, own in enumerate((names[::2], names[1::2])):
        shard = f"diffusion_pytorch_model-{number}.safetensors"
        save_file({name: tensors[name] for name in own}, str(folder / "unet" / shard))
        weight_map |= dict.fromkeys(own, shard)
    index = folder / "unet" / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert same_output(load(folder), tiny_sd)
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": "../../other.safetensors"}}))
    with pytest.raises(CheckpointError, match="outside its folder"):
        load(folder)


@pytest.mark.parametrize("variant", ["fp16", "non_ema", "bf16"])
def test_a_folder_with_another_variant_only_loads(variant: str, folder: Path, tiny_sd: StableDiffusion) -> None:
    for part in ("unet", "vae", "text_encoder"):
        for weights in (folder / part).glob("*.safetensors"):
            weights.rename(weights.with_suffix(f".{variant}.safetensors"))
    assert same_output(load(folder), tiny_sd)
    (folder / "unet" / "diffusion_pytorch_model.other.safetensors").touch()
    if variant == "fp16":
        assert same_output(load(folder), tiny_sd)
    else:
        with pytest.raises(CheckpointError, match="unet holds several variants"):
            load(folder)


@pytest.mark.parametrize("index", [f"{WEIGHTS}.index.fp16.json", "diffusion_pytorch_model.fp16.safetensors.index.json"])
def test_shards_of_a_variant_make_one_part(index: str, folder: Path, tiny_sd: StableDiffusion) -> None:
    weights = folder / "unet" / WEIGHTS
    shard = weights.rename(folder / "unet" / "diffusion_pytorch_model.fp16-00001-of-00001.safetensors")
    names = dict.fromkeys(load_file(str(shard)), shard.name)
    (folder / "unet" / index).write_text(json.dumps({"weight_map": names}))
    assert same_output(load(folder), tiny_sd)


def test_files_from_before_2023_load(folder: Path, tiny_sd: StableDiffusion) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "mid_block.attentions" in name]:
            new = name
            for ours, theirs in old.items():
                new = new.replace(f".{ours}.", f".{theirs}.")
            tensors[new] = tensors.pop(name)

    edit_tensors(folder / "vae" / WEIGHTS, rename)
    text = folder / "text_encoder" / "model.safetensors"
    edit_tensors(text, lambda tensors: tensors.update({"text_model.embeddings.position_ids": torch.arange(77)[None]}))
    assert same_output(load(folder), tiny_sd)


def test_text_encoders_load_with_and_without_their_prefix(folder: Path, tiny_sd: StableDiffusion) -> None:
    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("text_model.")] = tensors.pop(name)

    edit_tensors(folder / "text_encoder" / "model.safetensors", strip)
    assert same_output(load(folder), tiny_sd)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(part: str, folder: Path) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(CheckpointError, match=f"has no {part}"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (f"unet/{WEIGHTS}", f"unet holds no {WEIGHTS}"),
        ("vae/config.json", "vae holds no config.json"),
        ("scheduler/scheduler_config.json", "scheduler holds no scheduler_config.json"),
        ("model_index.json", "holds no model_index.json"),
    ],
)
def test_a_missing_file_is_named(file: str, message: str, folder: Path) -> None:
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    edit_tensors(folder / "unet" / WEIGHTS, lambda tensors: tensors.__delitem__("conv_in.weight"))
    with pytest.raises(CheckpointError, match=r"unet: tensor conv_in.weight is missing \(1 of \d+ are\)"):
        load(folder)


def test_a_tensor_of_the_wrong_shape_is_named(folder: Path) -> None:
    edit_tensors(folder / "vae" / WEIGHTS, lambda tensors: tensors.update({"quant_conv.bias": torch.zeros(5)}))
    with pytest.raises(CheckpointError, match=r"vae: tensor quant_conv.bias is \[5\]; its config.json asks for \[8\]"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("unet/config.json", {"down_block_types": ["NoSuchBlock"]}, "unet: its config.json does not describe"),
        ("unet/config.json", {"cross_attention_dim": 24}, "unet: tensor"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow_prediction"}, "scheduler: prediction_type"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "scheduler: beta_schedule"),
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "is a StableDiffusionXLPipeline"),
    ],
)
def test_a_wrong_config_is_named(file: str, changes: dict[str, Any], message: str, folder: Path) -> None:
    edit(folder / file, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><title>Not found</title>", "a web page"),
    ],
)
def test_what_is_found_in_place_of_weights_is_named(content: bytes, message: str, folder: Path) -> None:
    (folder / "vae" / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize("file", ["unet/config.json", "model_index.json", f"vae/{WEIGHTS}", "tokenizer/vocab.json"])
def test_a_damaged_file_is_named(file: str, folder: Path) -> None:
    (folder / file).write_bytes(b"{ damaged")
    with pytest.raises(CheckpointError, match=f"{Path(file).parent.name or folder.name}.*cannot be read"):
        load(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"unet holds only pickled weights \(diffusion_pytorch_model.bin\)"):
        load(folder)
    pickled = folder / "model.ckpt"
    pickled.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model.ckpt is not a safetensors file"):
        load(pickled)


def test_parts_that_do_not_fit_each_other_are_refused(folder: Path) -> None:
    edit(folder / "unet" / "config.json", in_channels=9)

    def widen(tensors: dict[str, torch.Tensor]) -> None:
        tensors["conv_in.weight"] = torch.zeros(8, 9, 3, 3)

    edit_tensors(folder / "unet" / WEIGHTS, widen)
    with pytest.raises(CheckpointError, match="unet takes 9 channels and vae gives 4: inpainting"):
        load(folder)


def test_a_name_that_is_nothing_lists_what_is_possible(tmp_path: Path) -> None:
    for source in ("no such model", tmp_path / "nowhere", "a/b.safetensors"):
        with pytest.raises(CheckpointError, match="give 'mini', a folder, a"):
            Checkpoint.load(source)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], dict[str, Any]]:
    """Replaces the download by one that returns or raises what is given, and records how it was called."""

    def answer(result: Any) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def snapshot_download(repository: str, **options: Any) -> str:
            seen.update(options, repository=repository)
            list(options["tqdm_class"](range(2), name="the hub's bar"))
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return seen

    return answer


def http_error(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "404 somewhere")
    return error


def test_parts_that_the_hub_has_only_in_half_precision_are_fetched(
    monkeypatch: pytest.MonkeyPatch, tiny_sd_folder: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "cache", tmp_path / "hub"
    shutil.copytree(tiny_sd_folder, there)
    for weights in list(there.glob("*/*.safetensors")):
        if weights.parent.name != "vae":
            weights.rename(weights.with_suffix(".fp16.safetensors"))
    shutil.copy(there / "vae" / "config.json", there / "vae" / "diffusion_pytorch_model.fp16.safetensors")

    def snapshot_download(_: str, *, allow_patterns: list[str], ignore_patterns: list[str], **__: Any) -> str:
        names = [path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there / name, here / name)
        return str(here)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    load("owner/model")
    assert (here / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    assert not (here / "vae" / "diffusion_pytorch_model.fp16.safetensors").exists()  # a second copy


def test_a_hub_id_is_fetched_at_its_revision(hub: Any, tiny_sd_folder: Path) -> None:
    seen = hub(tiny_sd_folder)
    load("owner/model", revision="abc123")
    assert (seen["repository"], seen["revision"]) == ("owner/model", "abc123")


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("model_index.json", True),
        ("unet/diffusion_pytorch_model.safetensors", True),
        ("tokenizer/merges.txt", True),
        ("riffstream_spectrogram.json", True),
        ("sounds.safetensors", True),
        ("reader.safetensors", True),
        ("ear.safetensors", True),
        ("unet/diffusion_pytorch_model.bin", False),
        ("unet/diffusion_pytorch_model.fp16.safetensors", False),
        ("riffusion-model-v1.ckpt", False),
        ("riffusion-model-v1.safetensors", False),
        ("safety_checker/model.safetensors", False),
        ("unet_traced/unet_traced.pt", False),
    ],
)
def test_only_the_needed_files_are_fetched(file: str, wanted: bool, hub: Any, tiny_sd_folder: Path) -> None:
    seen = hub(tiny_sd_folder)
    load("owner/model")
    kept = huggingface_hub.utils.filter_repo_objects(
        [file], allow_patterns=seen["allow_patterns"], ignore_patterns=seen["ignore_patterns"]
    )
    assert list(kept) == ([file] if wanted else [])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError("no connection"), "the hub cannot be reached .*'hf download owner/model'"),
        (ConnectionError("Name or service not known"), "Name or service not known.*or use 'mini'"),
        (http_error(errors.RepositoryNotFoundError), "there is no checkpoint owner/model on the hub"),
        (http_error(errors.GatedRepoError), "hf auth login"),
        (http_error(errors.RevisionNotFoundError), "owner/model has no revision v9"),
    ],
)
def test_a_hub_that_gives_nothing_says_what_to_do(error: Exception, message: str, hub: Any) -> None:
    hub(error)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load("owner/model", revision="v9")


def test_a_revision_needs_a_hub_id(tiny_sd_folder: Path) -> None:
    for source in (tiny_sd_folder, "mini"):
        with pytest.raises(ParameterError, match="only with a hub id"):
            Checkpoint.load(source, revision="main")


@pytest.fixture
def mini_folder(tmp_path: Path) -> Path:
    MiniFamily.random().save(tmp_path / "mini")
    tokenizer = tmp_path / "mini" / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    Tokenizer(WordLevel({"[UNK]": 0, "jazz": 1}, unk_token="[UNK]")).save(str(tokenizer / "tokenizer.json"))
    return tmp_path / "mini"


def test_a_mini_folder_is_recognised(mini_folder: Path) -> None:
    family = Checkpoint.load(mini_folder, device="cpu", dtype="float32")
    assert isinstance(family, MiniFamily)
    assert family.dtype == torch.float32
    for option in ({"lora": ["x.safetensors"]}, {"options": SdOptions()}):
        with pytest.raises(ParameterError, match="only with Stable Diffusion"):
            Checkpoint.load(mini_folder, **option)  # type: ignore[arg-type]


def test_the_embedded_model_loads_without_the_big_libraries(mini_folder: Path) -> None:
    code = (
        "import sys; from riffstream import Checkpoint; Checkpoint.load(sys.argv[1], device='cpu');"
        "print({'torchaudio', 'transformers', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(mini_folder)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_devices_that_are_not_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps", "toaster"):
        with pytest.raises(ParameterError, match="auto, cpu"):
            pick_device(name)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ParameterError, match="auto, cpu, cuda, mps"):
        pick_device("cuda:1")


def test_precision_follows_what_the_device_is_fast_at(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for features, expected in (({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16)):
        monkeypatch.setattr(
            checkpoint_device.torch.cpu, "get_capabilities", lambda found=features: found, raising=False
        )
        assert pick_dtype("auto", cpu) == expected
    for capability, expected in (((7, 5), torch.float16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert pick_dtype("auto", cuda) == expected
    assert pick_dtype("auto", torch.device("mps")) == torch.float16
    assert pick_dtype("bf16", cpu) == pick_dtype(torch.bfloat16, cpu) == torch.bfloat16
    for wrong in ("int8", torch.int8):
        with pytest.raises(ParameterError, match="bfloat16 or float16"):
            pick_dtype(wrong, cpu)
