"""``riffstream render``: the same arguments give the same samples, and logs replay."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from riffstream.cli import main
from riffstream.generator.renderer import ToneRenderer


def render(*args: object) -> int:
    return main(["render", "--model", "tone", "--quiet", *map(str, args)])


def samples(path: Path) -> np.ndarray:
    pcm, rate = soundfile.read(path)
    assert rate == 48_000
    return pcm


def test_the_same_arguments_give_the_same_samples(tmp_path: Path) -> None:
    one, two = tmp_path / "1.flac", tmp_path / "2.flac"
    for path in (one, two):
        assert render("--prompt", "a", "--prompt", "b", "--seconds", 6, "--seed", 3, "--bpm", 133, "-o", path) == 0
    assert samples(one).shape == (6 * 48_000, 2)
    assert np.array_equal(samples(one), samples(two))


def test_the_log_replays_to_the_same_file(tmp_path: Path) -> None:
    first, again, log = tmp_path / "1.wav", tmp_path / "2.wav", tmp_path / "log.jsonl"
    assert render("--prompt", "a", "--seconds", 5.5, "--key", 2, "-o", first, "--save-log", log) == 0
    assert main(["render", "--replay", str(log), "-o", str(again), "--quiet"]) == 0
    assert np.array_equal(samples(first), samples(again))


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3"])
def test_every_format_is_written_whole(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"x.{extension}"
    assert render("--prompt", "a", "--seconds", 2, "-o", path) == 0
    assert len(samples(path)) == pytest.approx(2 * 48_000, abs=3000)  # MP3 pads


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--chords", "Am Hx"), "chords is 'Hx'"),
        (("--parts", "drums=2"), "parts.drums is 2"),
        (("--parts", "drumz=0"), "did you mean 'drums'"),
        (("--parts", "drums"), "PART=LEVEL"),
        (("--chords", "Am F"), "takes words alone"),  # the tone has no ear for chords
        (("--form", "song"), "form is 'song'"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], field: str
) -> None:
    path = tmp_path / "x.wav"
    assert render("--prompt", "a", *options, "-o", path) != 0
    assert field in capsys.readouterr().err
    assert not path.exists()


def test_a_model_with_conditions_is_asked_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chords, parts and levels reach every clip of the log, and the log plays again."""

    def conducted() -> ToneRenderer:
        renderer = ToneRenderer()
        renderer.info = msgspec.structs.replace(renderer.info, conditions=True)
        return renderer

    monkeypatch.setattr("riffstream.commands.rendering.model.ToneRenderer", conducted)
    log = tmp_path / "log.jsonl"
    asked = ("--chords", "Am F / G", "--parts", "drums=0", "pad=0.5", "--energy", 0.2)
    assert render("--prompt", "a", "--seconds", 5, *asked, "-o", tmp_path / "x.wav", "--save-log", log) == 0
    starts = [entry["job"]["spec"]["start"] for entry in map(json.loads, log.read_text().splitlines())
              if entry["entry"] == "job"]  # fmt: skip
    assert starts
    assert all(start["chords"] == "Am F / G" for start in starts)
    assert all(start["parts"] == [["drums", 0.0], ["pad", 0.5]] for start in starts)
    assert main(["render", "--replay", str(log), "-o", str(tmp_path / "y.wav"), "--quiet", "--model", "tone"]) == 0
    assert np.array_equal(samples(tmp_path / "x.wav"), samples(tmp_path / "y.wav"))


def test_a_form_plans_every_bar_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def conducted() -> ToneRenderer:
        renderer = ToneRenderer()
        renderer.info = msgspec.structs.replace(renderer.info, conditions=True)
        return renderer

    monkeypatch.setattr("riffstream.commands.rendering.model.ToneRenderer", conducted)
    log = tmp_path / "log.jsonl"
    assert render("--prompt", "dub", "--form", "dj", "--seconds", 60, "-o", tmp_path / "x.wav", "--save-log", log) == 0
    plans = [entry["job"]["spec"]["plan"] for entry in map(json.loads, log.read_text().splitlines())
             if entry["entry"] == "job"]  # fmt: skip
    bars = [bar for plan in plans for bar in plan]
    assert len(bars) > 16
    assert bars[0]["section"] == "intro"
    assert all(bar["chords"] for bar in bars)
    assert len({bar["section"] for bar in bars}) > 1
    assert main(["render", "--replay", str(log), "-o", str(tmp_path / "y.wav"), "--quiet", "--model", "tone"]) == 0
    assert np.array_equal(samples(tmp_path / "x.wav"), samples(tmp_path / "y.wav"))


