"""sample-clips and the two batches, end to end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from riffstream.audio.files import audio_info, read_audio
from riffstream.audio.writing import FORMATS
from riffstream.commands import _batch
from riffstream.commands._clips import EXTENSIONS
from tests.commands.conftest import RunResult, make_song, picture

Run = Callable[..., RunResult]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three songs, one broken file, and what else lies about in folders."""
    folder = tmp_path / "album"
    for index, name in enumerate(("one.wav", "two.flac", "three.mp3")):
        make_song(folder / name, seconds=2, hz=300 * (index + 1))
    (folder / "broken.wav").write_bytes(b"not a sound")
    (folder / "cover.jpg").write_bytes(b"a picture")
    (folder / "notes.json").write_text("{}")
    (folder / ".hidden.wav").write_bytes(b"x")
    (folder / "sub").mkdir()
    return folder


def test_clips_have_their_length_and_lie_where_their_name_says(run: Run, song: Path, tmp_path: Path) -> None:
    code, out, err = run(
        "sample-clips",
        "--audio",
        song,
        "--output-dir",
        tmp_path / "x" / "clips",
        "--num-clips",
        4,
        "--duration-ms",
        500,
    )
    assert (code, err) == (0, "")
    paths = [Path(line.removeprefix("Wrote ")) for line in out.splitlines()]
    assert len(paths) == len(os.listdir(tmp_path / "x" / "clips")) == 4
    whole = read_audio(song).samples
    for index, path in enumerate(paths):
        found = re.fullmatch(rf"clip_{index}_start_(\d+)_ms_duration_500_ms\.wav", path.name)
        assert found
        start = round(int(found[1]) / 1_000 * 44_100)
        np.testing.assert_allclose(read_audio(path).samples, whole[start : start + 22_050], atol=1e-4)


def test_the_same_seed_cuts_the_same_clips_and_another_does_not(run: Run, song: Path, tmp_path: Path) -> None:
    names = []
    for index, seed in enumerate(("7", "7", "8")):
        folder = tmp_path / str(index)
        run(
            "sample-clips",
            "--audio",
            song,
            "--output-dir",
            folder,
            "--num-clips",
            3,
            "--duration-ms",
            100,
            "--seed",
            seed,
        )
        names.append(sorted(os.listdir(folder)))
    assert names[0] == names[1] != names[2]


def test_the_extensions_offered_are_those_that_can_be_written() -> None:
    assert set(EXTENSIONS) == set(FORMATS)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_clips_of_odd_files_are_brought_to_what_the_format_takes(extension: str, run: Run, tmp_path: Path) -> None:
    song, folder = make_song(tmp_path / "odd.wav", rate=96_000, channels=6, seconds=1), tmp_path / "clips"
    code, out, _ = run(
        *(
            "sample-clips",
            "--audio",
            song,
            "--output-dir",
            folder,
            "--extension",
            extension,
            "--duration-ms",
            300,
            "--json",
        )
    )
    assert code == 0
    (path,) = json.loads(out)["written"]
    info = audio_info(path)
    assert (info.seconds, info.channels) == (pytest.approx(0.3), 2 if extension == "mp3" else 6)
    run("sample-clips", "--audio", song, "--output-dir", folder / "mono", "--mono", "--duration-ms", 300)
    assert audio_info(next((folder / "mono").iterdir())).channels == 1


def test_a_clip_as_long_as_the_file_is_the_file_and_a_longer_one_an_error(run: Run, song: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    assert run("sample-clips", "--audio", song, "--output-dir", clips, "--duration-ms", 3_000)[0] == 0
    code, _, err = run("sample-clips", "--audio", song, "--output-dir", clips, "--duration-ms", 3_001)
    assert (code, "lasts 3000 ms, less than a clip of 3001 ms" in err) == (2, True)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--num-clips", 0, "1 to 100000"),
        ("--duration-ms", 0, "1 to 3600000"),
        ("--extension", "xyz", "wav, flac, ogg, opus, mp3"),
        ("--seed", -2, "0 or more"),
        ("--audio", "nothing.wav", "no such file"),
    ],
)
def test_bad_clip_options_are_named(
    option: str, value: object, allowed: str, run: Run, song: Path, tmp_path: Path
) -> None:
    code, out, err = run("sample-clips", "--audio", song, "--output-dir", tmp_path / "clips", option, value)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert allowed in err


