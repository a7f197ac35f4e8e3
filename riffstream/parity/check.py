"""Compare riffstream with a folder of the original's numbers: ``python -m riffstream.parity.check FOLDER``.

The folder contains ``tiny_sd/`` (a checkpoint), ``cases.json``, ``diffusion.npz`` and ``inputs/``. Optional files are
``prompts.json`` with ``prompts.npz``, and ``components.npz``. The output is one JSON line per case. The exit code is 1
if a case exceeds the tolerances.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.sd.family import StableDiffusion
from riffstream.journey.inference_input import InferenceInput
from riffstream.journey.prompts import parse_weights
from riffstream.parity.riffuse import RiffuseResult, embed_prompt, riffuse, weighted_tokens

__all__ = ["Report", "check_case", "check_components", "check_prompt", "load_family", "read_cases", "reports"]

# Largest relative error, max|x - ref| / max|ref|. Rounding alone reaches a third of these values, measured with a
# float64 run of the original. Every relevant change of behaviour exceeds them.
TEXT = 1e-5
LATENTS, LATENTS_LARGE = 1e-4, 5e-4
IMAGE, IMAGE_LARGE = 0.005, 0.01  # permitted share of differing values, by one level at most
LARGE = 192  # pixels; wider images count as large


@dataclass(slots=True)
class Report:
    """One compared case.

    Attributes:
        id: name of the case.
        deviations: relative error of each compared value; for images, the share of differing values.
        failures: descriptions of values outside their tolerance; empty without any.
    """

    id: str
    deviations: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def near(self, name: str, ours: Any, reference: np.ndarray, tolerance: float) -> None:
        """Compare by relative error."""
        value = np.asarray(ours, dtype=np.float64)
        if value.shape != reference.shape:
            self.failures.append(f"{name}: shape {list(value.shape)}, not {list(reference.shape)}")
            return
        largest = float(np.abs(reference).max(initial=0.0)) or 1.0
        off = float(np.abs(value - reference).max(initial=0.0)) / largest
        self.deviations[name] = off
        if not off <= tolerance:
            self.failures.append(f"{name}: off by {off:.2g}, more than {tolerance:g}")

    def same(self, name: str, ours: Any, reference: Any) -> None:
        """Compare exactly."""
        if np.asarray(ours).tolist() != np.asarray(reference).tolist():
            self.failures.append(f"{name}: {ours}, not {reference}")

    def image(self, ours: np.ndarray, reference: np.ndarray, share: float) -> None:
        """Compare uint8 images: a limited share of the values may differ, by one level."""
        off = np.abs(ours.astype(np.int16) - reference.astype(np.int16))
        self.deviations["image"] = float((off > 0).mean())
        if off.max() > 1 or self.deviations["image"] > share:
            self.failures.append(
                f"image: off by up to {off.max()} levels on {self.deviations['image']:.2%} of the values"
            )


def load_family(folder: Path) -> StableDiffusion:
    """The checkpoint of the set, in the original's precision and device: float32 on the CPU."""
    family = Checkpoint.load(folder / "tiny_sd", device="cpu", dtype="float32", progress=False)
    assert isinstance(family, StableDiffusion)
    return family


def read_cases(folder: Path) -> list[dict[str, Any]]:
    """The list of cases in ``cases.json``."""
    cases: list[dict[str, Any]] = json.loads((folder / "cases.json").read_text(encoding="utf-8"))["cases"]
    return cases


def check_case(
    family: StableDiffusion, case: Mapping[str, Any], arrays: Mapping[str, np.ndarray], inputs: Path
) -> Report:
    """Run one case of ``cases.json`` through ``riffuse`` and compare all its arrays in the set."""
    payload = case["payload"]

    def picture(key: str) -> Image.Image | None:
        if not payload.get(key):
            return None
        with Image.open(inputs / f"{payload[key]}.png") as opened:
            return opened.convert("RGB")

    seed_image = picture("seed_image_id")
    assert seed_image is not None
    result = riffuse(
        family,
        InferenceInput.from_payload(payload),
        seed_image,
        picture("mask_image_id"),
        scheduler=case["scheduler"],
        use_reweighting=case["use_reweighting"],
    )
    return _compare(str(case["id"]), result, arrays)


