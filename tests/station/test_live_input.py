"""Live input in a station: where its beats are, which clips hear it, and that the music does not depend on it else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from riffstream.config import StationConfig
from riffstream.errors import RiffstreamError
from riffstream.generator.messages import Failed, InputImage, Job, Piece
from riffstream.generator.model_renderer import make_renderer
from riffstream.generator.renderer import Renderer
from riffstream.journey.journey import ClipSpec, Journey, Keyframe
from riffstream.server.live_input.images import InputImages
from riffstream.server.live_input.loops import make_loop
from riffstream.station.live_input import last_beats
from riffstream.station.offline import replay
from tests.station.sim import Sim

IMAGE = InputImage(name="live-0123456789ab", strength=0.5)


def onsets(pcm: NDArray[np.float32]) -> NDArray[np.int64]:
    """Samples at which the metronome's clicks begin."""
    loud = np.abs(pcm) > 0.02
    starts = np.flatnonzero(loud & ~np.roll(loud, 1))
    return starts[np.insert(np.diff(starts) > 4800, 0, True)]


def test_the_last_beats_are_those_of_the_metronome_also_after_a_change_of_tempo() -> None:
    sim = Sim(clicks=True)
    sim.run(6)
    sim.steer("1", bpm=80.0)
    sim.run(3)
    sim.steer("2", bpm=150.0, ramp_s=4.0)
    for seconds in (0.4, 1.3, 2.0, 6.0):
        sim.run(seconds)
        pos = sim.timeline.playout.committed - 4800
        beats = last_beats(sim.timeline.playout.heard, pos)
        assert beats is not None
        assert len(beats.edges) == 9
        assert pos - 48_000 < beats.edges[-1] <= pos
        clicks = onsets(sim.pcm)
        for edge in beats.edges:
            assert np.abs(clicks - edge).min() < 400, seconds  # a click takes some samples to become loud
        assert beats.bpm == pytest.approx(60 * 48_000 / (beats.edges[-1] - beats.edges[-2]), rel=0.01)


def test_there_are_no_beats_before_the_first_and_in_a_pause() -> None:
    sim = Sim()
    assert last_beats(sim.timeline.playout.heard, 0) is None
    sim.run(3)
    sim.transport("pause")
    sim.run(1)
    assert last_beats(sim.timeline.playout.heard, sim.timeline.playout.committed) is None


def takes(sim: Sim) -> dict[int, int]:
    """Beat at which the first clip of each take began, from the log of cues."""
    heard = [played.take for played in sim.timeline.playout._heard._cues if played.take is not None]
    return {take.ident: round(take.clip_beats[0]) for take in heard}


@pytest.mark.parametrize("beats_per_bar", [4, 3])
def test_every_new_clip_gets_the_input_turned_to_its_own_beats(beats_per_bar: int) -> None:
    sim = Sim(station=StationConfig(beats_per_bar=beats_per_bar))
    sim.run(7)
    count = len(sim.jobs)
    assert not any(job.input for job in sim.jobs)
    beats = last_beats(sim.timeline.playout.heard, sim.timeline.playout.committed)
    assert beats is not None
    sim.timeline.input.hear(IMAGE, beats.first)
    sim.run(9)
    sim.steer("1", "other", at="beat")
    sim.run(9)
    clip = 2 * beats_per_bar
    starts = takes(sim)
    assert len(sim.jobs) > count + 3
    for job in sim.jobs[count:]:
        assert job.input is not None
        assert job.input.strength == 0.5
        beat = starts[job.take] + job.number * clip
        assert (beats.first + job.input.turn - beat) % clip == 0
        assert job.spec.start.seed_image is None  # the state does not change
    assert sim.timeline.target().seed_image is None
    sim.timeline.input.hear(None)
    count = len(sim.jobs)
    sim.run(9)
    assert not any(job.input for job in sim.jobs[count:])


def test_a_change_of_tempo_reuses_clips_without_the_input() -> None:
    sim = Sim()
    sim.run(5)
    sim.timeline.input.hear(IMAGE, 0)
    sim.steer("1", bpm=90.0)
    sim.run(0.3)
    reused = [job for job in sim.jobs if job.take == sim.jobs[-1].take and job.clip < sim.jobs[-1].clip]
    assert not any(job.input for job in reused)


def test_an_open_input_shortens_the_way_to_the_music_and_silence_does_not_change_it() -> None:
    plain, listening = Sim(), Sim()
    for sim in (plain, listening):
        sim.timeline.input.hear(None, live=sim is listening)
        sim.run(20)
    assert listening.timeline.playout.horizon_s < plain.timeline.playout.horizon_s - 1
    assert listening.timeline.playout.underruns == listening.timeline.playout.repeats == 0
    assert np.array_equal(plain.pcm, listening.pcm)
    listening.timeline.input.hear(None, live=False)
    listening.run(20)
    plain.run(20)
    assert listening.timeline.playout.horizon_s == pytest.approx(plain.timeline.playout.horizon_s, abs=5)
    assert np.array_equal(plain.pcm, listening.pcm)


