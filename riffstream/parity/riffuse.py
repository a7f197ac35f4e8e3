"""A numerical reproduction of Riffusion's ``riffuse``: ``parity=True``.

It keeps the faults that the default mode corrects: the seed image's posterior noise equals the first seed's noise, the
schedule is cut at Riffusion's place, PNDM repeats the wrong call, negative prompts are ignored, and kept areas of a
masked clip stay slightly noisy. Use the engine for music, and this module for comparisons with the original.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.sd.codec import fit_image, image_to_pixels, pixels_to_image
from riffstream.diffusion.sd.family import StableDiffusion
from riffstream.diffusion.tokens import apply_weights, chunk_count, chunk_tokens, weigh_tokens
from riffstream.errors import ParameterError
from riffstream.journey.inference_input import InferenceInput
from riffstream.journey.prompts import WeightedText, parse_weights
from riffstream.parity.schedulers import Scheduler, Stepper, make_stepper

__all__ = ["RiffuseResult", "WeightedTokens", "embed_prompt", "riffuse", "slerp", "weighted_tokens"]

SCALING = 0.18215  # a constant in the original, which ignores the checkpoint's config
CHUNKS = 3


@dataclass(slots=True)
class RiffuseResult:
    """The image and its intermediate results. Tensors have the model's device and dtype.

    Attributes:
        image: uint8 [H, W, 3].
        text_embedding: [1, S, D], the guided branch only.
        init_latents: [1, C, h, w] of the seed image, scaled.
        noise: [1, C, h, w].
        noise_timestep: timestep of the noise on the seed image.
        start_latents: [1, C, h, w] at the start of the loop.
        timesteps: timestep of each evaluation, in order.
        step_latents: [1, C, h, w] after each step and its mask.
        final_latents: [1, C, h, w], scaled.
        mask: [1, C, h, w], 1 where the original is kept; None without a mask.
    """

    image: np.ndarray
    text_embedding: Tensor
    init_latents: Tensor
    noise: Tensor
    noise_timestep: int
    start_latents: Tensor
    final_latents: Tensor
    mask: Tensor | None
    timesteps: list[int] = field(default_factory=list)
    step_latents: list[Tensor] = field(default_factory=list)


@torch.no_grad()
def riffuse(
    family: StableDiffusion,
    inputs: InferenceInput,
    seed_image: Image.Image | np.ndarray,
    mask_image: Image.Image | np.ndarray | None = None,
    *,
    scheduler: Scheduler = "pndm",
    use_reweighting: bool = True,
) -> RiffuseResult:
    """Interpolate between two prompts and seeds, starting from a seed image.

    Args:
        family: a Stable Diffusion checkpoint; the original's numbers need float32 on the CPU.
        inputs: prompts, seeds, alpha, steps. alpha and denoising are not limited to 0 to 1.
        seed_image: seed image; its sides are scaled down to multiples of 32.
        mask_image: mask of the same size; white is repainted, black is kept, grey is blended.
        scheduler: ``pndm`` (the original's default) or ``ddim``.
        use_reweighting: whether weights in the prompts apply.

    Raises:
        ParameterError: the mask and the seed image differ in size; the prompts differ in length or are too long (the
            original cannot interpolate them, and cannot guide beyond one chunk); or the steps exceed the schedule.
    """
    start, end, alpha = inputs.start, inputs.end, inputs.alpha
    guidance = start.guidance * (1.0 - alpha) + end.guidance * alpha
    strength = (1 - alpha) * start.denoising + alpha * end.denoising
    stepper = make_stepper(scheduler, family.schedule, inputs.num_inference_steps)
    with _exact(family.device):
        text = _interpolated_text(family, start.prompt, end.prompt, alpha, use_reweighting)
        uncond = None
        if guidance > 1.0:
            uncond = embed_prompt(family, "", use_reweighting=False)
            if uncond.shape != text.shape:
                raise ParameterError(
                    "prompt", start.prompt, f"{family.text_length - 2} tokens with guidance on, in parity mode"
                )
        pixels = image_to_pixels(fit_image(seed_image))
        mean, deviation = family.moments(pixels)
        first = _noise(family, start.seed, mean)
        # A new generator with the same seed and shape: the posterior's noise equals the first seed's noise.
        init_latents = SCALING * (mean + deviation * first)
        mask = None if mask_image is None else _mask(mask_image, init_latents)
        noise = slerp(alpha, first, _noise(family, end.seed, mean))
        noise_timestep, timesteps = _truncate(stepper, inputs.num_inference_steps, strength)
        latents = stepper.add_noise(init_latents, noise, noise_timestep)
        result = RiffuseResult(
            image=np.empty(0),
            text_embedding=text,
            init_latents=init_latents,
            noise=noise,
            noise_timestep=noise_timestep,
            start_latents=latents,
            final_latents=latents,
            mask=mask,
        )
        for timestep in timesteps:
            prediction = _predict(family, latents, timestep, text, uncond, guidance)
            latents = stepper.step(prediction, timestep, latents)
            if mask is not None:
                kept = stepper.add_noise(init_latents, noise, timestep)
                latents = kept * mask + latents * (1 - mask)
            result.timesteps.append(timestep)
            result.step_latents.append(latents)
        result.final_latents = latents
        # ``pixels`` undoes the checkpoint's own scaling.
        decoded = family.pixels(latents * (family.scaling / SCALING))
    result.image = pixels_to_image(decoded)[0]
    return result


@dataclass(frozen=True, slots=True)
class WeightedTokens:
    """A prompt with the original's tokens.

    Attributes:
        ids: int64 [n, L], a row per chunk, with start and end tokens.
        weights: float32 [n, L].
    """

    ids: Tensor
    weights: Tensor


def weighted_tokens(family: StableDiffusion, prompt: Sequence[WeightedText]) -> WeightedTokens:
    """Up to three chunks of 75 tokens, padded with end tokens; the rest is cut."""
    ids, weights = weigh_tokens(family.tokenize, prompt)
    end = family.tokenizer.eos_token_id
    length = family.text_length
    tokens, factors = chunk_tokens(
        ids,
        weights,
        chunks=chunk_count(len(ids), length, CHUNKS),
        length=length,
        start=family.tokenizer.bos_token_id,
        end=end,
        pad=end,
    )
    return WeightedTokens(tokens, factors)


def embed_prompt(family: StableDiffusion, prompt: str, *, use_reweighting: bool = True) -> Tensor:
    """[1, 77 n, D]: with weights and long prompts; without reweighting, one plain chunk."""
    if not use_reweighting:
        return family.encode_weighted([WeightedText(prompt)]).tokens
    tokens = weighted_tokens(family, parse_weights(prompt))
    embedding = family.encode_tokens(tokens.ids).flatten(0, 1).unsqueeze(0)
    return apply_weights(embedding, tokens.weights.flatten(), guard=False)


def slerp(t: float, a: Tensor, b: Tensor) -> Tensor:
    """Interpolate from ``a`` to ``b`` on the great circle of the whole tensors; linearly if they are nearly parallel.

    Uses numpy and the tensors' dtype, like the original, for agreement to the last digits.
    """
    v0, v1 = a.cpu().numpy(), b.cpu().numpy()
    dot = np.sum(v0 * v1 / (np.linalg.norm(v0) * np.linalg.norm(v1)))
    if np.abs(dot) > 0.9995:
        mixed = (1 - t) * v0 + t * v1
    else:
        angle = np.arccos(dot)
        mixed = np.sin(angle - angle * t) / np.sin(angle) * v0 + np.sin(angle * t) / np.sin(angle) * v1
    return torch.from_numpy(np.asarray(mixed, dtype=v0.dtype)).to(a.device)


def _interpolated_text(family: StableDiffusion, start: str, end: str, alpha: float, use_reweighting: bool) -> Tensor:
    first = embed_prompt(family, start, use_reweighting=use_reweighting)
    last = embed_prompt(family, end, use_reweighting=use_reweighting)
    if first.shape != last.shape:
        raise ParameterError("prompt", end, "as many chunks of 75 tokens as the start prompt, in parity mode")
    return first + alpha * (last - first)


def _noise(family: StableDiffusion, seed: int, like: Tensor) -> Tensor:
    device = "cpu" if family.device.type == "mps" else family.device
    generator = torch.Generator(device=device).manual_seed(seed)
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def _mask(image: Image.Image | np.ndarray, like: Tensor) -> Tensor:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    width, height = (side - side % 32 for side in image.size)
    if (height // 8, width // 8) != like.shape[2:]:
        raise ParameterError(
            "mask_image",
            f"{image.size[0]} x {image.size[1]}",
            f"the seed image's {like.shape[3] * 8} x {like.shape[2] * 8}",
        )
    grey = image.convert("L").resize((width // 8, height // 8), resample=Image.Resampling.NEAREST)
    keep = 1 - np.asarray(grey).astype(np.float32) / 255.0
    return torch.from_numpy(keep).to(like).expand(1, like.shape[1], -1, -1)


def _truncate(stepper: Stepper, steps: int, strength: float) -> tuple[int, list[int]]:
    """The timestep of the seed image's noise, and the timesteps of the loop."""
    taken = min(int(steps * strength) + stepper.offset, steps)
    if taken < 0:
        raise ParameterError("denoising", strength, "0 or more")
    first = max(steps - taken + stepper.offset, 0)
    return int(stepper.timesteps[-taken]), stepper.timesteps[first:].tolist()


def _predict(
    family: StableDiffusion, latents: Tensor, timestep: int, text: Tensor, uncond: Tensor | None, guidance: float
) -> Tensor:
    if uncond is None:
        single: Tensor = family.denoise(latents, torch.tensor([timestep]), TextEmbedding(text))
        return single.to(latents.dtype)
    both = family.denoise(
        torch.cat([latents] * 2), torch.tensor([timestep] * 2), TextEmbedding(torch.cat([uncond, text]))
    ).to(latents.dtype)
    without, conditioned = both.chunk(2)
    return without + guidance * (conditioned - without)


def _exact(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Full float32 products: the error of TF32, cuDNN's default for convolutions, is a thousand times the tolerance."""
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return contextlib.nullcontext()
