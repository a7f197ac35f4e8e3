"""Stable Diffusion through a station: clips without a beat at 10 ms a frame, 44.1 kHz, outpainted one from another."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from riffstream import protocol
from riffstream.config import Config, GeneratorSettings, StationConfig, TimelineSettings
from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.engine import Engine
from riffstream.generator.messages import Job, Picture
from riffstream.generator.model_renderer import OVERLAP, ModelRenderer
from riffstream.journey.journey import Journey
from riffstream.spectrogram.vocoder import Vocoder
from riffstream.station.hub import Hub
from tests.conftest import PATIENCE_S
from tests.diffusion.tiny import write_tiny_sd
from tests.station.sim import Sim

FRAME = 480  # 10 ms at 48 kHz


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd(tmp_path_factory.mktemp("tiny_sd"))


@pytest.fixture(scope="module")
def renderer(folder: Path) -> ModelRenderer:
    torch.set_num_threads(1)
    family = Checkpoint.load(folder, device="cpu", dtype="float32", progress=False)
    return ModelRenderer(Engine(family, steps=2, overlap=OVERLAP), Vocoder(family.params))


def test_clips_last_as_long_as_their_frames_and_follow_one_another(renderer: ModelRenderer) -> None:
    renderer.forget("main")
    assert renderer.info.bpm is None
    assert renderer.info.hop == pytest.approx(FRAME)
    sim = Sim(renderer=renderer, journey=Journey.single("jazz"), settings=TimelineSettings())
    sim.run(6)
    clip = renderer.info.frames * FRAME
    assert sim.timeline.playout.underruns == 0
    assert [sim.timeline.now(clip * n + 2400).clip for n in range(3)] == [0, 1, 2]
    assert [job.previous for job in sim.jobs[:3]] == [None, 0, 1]
    assert all(mel.shape[-1] == renderer.info.frames for mel, _ in renderer._clips("main").values())
    assert np.isfinite(sim.pcm).all()
    assert sim.pcm.any()


def test_tempo_stretches_time(renderer: ModelRenderer) -> None:
    renderer.forget("main")
    sim = Sim(
        renderer=renderer, journey=Journey.single("jazz"), station=StationConfig(bpm=240.0), settings=TimelineSettings()
    )
    sim.run(4)
    clip = renderer.info.frames * FRAME // 2  # 120 is as it is
    assert [sim.timeline.now(clip * n + 1200).clip for n in range(4)] == [0, 1, 2, 3]


def test_a_single_clip_is_whole_and_its_picture_is_the_models(renderer: ModelRenderer) -> None:
    family = renderer._engine.family
    spec = Journey.single("jazz", seed=5, denoising=1.0).clip(0)
    job = Job(station="single", take=0, number=0, clip=0, spec=spec, hops=(FRAME,) * 8, final=True, single=True)
    renderer.submit(job)
    pieces, picture = [], b""
    while renderer.pending:
        for message, pcm in renderer.step():
            if isinstance(message, Picture):
                picture = message.jpeg
            elif pcm is not None:
                pieces.append(pcm)
    assert len(np.concatenate(pieces)) == family.frames * FRAME  # nothing is left for a previous clip
    drawn = family.decode_image(renderer._clips("single")[0][1].latents[None])[0]
    wanted = Image.fromarray(drawn).convert("L").resize((512, 512), Image.Resampling.BICUBIC)
    given = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), np.float32)
    assert np.abs(given - np.asarray(wanted, np.float32)).mean() < 8  # of 255: JPEG, and the mean of three planes


def test_the_same_log_gives_the_same_clips(renderer: ModelRenderer) -> None:
    played = []
    for _ in range(2):
        renderer.forget("main")
        sim = Sim(renderer=renderer, journey=Journey.single("jazz"), settings=TimelineSettings())
        sim.run(3)
        played.append(sim.pcm)
    assert np.array_equal(*played)


async def test_a_station_plays_it_from_its_own_process(folder: Path) -> None:
    config = Config(
        generator=GeneratorSettings(
            model=str(folder), device="cpu", dtype="float32", steps=2, backoff_s=0.05, threads=1
        ),
        timeline=TimelineSettings(frame_ms=40, ring_s=10.0),
        stations={"main": StationConfig(prompts=("jazz",))},
    )
    hub = Hub(config)
    await hub.start()
    try:
        await hub.wait_ready(200)
        station = hub.get("main")
        lease = station.join()
        assert station.caps().model
        replies: list[protocol.ServerMessage] = []
        station.steer(protocol.Steer(id="a", prompts=(protocol.Prompt(text="drum"),)), replies.append)
        async with asyncio.timeout(PATIENCE_S):
            while not any(isinstance(reply, protocol.Applied) for reply in replies):
                await asyncio.sleep(0.02)
            while station.now().state.prompts[0].text != "drum":
                await asyncio.sleep(0.02)
        _, pcm = station.recording(5.0)
        assert pcm.any()
        assert hub.supervisor.restarts == 0
        lease.close()
    finally:
        await hub.close()