# -- with the model ---------------------------------------------------------------------------------------------------

BEAT = 24_000


def image(uploads: Path, hits: tuple[int, ...], channels: int = 1) -> str:
    """The image of an input with a loud chord on these beats."""
    n = np.arange(BEAT)
    chord = sum(np.sin(2 * np.pi * hz * k * n / 48_000) / k for hz in (261.6, 329.6, 392.0) for k in range(1, 6))
    wave = np.concatenate([(0.12 if beat in hits else 0.001) * chord * np.exp(-n / 9000) for beat in range(8)])
    loop = make_loop(np.repeat((wave * 32767).astype(np.int16)[:, None], channels, 1), [BEAT] * 8)
    assert loop.samples is not None
    uploads.mkdir(exist_ok=True)
    return InputImages(uploads).write(loop.samples, 120.0, 0.0)


def job(number: int, heard: InputImage | None) -> Job:
    keyframe = Keyframe.of("solo piano", seed=3)
    return Job(
        station="main", take=number, number=0, clip=number, spec=ClipSpec(keyframe, keyframe, 0.0), hops=(375.0,) * 8,
        final=True, input=heard,
    )  # fmt: skip


def rendered(renderer: Renderer, asked: Job) -> NDArray[np.float32]:
    renderer.submit(asked)
    pieces = []
    while renderer.pending:
        for message, pcm in renderer.step():
            if isinstance(message, Failed):
                raise RiffstreamError(message.message)
            if isinstance(message, Piece) and pcm is not None:
                pieces.append(pcm)
    return np.concatenate(pieces)


def loud_beats(wave: NDArray[np.float32]) -> set[int]:
    """The two loudest beats of a clip, if they have nearly all of its energy."""
    energy = np.square(wave[: 8 * BEAT], dtype=np.float64).mean(1).reshape(8, BEAT).mean(1)
    order = np.argsort(energy)
    return set(order[-2:].tolist()) if energy[order[-2:]].sum() > 0.85 * energy.sum() else set()


def test_the_model_hears_the_input_on_the_clips_beats(tmp_path: Path) -> None:
    name = image(tmp_path / "seeds", hits=(1, 6))
    renderer = make_renderer({"model": "mini", "uploads": str(tmp_path / "seeds"), "threads": 1}, lambda text: None)
    assert not loud_beats(rendered(renderer, job(0, None)))
    for number, (strength, turn) in enumerate(((0.5, 0), (0.5, 1), (0.8, 6)), 1):
        heard = InputImage(name=name, strength=strength, turn=turn)
        assert loud_beats(rendered(renderer, job(number, heard))) == {(1 - turn) % 8, (6 - turn) % 8}


def test_a_missing_image_is_no_input_and_in_a_replay_an_error(tmp_path: Path) -> None:
    options = {"model": "mini", "uploads": str(tmp_path), "threads": 1}
    renderer = make_renderer(options, lambda text: None)
    plain = rendered(renderer, job(0, None))
    assert np.array_equal(rendered(renderer, job(1, IMAGE)), plain)
    (tmp_path / "live" / IMAGE.name).mkdir(parents=True)
    (tmp_path / "live" / IMAGE.name / "seed.json").write_text('{"name":"x","title":"x","bpm":120,"seconds":4}')
    (tmp_path / "live" / IMAGE.name / "loop.wav").write_bytes(b"damaged")
    assert np.array_equal(rendered(renderer, job(2, IMAGE)), plain)
    with pytest.raises(RiffstreamError, match="--state-dir is the server's folder"):
        rendered(make_renderer(options, lambda text: None, files=True), job(3, IMAGE))


def test_a_station_with_an_input_replays_to_the_same_samples(tmp_path: Path) -> None:
    name = image(tmp_path / "seeds", hits=(0, 5))
    options = {"model": "mini", "uploads": str(tmp_path / "seeds"), "threads": 1}
    sim = Sim(renderer=make_renderer(options, lambda text: None), journey=Journey.single("solo piano"))
    sim.steps = 30
    sim.run(4)
    sim.timeline.input.hear(InputImage(name=name, strength=0.6), 0)
    sim.run(8)
    assert any(each.input for each in sim.jobs)
    path = tmp_path / "log.jsonl"
    sim.timeline.log.save(path, sim.timeline.playout.committed)
    again = np.concatenate(list(replay(path, make_renderer(options, lambda text: None, files=True))))
    played = np.concatenate([block.pcm for block in sim.blocks])
    assert np.array_equal(again, played)
