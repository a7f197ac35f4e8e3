"""How far a model plays what it is asked: the measures against known answers, and a whole run."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from riffstream.corpus import levels, measures
from riffstream.corpus.building import CorpusOptions, build_corpus
from riffstream.corpus.data import Corpus
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.evaluation.conduct import COMMONEST, VALUES, conduct, fit_listener, markdown
from riffstream.journey import conditions as layout
from riffstream.spectrogram.mel import centre_frequencies
from riffstream.spectrogram.params import SpectrogramParams

HERTZ = centre_frequencies(SpectrogramParams.mini()).numpy()[1:-1]


def _tones(pitches: tuple[int, ...], frames: int = 256) -> np.ndarray:
    mel = np.full((2, 256, frames), 1e-3, np.float32)
    for pitch in pitches:
        mel[:, int(np.abs(HERTZ - 440 * 2 ** ((pitch - 69) / 12)).argmin())] = 1
    return mel


def test_a_chord_agrees_with_its_own_pitch_classes() -> None:
    heard = measures.chroma(_tones((72, 76, 79, 84, 88, 91)))
    agreement = {name: measures.chord_agreement(heard, classes)
                 for name, classes in {"C": (0, 4, 7), "Am": (9, 0, 4), "F#": (6, 10, 1)}.items()}  # fmt: skip
    assert agreement["C"] > 0.8
    assert agreement["C"] > agreement["Am"] > agreement["F#"]
    assert measures.chord_agreement(measures.chroma(_tones(())), (0, 4, 7)) == 0


def test_onsets_are_counted_at_any_rate() -> None:
    def clicks(every: int) -> np.ndarray:
        time = np.arange(512)
        return (1e-3 + 10 * np.exp(-(time % every) / 6) * np.ones((2, 256, 1))).astype(np.float32)

    rates = [measures.onsets_per_beat(clicks(every)) for every in (128, 64, 32, 16)]
    assert rates == pytest.approx([0.5, 1, 2, 4], rel=0.25)
    assert measures.onsets_per_beat(np.ones((2, 256, 512), np.float32)) == 0


def test_percussion_is_told_from_tones() -> None:
    click = np.full((2, 256, 512), 1e-3, np.float32)
    click[..., ::64] = 10
    tone = np.full((2, 256, 512), 1e-3, np.float32)
    tone[:, 130] = 10
    assert measures.percussive_db(click) > measures.percussive_db(tone) + 30


def test_brightness_is_the_octave_of_a_tone() -> None:
    bright = levels.brightness_octaves(_tones((93,)) - 1e-3)
    assert bright == pytest.approx(np.log2(1760), abs=0.05)
    assert levels.brightness_octaves(np.zeros((2, 256, 64), np.float32)) == 0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    out = tmp_path_factory.mktemp("corpus")
    build_corpus(
        CorpusOptions(out=out, songs=2, workers=1, soundfonts=(), styles=("trance", "ambient_pads")), quiet=True
    )
    for path in out.glob("songs/trance/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "split": "held_out"}))
    return Corpus(out)


class Obedient(MiniFamily):
    """Leaves the first rows of its latents, whose bass is loud, as the asked energy has it."""

    def denoise(self, x: torch.Tensor, t: torch.Tensor, text: TextEmbedding, **rest: torch.Tensor) -> torch.Tensor:
        asked = rest.get("conditions")
        clean = torch.zeros_like(x)
        if asked is not None:
            clean += 2 * asked[:, :, layout.ENERGY.start].repeat_interleave(2, 1)[:, None, None]
        return (x - clean) / t[:, None, None, None].clamp_min(1e-3)


def test_a_whole_run_has_its_rows(small: Corpus) -> None:
    family = MiniFamily.random(conditions=layout.SIZE)
    family.__class__ = Obedient
    listener = fit_listener(small, clips=16, epochs=2, quiet=True)
    assert listener.instruments == list(layout.PARTS)
    report = conduct(Engine(family, steps=2), small, listener, clips=4, quiet=True, seed_image="none")
    rows = report["chords"]
    assert list(rows) == ["real", "conditions withheld", "the clip's own conditions", "its chords alone"]
    assert rows["real"]["own"] > rows["real"]["swapped"] + 0.1
    assert rows["real"]["own"] > rows["conditions withheld"]["own"]
    assert {"drums", "bass"} <= set(report["parts"])
    assert all(set(row) >= {"clips", "real with", "on", "off"} for row in report["parts"].values())
    energy = report["levels"]["energy"]
    assert energy["steps up"] == 1
    assert all(b > a for a, b in pairwise(energy[f"at {value}"] for value in VALUES))
    table = markdown(report)
    assert f"nearest of {COMMONEST}" in table
    assert "| energy |" in table


def test_a_model_without_conditions_is_measured_without(small: Corpus) -> None:
    listener = fit_listener(small, clips=8, epochs=1, quiet=True)
    engine = Engine(MiniFamily.random(), steps=1)
    report = conduct(engine, small, listener, held_out=small, clips=4, quiet=True, seed_image="none")
    assert report["chord_clips"] == 4
    assert list(report["chords"]) == ["real", "conditions withheld"]
    assert not report["parts"]
    assert "own chord" in markdown(report)
