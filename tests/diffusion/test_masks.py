"""Masks by name and from pictures, on both orientations of the latent grid."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from riffstream.diffusion.masks import NAMES, latent_mask, named_mask, overlap_mask
from riffstream.errors import MediaError, ParameterError


def test_bands_cover_their_share_even_where_it_splits_a_row() -> None:
    top = named_mask("top_third", (16, 4))
    assert top[:, 0].tolist() == pytest.approx([1] * 5 + [1 / 3] + [0] * 10)
    for name, share in (("bottom_half", 1 / 2), ("left_quarter", 1 / 4), ("right_fifth", 1 / 5)):
        assert float(named_mask(name, (16, 32)).mean()) == pytest.approx(share)
    assert bool(named_mask("right_half", (4, 8))[:, 4:].all())


def test_low_first_turns_the_frequency_axis_only() -> None:
    for name in NAMES:
        assert torch.equal(named_mask(name, (8, 8), low_first=True), named_mask(name, (8, 8)).flip(0)), name


def test_gradients_fall_the_way_they_are_named() -> None:
    top = named_mask("gradient_top", (8, 2))[:, 0]
    assert top.tolist() == sorted(top.tolist(), reverse=True)
    assert float(top.mean()) == pytest.approx(0.5)
    assert bool((named_mask("gradient_top_fifth", (10, 1))[2:] == 0).all())
    dark = named_mask("gradient_dark", (1, 100))[0]
    assert (float(dark[0]), float(dark[-1])) == (pytest.approx(0.0, abs=0.01), pytest.approx(0.5, abs=0.01))


def test_beat_lines_keep_the_beats() -> None:
    mask = named_mask("beat_lines", (2, 128), beats=8)
    assert bool((mask[:, ::16] == 0).all()), "on each beat"
    assert bool((mask[:, 8::16] == 1).all()), "between two beats"
    assert float(mask.mean()) == pytest.approx(1 - 1 / 8)


def test_riffusions_names_and_strengths() -> None:
    full, part = named_mask("top_third", (12, 4)), named_mask("mask_top_third_75", (12, 4))
    assert torch.allclose(part, full * 0.75)
    for name in ("mask_beat_lines_80", "mask_gradient_dark", "mask_gradient_top_70", "mask_gradient_top_fifth_75"):
        assert 0 <= float(named_mask(name, (16, 32)).min()) <= float(named_mask(name, (16, 32)).max()) <= 1


def test_pictures_are_averaged_over_the_grid_and_have_treble_on_top(tmp_path) -> None:
    picture = np.zeros((64, 64), np.uint8)
    picture[:24] = 255
    expected = torch.tensor([1.0] + [0.5] + [0.0] * 2).unsqueeze(1).expand(4, 4)
    assert torch.allclose(latent_mask(picture, (4, 4)), expected)
    assert torch.allclose(latent_mask(picture, (4, 4), low_first=True), expected.flip(0))
    stored = io.BytesIO()
    Image.fromarray(picture).convert("RGB").save(stored, "PNG")
    path = tmp_path / "mask.png"
    path.write_bytes(stored.getvalue())
    for given in (stored.getvalue(), path, torch.from_numpy(picture / 255.0)):
        assert torch.allclose(latent_mask(given, (4, 4)), expected)
    assert torch.allclose(latent_mask(str(path), (4, 4), files=True), expected)
    with pytest.raises(ParameterError, match="mask"):
        latent_mask(str(path), (4, 4))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ("top_thrid", ParameterError, "did you mean 'top_third'"),
        ("top_half_150", ParameterError, "_0 to _100"),
        ("", ParameterError, "mask is ''"),
        (np.full((4, 4), 2.0), ParameterError, "0 to 1"),
        (np.zeros((4, 4, 3)), ParameterError, r"\[H, W\]"),
        (np.full((4, 4), np.nan), ParameterError, "0 to 1"),
        (b"not a picture", MediaError, "the given bytes"),
    ],
)
def test_bad_masks_are_named(mask, error, message) -> None:
    with pytest.raises(error, match=message):
        latent_mask(mask, (4, 4))


def test_overlap_keeps_the_beginning_with_a_soft_edge() -> None:
    assert overlap_mask(6, 3).tolist() == [0, 0, 0.5, 1, 1, 1]
    assert overlap_mask(3, 1).tolist() == [0, 1, 1]
