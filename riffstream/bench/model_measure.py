"""Measurements of one model: stages, throughput, and other methods with the same networks."""

from __future__ import annotations

import importlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import Family, TextEmbedding
from riffstream.journey.journey import ClipSpec, Journey, Keyframe
from riffstream.spectrogram.vocoder import Vocoder

__all__ = [
    "Rival",
    "Stage",
    "Throughput",
    "clip_seconds",
    "evaluation",
    "matmul_rate",
    "rivals",
    "stages",
    "throughput",
]

PROMPT = "slow jazz piano trio with brushed drums and a walking bass"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one clip: seconds, median and 95th percentile."""

    name: str
    p50_s: float
    p95_s: float
    runs: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """Throughput of simultaneous clips.

    Attributes:
        clips: number of stations, each with one clip in progress.
        seconds_per_clip: wall time divided by the number of clips, in seconds.
        real_time: seconds of audio per second for all stations together, without the vocoder.
        p50_s: median time from submission to the finished clip, in seconds.
        p95_s: 95th percentile of this time, in seconds.
        peak_gb: peak memory of the device (on a CPU, of the process), in GB.
    """

    clips: int
    clips_per_second: float
    seconds_per_clip: float
    real_time: float
    p50_s: float
    p95_s: float
    peak_gb: float


@dataclass(frozen=True, slots=True)
class Rival:
    """Another method for the same clips."""

    name: str
    steps: int
    batch: int
    seconds_per_clip: float
    real_time: float


def sync(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], object], device: torch.device, *, runs: int, warm_up: int = 1) -> list[float]:
    """Seconds of each of ``runs`` runs, after ``warm_up`` unmeasured runs."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(runs):
        sync(device)
        begin = time.perf_counter()
        run()
        sync(device)
        times.append(time.perf_counter() - begin)
    return times


def percentile(times: Iterable[float], share: float) -> float:
    """The quantile ``share`` of a sorted list (nearest rank)."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def clip_seconds(family: Family) -> float:
    """Seconds of audio in a clip of the model's size."""
    if family.beats is not None:
        return family.beats * 60 / (family.defaults.bpm or 110.0)
    return family.frames * family.params.hop() / family.params.sample_rate


def peak_memory(device: torch.device) -> float:
    """Peak memory in GB: on a GPU, the allocation since the last reset; otherwise the process's resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


@torch.no_grad()
def matmul_rate(device: torch.device, dtype: torch.dtype, *, size: int | None = None) -> float:
    """FLOP per second of one large matrix product: the device's practical peak."""
    size = size or (8192 if device.type == "cuda" else 1024)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2.0 * size**3 / min(timed(lambda: a @ b, device, runs=5, warm_up=2))


@torch.no_grad()
def evaluation(family: Family, *, batch: int = 1, runs: int = 3) -> tuple[float, float]:
    """Seconds and FLOP of one evaluation of the network over ``batch`` rows."""
    text = TextEmbedding.stack([family.encode_text([PROMPT])] * batch)
    x = torch.randn(batch, *family.latent_shape(), device=family.device)
    t = torch.full((batch,), 0.5 if family.schedule.kind == "flow" else 500.0, device=family.device)
    # The counter does not include fused attention on CPUs, but includes its matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        family.denoise(x, t, text)
    times = timed(lambda: family.denoise(x, t, text), family.device, runs=runs, warm_up=0)
    return statistics.median(times), float(counter.get_total_flops())


def request(seed: int, guidance: float | None) -> ClipRequest:
    """A first clip, which takes all steps."""
    keyframe = Keyframe.of(PROMPT, seed=seed, guidance=guidance)
    return ClipRequest(ClipSpec(keyframe, keyframe, 0.0))


def stages(family: Family, *, steps: int | None, guidance: float | None, runs: int) -> list[Stage]:
    """Text, denoising, decoding, vocoding and their sum, for a single clip."""
    engine = Engine(family, steps=steps)
    vocoder = Vocoder(family.params, device="cpu")
    hop = family.params.hop(family.defaults.bpm) if family.beats is not None else family.params.hop()
    times: dict[str, list[float]] = {name: [] for name in ("text", "denoise", "decode", "vocode", "clip")}
    for run in range(runs + 1):
        begin = time.perf_counter()
        family.encode_text([f"{PROMPT} {run}"])
        sync(family.device)
        text = time.perf_counter() - begin
        before = engine.stats.denoise_s, engine.stats.decode_s
        clip = engine.render(request(run, guidance))
        begin = time.perf_counter()
        vocoder(clip.mel, hop=hop)
        vocode = time.perf_counter() - begin
        denoise, decode = engine.stats.denoise_s - before[0], engine.stats.decode_s - before[1]
        if run == 0:
            continue  # warm-up
        for name, value in zip(times, (text, denoise, decode, vocode, text + denoise + decode + vocode), strict=True):
            times[name].append(value)
    return [Stage(name, statistics.median(t), percentile(t, 0.95), len(t)) for name, t in times.items()]


