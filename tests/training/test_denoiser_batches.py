"""What the denoiser is trained on: batches by number, and the loss over the cells that a clip fills."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from riffstream.diffusion.schedules import shifted
from riffstream.journey.conditions import CHORD, PARTS_GIVEN, SIZE
from riffstream.training.asked import COLUMNS
from riffstream.training.denoiser import SHIFT, Batch, draw, flow_loss, shifted_times
from riffstream.training.latents import LatentSet
from tests.training.small import small_denoiser, small_latents

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LatentSet:
    return small_latents(tmp_path_factory.mktemp("corpus"))


class Constant(nn.Module):
    """A model that predicts 0 whatever it is given."""

    def forward(self, x: Tensor, *_: Tensor | None) -> Tensor:
        return torch.zeros_like(x)


def test_batches_are_a_function_of_their_number(data: LatentSet) -> None:
    rows = data.rows(held_out=False)
    one, again, two = (draw(data, rows, 4, seed, CPU) for seed in (5, 5, 6))
    assert torch.equal(one.noise, again.noise)
    assert torch.equal(one.tokens, again.tokens)
    assert not torch.equal(one.noise, two.noise)


def test_times_lie_where_captions_count(data: LatentSet) -> None:
    """A sixth near noise, and music's details are not forgotten; the training's shift is the sampler's."""
    t = torch.cat([draw(data, data.rows(held_out=False), 256, seed, CPU).t for seed in range(8)])
    assert 0.14 < float((t > 0.9).float().mean()) < 0.21
    assert 0.09 < float((t < 0.3).float().mean()) < 0.15
    places = torch.linspace(0, 1, 9)
    torch.testing.assert_close(shifted_times(places), torch.tensor([shifted(float(p), SHIFT) for p in places]))


def test_batches_for_compiled_code_have_one_shape(data: LatentSet) -> None:
    rows = data.rows(held_out=False)
    loose = draw(data, rows, 4, 5, CPU)
    batches = [draw(data, rows, 4, seed, CPU, one_shape=True) for seed in range(5, 12)]
    assert {tuple(batch.tokens.shape) for batch in batches} == {(4, 32, 16)}
    assert all(batch.triple is not None for batch in batches)
    assert torch.equal(loose.noise, batches[0].noise)
    assert torch.equal(loose.tokens, batches[0].tokens[:, : loose.tokens.shape[1]])
    torch.testing.assert_close(flow_loss(small_denoiser(), loose, 24), flow_loss(small_denoiser(), batches[0], 24))


def test_validation_drops_nothing_by_chance(data: LatentSet) -> None:
    rows = data.rows(held_out=True)
    batch = draw(data, rows, 12, 77, CPU, validation=True)
    assert batch.mask.sum(1).min() > 1, "every clip has a caption"
    assert torch.equal(batch.t.sort().values, (torch.arange(12) + 0.5) / 12)
    pick = rows[torch.linspace(0, len(rows) - 1, 12).long()]
    assert torch.equal(batch.clean, data.latents[pick].float())
    assert torch.equal(batch.previous_mask, (torch.arange(12) % 2 == 0) & (data.previous[pick] >= 0))


@pytest.mark.parametrize(("given", "expected"), [(PARTS_GIVEN, (0.5, 0.25, 0.25)), (CHORD, (0.5, 0.5, 0.0))])
def test_captions_of_other_clips_contradict_given_parts(
    data: LatentSet, monkeypatch: pytest.MonkeyPatch, given: slice, expected: tuple[float, ...]
) -> None:
    """Shares of the conditioned examples without a caption, with their own, and with another clip's of the song."""
    count = len(data)
    conditions = torch.zeros(count, COLUMNS, SIZE)
    conditions[..., given] = 1
    monkeypatch.setattr(data, "conditions", conditions)
    # Latents and captions tell the number of their clip.
    monkeypatch.setattr(data, "latents", torch.arange(float(count))[:, None, None, None].expand_as(data.latents))
    monkeypatch.setattr(data, "captions", [[row + 1] for row in range(count)])
    monkeypatch.setattr(data, "tokens", torch.arange(count + 1.0)[:, None, None].expand(-1, 32, 16))
    monkeypatch.setattr(data, "mask", torch.ones(count + 1, 32))
    batch = draw(data, data.rows(held_out=False), 4000, 5, CPU)
    conditioned = batch.conditions.flatten(1).any(1)
    clip, told = batch.clean[conditioned, 0, 0, 0].long(), batch.tokens[conditioned, 0, 0].long() - 1
    other = (told >= 0) & (told != clip)
    assert [float(kind.float().mean()) for kind in (told < 0, told == clip, other)] == pytest.approx(expected, abs=0.03)
    assert torch.equal(told[other] // 3, clip[other] // 3), "songs have three clips"
    assert {(t - c) % 3 for t, c in zip(told[other].tolist(), clip[other].tolist(), strict=True)} <= {1, 2}


def test_parts_are_the_whole(data: LatentSet) -> None:
    batch = draw(data, data.rows(held_out=False), 10, 3, CPU, one_shape=True)
    parts = batch.parts(4)
    assert [len(part.clean) for part in parts] == [4, 4, 2]
    for name in Batch.__slots__:
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name)), name
    batch.triple = None
    assert all(part.triple is None for part in batch.parts(4))


def test_the_loss_counts_only_the_cells_that_a_clip_fills(data: LatentSet) -> None:
    batch = draw(data, data.rows(held_out=False), 16, 3, CPU, one_shape=True)
    assert batch.triple is not None
    assert batch.triple.any()
    target = (batch.noise - batch.clean).square()
    cells = torch.cat([target[~batch.triple].flatten(), target[batch.triple][..., :24].flatten()])
    torch.testing.assert_close(flow_loss(Constant(), batch, 24), cells.mean())
    batch.triple = None
    torch.testing.assert_close(flow_loss(Constant(), batch, 24), target.mean())
