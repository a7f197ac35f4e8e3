"""``riffstream render --batch``: the same samples as single renderings, resumed, with pictures and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from riffstream.cli import main
from riffstream.errors import RiffstreamError
from riffstream.generator.messages import Job
from riffstream.generator.renderer import Report, ToneRenderer
from riffstream.spectrogram.image import image_params

SETS = [
    {"name": "one", "prompt": "a", "seconds": 3},
    {"name": "two", "prompts": ["a", "b"], "seconds": 7.5, "bpm": 133, "key": 2},
    {"name": "three", "prompt": "<b>&", "seconds": 5, "seed": 4, "lufs": -20},
]


def batch(folder: Path, sets: Any = SETS, *options: object) -> int:
    path = folder / "sets.json"
    path.write_text(json.dumps(sets))
    return main(["render", "--model", "tone", "--batch", str(path), "-o", str(folder / "out"), *map(str, options)])


def report(captured: str) -> dict[str, Any]:
    return json.loads(captured)


def test_a_batch_has_the_samples_of_single_renderings(tmp_path: Path) -> None:
    assert batch(tmp_path, SETS, "--quiet", "--at-once", 2) == 0
    single = tmp_path / "two.flac"
    options = ["--prompt", "a", "--prompt", "b", "--seconds", "7.5", "--bpm", "133", "--key", "2"]
    assert main(["render", "--model", "tone", "--quiet", *options, "-o", str(single)]) == 0
    together, alone = (soundfile.read(path)[0] for path in (tmp_path / "out" / "two.flac", single))
    assert np.array_equal(together, alone)
    assert [len(soundfile.read(tmp_path / "out" / f"{name}.flac")[0]) for name in ("one", "three")] == [
        144_000,
        240_000,
    ]


def test_a_second_run_renders_only_what_is_missing_or_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(tmp_path, SETS, "--json") == 0
    assert report(capsys.readouterr().out)["rendered"] == 3
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.flac")}
    (tmp_path / "out" / "one.flac").unlink()
    changed = [*SETS[:2], {**SETS[2], "seed": 5}]
    assert batch(tmp_path, changed, "--json") == 0
    found = report(capsys.readouterr().out)
    assert (found["rendered"], found["kept"], found["failed"]) == (2, 1, {})
    assert (tmp_path / "out" / "two.flac").stat().st_mtime_ns == times["two.flac"]
    assert batch(tmp_path, changed, "--json", "--image") == 0  # without pictures it is not complete
    assert report(capsys.readouterr().out)["rendered"] == 3


def test_an_interrupted_batch_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step, left = ToneRenderer.step, 30

    def interrupted(self: ToneRenderer) -> list[Report]:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(ToneRenderer, "step", interrupted)
    assert batch(tmp_path, SETS, "--at-once", 1) == 130
    assert "continues" in capsys.readouterr().err
    assert (tmp_path / "out" / "one.flac").is_file()
    assert "more to come" in (tmp_path / "out" / "index.html").read_text()
    assert not list((tmp_path / "out").glob(".*"))  # no halves
    assert batch(tmp_path, SETS, "--json", "--at-once", 1) == 0
    found = report(capsys.readouterr().out)
    assert found["kept"] >= 1
    assert found["kept"] + found["rendered"] == 3


def test_one_failure_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submit = ToneRenderer.submit

    def refusing(self: ToneRenderer, job: Job) -> None:
        if job.station == "two" and job.number == 1:
            raise RiffstreamError("this clip is bad")
        submit(self, job)

    monkeypatch.setattr(ToneRenderer, "submit", refusing)
    assert batch(tmp_path, SETS, "--json") == 1
    captured = capsys.readouterr()
    assert report(captured.out)["failed"] == {"two": "this clip is bad"}
    assert "two: this clip is bad" in captured.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.flac")) == ["one.flac", "three.flac"]
    assert "this clip is bad" in (tmp_path / "out" / "index.html").read_text()
    monkeypatch.undo()
    assert batch(tmp_path, SETS, "--json") == 0
    assert report(capsys.readouterr().out)["rendered"] == 1


def test_a_set_that_the_model_does_not_support_fails_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [
        {"name": "chords", "prompt": "a", "chords": "Am F", "seconds": 1},
        {"name": "ok", "prompt": "a", "seconds": 1},
    ]
    assert batch(tmp_path, sets, "--json") == 1
    found = report(capsys.readouterr().out)
    assert "takes words alone" in found["failed"]["chords"]
    assert found["rendered"] == 1


def test_pictures_are_those_of_the_clips_and_carry_their_parameters(tmp_path: Path) -> None:
    assert batch(tmp_path, SETS, "--quiet", "--image") == 0
    out = tmp_path / "out"
    record = json.loads((out / "two.json").read_text())
    assert record["pictures"] == ["two-01.png", "two-02.png", "two-03.png"]  # 7.5 s of clips of 3.6 s
    assert sorted(path.name for path in out.glob("*.png") if path.name.startswith("two")) == record["pictures"]
    with Image.open(out / "two-01.png") as picture:
        assert image_params(picture).num_frequencies == 512
    single = tmp_path / "x.flac"
    assert (
        main(["render", "--model", "tone", "--quiet", "--prompt", "a", "--seconds", "3", "--image", "-o", str(single)])
        == 0
    )
    assert (tmp_path / "x-01.png").read_bytes() == (out / "one-01.png").read_bytes()


def test_the_page_shows_parameters_and_no_markup_of_theirs(tmp_path: Path) -> None:
    assert batch(tmp_path, SETS, "--quiet", "--image") == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<audio") == 3
    assert 'src="two-01.png"' in page
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    assert "a → b" in page


@pytest.mark.parametrize(
    ("sets", "options", "shown"),
    [
        ([{"prompt": "a", "seconds": 0}], (), "001-a: seconds is 0"),
        ([{"prompt": "a"}, {"prompt": "b", "denoising": 2}], (), "002-b: denoising is 2"),
        ([{"seed": 1}], (), "prompt is None"),
        ([{"prompt": "a", "prompts": ["b"]}], (), "either prompt or prompts"),
        ([{"prompt": "a", "parts": {"drumz": 0}}], (), "did you mean 'drums'"),
        ([{"prompt": "a", "steps": 0}], (), "steps is 0"),
        ([{"name": "x", "prompt": "a", "seed_image": "og_baet"}], ("--model", "mini"), "x: seed_image is 'og_baet'"),
        ([{"name": "x", "journey": "j.toml"}], ("--model", "mini"), "x: seed_image is 'og_baet'"),
        (SETS, ("--at-once", 0), "--at-once is 0"),
        (SETS, ("--format", "aiff"), "format is 'aiff'"),
        (SETS, ("--replay", "x"), "nothing together with --batch"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_rendered(
    tmp_path: Path, sets: Any, options: tuple[object, ...], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "j.toml").write_text('[[keyframe]]\nprompt = "a"\nseed_image = "og_baet"\n')
    assert batch(tmp_path, sets, *options) == 2
    assert shown in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_are_defaults_of_all_sets(tmp_path: Path) -> None:
    sets = [{"name": "given"}, {"name": "own", "prompt": "b", "seconds": 2}]
    assert batch(tmp_path, sets, "--quiet", "--prompt", "a", "--seconds", 1, "--format", "wav") == 0
    assert [len(soundfile.read(tmp_path / "out" / f"{name}.wav")[0]) for name in ("given", "own")] == [48_000, 96_000]
    record = json.loads((tmp_path / "out" / "own.json").read_text())
    assert record["parameters"]["prompt"] == ["b"]


def test_the_stems_of_a_set_are_those_of_the_desk(tmp_path: Path) -> None:
    sets = [{"name": "drums", "mix": "solo=drums"}, {"name": "tonal", "mix": "mute=drums"}, {"name": "all"}]
    assert batch(tmp_path, sets, "--quiet", "--prompt", "a", "--seconds", 2) == 0
    drums, tonal, whole = (soundfile.read(tmp_path / "out" / f"{each['name']}.flac")[0][:, 0] for each in sets)
    between = slice(round(48_000 * 0.1), round(48_000 * 0.4))  # a beat of the tone has its click at the beginning
    assert np.abs(drums[between]).max() < 0.01 < np.abs(tonal[between]).max()
    assert not np.array_equal(whole, tonal)
