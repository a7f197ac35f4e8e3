"""Trajectories of a student under training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from riffstream.training.latents import LatentSet
from riffstream.training.walks import Walks
from tests.training.test_distil import CPU, make_data

STEPS = 4


@pytest.fixture
def data(tmp_path: Path) -> LatentSet:
    return make_data(tmp_path)


def walks_of(data: LatentSet, *, size: int = 6, shift: float = 1.0, seed: int = 3) -> Walks:
    return Walks(data, torch.arange(len(data)), size, STEPS, shift, seed, CPU)


def test_a_step_is_an_euler_step_of_the_given_velocity(data: LatentSet) -> None:
    walks = walks_of(data, shift=2.0)
    before, t, after = walks.x.clone(), walks.t, walks.next_t
    kept = walks.place > 1
    velocity = torch.randn(before.shape)
    walks.advance(velocity)
    expected = before - velocity * (t - after)[:, None, None, None]
    assert kept.any()
    torch.testing.assert_close(walks.x[kept], expected[kept])
    torch.testing.assert_close(walks.t[kept], after[kept])


def test_a_finished_trajectory_begins_again_at_noise(data: LatentSet) -> None:
    walks = walks_of(data, size=16)
    for _ in range(3 * STEPS):
        done = walks.place == 1
        walks.advance(torch.zeros_like(walks.x))
        assert (walks.place[done] == STEPS).all()
        noise = walks.batch.noise[done].clamp(-2, 2)
        torch.testing.assert_close(walks.x[done], noise / 0.95945, atol=1e-3, rtol=1e-3)
        assert torch.equal(walks.place.sort().values, torch.arange(1, STEPS + 1).repeat_interleave(4))


def test_some_trajectories_become_a_noisy_clip_of_the_corpus(data: LatentSet) -> None:
    walks = walks_of(data, size=64)
    found = 0
    for _ in range(4 * STEPS):
        expected = walks.x - 1.0 / STEPS
        walks.advance(torch.ones_like(walks.x))
        moved = ~torch.isclose(walks.x, expected, atol=1e-5).flatten(1).all(1) & (walks.place < STEPS)
        t = walks.t[:, None, None, None]
        noisy = (1 - t) * walks.batch.clean + t * walks.batch.noise.clamp(-2, 2) / 0.95945
        torch.testing.assert_close(walks.x[moved], noisy[moved], atol=1e-3, rtol=1e-3)
        found += int(moved.sum())
    assert 20 < found < 100  # a quarter of some 256 trajectories, except those before the first renewal


def test_a_result_is_the_previous_clip_of_the_next_window(data: LatentSet) -> None:
    walks = walks_of(data, size=64)
    found = 0
    for number in range(3 * STEPS):
        done = walks.place == 1
        step = torch.full_like(walks.x, 0.01 * (number + 1))
        ends = walks.x - step / STEPS
        walks.advance(step)
        own = (walks.batch.previous == ends).flatten(1).all(1) & done
        assert walks.batch.previous_mask[own].all()
        found += int(own.sum())
    assert found > 10


def test_restored_trajectories_go_on_unchanged(data: LatentSet) -> None:
    first, second = walks_of(data), walks_of(data, seed=99)
    for _ in range(3):
        first.advance(torch.ones_like(first.x))
    second.restore(first.state())
    second._seed = first._seed
    for walks in (first, second):
        for _ in range(2 * STEPS):
            walks.advance(torch.full_like(walks.x, 0.5))
    torch.testing.assert_close(first.x, second.x)
    torch.testing.assert_close(first.batch.tokens, second.batch.tokens)


def test_the_columns_beyond_a_clip_in_three_four_do_not_count(data: LatentSet) -> None:
    walks = walks_of(data)
    assert walks.batch.triple is not None
    walks.batch.triple = torch.tensor([True, False, False, False, False, True])
    inside = walks.batch.inside(24)
    assert inside.shape == (6, 1, 1, walks.x.shape[-1])
    assert inside[0].sum() == 24
    assert inside[1].sum() == walks.x.shape[-1]
