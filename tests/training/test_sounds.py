"""Opening sounds: their choice among the clips of a corpus, and their file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from riffstream.diffusion.mini.reader import READER
from riffstream.diffusion.mini.sounds import FILE, Sounds
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.training.ear import Labels
from riffstream.training.latents import LatentSet
from riffstream.training.sounds import build_sounds, caption_directions, choose_sounds, near_sounds
from tests.training.small import small_latents


@pytest.fixture
def data(tmp_path: Path) -> LatentSet:
    return small_latents(tmp_path / "corpus")


def test_a_clips_direction_is_the_mean_of_its_captions(data: LatentSet) -> None:
    captions, clips = caption_directions(data)
    vectors = data.text.sentences([data.texts[row] for row in data.captions[4]])
    torch.testing.assert_close(captions[data.captions[4]], F.normalize(vectors, dim=-1), atol=2e-3, rtol=0)
    torch.testing.assert_close(clips[4], F.normalize(F.normalize(vectors, dim=-1).mean(0), dim=-1), atol=2e-3, rtol=0)


def test_the_first_sounds_serve_every_kind_of_caption(data: LatentSet) -> None:
    """Two styles: with two sounds, the mean likeness of a caption to its nearest sound is that of the best pair."""
    captions, clips = caption_directions(data)
    rows = data.rows(held_out=False)
    asked = captions[[row for clip in rows.tolist() for row in data.captions[clip]]]
    fits = clips[rows] @ asked.T
    best = max(float(torch.maximum(a, b).mean()) for a in fits for b in fits)
    chosen = choose_sounds(data, caption_directions(data), 2)
    own = torch.maximum(*(clips[chosen] @ asked.T))
    assert float(own.mean()) > best - 0.01
    assert len(set(choose_sounds(data, caption_directions(data), 100).tolist())) == len(rows), "all clips, each once"
    assert not data.held_out[chosen].any()


def test_near_sounds_are_of_other_songs_and_the_same_metre(data: LatentSet) -> None:
    sounds = data.rows(held_out=False)
    near = near_sounds(data, caption_directions(data), sounds, 4)
    songs = (data.previous < 0).cumsum(0)
    _, clips = caption_directions(data)
    for clip, found in enumerate(near.tolist()):
        for other in found:
            if other >= 0:
                assert songs[other] != songs[clip]
                assert data.triple[other] == data.triple[clip]
        allowed = sounds[(songs[sounds] != songs[clip]) & (data.triple[sounds] == data.triple[clip])]
        if found[0] >= 0:
            assert float(clips[clip] @ clips[found[0]]) == pytest.approx(float((clips[clip] @ clips[allowed].T).max()))
        assert sum(other >= 0 for other in found) == min(4, len(allowed))


def test_a_stage_writes_the_file(data: LatentSet, tmp_path: Path) -> None:
    file = tmp_path / FILE
    assert build_sounds(data, file, 5) == 5
    sounds = Sounds(file, tuple(data.latents.shape[1:]))
    chosen = choose_sounds(data, caption_directions(data), 5)
    assert len(sounds) == 5
    for index, clip in enumerate(chosen.tolist()):
        wanted = data.latents[clip].float()[..., : 24 if data.triple[clip] else 32]
        made = sounds.latents(index)
        assert made.shape == wanted.shape
        inside = wanted.abs() < 0.6 * wanted.abs().amax((1, 2), keepdim=True)
        step = 0.7 / 7 * wanted.abs().amax((1, 2), keepdim=True)
        assert ((made - wanted).abs() <= 0.55 * step + 1e-3)[inside].all()


@pytest.mark.parametrize("count", [0, 100_001])
def test_a_senseless_count_is_refused(data: LatentSet, tmp_path: Path, count: int) -> None:
    with pytest.raises(ParameterError, match="1 to 100000"):
        build_sounds(data, tmp_path / FILE, count)


def test_a_corpus_without_training_clips_is_refused(data: LatentSet, tmp_path: Path) -> None:
    data.held_out[:] = True
    with pytest.raises(RiffstreamError, match="no training clip with a caption"):
        build_sounds(data, tmp_path / FILE)
    assert not (tmp_path / FILE).exists()


def test_labelled_clips_get_a_reader(data: LatentSet, tmp_path: Path) -> None:
    labels = Labels.of(data, tmp_path / "corpus")
    build_sounds(data, tmp_path / FILE, 6, labels)
    tensors = load_file(tmp_path / READER)
    chosen = choose_sounds(data, caption_directions(data), 6)
    assert tensors["style"].tolist() == data.style[chosen].tolist()
    assert tensors["instruments"].tolist() == labels.instruments[chosen].tolist()
    sounds = Sounds(tmp_path / FILE, tuple(data.latents.shape[1:]))
    for text in ("low tone", "high organ 1"):
        vector = F.normalize(data.text.sentences([text])[0], dim=-1)
        found = sounds.choose(vector, 0, beats=8)
        assert found is not None
        assert data.styles[int(tensors["style"][found])] == text.split()[0]


@pytest.mark.parametrize("known", ["nothing", "styles only", "one style"])
def test_without_labels_an_older_reader_goes(data: LatentSet, tmp_path: Path, known: str) -> None:
    """It would be of other sounds. Own music has no classes of instruments."""
    labels = Labels.of(data, tmp_path / "corpus")
    (tmp_path / READER).write_bytes(b"of other sounds")
    if known == "styles only":
        labels.instruments[:] = 0
    if known == "one style":
        data.styles = ["own"]
    build_sounds(data, tmp_path / FILE, 4, None if known == "nothing" else labels)
    assert not (tmp_path / READER).exists()
    assert len(Sounds(tmp_path / FILE, tuple(data.latents.shape[1:]))) == 4
