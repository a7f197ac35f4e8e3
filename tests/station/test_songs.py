"""Stations that play along with a recording: its tempo and key, its place under steers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from riffstream.config import Config, StationConfig, load_config
from riffstream.errors import MediaError, ParameterError
from riffstream.generator.messages import Info
from riffstream.generator.model_renderer import make_renderer
from riffstream.models.songs import Song
from riffstream.station.hub import Hub
from riffstream.station.score import Score
from tests.commands.test_riff import aligned
from tests.models.test_songs import RATE, music, written
from tests.station.sim import Sim

BPM = 104.0


def test_the_song_goes_on_at_its_place_through_a_steer(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    wave = 0.3 * music(20, BPM)
    hits = rng.permutation(np.arange(4, 64))[:20] * round(30 / BPM * RATE)  # eighths that do not repeat
    for at in hits[hits < len(wave) - 2400]:
        wave[at : at + 2400] += np.float32(0.6) * rng.standard_normal((2400, 1)).astype(np.float32)
    path = written(tmp_path, wave)
    song = Song(path=str(path), bpm=BPM, key=0.0, start_s=0.0, seconds=20.0, rms=float(np.sqrt((wave**2).mean())))
    renderer = make_renderer({"model": "mini", "threads": 1, "steps": 2, "songs": {"main": song}}, lambda what: None)
    station = StationConfig(prompts=("drums",), seed_image="song:main", denoising=0.0, bpm=BPM, key=0.0)
    sim = Sim(renderer=renderer, station=station, journey=station.plan())
    sim.steps = 400
    sim.run(6.5)
    sim.steer("a", "church organ")
    sim.run(9)
    assert sim.applied("a") > 6 * RATE
    made = np.repeat(sim.pcm[:, None], 2, 1)
    for first, last in ((0.5, 6), (8, 15)):  # before the steer and after it
        part = slice(round(first * RATE), round(last * RATE))
        lag, likeness = aligned(wave[part], made[part])
        assert abs(lag) <= 3, f"{lag * 10} ms from {first} s on"
        assert likeness > 0.4


def test_models_without_a_beat_grid_keep_the_songs_seconds() -> None:
    station = StationConfig(prompts=("jazz",), seed_image="song:main", bpm=87.0, key=3.0)
    plain = Score.of(station, Info(model="sd", bpm=None))
    assert (plain.fixed_bpm, plain.fixed_key) == (120.0, 0.0)
    musical = Score.of(station, Info(model="mini", bpm=110.0))
    assert (musical.fixed_bpm, musical.fixed_key) == (87.0, 3.0)


async def test_a_station_has_the_tempo_and_the_key_of_its_song(tmp_path: Path) -> None:
    written(tmp_path, music(12, BPM, semitones=2))
    (tmp_path / "radio.toml").write_text(
        "[generator]\nthreads = 1\nsteps = 1\n"
        '[stations.main]\nprompts = ["organ"]\nsong = "song.flac"\ndenoising = 0.4\n'
    )
    hub = Hub(load_config(tmp_path / "radio.toml", environment={}))
    await hub.start()
    try:
        await hub.wait_ready(120)
        state = hub.get("main").state
        assert state.bpm == pytest.approx(BPM, abs=0.1)
        assert (state.key, state.seed_image, state.denoising) == (2.0, "song:main", 0.4)
    finally:
        await hub.close()


async def test_a_song_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    hub = Hub(Config.from_dict({"stations": {"main": {"prompts": ["a"], "song": str(tmp_path / "none.mp3")}}}))
    with pytest.raises(MediaError, match=r"none\.mp3"):
        await hub.start()
    await hub.close()


def test_a_song_needs_prompts_and_no_other_seed_image() -> None:
    with pytest.raises(ParameterError, match="together with prompts"):
        StationConfig(song="x.mp3")
    with pytest.raises(ParameterError, match="seed_image"):
        StationConfig(song="x.mp3", prompts=("a",), seed_image="funk")