def test_a_batch_reports_the_broken_file_and_does_the_rest(run: Run, album: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    options = ["--duration-ms", 500, "--num-clips-per-file", 2, "--num-threads", 1, "--seed", 3]
    code, out, err = run("sample-clips-batch", "--audio-dir", album, "--output-dir", clips, *options)
    assert (code, out) == (1, f"Wrote 6 files to {clips}\n")
    assert "cannot read" in err
    assert "broken.wav" in err
    assert "1 of 4 files failed" in err
    stems = sorted(name.split("_start_")[0] for name in os.listdir(clips))
    assert stems == ["one_0", "one_1", "three_0", "three_1", "two_0", "two_1"]
    assert all(name.endswith("_ms_dur_500_ms.mp3") for name in os.listdir(clips))


def test_batch_clips_depend_on_seed_and_name_only(run: Run, album: Path, tmp_path: Path) -> None:
    options = ["--duration-ms", 500, "--seed", 3, "--quiet", "--extension", "wav", "--num-threads", 1]
    run("sample-clips-batch", "--audio-dir", album, "--output-dir", tmp_path / "all", *options)
    code, out, err = run(
        "sample-clips-batch", "--audio-dir", album, "--output-dir", tmp_path / "one", "--glob", "t*.flac", *options
    )
    assert (code, out, err) == (0, "", "")
    (name,) = os.listdir(tmp_path / "one")
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


def test_images_of_a_folder_with_json_report(run: Run, album: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    code, out, _ = run(
        *("audio-to-images-batch", "--audio-dir", album, "--output-dir", images, "--image-extension", "png"),
        *("--num-threads", 1, "--json", "--num-frequencies", 64),
    )
    assert code == 1
    report = json.loads(out)
    assert [Path(path).name for path in report["written"]] == ["one.png", "three.png", "two.png"]
    assert [Path(failed["file"]).name for failed in report["failed"]] == ["broken.wav"]
    assert sorted(os.listdir(images)) == ["one.png", "three.png", "two.png"]
    assert picture(images / "one.png").shape == (64, 201, 3)


def test_limit_takes_the_first_files_and_all_done_is_0(run: Run, album: Path, tmp_path: Path) -> None:
    options = ["--glob", "*.[fm]*", "--limit", 1, "--num-threads", 1, "--num-frequencies", 32, "--mono", "--quiet"]
    assert run("audio-to-images-batch", "--audio-dir", album, "--output-dir", tmp_path / "i", *options) == (0, "", "")
    assert os.listdir(tmp_path / "i") == ["three.jpg"]


def test_songs_of_the_same_name_do_not_overwrite_each_other(run: Run, tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "sub/a.wav", "sub/sub/a.wav"):
        make_song(tmp_path / "in" / name, seconds=1)
    files = sorted(path for path in (tmp_path / "in").rglob("*") if path.is_file())
    stems = _batch.output_stems(files)
    assert len({stem.lower() for stem in stems.values()}) == 4
    options = ["--glob", "**/*", "--num-threads", 1, "--num-frequencies", 16, "--quiet"]
    assert (
        run("audio-to-images-batch", "--audio-dir", tmp_path / "in", "--output-dir", tmp_path / "o", *options)[0] == 0
    )
    assert len(os.listdir(tmp_path / "o")) == 4


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--audio-dir", "nowhere", "an existing folder"),
        ("--glob", "/etc/*", "relative to the folder"),
        ("--glob", "*.xyz", "no audio files"),
        ("--num-threads", 0, "1 or more"),
        ("--image-extension", "bmp", "png, jpg, jpeg, webp"),
        ("--max-frequency", 30_000, "max_frequency"),
        ("--device", "tpu", "auto"),
    ],
)
def test_bad_batch_options_are_named_before_any_work(
    option: str, value: object, allowed: str, run: Run, album: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        "audio-to-images-batch", "--audio-dir", album, "--output-dir", tmp_path / "images", option, value
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert allowed in err
    assert not list(tmp_path.glob("images/*"))


@pytest.mark.slow
def test_several_processes_do_the_same_as_one(run: Run, album: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        options = ["--duration-ms", 500, "--seed", 1, "--extension", "wav", "--num-threads", processes, "--quiet"]
        assert run("sample-clips-batch", "--audio-dir", album, "--output-dir", folder, *options)[0] == 1
    assert sorted(os.listdir(tmp_path / "1")) == sorted(os.listdir(tmp_path / "2"))


def _die_on(name: str, path: Path) -> list[Path]:
    if path.name == name:
        os._exit(9)
    return [path]


@pytest.mark.slow
def test_a_process_that_dies_takes_only_its_own_file_along() -> None:
    files = [Path(name) for name in ("a", "b", "c")]
    outcomes = {path.name: error for path, _, error, _ in _batch._in_processes(partial(_die_on, "b"), files, 2)}
    assert outcomes["a"] is outcomes["c"] is None
    assert "died" in str(outcomes["b"])


def test_an_unexpected_error_in_one_file_does_not_end_the_batch() -> None:
    def job(path: Path) -> list[Path]:
        raise BrokenProcessPool("odd")

    path, written, error, _ = _batch._attempt(job, Path("a.wav"))
    assert (path, written, error) == (Path("a.wav"), [], "a.wav: BrokenProcessPool: odd")


def test_a_batch_takes_albums_and_not_its_own_results(run: Run, tmp_path: Path) -> None:
    music = tmp_path / "music"
    for name in ("First/01.wav", "Second/01.wav", "10.FLAC", "2.wav"):
        make_song(music / name, seconds=1)
    (music / "First" / "cover.jpg").write_bytes(b"x")
    options = ["--num-threads", 1, "--duration-ms", 200, "--seed", 1, "--extension", "wav", "--json"]
    for _ in range(2):
        code, out, _ = run(
            "sample-clips-batch", "--audio-dir", music, "--output-dir", music / "clips", *options, "--quiet"
        )
        assert code == 0
        written = [Path(path).name.partition("_start")[0] for path in json.loads(out)["written"]]
        assert sorted(written) == ["10_0", "2_0", "First_01_0", "Second_01_0"]
    code, out, _ = run(
        "sample-clips-batch", "--audio-dir", music, "--output-dir", music / "clips", *options, "--glob", "*.flac"
    )
    assert (code, len(json.loads(out)["written"])) == (0, 1)


def test_a_batch_says_what_was_wrong_with_a_file(run: Run, tmp_path: Path) -> None:
    make_song(tmp_path / "in" / "a.wav", seconds=1)
    data = (tmp_path / "in" / "a.wav").read_bytes()
    (tmp_path / "in" / "a.wav").write_bytes(data[: len(data) // 2])
    (tmp_path / "in" / "b.mp3").write_bytes(b"<html>not found</html>" * 50)
    options = ["--num-threads", 1, "--num-frequencies", 16, "--json"]
    code, out, err = run(
        "audio-to-images-batch", "--audio-dir", tmp_path / "in", "--output-dir", tmp_path / "o", *options
    )
    answer = json.loads(out)
    assert code == 1
    assert "cut short" in answer["notes"][0]["note"]
    assert answer["failed"][0]["file"].endswith("b.mp3")
    assert err.rstrip().endswith("1 of 2 files failed: b.mp3")
