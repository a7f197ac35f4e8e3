"""Noise depends on its seed alone, and keeps its variance on the way between two seeds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from riffstream.diffusion.noise import NoiseStream, gaussian, slerp

SHAPE = (4, 32, 32)


def test_a_seed_always_gives_the_same_noise() -> None:
    torch.manual_seed(123)  # the global generator has no say
    assert torch.equal(gaussian(2**32 - 1, SHAPE), gaussian(2**32 - 1, SHAPE))
    assert not torch.equal(gaussian(1, SHAPE), gaussian(2, SHAPE))
    # PyTorch documents the CPU generator's stream as stable; a change here would change every station's music.
    assert gaussian(42, (3, 8, 8))[0, 0, :3].tolist() == pytest.approx([1.9269153, 1.4872841, 0.9007172])


@given(st.floats(0, 1))
def test_slerp_keeps_the_variance_where_a_straight_line_would_not(alpha: float) -> None:
    between = slerp(alpha, gaussian(1, SHAPE), gaussian(2, SHAPE))
    assert float(between.std()) == pytest.approx(1.0, abs=0.03)
    assert float(torch.lerp(gaussian(1, SHAPE), gaussian(2, SHAPE), 0.5).std()) < 0.75


def test_slerp_against_its_definition_in_the_plane() -> None:
    """Two unit vectors 90 degrees apart: at alpha the angle is 90 alpha degrees."""
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    angle = torch.tensor(0.3 * torch.pi / 2)
    assert torch.allclose(slerp(0.3, x, y), torch.stack([angle.cos(), angle.sin()]))


def test_slerp_is_straight_for_parallel_opposite_and_zero_vectors() -> None:
    a = gaussian(1, SHAPE)
    assert torch.allclose(slerp(0.25, a, 2 * a), 1.25 * a)
    assert torch.allclose(slerp(0.25, a, -a), 0.5 * a)
    assert torch.allclose(slerp(0.25, a, torch.zeros(SHAPE)), 0.75 * a)
    assert slerp(0.5, a, a) is a
    assert slerp(0.0, a, -a) is a
    assert torch.equal(slerp(1.0, a, gaussian(2, SHAPE)), gaussian(2, SHAPE))


def test_stream_begins_with_the_slerp_of_both_seeds_and_goes_on_afresh() -> None:
    stream = NoiseStream(5, 6, 0.3, SHAPE)
    first, second = stream.draw(), stream.draw()
    assert torch.equal(first, slerp(0.3, gaussian(5, SHAPE), gaussian(6, SHAPE)))
    assert abs(float((first * second).mean())) < 0.05
    assert float(second.std()) == pytest.approx(1, abs=0.03)


def test_stream_is_continuous_in_alpha_and_across_keyframes() -> None:
    def second_draw(start: int, end: int, alpha: float) -> torch.Tensor:
        stream = NoiseStream(start, end, alpha, SHAPE)
        stream.draw()
        return stream.draw()

    assert torch.equal(second_draw(5, 6, 1.0), second_draw(6, 7, 0.0))
    assert torch.equal(second_draw(5, 5, 0.4), second_draw(5, 9, 0.0))
    near = (second_draw(5, 6, 0.5) - second_draw(5, 6, 0.51)).std()
    assert float(near) < 0.03


@pytest.mark.parametrize(("limit", "most"), [(2.0, 2.085), (2.5, 2.53)])
def test_cut_noise_has_no_outliers_and_the_same_variance(limit: float, most: float) -> None:
    shape = (20, 64, 64)
    plain = NoiseStream(5, 6, 0.3, shape).draw()
    cut = NoiseStream(5, 6, 0.3, shape, limit=limit).draw()
    assert float(plain.abs().max()) > 4
    assert float(cut.abs().max()) == pytest.approx(most, abs=0.005)
    assert float(cut.std()) == pytest.approx(1, abs=0.01)
    inside = plain.abs() < limit
    assert float((cut - plain)[inside].abs().max()) < 0.09, "the rest is only scaled"
