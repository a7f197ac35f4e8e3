"""``riffuse`` against the original's numbers: a compact set everywhere, the full one where it lies beside the repo."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from riffstream.diffusion.sd.family import StableDiffusion
from riffstream.errors import ParameterError
from riffstream.journey.inference_input import InferenceInput, PromptInput
from riffstream.parity import check as parity_check
from riffstream.parity.riffuse import riffuse
from tests.diffusion.conftest import COMPACT

CASES = [case["id"] for case in parity_check.read_cases(COMPACT)]


@pytest.fixture(scope="module")
def original(parity_set: Path) -> StableDiffusion:
    return parity_check.load_family(parity_set)


@pytest.fixture(scope="module")
def arrays(parity_set: Path) -> Any:
    return np.load(parity_set / "diffusion.npz")


@pytest.mark.parametrize("name", CASES)
def test_riffuse_agrees_with_the_original(name: str, original: StableDiffusion, arrays: Any, parity_set: Path) -> None:
    case = next(case for case in parity_check.read_cases(parity_set) if case["id"] == name)
    report = parity_check.check_case(original, case, arrays, parity_set / "inputs")
    assert {"final_latents", "image"} <= set(report.deviations)
    assert not report.failures


def test_prompts_agree_with_the_original(original: StableDiffusion, parity_set: Path) -> None:
    arrays = np.load(parity_set / "prompts.npz")
    for case in json.loads((parity_set / "prompts.json").read_text()):
        assert not parity_check.check_prompt(original, case, arrays).failures, case["prompt"]


def test_the_check_notices_a_difference(original: StableDiffusion, arrays: Any, parity_set: Path) -> None:
    case = next(case for case in parity_check.read_cases(parity_set) if case["id"] == "ve01")
    case = {**case, "payload": {**case["payload"], "alpha": 0.51}}
    report = parity_check.check_case(original, case, arrays, parity_set / "inputs")
    assert any(failure.startswith("start_latents") for failure in report.failures)
    assert any(failure.startswith("image") for failure in report.failures)


@pytest.mark.slow
def test_the_full_set_agrees(parity_folder: Path) -> None:
    reports = list(parity_check.reports(parity_folder))
    assert len(reports) > 60
    assert {report.id: report.failures for report in reports if report.failures} == {}


def test_the_command_reports_each_case(parity_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "set"
    small.mkdir()
    for name in ("tiny_sd", "inputs", "diffusion.npz"):
        (small / name).symlink_to(parity_set / name)
    cases = [case for case in parity_check.read_cases(parity_set) if case["id"] in ("ve01", "v028")]
    (small / "cases.json").write_text(json.dumps({"cases": cases}))
    assert parity_check.main([str(small)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["id"], line["failures"]) for line in lines] == [("v028", []), ("ve01", [])]
    cases[0]["payload"]["start"]["seed"] += 1
    (small / "cases.json").write_text(json.dumps({"cases": cases}))
    assert parity_check.main([str(small)]) == 1
    assert parity_check.main([]) == 2


def request(start: str = "jazz", end: str = "techno", *, steps: int = 2, guidance: float = 7.0) -> InferenceInput:
    ends = [PromptInput(prompt=text, seed=seed, guidance=guidance) for seed, text in enumerate((start, end))]
    return InferenceInput(start=ends[0], end=ends[1], alpha=0.25, num_inference_steps=steps)


IMAGE = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 64, 3)))
LONG = "drum " * 80


def test_long_prompts_work_without_guidance_and_in_equal_chunks(tiny_sd: StableDiffusion) -> None:
    result = riffuse(tiny_sd, request(LONG, LONG + "jazz", guidance=1.0), IMAGE)
    assert result.text_embedding.shape[1] == 2 * 77
    with pytest.raises(ParameterError, match="as many chunks"):
        riffuse(tiny_sd, request(LONG, "jazz", guidance=1.0), IMAGE)
    with pytest.raises(ParameterError, match="with guidance on"):
        riffuse(tiny_sd, request(LONG, LONG), IMAGE)


def test_negative_prompts_are_ignored(tiny_sd: StableDiffusion) -> None:
    plain = request()
    negative = InferenceInput(
        start=PromptInput("jazz", 0, "noise"), end=PromptInput("techno", 1, "hum"), alpha=0.25, num_inference_steps=2
    )
    assert np.array_equal(riffuse(tiny_sd, plain, IMAGE).image, riffuse(tiny_sd, negative, IMAGE).image)


@pytest.mark.parametrize(("denoising", "steps", "brightness"), [(1.5, 5, 136.11), (0.75, 1, 126.65)])
def test_extreme_requests_work_as_in_the_original(
    denoising: float, steps: int, brightness: float, original: StableDiffusion, parity_set: Path
) -> None:
    start = PromptInput("funky jazz guitar solo", 42, None, denoising)
    end = start if steps == 5 else PromptInput("church bells", 123, None, denoising)
    inputs = InferenceInput(start=start, end=end, alpha=0.25, num_inference_steps=steps)
    with Image.open(parity_set / "inputs" / "seed_a.png") as picture:
        result = riffuse(original, inputs, picture.convert("RGB"))
    assert round(float(result.image.mean()), 2) == brightness


def test_steps_outside_the_schedule_are_refused(tiny_sd: StableDiffusion) -> None:
    for steps in (0, -1, 1001):
        with pytest.raises(ParameterError, match="num_inference_steps"):
            riffuse(tiny_sd, request(steps=steps), IMAGE)


def test_a_mask_of_another_size_is_refused(tiny_sd: StableDiffusion) -> None:
    with pytest.raises(ParameterError, match=re.escape("mask_image is '32 x 96'")):
        riffuse(tiny_sd, request(), IMAGE, Image.new("L", (32, 96)))


def test_a_black_mask_keeps_the_seed_image_at_the_last_noise_level(tiny_sd: StableDiffusion) -> None:
    result = riffuse(tiny_sd, request(), IMAGE, np.zeros((64, 64), np.uint8))
    kept = np.sqrt(1 - 0.00085)  # the share of the signal after the first of 1000 betas, about
    assert np.allclose(result.final_latents, result.init_latents * kept, atol=0.2)
    assert not np.allclose(result.final_latents, result.init_latents, atol=1e-3)


def test_an_unknown_scheduler_is_refused(tiny_sd: StableDiffusion) -> None:
    with pytest.raises(ParameterError, match="pndm or ddim"):
        riffuse(tiny_sd, request(), IMAGE, scheduler="lms")  # type: ignore[arg-type]
