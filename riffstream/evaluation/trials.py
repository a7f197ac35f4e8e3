"""Trials of a model beyond single clips: many seeds of a prompt, interpolation between prompts, a long stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from riffstream.corpus import levels, measures
from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.past import Past
from riffstream.evaluation.probe import Probe, probe_features
from riffstream.journey.journey import ClipSpec, Keyframe

__all__ = ["diversity", "drift", "interpolation", "request"]


def request(
    prompt: str,
    seed: int,
    guidance: float | None,
    *,
    seed_image: str | None = None,
    denoising: float | None = None,
    **rest: Any,
) -> ClipRequest:
    """A clip of one prompt and one seed; ``seed_image`` and ``denoising`` as in ``Keyframe``, ``rest`` as in
    ``ClipRequest``."""
    keyframe = Keyframe.of(prompt, seed=seed, guidance=guidance, seed_image=seed_image, denoising=denoising)
    return ClipRequest(spec=ClipSpec(keyframe, keyframe, 0.0, 0), **rest)


def diversity(
    engine: Engine,
    probe: Probe,
    prompts: Sequence[str],
    guidance: float | None,
    reference: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Spread of six seeds of one prompt, relative to that of two random real clips (1: as different as two songs)."""
    within = []
    for prompt in [str(p) for p in rng.choice(prompts, 4)]:
        mels = [engine.render(request(prompt, 1000 + seed, guidance)).mel.numpy() for seed in range(6)]
        within.append(_spread(probe.listen([probe_features(mel) for mel in mels])[0]))
    between = _spread(reference[:64])
    return {"within_prompt": round(float(np.mean(within)) / max(between, 1e-9), 3)}


def _spread(embedding: np.ndarray) -> float:
    distance = np.linalg.norm(embedding[:, None] - embedding[None], axis=-1)
    return float(distance[np.triu_indices(len(embedding), 1)].mean())


def interpolation(
    engine: Engine, prompts: Sequence[str], guidance: float | None, rng: np.random.Generator
) -> dict[str, float]:
    """Nine clips from one prompt to another with one seed: ratio of the largest to the mean step (1: even)."""
    evenness, steps = [], []
    for _ in range(3):
        first, second = (str(p) for p in rng.choice(prompts, 2, replace=False))
        start, end = Keyframe.of(first, seed=7, guidance=guidance), Keyframe.of(second, seed=7, guidance=guidance)
        mels = [engine.render(ClipRequest(spec=ClipSpec(start, end, k / 8, k))).mel.numpy() for k in range(9)]
        moved = [measures.mel_distance_db(a, b) for a, b in pairwise(mels)]
        evenness.append(max(moved) / max(float(np.mean(moved)), 1e-9))
        steps.append(float(np.mean(moved)))
    return {
        "largest_over_mean_step": round(float(np.mean(evenness)), 2),
        "mean_step_db": round(float(np.mean(steps)), 2),
    }


def drift(engine: Engine, probe: Probe, prompt: str, guidance: float | None, clips: int) -> dict[str, float]:
    """One prompt as a continuous stream: comparison of its last quarter with its first."""
    mels: list[np.ndarray] = []
    past: Past | None = None
    for number in range(clips):
        asked = request(prompt, number, guidance)
        if past is not None:
            asked = replace(asked, **past.continuation(asked.spec, engine.family))
        clip = engine.render(asked)
        past = Past.after(past, asked.spec, clip.latents, clip.mel, engine.family, opening=clip.opening)
        mels.append(clip.mel.numpy())
    quarter = max(1, clips // 4)
    first, last = mels[:quarter], mels[-quarter:]
    level = [float(np.mean([levels.loudness_db(mel) for mel in part])) for part in (first, last)]
    key = [float(np.mean([measures.key_share(mel) for mel in part])) for part in (first, last)]
    heard = [probe.listen([probe_features(mel) for mel in part])[0].mean(0) for part in (first, last)]
    whole = probe.listen([probe_features(mel) for mel in mels])[0]
    return {
        "clips": clips,
        "loudness_change_db": round(level[1] - level[0], 2),
        "key_change": round(key[1] - key[0], 3),
        "embedding_shift": round(float(np.linalg.norm(heard[1] - heard[0])) / max(_spread(whole), 1e-9), 3),
    }