def _compare(name: str, result: RiffuseResult, arrays: Mapping[str, np.ndarray]) -> Report:
    report = Report(name)
    large = max(result.image.shape[:2]) > LARGE
    latents = LATENTS_LARGE if large else LATENTS
    steps = torch.cat([result.start_latents[:0], *result.step_latents])
    for key, ours, tolerance in (
        ("text_embedding", result.text_embedding, TEXT),
        ("noise", result.noise, TEXT),
        ("init_latents", result.init_latents, latents),
        ("start_latents", result.start_latents, latents),
        ("step_latents", steps, latents),
        ("final_latents", result.final_latents, latents),
    ):
        if f"{name}/{key}" in arrays:
            report.near(key, ours, arrays[f"{name}/{key}"], tolerance)
    for key, exact in (
        ("noise_timestep", [result.noise_timestep]),
        ("timesteps", result.timesteps),
        ("mask", result.mask),
    ):
        if f"{name}/{key}" in arrays:
            report.same(key, exact, arrays[f"{name}/{key}"])
    for key, step in (("image", 1), ("image_sub4", 4)):
        if f"{name}/{key}" in arrays:
            report.image(result.image[::step, ::step], arrays[f"{name}/{key}"], IMAGE_LARGE if large else IMAGE)
    return report


def check_prompt(family: StableDiffusion, case: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Report:
    """Parsing, tokens, weights and embedding of one prompt of ``prompts.json``."""
    report, name = Report(str(case["id"])), case["id"]
    runs = parse_weights(case["prompt"])
    report.same("parsed", [[run.text, run.weight] for run in runs], case["parsed"])
    tokens = weighted_tokens(family, runs)
    # The set stores all chunks between one pair of start and end tokens.
    body = tokens.ids[:, 1:-1].flatten().tolist()
    report.same("token_ids", [int(tokens.ids[0, 0]), *body, int(tokens.ids[-1, -1])], arrays[f"{name}/token_ids"])
    report.near("weights", tokens.weights.flatten(), arrays[f"{name}/weights"], 1e-6)
    report.near("embedding", embed_prompt(family, case["prompt"]), arrays[f"{name}/embedding"], TEXT)
    return report


def check_components(family: StableDiffusion, arrays: Mapping[str, np.ndarray]) -> Report:
    """The bare networks on random inputs."""
    report, width = Report("components"), int(family.unet.config.cross_attention_dim)
    generator = torch.Generator().manual_seed(7)
    mean, deviation = family.moments(torch.rand(1, 3, 128, 128, generator=generator) * 2 - 1)
    report.near("vae_mean", mean, arrays["vae_mean"], LATENTS)
    report.near("vae_logvar", 2 * deviation.log(), arrays["vae_logvar"], LATENTS)
    latents = torch.randn(1, 4, 16, 16, generator=generator) * 4
    decoded = family.pixels(latents * family.scaling)[:, :, ::4, ::4]
    report.near("vae_decode_sub4", decoded, arrays["vae_decode_sub4"], LATENTS)
    x, text = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 77, width, generator=generator)
    for t in (1, 501, 981):
        report.near(
            f"unet_t{t}", family.denoise(x, torch.tensor([t, t]), TextEmbedding(text)), arrays[f"unet_t{t}"], TEXT
        )
    long = TextEmbedding(torch.cat([text, text / 2], 1))
    report.near("unet_t501_ctx154", family.denoise(x, torch.tensor([501, 501]), long), arrays["unet_t501_ctx154"], TEXT)
    return report


def reports(folder: Path) -> Iterator[Report]:
    """Compare all cases of a folder."""
    family = load_family(folder)
    if (folder / "components.npz").is_file():
        yield check_components(family, np.load(folder / "components.npz"))
    if (folder / "prompts.json").is_file():
        arrays = np.load(folder / "prompts.npz")
        for case in json.loads((folder / "prompts.json").read_text(encoding="utf-8")):
            yield check_prompt(family, case, arrays)
    arrays = np.load(folder / "diffusion.npz")
    for case in read_cases(folder):
        yield check_case(family, case, arrays, folder / "inputs")


def main(argv: Sequence[str]) -> int:
    """Print one JSON line per case. Returns 1 if a case fails, otherwise 0."""
    if len(argv) != 1 or not (Path(argv[0]) / "cases.json").is_file():
        print("usage: python -m riffstream.parity.check FOLDER   (it holds cases.json)", file=sys.stderr)
        return 2
    failed = 0
    for report in reports(Path(argv[0])):
        failed += bool(report.failures)
        print(json.dumps({"id": report.id, "failures": report.failures, "deviations": report.deviations}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
