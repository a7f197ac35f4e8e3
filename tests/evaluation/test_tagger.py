"""The judge from elsewhere: its weights, and what it hears in the loops of the embedded model."""

from __future__ import annotations

import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from riffstream.errors import CheckpointError
from riffstream.evaluation.tagger import TAGS, Heard, Tagger
from riffstream.evaluation.tensor_bundle import read_bundle

needs_musicnn = pytest.mark.skipif(
    find_spec("musicnn") is None, reason="musicnn is not installed (pip install --no-deps musicnn)"
)


@needs_musicnn
def test_the_tagger_names_the_instruments_of_loops() -> None:
    from riffstream.diffusion.checkpoint import Checkpoint
    from riffstream.models.seeds import SeedLibrary
    from riffstream.spectrogram.vocoder import Vocoder

    family, library, tagger = Checkpoint.load("mini", device="cpu"), SeedLibrary(), Tagger.load()
    vocoder = Vocoder(family.params)
    known = {"felt_piano": "piano", "acid_techno": "techno", "string_quartet": "violin"}
    waves = [
        vocoder(family.decode_mel(library.latents(name)[None])[0].float(), hop=family.params.hop(110)).numpy().T
        for name in known
    ]
    heard = tagger.listen(waves)
    assert [TAGS[place] for place in heard.tags.argmax(1)] == list(known.values())
    louder = tagger.listen([4 * waves[0]])
    np.testing.assert_allclose(louder.tags[0], heard.tags[0], atol=1e-3)


@needs_musicnn
def test_silence_and_mono_are_heard_without_a_fault() -> None:
    tagger = Tagger.load()
    tags, embedding = tagger(np.zeros(96_000, np.float32))
    assert (tags.shape, embedding.shape) == ((50,), (200,))
    assert np.isfinite(tags).all()
    wave = np.random.default_rng(0).standard_normal(96_000)
    np.testing.assert_allclose(tagger(wave)[0], tagger(np.stack([wave, wave], 1))[0], atol=1e-4)


def test_likeness_and_distance_of_known_sets() -> None:
    rng = np.random.default_rng(0)
    one = Heard(rng.standard_normal((64, 50)), rng.standard_normal((64, 200)))
    assert one.likeness(one) == pytest.approx(1)
    assert abs(one.shifted().likeness(one)) < 0.1
    assert one.distance(one) == pytest.approx(0, abs=1e-6)
    assert one.shifted().distance(one) == pytest.approx(0, abs=1e-6), "the same clips"
    moved = Heard(one.tags, one.embedding + 1)
    assert moved.distance(one) > 1


@needs_musicnn
def test_a_bundle_has_the_network_s_tensors() -> None:
    spec = find_spec("musicnn")
    assert spec is not None
    assert spec.origin is not None
    tensors = read_bundle(f"{Path(spec.origin).parent}/MTT_musicnn/")
    assert tensors["conv2d_1/kernel"].shape == (7, 67, 1, 204)
    assert tensors["dense_1/bias"].shape == (50,)
    assert (tensors["batch_normalization_3/moving_variance"] > 0).all()


@pytest.mark.parametrize("index", [b"", b"no table", bytes(48), b"\xff" * 60 + struct.pack("<Q", 0xDB4775248B80FB57)])
def test_a_damaged_bundle_is_refused(tmp_path: Path, index: bytes) -> None:
    (tmp_path / ".index").write_bytes(index)
    (tmp_path / ".data-00000-of-00001").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no tensor bundle"):
        read_bundle(f"{tmp_path}/")


def test_missing_files_and_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        read_bundle(f"{tmp_path}/")
    with pytest.raises(CheckpointError, match="no tensor batch_normalization/gamma"):
        Tagger({"dense/kernel": torch.zeros(1).numpy()})
