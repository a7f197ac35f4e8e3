"""Recordings as seed images: measured, cut into parts on their own beats, and in the model's key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from msgspec import structs

from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.seed_images import SeedImages
from riffstream.errors import MediaError, ParameterError
from riffstream.models.songs import Song, SongParts, Songs, read_song
from tests.audio.signals import drifting_beats, played

RATE = 48_000


def music(seconds: float, bpm: float, *, semitones: float = 0.0, silence: float = 0.0) -> np.ndarray:
    """Clicks on the beats over I-IV-V-I chords in C, a chord a bar, moved by semitones: [n, 2]."""
    t = np.arange(round(seconds * RATE)) / RATE
    bar = 4 * 60 / bpm
    wave = np.zeros_like(t)
    for number, root in enumerate((0, 5, 7, 0)):
        now = (t // bar % 4) == number
        for step in (0, 4, 7):
            wave += now * 0.1 * np.sin(2 * np.pi * 261.63 * 2 ** ((root + step + semitones) / 12) * t)
    phase = t % (60 / bpm)
    wave += 0.5 * np.exp(-phase * 60) * np.sin(2 * np.pi * 1500 * phase)
    wave = np.concatenate([np.zeros(round(silence * RATE)), wave]).astype(np.float32)
    return np.stack([wave, wave], 1)


def written(folder: Path, wave: np.ndarray, name: str = "song.flac") -> Path:
    soundfile.write(folder / name, wave, RATE)
    return folder / name


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    torch.set_num_threads(1)
    return MiniFamily.random(seed=1)


def test_tempo_key_and_first_bar_are_measured(tmp_path: Path) -> None:
    song = read_song(written(tmp_path, music(24, 96, semitones=2, silence=1.5)))
    assert song.bpm == pytest.approx(96, abs=0.1)
    assert song.key == 2
    assert song.start_s == pytest.approx(1.5, abs=0.03)
    assert song.seconds == pytest.approx(24, abs=0.03)


def test_given_values_replace_measured_ones(tmp_path: Path) -> None:
    path = written(tmp_path, music(8, 96))
    song = read_song(path, bpm=48, key=-1)
    assert (song.bpm, song.key) == (48, -1)
    with pytest.raises(ParameterError, match="bpm is 300"):
        read_song(path, bpm=300)
    with pytest.raises(ParameterError, match="key is 9"):
        read_song(path, key=9)


def test_an_upbeat_belongs_to_a_bar_that_begins_before_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("riffstream.audio.beats.find_tempo", lambda *_, **__: (120.0, RATE // 2))
    song = read_song(written(tmp_path, music(8, 120)))
    assert song.start_s == pytest.approx(-1.5)  # half a second of upbeat is the last beat of a bar of 2 s
    assert song.seconds == pytest.approx(9.5)


def test_the_parts_of_a_drifting_song_have_its_beats_on_the_grid(tmp_path: Path, family: MiniFamily) -> None:
    beats = drifting_beats(100, 112, 60)
    song = read_song(written(tmp_path, played(beats, 60)[0].T))
    assert any("drifts" in remark for remark in song.remarks)
    assert any("key unclear" in remark for remark in song.remarks)
    parts, even = SongParts(song, family), SongParts(structs.replace(song, beats=[]), family)
    late = 12 * family.frames  # the last clip
    assert onsets_on_beats(parts, late) > 0.9
    assert onsets_on_beats(even, late) < 0.6
    assert torch.equal(parts.part(parts.frames // 512 * 512 + 512, 512).latents, parts.part(0, 512).latents), (
        "it begins again"
    )
    assert torch.isfinite(parts.part(late + 256, 512).latents).all()


def onsets_on_beats(parts: SongParts, first: int) -> float:
    """Share of a clip's strongest eighth of rises of loudness within two frames of the beats."""
    from riffstream.spectrogram import analysis

    heard: list[np.ndarray] = []
    whole = analysis.analyse

    def keep(*given: object, **options: object) -> torch.Tensor:
        mel = whole(*given, **options)  # type: ignore[arg-type]
        heard.append(mel.mean((0, 1)).numpy())
        return mel

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "analyse", keep)
        parts.part(first, 512)
    rise = np.diff(heard[0], prepend=heard[0][:1])
    strongest = np.argsort(-rise)[:8]
    return float(np.mean(np.minimum(strongest % 64, 64 - strongest % 64) <= 2))