@pytest.mark.parametrize(
    ("options", "heard"),
    [((), False), (("--denoising", 0.5), True), (("--denoising", 0.5, "--seed-image", "none"), True),
     (("--denoising", 0.5, "--seed-image", "auto"), False)],
)  # fmt: skip
def test_denoising_without_effect_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...], heard: bool
) -> None:
    assert render("--prompt", "a", "--seconds", 1, *options, "-o", tmp_path / "x.wav") == 0
    assert ("denoising has no effect" in capsys.readouterr().err) is heard


@pytest.mark.parametrize("names", [("one", "two", "three"), ("dub", "slow dub", "doom"), ("dnb", "gabber", "techno")])
def test_prompts_are_visited_in_turn_to_the_end(tmp_path: Path, names: tuple[str, ...]) -> None:
    log = tmp_path / "log.jsonl"
    prompts = [part for name in names for part in ("--prompt", name)]
    assert render(*prompts, "--seconds", 60, "-o", tmp_path / "x.wav", "--save-log", log) == 0
    heard = [
        max(entry["job"]["spec"]["start"]["prompts"], key=lambda part: part["weight"])["text"]
        for entry in map(json.loads, log.read_text().splitlines())
        if entry["entry"] == "job"
    ]
    assert heard == sorted(heard, key=names.index)
    assert set(heard) == set(names)
    assert max(map(heard.count, names)) <= 2.5 * min(map(heard.count, names))


@pytest.mark.parametrize("what", [("--prompt", "a"), ("--replay", "{log}")])
def test_a_file_that_cannot_be_written_is_known_before_the_model_loads(
    tmp_path: Path, what: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    assert render("--prompt", "a", "--seconds", 1, "-o", tmp_path / "1.wav", "--save-log", log) == 0
    monkeypatch.setattr(
        "riffstream.commands.render.load_renderer", lambda args, **_: pytest.fail("the model was loaded")
    )
    option, value = what
    assert render(option, value.format(log=log), "-o", tmp_path / "missing" / "x.wav") == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_journey_file_is_followed(tmp_path: Path) -> None:
    journey = tmp_path / "j.toml"
    journey.write_text('name = "Tour"\n[[keyframe]]\nprompt = "calm"\nbpm = 90\n')
    path = tmp_path / "x.mp3"
    assert render("--journey", journey, "--seconds", 2, "-o", path) == 0
    import mutagen

    assert mutagen.File(path, easy=True)["title"] == ["Tour"]


def test_the_summary_is_json_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.wav"
    assert render("--prompt", "a", "--seconds", 1, "-o", path, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["file"], report["seconds"], report["model"]) == (str(path), 1.0, "tone")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--seconds", "0"], "seconds is 0.0; allowed: 0.1 to 86400"),
        (["--seconds", "nan"], "seconds is nan"),
        (["--bpm", "20"], "bpm is 20.0; allowed: 40 to 240"),
        (["--key", "7"], "key is 7.0; allowed: -6 to 6"),
        (["--denoising", "2"], "denoising is 2.0; allowed: 0 to 1"),
        (["--guidance", "99"], "guidance is 99.0; allowed: 0 to 30"),
        (["--seed", "-1"], "seed is -1"),
        (["--steps", "0"], "steps is 0"),
        (["--lufs", "0"], "render: lufs is 0.0; allowed: -40 to -8 LUFS"),
        (["--prompt", " "], "prompt is ''"),
        (["--journey", "missing.toml"], "nothing together with --journey"),
        (["--replay", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_bad_arguments_are_refused_in_one_line_before_the_model_loads(
    args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.wav"
    assert main(["render", "--model", "no such model", "--prompt", "a", "-o", str(path), *args]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not path.exists()


def test_nothing_to_play_and_nowhere_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render("-o", tmp_path / "x.wav") == 2
    assert render("--prompt", "a", "-o", tmp_path / "x.xyz") == 2
    assert render("--prompt", "a", "--seconds", 1, "-o", tmp_path / "no" / "x.wav") == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_a_folder_is_no_file_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render("--prompt", "a", "-o", tmp_path) == 2
    assert "the name of a file, not of a folder" in capsys.readouterr().err