def throughput(
    family: Family, *, clips: int, steps: int | None, guidance: float | None, rounds: int, max_batch: int = 16
) -> Throughput:
    """``clips`` simultaneous stations. Each submits its next clip after the last one; starts are staggered."""
    engine = Engine(family, steps=steps, max_batch=max_batch)
    journeys = [Journey.single(PROMPT, seed=1000 * k, guidance=guidance) for k in range(clips)]
    submitted: dict[int, float] = {}
    done = dict.fromkeys(range(clips), 0)
    waits: list[float] = []

    def submit(station: int) -> None:
        ticket = engine.submit(ClipRequest(journeys[station].clip(done[station]), station=str(station)))
        submitted[station] = time.perf_counter()
        assert not ticket.done

    engine.render(request(0, guidance))
    if family.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(family.device)
    begin = time.perf_counter()
    for station in range(clips):
        submit(station)
    while min(done.values()) < rounds:
        for clip in engine.tick():
            station = int(clip.request.station)
            waits.append(time.perf_counter() - submitted[station])
            done[station] += 1
            if done[station] < rounds:
                submit(station)
    sync(family.device)
    elapsed = time.perf_counter() - begin
    rate = clips * rounds / elapsed
    return Throughput(
        clips,
        rate,
        1 / rate,
        rate * clip_seconds(family),
        statistics.median(waits),
        percentile(waits, 0.95),
        peak_memory(family.device),
    )


def rivals(family: Any, *, steps: int, guidance: float, stations: int = 8, runs: int = 2) -> list[Rival]:
    """diffusers' img2img pipeline with the same networks: single and batched with ``steps`` steps in this precision,
    and Riffusion's method (PNDM, 50 steps, batch 1, guidance at each step).

    With strength 1, all methods evaluate all their steps. The pipeline encodes its seed image again for each clip.
    """
    diffusers: Any = importlib.import_module("diffusers")

    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    parts = {
        "vae": family.vae,
        "unet": family.unet,
        "text_encoder": family.text_encoder,
        "tokenizer": family.tokenizer,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    _, height, width = family.latent_shape()
    text = family.encode_text([PROMPT]).tokens.to(family.dtype)
    empty = family.encode_text([""]).tokens.to(family.dtype)
    pixels = torch.zeros(1, 3, height * family.reduction, width * family.reduction).to(family.device, family.dtype)

    def seconds(scheduler: Any, count: int, batch: int, scale: float) -> float:
        pipeline = diffusers.StableDiffusionImg2ImgPipeline(**parts, scheduler=scheduler)
        pipeline.set_progress_bar_config(disable=True)
        embeds = {"prompt_embeds": text.expand(batch, -1, -1)}
        if scale > 1:
            embeds["negative_prompt_embeds"] = empty.expand(batch, -1, -1)

        def run() -> None:
            pipeline(
                **embeds,
                image=pixels.expand(batch, -1, -1, -1),
                strength=1.0,
                num_inference_steps=count,
                guidance_scale=scale,
                output_type="np",
            )

        return statistics.median(timed(run, family.device, runs=runs)) / batch

    dpm = diffusers.DPMSolverMultistepScheduler(**betas)
    pndm = diffusers.PNDMScheduler(**betas, skip_prk_steps=True, set_alpha_to_one=False)
    audio = clip_seconds(family)
    found = []
    for name, scheduler, count, batch in (
        ("diffusers img2img, one clip at a time", dpm, steps, 1),
        (f"diffusers img2img, batches of {stations}", dpm, steps, stations),
        ("Riffusion's way: PNDM, one clip at a time", pndm, 50, 1),
    ):
        each = seconds(scheduler, count, batch, guidance)
        found.append(Rival(name, count, batch, each, audio / each))
    return found


def plain(measured: Iterable[Any]) -> list[dict[str, Any]]:
    """Measurements as JSON values."""
    return [asdict(one) for one in measured]