@pytest.mark.parametrize(
    ("wave", "shown"),
    [
        (np.zeros((RATE * 3, 2), np.float32), "silent"),
        (np.full((RATE // 2, 2), 0.1, np.float32), "0.50 s"),
    ],
)
def test_what_is_no_song_is_refused(tmp_path: Path, wave: np.ndarray, shown: str) -> None:
    with pytest.raises(MediaError, match=shown):
        read_song(written(tmp_path, wave))
    with pytest.raises(MediaError):
        read_song(tmp_path / "missing.wav")


def measured(path: Path, **changes: float) -> Song:
    values = {"bpm": 120.0, "key": 0.0, "start_s": 0.0, "seconds": 16.0, "rms": 0.1, **changes}
    return Song(path=str(path), **values)


def test_parts_follow_the_songs_beats(tmp_path: Path, family: MiniFamily) -> None:
    wave = music(16, 120)  # four clips of 4 s
    wave[: 4 * RATE] *= 0.2
    parts = SongParts(measured(written(tmp_path, wave)), family)
    assert parts.frames == 4 * family.frames
    quiet, one, two = (parts.part(n * family.frames, family.frames).latents for n in range(3))
    assert one.shape == family.latent_shape()
    assert torch.nn.functional.mse_loss(quiet, one) > 4 * torch.nn.functional.mse_loss(
        one, parts.part(1536, 512).latents
    )
    assert torch.equal(parts.part(4 * family.frames, family.frames).latents, quiet)  # it begins again
    assert torch.equal(parts.part(-3 * family.frames, family.frames).latents, one)
    half = parts.part(family.frames // 2, family.frames).latents
    assert not torch.allclose(half, one, atol=1e-2)
    assert torch.isfinite(two).all()


def test_a_song_at_another_tempo_and_key_gives_the_same_parts(tmp_path: Path, family: MiniFamily) -> None:
    fast = SongParts(measured(written(tmp_path, music(8, 120), "a.flac")), family)
    slow = SongParts(measured(written(tmp_path, music(12, 80), "b.flac"), bpm=80.0), family)
    high = SongParts(measured(written(tmp_path, music(8, 120, semitones=3), "c.flac"), key=3.0), family)
    wrong = SongParts(measured(tmp_path / "c.flac"), family)
    base, other, moved, unmoved = (parts.part(0, family.frames).latents for parts in (fast, slow, high, wrong))
    spread = float(base.std())
    assert float((base - moved).abs().mean()) < 0.7 * float((base - unmoved).abs().mean())
    assert float((base - other).abs().mean()) < spread


def test_the_last_part_ends_in_silence_and_wraps_behind_it(tmp_path: Path, family: MiniFamily) -> None:
    parts = SongParts(measured(written(tmp_path, music(6, 120)), seconds=6.0), family)  # one and a half clips
    last, silent = parts.part(family.frames, family.frames).latents, parts.part(family.frames + 320, 32).latents
    assert torch.isfinite(last).all()
    assert torch.isfinite(silent).all()
    assert torch.equal(parts.part(2 * family.frames, family.frames).latents, parts.part(0, family.frames).latents)
    across = parts.part(2 * family.frames - 64, 128).latents
    assert across.shape == family.latent_shape(128)


def test_the_engine_gets_a_part_by_name_and_place(tmp_path: Path, family: MiniFamily) -> None:
    songs = Songs({"x": measured(written(tmp_path, music(16, 120)))})
    seeds = SeedImages(family, songs)
    parts = songs.load("song:x", family)
    assert parts is not None
    for first in (0, 512, 700):
        assert torch.equal(seeds.clip("song:x", first=first).latents, parts.part(first, 512).latents)
    assert songs.load("song:y", family) is None
    assert songs.load("x", family) is None
    with pytest.raises(ParameterError, match="song:y"):
        seeds.clip("song:y")
