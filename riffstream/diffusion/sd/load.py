"""Stable Diffusion checkpoints from a folder in the diffusers layout, or from a single file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from riffstream.diffusion.family import TrainingSchedule
from riffstream.diffusion.mini.files import read_json
from riffstream.diffusion.sd import sd15
from riffstream.diffusion.sd.family import SdOptions, StableDiffusion
from riffstream.diffusion.sd.hub import download
from riffstream.diffusion.sd.ldm import split_single_file
from riffstream.diffusion.sd.lora import LoraSpec, merge_lora
from riffstream.diffusion.sd.parts import build, read_part, read_tensors, text_encoder_names, vae_names
from riffstream.errors import CheckpointError, ParameterError, out_of_memory
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["SPECTROGRAM_FILE", "load_folder", "load_single_file", "read_params"]

SPECTROGRAM_FILE = "riffstream_spectrogram.json"
Part = tuple[Mapping[str, Any], Mapping[str, Tensor]]  # config, tensors


def load_folder(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    lora: Sequence[LoraSpec] = (),
    options: SdOptions | None = None,
    progress: bool = True,
) -> StableDiffusion:
    """Load ``unet/``, ``vae/``, ``text_encoder/``, ``tokenizer/`` and ``scheduler/`` of a folder.

    Raises:
        CheckpointError: naming the part that is missing, unreadable or of the wrong shape.
    """
    options = options or SdOptions()
    with _bar(progress, 3 + len(lora) + bool(options.tiny_vae)) as bar:
        parts = {}
        for name in ("text_encoder", "vae", "unet"):
            bar.set_description(f"reading {name}")
            parts[name] = read_part(folder / name)
            bar.update()
        return _assemble(
            parts,
            tokenizer=_tokenizer(folder / "tokenizer"),
            schedule=_schedule(read_json(folder / "scheduler" / "scheduler_config.json")),
            params=read_params(folder),
            device=device,
            dtype=dtype,
            lora=lora,
            options=options,
            bar=bar,
        )


def load_single_file(
    file: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    lora: Sequence[LoraSpec] = (),
    options: SdOptions | None = None,
    progress: bool = True,
) -> StableDiffusion:
    """Load a whole model from one safetensors file.

    Such files have no configs and no tokenizer. They come from ``options.config``, else from a folder beside the file
    with its name. Otherwise the configs are those of Stable Diffusion 1.5, and the tokenizer comes from the hub.

    Raises:
        CheckpointError: as :func:`load_folder`, or no tokenizer is available.
    """
    options = options or SdOptions()
    beside = Path(options.config) if options.config else file.with_suffix("")
    if options.config and not beside.is_dir():
        raise CheckpointError(f"there is no config folder {beside}")
    configs = {
        name: read_json(path) if (path := beside / name / "config.json").is_file() else shipped
        for name, shipped in (("unet", sd15.UNET), ("vae", sd15.VAE), ("text_encoder", sd15.TEXT_ENCODER))
    }
    scheduler = beside / "scheduler" / "scheduler_config.json"
    with _bar(progress, 1 + len(lora) + bool(options.tiny_vae)) as bar:
        bar.set_description(f"reading {file.name}")
        tensors = split_single_file(read_tensors(file), configs)
        own = beside / "tokenizer"
        tokenizer = _tokenizer(own) if own.is_dir() else _tokenizer_from_hub(beside, progress)
        bar.update()
        return _assemble(
            {name: (configs[name], tensors[name]) for name in configs},
            tokenizer=tokenizer,
            schedule=_schedule(read_json(scheduler) if scheduler.is_file() else sd15.SCHEDULER),
            params=read_params(beside),
            device=device,
            dtype=dtype,
            lora=lora,
            options=options,
            bar=bar,
        )


def _bar(progress: bool, total: int) -> Any:
    return tqdm(total=total, unit="part", leave=False, disable=None if progress else True)


def _assemble(
    parts: Mapping[str, Part],
    *,
    tokenizer: Any,
    schedule: TrainingSchedule,
    params: SpectrogramParams,
    device: torch.device,
    dtype: torch.dtype,
    lora: Sequence[LoraSpec],
    options: SdOptions,
    bar: Any,
) -> StableDiffusion:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    # LoRA is added in float32, so that rounding of the weights does not lose small changes.
    load_as = torch.float32 if lora else dtype
    text_config, text_tensors = parts["text_encoder"]

    def make_text_encoder() -> Any:
        return CLIPTextModel(CLIPTextConfig(**text_config))

    with torch.device("meta"):
        names = make_text_encoder().state_dict()
    modules = {
        "text_encoder": build("text_encoder", make_text_encoder, text_encoder_names(text_tensors, names), load_as),
        "vae": build("vae", _maker(AutoencoderKL, parts["vae"][0]), vae_names(parts["vae"][1]), dtype),
        "unet": build("unet", _maker(UNet2DConditionModel, parts["unet"][0]), parts["unet"][1], load_as),
    }
    for spec in lora:
        bar.set_description(f"merging {spec.path.name}")
        merge_lora({name: modules[name] for name in ("unet", "text_encoder")}, spec)
        bar.update()
    tiny = None
    if options.tiny_vae:
        bar.set_description("reading the tiny vae")
        config, tensors = read_part(Path(options.tiny_vae))
        tiny = build("tiny vae", _maker(AutoencoderTiny, config), tensors, dtype)
        bar.update()
    return StableDiffusion(
        unet=modules["unet"],
        vae=modules["vae"],
        text_encoder=modules["text_encoder"],
        tokenizer=tokenizer,
        schedule=schedule,
        params=params,
        device=device,
        dtype=dtype,
        tiny_vae=tiny,
        options=options,
    )


def _maker(kind: Any, config: Mapping[str, Any]) -> Callable[[], Any]:
    return lambda: kind.from_config(dict(config))


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        raise CheckpointError(f"the checkpoint has no tokenizer: there is no folder {folder}")
    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many types for missing or damaged files
        if out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"tokenizer: {folder} cannot be read: {reason}") from None


def _tokenizer_from_hub(beside: Path, progress: bool) -> Any:
    try:
        # Not through transformers, which retries for minutes without a network.
        folder = download(
            sd15.TOKENIZER, progress=progress, wanted=["vocab.json", "merges.txt", "tokenizer_config.json"]
        )
    except CheckpointError as error:
        raise CheckpointError(
            f"single-file checkpoints hold no tokenizer; put vocab.json and merges.txt of {sd15.TOKENIZER} into "
            f"{beside / 'tokenizer'} ({error})"
        ) from None
    return _tokenizer(folder)


def _schedule(config: Mapping[str, Any]) -> TrainingSchedule:
    prediction = config.get("prediction_type", "epsilon")
    betas = config.get("beta_schedule", "linear")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise CheckpointError(f"scheduler: prediction_type {prediction} is unknown; epsilon, v_prediction or sample")
    if betas not in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        raise CheckpointError(
            f"scheduler: beta_schedule {betas} is unknown; linear, scaled_linear or squaredcos_cap_v2"
        )
    return TrainingSchedule(
        kind="ddpm",
        prediction=prediction,
        train_steps=int(config.get("num_train_timesteps", 1000)),
        beta_start=float(config.get("beta_start", 0.0001)),
        beta_end=float(config.get("beta_end", 0.02)),
        beta_schedule=betas,
        set_alpha_to_one=bool(config.get("set_alpha_to_one", False)),
        steps_offset=int(config.get("steps_offset", 0)),
    )


def read_params(folder: Path) -> SpectrogramParams:
    """Read the spectrogram parameters of a checkpoint folder.

    They are in ``riffstream_spectrogram.json`` or under ``spectrogram`` in ``model_index.json``, else Riffusion's.

    Raises:
        CheckpointError: the parameters are not valid.
    """
    for name, key in ((SPECTROGRAM_FILE, None), ("model_index.json", "spectrogram")):
        if not (folder / name).is_file():
            continue
        values = read_json(folder / name)
        if key is not None and key not in values:
            continue
        try:
            return SpectrogramParams.from_dict(values if key is None else values[key])
        except (ParameterError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{name}: {error}") from None
    return SpectrogramParams.riffusion()
