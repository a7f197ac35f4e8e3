"""Models in a run folder: the initial model of a training run, and its final averaged weights."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.ear import EAR
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.mini.reader import READER
from riffstream.diffusion.mini.sounds import FILE
from riffstream.errors import CheckpointError
from riffstream.training.loop import load_averaged, load_state, save_state

__all__ = ["copy_sounds", "load_denoiser", "resume_model"]


def load_denoiser(path: Path, device: torch.device) -> Denoiser:
    """The averaged denoiser of a training state.

    Raises:
        CheckpointError: there is none.
    """
    state = load_state(path, device)
    if state is None:
        raise CheckpointError(f"{path} is missing; train it with: riffstream train denoiser")
    model = Denoiser(DenoiserConfig(**state["config"])).to(device)
    load_averaged(model, state, "model")
    return model


def resume_model(source: str, out: Path) -> MiniFamily:
    """Copy a model's codec and opening sounds into run folder ``out``, unless it has a codec, and return the model.
    Training starts from its denoiser."""
    folder = MODEL_FOLDER if source == "mini" else Path(source)
    family = MiniFamily.load(folder, dtype=torch.float32)
    if not (out / "codec.pt").is_file():
        weights = {name: value.detach().clone() for name, value in family.codec.named_parameters()}
        state = {"codec": family.codec.state_dict(), "ema": {"count": 0, "values": weights}, "step": 0}
        save_state(out / "codec.pt", {**state, "config": asdict(family.codec.config)})
        copy_sounds(folder, out)
    return family


def copy_sounds(source: Path, target: Path) -> None:
    """Replace the opening sounds of folder ``target``, their reader of words and the ear by those of ``source``, if it
    has sounds or an ear. Each file is replaced atomically."""
    if (source / FILE).is_file():
        for name in (READER, EAR):  # they are of the old sounds
            (target / name).unlink(missing_ok=True)
    for name in (FILE, READER, EAR) if (source / FILE).is_file() else (EAR,):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / f"{name}.new")
            (target / f"{name}.new").replace(target / name)
