"""The engine with both real families; with Stable Diffusion it equals diffusers' own pipelines.

The random network is chaotic: at guidance 3.5 and 8 steps a change of 1e-6 in the seed image becomes 7e-5 (DDIM) to
3e-2 (DPM-Solver++) in the clip. At guidance 1.3 it stays near 1e-5, so that is where rounding is compared.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import Family
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.noise import gaussian
from riffstream.diffusion.samplers import build
from riffstream.diffusion.sd.family import StableDiffusion
from riffstream.journey.journey import ClipSpec, Keyframe
from riffstream.journey.wander import wander

# diffusers' schedulers call numpy in a way that numpy 2 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:prompt cut:UserWarning"
    ),  # the random text encoder spells words letter by letter
]

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SCHEDULERS = {
    "ddim": DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False),
    "pndm": PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=False),
    "euler": EulerDiscreteScheduler(**BETAS),
    "dpm++": DPMSolverMultistepScheduler(**BETAS),
    "unipc": UniPCMultistepScheduler(**BETAS),
}


@pytest.fixture(scope="module")
def mini() -> MiniFamily:
    return MiniFamily.random()


@pytest.fixture(params=["mini", "tiny_sd"])
def family(request: pytest.FixtureRequest) -> Family:
    loaded = request.getfixturevalue(request.param)
    assert isinstance(loaded, Family)
    return loaded


def spec(prompt: str = "slow piano", seed: int = 1, **rest: object) -> ClipSpec:
    keyframe = Keyframe.of(prompt, seed=seed, **rest)
    return ClipSpec(keyframe, keyframe, 0.0)


def parts(family: StableDiffusion) -> dict[str, object]:
    return {
        "vae": family.vae,
        "text_encoder": family.text_encoder,
        "tokenizer": family.tokenizer,
        "unet": family.unet,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_text_to_clip_equals_diffusers_pipeline(tiny_sd: StableDiffusion, sampler: str) -> None:
    noise = gaussian(5, tiny_sd.latent_shape())
    pipeline = StableDiffusionPipeline(**parts(tiny_sd), scheduler=SCHEDULERS[sampler])
    pipeline.set_progress_bar_config(disable=True)
    # Ours begins with unit noise; Euler in diffusers with sigma_max noise, which its network sees as sigma noise.
    given = noise / build(tiny_sd.schedule, "euler", 7).start.sigma if sampler == "euler" else noise
    size = [side * tiny_sd.reduction for side in noise.shape[1:]]
    reference = pipeline(
        "slow piano",
        negative_prompt="noise",
        height=size[0],
        width=size[1],
        latents=given[None],
        num_inference_steps=7,
        guidance_scale=1.3,
        output_type="latent",
    ).images[0]
    request = ClipRequest(spec(seed=5, guidance=1.3, negative="noise"), sampler=sampler, steps=7)
    ours = Engine(tiny_sd).render(request).latents
    error = float((ours - reference).abs().max() / reference.abs().max())
    assert error < 1e-4, error


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++", "unipc"])
def test_img2img_equals_diffusers_pipeline(tiny_sd: StableDiffusion, sampler: str) -> None:
    shape = tiny_sd.latent_shape()
    clean = gaussian(8, shape)
    pipeline = StableDiffusionImg2ImgPipeline(**parts(tiny_sd), scheduler=SCHEDULERS[sampler])
    pipeline.set_progress_bar_config(disable=True)
    # The pipeline draws its noise in the shape of the latents from the generator: the same numbers as ours.
    reference = pipeline(
        "slow piano",
        image=clean[None],
        strength=0.75,
        num_inference_steps=8,
        guidance_scale=1.3,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images[0]
    request = ClipRequest(spec(seed=5, guidance=1.3, denoising=0.75), sampler=sampler, steps=8, seed_image=clean)
    ours = Engine(tiny_sd).render(request).latents
    error = float((ours - reference).abs().max() / reference.abs().max())
    assert error < 1e-4, error


def test_batch_mates_do_not_matter(family: Family) -> None:
    requests = [
        ClipRequest(spec("jazz", 1, guidance=1), steps=4),
        ClipRequest(spec("rock", 2, guidance=1.3), steps=3),
        ClipRequest(spec("techno with a very long list of many more words " * 3, 3, guidance=1.3), steps=2),
        ClipRequest(ClipSpec(Keyframe.of("a", seed=4), Keyframe.of("b c", seed=5), 0.4), steps=1),
    ]
    alone = [Engine(family).render(request) for request in requests]
    engine = Engine(family)
    tickets = [engine.submit(request) for request in requests]
    while engine.pending:
        engine.tick()
    for ticket, clip in zip(tickets, alone, strict=True):
        assert ticket.clip is not None
        error = float((ticket.clip.latents - clip.latents).abs().max() / clip.latents.abs().max())
        assert error < 2e-5, error
        assert torch.isfinite(ticket.clip.mel).all()
        assert ticket.clip.mel.shape[-1] == family.frames


def test_a_continued_journey_runs_on(family: Family) -> None:
    journey, engine = wander(2), Engine(family, steps=2)
    before = None
    for index in range(8, 12):
        clip = engine.render(ClipRequest(journey.clip(index), previous=before))
        before = clip.latents
        assert clip.overlap_frames == (0 if family.continues or index == 8 else family.frames // 4)


def test_seed_images_from_pictures_files_and_audio(family: Family, tmp_path: Path) -> None:
    engine = Engine(family, steps=4, files=True)
    height = family.params.num_frequencies
    picture = np.full((height, family.frames, 3), 255, np.uint8)
    picture[height // 2 : height // 2 + 9] = 40
    stored = io.BytesIO()
    Image.fromarray(picture).save(stored, "PNG")
    path = tmp_path / "seed.png"
    path.write_bytes(stored.getvalue())
    weak = spec(denoising=0.25)
    first = engine.render(ClipRequest(weak, seed_image=picture)).latents
    for seed in (stored.getvalue(), path, str(path)):
        assert torch.equal(engine.render(ClipRequest(weak, seed_image=seed)).latents, first)
    named = engine.render(ClipRequest(spec(denoising=0.25, seed_image=str(path)))).latents
    assert torch.equal(named, first)
    tone = np.sin(np.arange(96000) * 2 * np.pi * 440 / 48000).astype(np.float32) * 0.5
    audio = tmp_path / "tone.wav"
    soundfile.write(audio, tone, 48000)
    clip = engine.render(ClipRequest(weak, seed_image=audio))
    assert torch.isfinite(clip.mel).all()
    assert float((clip.latents - first).abs().max()) > 1e-3


def test_changed_pictures_are_the_same_seed_image(family: Family, tmp_path: Path) -> None:
    engine = Engine(family, steps=2, files=True)
    grey = np.full((family.params.num_frequencies, family.frames), 255, np.uint8)
    grey[len(grey) // 2 : len(grey) // 2 + 9] = 40
    clear = np.stack([np.where(grey == 255, 0, grey)] * 3 + [np.where(grey == 255, 0, 255).astype(np.uint8)], axis=-1)
    weak = spec(denoising=0.25)
    want = engine.render(ClipRequest(weak, seed_image=np.stack([grey] * 3, axis=-1))).latents
    for name, image in (("deep.png", Image.fromarray(grey.astype(np.uint16) * 257)), ("a.png", Image.fromarray(clear))):
        image.save(tmp_path / name)
        assert torch.equal(engine.render(ClipRequest(weak, seed_image=tmp_path / name)).latents, want), name


@pytest.mark.parametrize("columns", [1, 1.37, 0.61, 0.01])
def test_a_picture_of_any_width_is_a_seed_image(columns: float, family: Family) -> None:
    engine = Engine(family, steps=1)
    picture = np.full((family.params.num_frequencies, round(family.frames * columns) or 1, 3), 200, np.uint8)
    clip = engine.render(ClipRequest(spec(denoising=0.25), seed_image=picture))
    assert clip.mel.shape[-1] == family.frames


def test_what_is_no_seed_image_is_refused(family: Family, tmp_path: Path) -> None:
    engine = Engine(family, files=True)
    for bad in (b"not an image", tmp_path / "absent.png", tmp_path):
        with pytest.raises(ValueError, match=r"absent|bytes|directory|audio"):
            engine.submit(ClipRequest(spec(), seed_image=bad))
    assert engine.pending == 0


def test_a_clip_has_the_frames_that_were_asked_for(family: Family) -> None:
    frames = family.frames * 3 // 4
    clip = Engine(family, steps=1).render(ClipRequest(spec(), frames=frames))
    assert clip.mel.shape[-1] == frames


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_clip_of_the_cpu(tiny_sd_folder: Path) -> None:
    """The noise is the CPU's; what remains is the devices' arithmetic (float32, TF32 off)."""
    clips = []
    for device in ("cpu", "cuda"):
        family = Checkpoint.load(tiny_sd_folder, device=device, dtype="float32", progress=False)
        clips.append(Engine(family, steps=4).render(ClipRequest(spec(seed=3, guidance=1.3))).latents.cpu())
    error = float((clips[0] - clips[1]).abs().max() / clips[0].abs().max())
    assert error < 1e-3, error
