"""Description of a model for the server: clips, meters, tempo, defaults, and a fingerprint of its weights.

This module imports torch. It has no state.
"""

from __future__ import annotations

import hashlib
from typing import Final

import torch

from riffstream.diffusion.family import Family
from riffstream.generator.messages import Info, Runtime
from riffstream.protocol import SAMPLE_RATE

__all__ = ["describe", "runtime"]

NOMINAL_BEATS: Final = 8  # for models whose clips have no musical length


def describe(family: Family, frames: int) -> Info:
    """Describe a model to the server; ``frames`` is the number of new frames in a clip."""
    defaults, params = family.defaults, family.params
    bpm = (defaults.bpm or 120.0) if params.frames_per_beat is not None else None
    return Info(
        model=family.name,
        frames=frames,
        beats=family.beats or NOMINAL_BEATS,
        meters=_meters(family, frames),
        hop=params.hop(bpm) * SAMPLE_RATE / params.sample_rate,
        bpm=bpm,
        continues=True,
        steps=defaults.steps,
        guidance=defaults.guidance,
        denoising=defaults.denoising,
        seed_image=defaults.seed_image,
        drift=defaults.drift,
        spare=defaults.above is not None,
        device=str(family.device),
        drafts=family.continues,
        conditions=bool(family.conditions),
        weights=_fingerprint(family),
        runtime=runtime(family),
    )


def runtime(family: Family) -> Runtime:
    """What evaluates the network now."""
    return Runtime(family.runtime.name, family.runtime.note, family.runtime.fault)


def _meters(family: Family, frames: int) -> dict[int, tuple[int, int]]:
    """Supported meters: beats per bar -> frames and beats of a clip (two bars)."""
    if family.beats is None:
        return {4: (frames, NOMINAL_BEATS), 3: (frames, 6)}
    per_beat = frames // family.beats
    return {4: (frames, family.beats), 3: (6 * per_beat, 6)}


def _fingerprint(family: Family) -> str:
    """Fingerprint of a model from a sample of every parameter, the emphasis of its conditions, its own guidance,
    its opening sounds, its ear and its map of distances, because a log replays only with its own model."""
    digest = hashlib.blake2b(digest_size=8)
    if family.conditions:
        digest.update(f"{family.defaults.silence} {family.defaults.contrast}".encode())
    if family.sounds is not None:
        digest.update(family.sounds.identity.encode())
    if family.ear is not None:
        digest.update(f"{family.ear.identity} {family.defaults.tries}".encode())
    if family.defaults.above is not None:
        digest.update(f"{family.defaults.guidance} {family.defaults.above}".encode())
    if family.start_time(0.5) != 0.5:
        digest.update(f"{family.start_time(0.5)}".encode())
    for _, module in sorted(vars(family).items(), key=lambda item: item[0]):
        if isinstance(module, torch.nn.Module):
            for name, tensor in sorted(module.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()
