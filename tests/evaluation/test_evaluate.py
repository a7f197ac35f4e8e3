"""The evaluation: its measures against known answers, its probe on music it can tell apart, and one whole run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from riffstream.corpus import levels, measures
from riffstream.corpus.building import CorpusOptions, build_corpus
from riffstream.corpus.data import Corpus
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.errors import CheckpointError, ParameterError, RiffstreamError
from riffstream.evaluation.evaluate import evaluate, markdown
from riffstream.evaluation.options import add_model_options, held_out
from riffstream.evaluation.probe import Probe, fit_probe, load_probe, probe_features, recognition
from riffstream.evaluation.tagger import Heard
from riffstream.models.seeds import SeedEntry, SeedLibrary


def _clip(step: float = 64.0, offset: int = 0, hertz_bin: int = 60) -> np.ndarray:
    """Clicks every ``step`` frames that die away, over a steady tone."""
    mel = np.full((2, 256, 512), 1e-3, np.float32)
    mel[:, hertz_bin] = 1.0
    time = np.arange(512)
    since = (time - offset) % step
    mel += (10 * np.exp(-since / 6)).astype(np.float32)
    return mel


def test_frechet_distance_of_gaussians_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((40000, 3))
    second = first * np.array([2.0, 1.0, 0.5]) + np.array([1.0, 0.0, 2.0])
    expected = 1 + 4 + (1 - 2) ** 2 + 0 + (1 - 0.5) ** 2
    assert measures.frechet_distance(first, second) == pytest.approx(expected, rel=0.02)
    assert measures.frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("step", "expected"), [(64.0, 0.0), (67.2, 0.05), (60.8, 0.05)])
def test_tempo_error_is_that_of_the_clicks(step: float, expected: float) -> None:
    error = measures.tempo_error(_clip(step))
    assert error == pytest.approx(expected, abs=0.012)


def test_tempo_and_phase_are_unknown_where_nothing_beats() -> None:
    steady = np.ones((2, 256, 512), np.float32)
    assert measures.tempo_error(steady) is None
    assert measures.phase_error(steady) is None


@pytest.mark.parametrize(("offset", "expected"), [(0, 0), (3, 3), (16, 0), (40, 8), (61, 3)])
def test_phase_error_is_the_distance_to_the_nearest_sixteenth(offset: int, expected: int) -> None:
    assert measures.phase_error(_clip(offset=offset)) == expected


def test_beat_strength_is_high_on_the_grid_only() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((2, 256, 512)).astype(np.float32)
    assert measures.beat_strength(_clip()) > 0.95
    assert measures.beat_strength(20 * noise) == pytest.approx(0.31, abs=0.03)


def test_key_share_hears_white_and_black_keys() -> None:
    from riffstream.spectrogram.mel import centre_frequencies
    from riffstream.spectrogram.params import SpectrogramParams

    hertz = centre_frequencies(SpectrogramParams.mini()).numpy()[1:-1]

    def tone(pitch: int) -> np.ndarray:
        mel = np.full((2, 256, 64), 1e-4, np.float32)
        mel[:, int(np.abs(hertz - 440 * 2 ** ((pitch - 69) / 12)).argmin())] = 1
        return mel

    assert measures.key_share(tone(84)) > 0.9  # C6
    assert measures.key_share(tone(85)) < 0.1  # C sharp
    assert measures.key_share(np.ones((2, 256, 64), np.float32)) == pytest.approx(7 / 12, abs=0.02)


def test_levels_and_distances_are_in_decibels() -> None:
    mel = _clip()
    assert levels.loudness_db(10 * mel) - levels.loudness_db(mel) == pytest.approx(20, abs=1e-3)
    assert measures.mel_distance_db(10 * mel + 1, 10 * (10 * mel + 1)) == pytest.approx(20, abs=0.1)


def _corpus(out: Path, songs: int, seed: int) -> Corpus:
    styles = ("chiptune", "ambient_pads")
    build_corpus(CorpusOptions(out=out, songs=songs, workers=1, soundfonts=(), styles=styles, seed=seed), quiet=True)
    return Corpus(out)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return _corpus(tmp_path_factory.mktemp("corpus"), 4, 0)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return _corpus(tmp_path_factory.mktemp("unseen"), 2, 1)


@pytest.fixture(scope="module")
def probe(small: Corpus) -> Probe:
    return fit_probe(small, clips=32, epochs=32, quiet=True)


def test_the_probe_tells_styles_and_instruments_apart(small: Corpus, probe: Probe, tmp_path: Path) -> None:
    rows = range(len(small))
    features = [probe_features(small.mel(i)) for i in rows]
    asked = ([small.style(i) for i in rows], [small[i].instruments for i in rows])
    heard = recognition(probe, features, *asked)
    assert heard.style_top1 > 0.9
    assert heard.instrument_precision > 0.6
    swapped = ["chiptune" if style == "ambient_pads" else "ambient_pads" for style in asked[0]]
    assert recognition(probe, features, swapped, asked[1]).style_top1 < 0.1
    probe.save(tmp_path / "probe.safetensors")
    again = load_probe(tmp_path / "probe.safetensors")
    assert np.allclose(again.listen(features)[0], probe.listen(features)[0], atol=1e-5)
    with pytest.raises(CheckpointError, match="not a probe"):
        load_probe(tmp_path / "missing.safetensors")


class SpectralEar:
    """A judge in place of the tagger: the levels of fifty bands."""

    def listen(self, waves: Iterable[np.ndarray]) -> Heard:
        rows = []
        for wave in waves:
            assert wave.shape[1] == 2
            assert len(wave) > 48_000
            power = np.abs(np.fft.rfft(wave[:48_000].mean(1))[1:20_001]) ** 2
            rows.append(np.log(power.reshape(50, -1).mean(1) + 1e-9))
        return Heard(np.array(rows), np.array(rows))


def test_a_whole_evaluation_runs_and_its_rows_are_ordered(small: Corpus, unseen: Corpus, probe: Probe) -> None:
    family = MiniFamily.random()
    ear: Any = SpectralEar()
    report = evaluate(
        family, small, probe, held_out=unseen, tagger=ear, clips=8, drift_clips=3, steps=2, quiet=True,
        stream_clip=2,
    )  # fmt: skip
    rows = {"real", "another song", "codec only", "generated", "generated, clip 2", "shuffled captions", "words alone"}
    assert set(report["rows"]) == rows
    real, made = report["rows"]["real"], report["rows"]["generated"]
    assert real["style_top1"] > made["style_top1"]  # an untrained model is no match for music
    assert made["frechet"] > 2 * real["frechet"]
    assert real["in_key"] > 0.7
    assert report["drift"]["clips"] == 3
    tags = {name: row["tags"] for name, row in report["rows"].items() if "tags" in row}
    assert tags["real"] == 1
    assert set(tags) == rows - {"words alone"}
    assert max(tags[name] for name in tags if name != "real") < 0.9
    assert made["tags_distance"] > real["tags_distance"]
    assert report["rows"]["generated, clip 2"] != made
    other = report["rows"]["another song"]
    assert other["style_top1"] > 0.9  # it has the prompt's style, by the labels of the prompt
    assert made["frechet"] > 2 * other["frechet"]
    assert (report["reference_unseen"], report["reference_same_style"]) == (0, 1)
    assert report["interpolation"]["largest_over_mean_step"] >= 1
    json.dumps(report)
    table = markdown(report)
    assert table.count("\n| ") >= 4
    for shares in report["instruments"].values():
        assert 1 <= shares["clips"] <= report["clips"]
        assert 0 <= shares["generated"] <= 1
    assert "shuffled captions" in table
    assert "tagger's distance" in table


@pytest.mark.parametrize("start", [None, "none", "auto"])
def test_a_model_with_a_library_is_measured_with_and_without_it(
    small: Corpus, unseen: Corpus, probe: Probe, tmp_path: Path, start: str | None
) -> None:
    family = MiniFamily.random()
    family.defaults = replace(family.defaults, seed_image=start)
    loop = family.encode_mel(torch.from_numpy(small.mel(0))[None])
    entry = SeedEntry("loop", small.style(0), (), "a loop", 100.0, 8)
    SeedLibrary.write(tmp_path, [entry], loop, family.text_encoder.sentences(["a loop"]))
    library = SeedLibrary(tmp_path)
    told = {"held_out": unseen, "library": library, "clips": 8, "drift_clips": 0, "steps": 2, "quiet": True}
    report = evaluate(family, small, probe, **told)
    assert list(report["rows"])[3:] == [
        "generated",
        "from noise alone",
        "nearest loop alone",
        "shuffled captions",
        "words alone",
    ]
    # One loop for all prompts: as many hits as prompts of its style, and no spread of level.
    assert report["rows"]["nearest loop alone"]["loudness_spread_db"] < 0.01
    made, noise = (report["rows"][name] for name in ("generated", "from noise alone"))
    assert (made == noise) == (start != "auto")


def test_a_corpus_without_held_out_songs_says_so(small: Corpus, probe: Probe) -> None:
    if small.split("held_out"):
        pytest.skip("this corpus has some")
    with pytest.raises(RiffstreamError, match="--held-out"):
        evaluate(MiniFamily.random(), small, probe, clips=8, quiet=True)


def test_the_training_corpus_is_no_corpus_of_unseen_songs(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    args = parser.parse_args(["--corpus", str(tmp_path / "a"), "--held-out", str(tmp_path / "b" / ".." / "a")])
    with pytest.raises(ParameterError, match=r"held-out is .* another folder than --corpus"):
        held_out(args)
    args.held_out = None
    assert held_out(args) is None
