"""What the generator makes of uploaded seed images."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
import torch

from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.seed_clip import SeedClip
from riffstream.errors import MediaWarning
from riffstream.journey.journey import Journey
from riffstream.models.seeds import SeedLibrary
from riffstream.models.uploads import SeedSources, Upload, UploadedSeeds
from riffstream.server.uploads.worker import Rules, prepare
from riffstream.spectrogram import audio_to_image
from riffstream.spectrogram.image import save_image
from riffstream.spectrogram.params import SpectrogramParams
from tests.audio.signals import cadence, clicks, drifting_beats, played

NAME = "upload-0123456789ab"
pytestmark = pytest.mark.filterwarnings("ignore:key unclear")


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily.load(dtype=torch.float32)


def keep(folder: Path, source: Path, bpm: float | None = None, key: float | None = None) -> None:
    """What the server does with a file."""
    (folder / NAME).mkdir(parents=True, exist_ok=True)
    result = prepare(source, folder / NAME, Rules(bpm=bpm, key=key))
    entry = Upload(
        name=NAME,
        title="x",
        bpm=result.bpm,
        key=result.key,
        seconds=result.seconds,
        kind=result.kind,
        beats=result.beats,
    )
    (folder / NAME / "seed.json").write_bytes(msgspec.json.encode(entry))


def beats(mel: torch.Tensor) -> np.ndarray:
    """Loudness of each 64th of a beat-synchronous clip, [8]: of its first quarter over the rest's."""
    loud = mel.float().square().mean((0, 1)).reshape(8, 64)
    return np.asarray(loud[:, :16].mean(1) / loud[:, 40:60].mean(1))


@pytest.mark.parametrize("kind", ["wav", "riffusion.png", "mini.png"])
@pytest.mark.parametrize("bpm", [93.0, 128.0])
def test_beats_fall_on_the_models_grid_whatever_the_tempo(
    tmp_path: Path, family: MiniFamily, kind: str, bpm: float
) -> None:
    wave = clicks(bpm, 8, first_s=0.5).T
    if kind == "wav":
        soundfile.write(tmp_path / "a", wave, 48_000, format="WAV")
    else:
        params = SpectrogramParams.riffusion() if kind == "riffusion.png" else SpectrogramParams.mini()
        if kind == "riffusion.png":
            wave = soundfile_resample(wave)
        hop = None if kind == "riffusion.png" else params.hop(bpm)
        save_image(audio_to_image(wave, params, hop=hop), tmp_path / "a.png")
        (tmp_path / "a.png").rename(tmp_path / "a")
    keep(tmp_path / "seeds", tmp_path / "a")
    upload = UploadedSeeds(tmp_path / "seeds").load(NAME, family)
    assert upload is not None
    latents = upload.latents
    assert tuple(latents.shape) == family.latent_shape()
    assert torch.isfinite(latents).all()
    mel = family.decode_mel(latents[None])[0]
    assert (beats(mel) > 2).all(), beats(mel)
    library = SeedLibrary().latents("acid_jazz")
    assert 0.4 < float(latents.square().mean().sqrt() / library.square().mean().sqrt()) < 2.5  # the model's own range


@pytest.mark.parametrize("kind", ["wav", "mini.png"])
@pytest.mark.parametrize("key", [2, -5, 6])
def test_an_upload_is_played_in_the_models_key(
    tmp_path: Path, family: MiniFamily, monkeypatch: pytest.MonkeyPatch, kind: str, key: int
) -> None:
    """The same melody, higher or lower: what the model encodes is the one in C major."""
    encoded: list[torch.Tensor] = []
    monkeypatch.setattr(MiniFamily, "seed_clip", lambda self, mel: encoded.append(mel[None]) or SeedClip(mel))
    for number, given in ((0, 0), (1, key)):
        wave, source = cadence(given), tmp_path / f"source{number}"
        if kind == "wav":
            soundfile.write(source, wave.T, 48_000, format="WAV")
        else:
            params = SpectrogramParams.mini()
            save_image(audio_to_image(wave.T, params, hop=params.hop(120)), tmp_path / "a.png")
            (tmp_path / "a.png").rename(source)
        # A picture's key has to be told; sound's is found.
        keep(tmp_path / str(number), source, 120.0, key=given if kind == "mini.png" else None)
        UploadedSeeds(tmp_path / str(number)).load(NAME, family)
    soundfile.write(tmp_path / "left", cadence(key).T, 48_000, format="WAV")
    keep(tmp_path / "2", tmp_path / "left", 120.0, key=0)
    UploadedSeeds(tmp_path / "2").load(NAME, family)
    # From 400 Hz on, where rows are narrower than the steps between notes; up to where a raised picture ends.
    home, moved, left = (mel[0].float().mean((0, 2))[30:200].add(1e-3).log().numpy() for mel in encoded)
    same, other = (float(np.corrcoef(np.diff(home), np.diff(each))[0, 1]) for each in (moved, left))
    assert same > (0.99 if kind == "wav" else 0.7), (same, other)  # between the rows of a picture there is nothing
    assert other < same - 0.15, (same, other)


def soundfile_resample(wave: np.ndarray) -> np.ndarray:
    import soxr

    return np.asarray(soxr.resample(wave, 48_000, 44_100))


def test_names_are_asked_for_in_turn_and_vanish_with_their_folder(tmp_path: Path, family: MiniFamily) -> None:
    soundfile.write(tmp_path / "a", clicks(120, 5).T, 48_000, format="WAV")
    keep(tmp_path, tmp_path / "a")
    sources = SeedSources(UploadedSeeds(tmp_path), SeedLibrary())
    assert sources.load(NAME, family) is not None
    assert sources.load("acid_jazz", family) is not None
    for name in ("upload-ffffffffffff", "../seeds", "nothing"):
        assert sources.load(name, family) is None
    (tmp_path / NAME / "seed.json").unlink()
    assert UploadedSeeds(tmp_path).load(NAME, family) is None


def test_an_upload_is_what_clips_grow_from(tmp_path: Path, family: MiniFamily) -> None:
    from riffstream.diffusion.clip import ClipRequest
    from riffstream.diffusion.engine import Engine

    soundfile.write(tmp_path / "a", clicks(120, 5).T, 48_000, format="WAV")
    keep(tmp_path, tmp_path / "a")
    engine = Engine(family, seeds=SeedSources(UploadedSeeds(tmp_path)), steps=2)
    spec = Journey.single("jazz", seed_image=NAME, denoising=0.1).clip(0)
    assert (beats(engine.render(ClipRequest(spec)).mel) > 1.5).all()


def test_a_drifting_recording_has_its_beats_followed(tmp_path: Path, family: MiniFamily) -> None:
    wave, _ = played(drifting_beats(88, 106, 40, jitter_s=0.015), 40)
    soundfile.write(tmp_path / "a", wave.T, 48_000, format="WAV")
    with pytest.warns(MediaWarning) as caught:
        keep(tmp_path / "seeds", tmp_path / "a")
    said = " ".join(str(each.message) for each in caught)
    assert "tempo drifts" in said
    assert "key unclear" in said
    entry = UploadedSeeds(tmp_path / "seeds")
    assert entry.load(NAME, family) is not None
    kept = msgspec.json.decode((tmp_path / "seeds" / NAME / "seed.json").read_bytes(), type=Upload)
    assert len(kept.beats) == 9
    assert np.ptp(np.diff(kept.beats)) > 0.005, "each beat has its own length"
    assert kept.beats[-1] == pytest.approx(kept.seconds, abs=0.002)
