"""The seed library: loops of each style, of different line-ups, and more where it has few."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.models.seeds import SeedLibrary
from riffstream.training.seed_library import build_seeds
from tests.training.small import write_corpus


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The embedded model, with a library still to be made."""
    folder = tmp_path / "model"
    folder.mkdir()
    for part in ("model_index.json", "scheduler", "text_encoder", "tokenizer", "denoiser", "codec"):
        (folder / part).symlink_to(MODEL_FOLDER / part)
    return folder


def test_styles_take_turns_and_what_is_added_leaves_the_rest_alone(model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    first = build_seeds(corpus, model, count=3)
    assert [entry.name for entry in first] == ["high", "high_2", "low"]
    before = SeedLibrary(model / "seeds")
    kept = before.stacked()
    assert len(build_seeds(corpus, model, each=1, add=True)) == 3  # no style has fewer
    other = write_corpus(tmp_path / "other", songs=2)
    (other / "songs" / "low").rename(other / "songs" / "mma_bvfunk")
    record = other / "songs" / "mma_bvfunk" / "00000.json"
    record.write_text(record.read_text().replace('"style": "low"', '"style": "mma_bvfunk"'))
    added = build_seeds(other, model, each=1, add=True)[3:]
    assert [(entry.name, entry.style, entry.tags) for entry in added] == [("funk", "mma_bvfunk", ("funk", "organ"))]
    after = SeedLibrary(model / "seeds")
    assert all(torch.allclose(was, now[:3], atol=1e-5) for was, now in zip(kept, after.stacked(), strict=True))
    assert after.picture("funk").shape[::2] == (256, 3)
    encoder = MiniFamily.load().text_encoder
    assert after.nearest("high tone", encoder)[0][0].style == "high"
