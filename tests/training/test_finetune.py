"""Fine-tuning on a folder of audio."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from riffstream.audio.beats import Beats
from riffstream.cli import main
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.models.seeds import SeedLibrary
from riffstream.training import finetune
from riffstream.training.finetune import import_folder
from tests.audio.signals import bursts, cadence, clicks, drifting_beats, noise, played

RATE = 48000


def test_folder_becomes_a_corpus(tmp_path: Path) -> None:
    folder, corpus = tmp_path / "music", tmp_path / "corpus"
    folder.mkdir()
    soundfile.write(folder / "my_song.wav", clicks(120, 13).T, RATE)
    soundfile.write(folder / "other.flac", clicks(100, 12).T, RATE)
    soundfile.write(folder / "short.wav", clicks(100, 1).T, RATE)
    soundfile.write(folder / "silent.wav", np.full((12 * RATE, 2), 0.2), RATE)  # a constant offset alone
    (folder / "other.txt").write_text("a slow song\n\na very slow song\n")
    (folder / "broken.mp3").write_bytes(b"no music")
    (folder / "tempo.txt").write_text("my_song 120\n")
    found = import_folder(folder, corpus)
    assert found.songs == 2
    assert set(found.skipped) == {"broken.mp3", "short.wav", "silent.wav"}
    assert "silent" in found.skipped["silent.wav"]
    assert "beats" in found.skipped["short.wav"]
    assert found.transposed == {}
    records = [json.loads(path.read_text()) for path in sorted(corpus.glob("songs/own/*.json"))]
    assert records[0]["bpm"] == 120
    assert records[0]["clips"][0]["captions"] == ["my song"]
    assert records[1]["clips"][0]["captions"] == ["a slow song", "a very slow song"]
    assert records[1]["bpm"] == pytest.approx(100, abs=1)
    codes = np.load(corpus / "songs" / "own" / "00000.npy")
    assert codes.shape == (len(records[0]["clips"]), 2, 256, 512)
    assert codes.shape[0] == 3  # 13 s less the lead-in at 120: 25 beats
    assert codes.max() > codes.min()


def test_a_soft_intro_is_imported_and_an_unclear_tempo_said(tmp_path: Path) -> None:
    folder, corpus = tmp_path / "music", tmp_path / "corpus"
    folder.mkdir()
    levels = np.array([0.065] * 16 + [0.6] * 24)  # of beats at 120 bpm, from 0.2 s on
    soundfile.write(folder / "intro.wav", bursts(0.2 + 0.5 * np.arange(40), 20.3, levels).T, RATE)
    soundfile.write(folder / "noise.wav", noise(10 * RATE), RATE)
    found = import_folder(folder, corpus, key=0)
    assert {name: text.split(":")[0] for name, text in found.unclear.items()} == {"noise.wav": "tempo unclear"}
    codes = np.load(corpus / "songs" / "own" / "00000.npy")
    assert len(codes) == 5, "two clips of the intro, and three"


@pytest.mark.parametrize("above", [3, -4])
def test_music_in_another_key_is_transposed(tmp_path: Path, above: int) -> None:
    for name, key in (("plain", 0), ("moved", above)):
        (tmp_path / name).mkdir()
        wave = np.tile(cadence(key), (1, 3))
        soundfile.write(tmp_path / name / "song.wav", wave.T, RATE)
        (tmp_path / name / "tempo.txt").write_text("song 120\n")
    assert import_folder(tmp_path / "plain", tmp_path / "a").transposed == {}
    assert import_folder(tmp_path / "moved", tmp_path / "b").transposed == {"song.wav": -above}
    assert import_folder(tmp_path / "moved", tmp_path / "c", key=0).transposed == {}
    plain, moved, left = (np.load(tmp_path / name / "songs" / "own" / "00000.npy").astype(np.float64) for name in "abc")
    assert plain.shape == moved.shape

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs(one[:, :, :120] - other[:, :, :120]).mean())  # the rows of the notes

    assert apart(moved, plain) < 0.5 * apart(left, plain)


@pytest.mark.parametrize(
    ("line", "arguments", "words"),
    [
        ("song fast", {}, r"tempo\.txt, line 2"),
        ("song 500", {}, "40 to 240"),
        ("120", {}, "NAME BPM"),
        ("", {"bpm": 0.0}, "bpm"),
        ("", {"key": 7}, "-6 to 6"),
    ],
)
def test_impossible_tempos_and_keys_are_refused(
    tmp_path: Path, line: str, arguments: dict[str, Any], words: str
) -> None:
    soundfile.write(tmp_path / "song.wav", clicks(120, 13).T, RATE)
    (tmp_path / "tempo.txt").write_text(f"other 100\n{line}\n")
    with pytest.raises(ParameterError, match=words):
        import_folder(tmp_path, tmp_path / "corpus", **arguments)


def test_a_drifting_tempo_is_followed_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    wave, _ = played(drifting_beats(100, 112, 60, jitter_s=0.008), 60)
    soundfile.write(folder / "live.wav", wave.T, RATE)
    found = import_folder(folder, tmp_path / "a")
    low, high = found.drifting["live.wav"]
    assert low == pytest.approx(100.5, abs=1.5)
    assert high == pytest.approx(111, abs=1.5)
    assert found.unclear["live.wav"].startswith("key unclear")
    assert on_grid(tmp_path / "a") > 0.95
    monkeypatch.setattr("riffstream.audio.beats._drift", lambda *_: False)  # one tempo, as for a steady song
    import_folder(folder, tmp_path / "b")
    assert on_grid(tmp_path / "b") < 0.6


def on_grid(corpus: Path) -> float:
    """Share of the onsets (four a beat) that lie within two frames of sixteenths, over all clips."""
    codes = np.load(corpus / "songs" / "own" / "00000.npy").astype(np.float64)
    near, count = 0, 0
    for clip in codes.mean((1, 2)):
        rise = np.diff(clip, prepend=clip[:1])
        onsets = [k for k in range(1, len(rise) - 1) if rise[k] == rise[max(0, k - 6) : k + 7].max() and rise[k] > 2]
        near += sum(min(k % 16, 16 - k % 16) <= 2 for k in onsets)
        count += len(onsets)
    assert count > 8 * len(codes)
    return near / count


def test_text_files_from_other_systems_are_read_and_guesses_are_said(tmp_path: Path) -> None:
    folder, corpus = tmp_path / "music", tmp_path / "corpus"
    folder.mkdir()
    names = ["a.wav", "cafe\u0301.wav", os.fsdecode(b"na\xefve.wav") if sys.platform == "linux" else "naïve.wav"]
    for name in names:
        soundfile.write(tmp_path / "plain.wav", clicks(120, 9).T, RATE)
        (tmp_path / "plain.wav").rename(folder / name)
    (folder / "a.TXT").write_bytes("\ufeffgentle  rain\r\n# by ear\r\nsnow\r\n\x1a".encode())
    (folder / "caf\u00e9.txt").write_bytes("eine schöne Nacht".encode("cp1252"))
    (folder / "tempo.txt").write_bytes("\ufeffa.wav\t87,5\r\ncafé: 90\r\nother 100\r\n".encode())
    found = import_folder(folder, corpus)
    records = [json.loads(path.read_text()) for path in sorted(corpus.glob("songs/own/*.json"))]
    assert [record["bpm"] for record in records[:2]] == [87.5, 90]
    assert [record["clips"][0]["captions"] for record in records] == [
        ["gentle rain", "snow"], ["eine schöne Nacht"], ["naïve"]
    ]  # fmt: skip
    assert found.remarks[0].startswith("tempo.txt, line 3: there is no song 'other'")
    assert found.remarks[1].startswith("caf\u00e9.txt: line 1: byte 0xf6")
    assert found.remarks[1].endswith("read as Windows-1252")


def test_albums_are_imported_with_their_captions_and_tempos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, corpus = tmp_path / "band", tmp_path / "corpus"
    for album, bpm in (("First", 120), ("Second", 100)):
        (folder / album).mkdir(parents=True)
        soundfile.write(folder / album / "01.wav", clicks(bpm, 9).T, RATE)
        soundfile.write(folder / album / "odd.wav", clicks(bpm, 9).T, RATE)
    (folder / "First" / "01.txt").write_text("a first song")
    (folder / "tempo.txt").write_text("01 120\n")
    (folder / "Second" / "tempo.txt").write_text("01 100\nlost 90\n")
    find = finetune.find_beats

    def fail_once(wave: np.ndarray, rate: int, bpm: float | None = None) -> Beats:
        if bpm is None:  # the odd ones
            raise ZeroDivisionError("an odd file")
        return find(wave, rate, bpm=bpm)

    monkeypatch.setattr(finetune, "find_beats", fail_once)
    found = import_folder(folder, corpus)
    assert found.songs == 2
    assert found.skipped == dict.fromkeys(("First/odd.wav", "Second/odd.wav"), "ZeroDivisionError: an odd file")
    assert "Second/tempo.txt, line 2: there is no song 'lost'" in found.remarks[0]
    records = [json.loads(path.read_text()) for path in sorted(corpus.glob("songs/own/*.json"))]
    assert [record["bpm"] for record in records] == [120, 100]
    assert [record["file"] for record in records] == ["First/01.wav", "Second/01.wav"]
    assert [record["clips"][0]["captions"] for record in records] == [["a first song"], ["Second 01"]]


def test_nothing_to_import_is_said(tmp_path: Path) -> None:
    with pytest.raises(RiffstreamError, match="hold no audio"):
        import_folder(tmp_path, tmp_path / "corpus")
    (tmp_path / "broken.mp3").write_bytes(b"no music")
    with pytest.raises(RiffstreamError, match=r"broken\.mp3: "):
        import_folder(tmp_path, tmp_path / "corpus")
    with pytest.raises(ParameterError, match="folder"):
        import_folder(tmp_path / "absent", tmp_path / "corpus")


def test_command_fine_tunes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, music = tmp_path / "model", tmp_path / "music"
    family = MiniFamily.random(seed=3)
    family.defaults = replace(family.defaults, guidance=1.5, above=0.7)  # as the embedded model, which is distilled
    family.save(model)
    (model / "tokenizer").mkdir()
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    backend = Tokenizer(WordLevel({"song": 5, "[UNK]": 6}, unk_token="[UNK]"))
    backend.save(str(model / "tokenizer" / "tokenizer.json"))
    music.mkdir()
    soundfile.write(music / "song.wav", clicks(120, 13).T, RATE)
    arguments = ["train", "finetune", str(music), "--resume-from", str(model), "--out", str(tmp_path / "run")]
    arguments += ["--to", str(tmp_path / "tuned"), "--minutes", "0.03", "--preset", "smoke", "--bpm", "120"]
    assert main([*arguments, "--device", "cpu", "--quiet", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["songs"] == 1
    assert result["step"] > 0
    library = SeedLibrary(tmp_path / "tuned" / "seeds")
    assert library.names == ["song"]
    before, after = (MiniFamily.load(path).denoiser.state_dict() for path in (model, tmp_path / "tuned"))
    assert any(not (before[name] == after[name]).all() for name in before)
    tuned = MiniFamily.load(tmp_path / "tuned")
    assert tuned.sounds is not None
    assert tuned.sounds.choose(tuned.encode_text(["song"]).pooled()[0], 0, beats=8) is not None
    defaults = tuned.defaults
    assert (defaults.sampler, defaults.guidance, defaults.above) == ("unipc", 1.5, None), "needed at all times now"
