"""``Checkpoint.load``: a model from a name, a folder or a file."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from riffstream.diffusion.checkpoint_device import pick_device, pick_dtype
from riffstream.diffusion.family import Family
from riffstream.diffusion.mini.files import read_json
from riffstream.diffusion.sd.hub import download, is_hub_id
from riffstream.errors import CheckpointError, ParameterError

if TYPE_CHECKING:
    from riffstream.diffusion.mini.family import MiniFamily

__all__ = ["Checkpoint"]

RUNTIMES = ("torch", "openvino")
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


class Checkpoint:
    """Namespace of :meth:`load`, which loads a model. It is not instantiated."""

    @staticmethod
    def load(
        source: str | Path = "mini",
        *,
        revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        lora: Iterable[Any] = (),
        progress: bool = True,
        options: Any = None,
        runtime: str = "torch",
    ) -> Family:
        """Load a model. Safety checkers are not loaded, because they are not made for spectrograms.

        Args:
            source: ``mini`` (the embedded model), a folder in the diffusers layout, a ``.safetensors`` file that holds
                a whole Stable Diffusion 1.x model, or the id of a checkpoint on the Hugging Face hub (``owner/name``).
            revision: branch, tag or commit, for hub ids.
            device: ``auto`` (CUDA, else MPS, else CPU) or a torch device.
            dtype: ``auto`` (bfloat16 or float16 on devices that compute it fast, else float32), or one of them.
            lora: LoRA files to merge: paths, ``(path, scale)`` pairs or ``"path:scale"``. Stable Diffusion only.
            progress: show progress bars if stderr is a terminal.
            options: ``sd.SdOptions``, for Stable Diffusion.
            runtime: ``torch``, or ``openvino`` for the embedded model on a CPU (``compiled/``).

        Returns:
            The model, ready to use; ``family.params`` are the checkpoint's spectrogram parameters.

        Raises:
            CheckpointError: not found, not reachable, pickled weights, or a part that is missing or has the wrong
                shape; the message names the part.
            ParameterError: an unknown device, dtype or runtime, a runtime that is not installed, or an option that this
                kind of model does not have.
        """
        if runtime not in RUNTIMES:
            raise ParameterError("runtime", runtime, " or ".join(RUNTIMES))
        where = pick_device(device)
        path = Path(os.path.expanduser(source))  # pathlib's version raises for a user without a home
        if str(source) == "mini":
            path = Path(str(importlib.resources.files("riffstream.models") / "mini"))
        elif not path.exists() and isinstance(source, str) and is_hub_id(source) and path.suffix != ".safetensors":
            path, revision = download(source, revision, progress=progress), None
        elif not path.exists():
            raise CheckpointError(
                f"there is no checkpoint {source}: give 'mini', a folder, a .safetensors file, or a hub id (owner/name)"
            )
        if revision is not None:
            raise ParameterError("revision", revision, "only with a hub id")
        if path.is_dir() and _is_mini(path):
            family = _load_mini(path, where, dtype, tuple(lora), options)
            if runtime == "openvino":
                family.use_openvino()
            return family
        if runtime != "torch":
            raise ParameterError("runtime", runtime, "torch with this model; OpenVINO is for the embedded model")
        from riffstream.diffusion.sd.load import load_folder, load_single_file
        from riffstream.diffusion.sd.lora import parse_lora

        load = load_folder if path.is_dir() else load_single_file
        merged = [parse_lora(item) for item in lora]
        precision = pick_dtype(dtype, where)
        return load(path, device=where, dtype=precision, lora=merged, options=options, progress=progress)


def _load_mini(folder: Path, device: torch.device, dtype: Any, lora: tuple[Any, ...], options: Any) -> MiniFamily:
    from riffstream.diffusion.mini.family import MiniFamily

    if lora:
        raise ParameterError("lora", str(lora[0]), "only with Stable Diffusion checkpoints")
    if options is not None:
        raise ParameterError("options", options, "only with Stable Diffusion checkpoints")
    return MiniFamily.load(folder, device, None if dtype == "auto" else pick_dtype(dtype, device))


def _is_mini(folder: Path) -> bool:
    """Whether a folder holds a mini model, by ``model_index.json``; CheckpointError for an unknown model."""
    if not (folder / "model_index.json").is_file():
        single = sorted(folder.glob("*.safetensors"))
        hint = f"; to load the single file in it, give {single[0]}" if single else ""
        raise CheckpointError(f"{folder} is no checkpoint folder: it holds no model_index.json{hint}")
    index = read_json(folder / "model_index.json")
    name = str(index.get("_class_name", ""))
    if name == "MiniFamily":
        return True
    missing = [part for part in _PARTS if not (folder / part).is_dir()]
    if "XL" in name or "text_encoder_2" in index or "transformer" in index:
        raise CheckpointError(
            f"{folder} is a {name}; only Stable Diffusion 1.x and 2.x and mini checkpoints can be used"
        )
    if missing:
        raise CheckpointError(
            f"{folder} ({name or 'of unknown kind'}) has no {missing[0]}: there is no such folder in it"
        )
    return False
