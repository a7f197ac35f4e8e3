"""One step of several slots: which rows the network sees, and that each slot moves as it would alone."""

from __future__ import annotations

import pytest
import torch

from riffstream.diffusion.batch_limit import BatchLimit
from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.slots import Slot, Ticket
from riffstream.diffusion.stats import Stats
from riffstream.diffusion.stepper import Stepper
from riffstream.journey.journey import ClipSpec, Keyframe
from tests.diffusion.tiny_family import TinyFamily


def slots(family: TinyFamily) -> list[Slot]:
    """A guided slot, one without guidance, and one with the clip before and a sampler that remembers."""
    prepare = Engine(family)._prepare
    made = []
    for seed, guidance, rest in ((1, 3.0, {}), (2, 1.0, {}), (3, 2.0, {"sampler": "dpm++", "previous": True})):
        keyframe = Keyframe.of("slow piano", seed=seed, guidance=guidance)
        previous = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(9)) if rest.pop("previous", 0) else None
        request = ClipRequest(ClipSpec(keyframe, keyframe, 0.0), previous=previous, **rest)  # type: ignore[arg-type]
        made.append(prepare.slot(Ticket(seed, request)))
    return made


def stepper(family: TinyFamily, most: int = 16, *, pad: bool = False) -> tuple[Stepper, Stats]:
    stats = Stats()
    return Stepper(family, BatchLimit(most, family.device, stats), stats, pad=pad), stats


@pytest.mark.parametrize(
    ("most", "pad", "calls", "padded"),
    [(16, False, [5], 0), (16, True, [8], 3), (2, False, [2, 2, 1], 0), (2, True, [2, 2, 1], 0), (3, True, [3, 2], 0)],
)
def test_guided_slots_take_two_rows(most: int, pad: bool, calls: list[int], padded: int) -> None:
    family = TinyFamily()
    moved = slots(family)
    made, stats = stepper(family, most, pad=pad)
    made.step(moved)
    assert family.calls == calls
    assert (stats.rows, stats.padded_rows) == (5, padded)
    assert [(slot.position, slot.evaluations) for slot in moved] == [(1, 2), (1, 1), (1, 2)]


def test_each_slot_moves_as_it_would_alone() -> None:
    family = TinyFamily()
    together, alone = slots(family), slots(family)
    made, _ = stepper(family)
    for _ in range(3):
        made.step(together)
        for slot in alone:
            made.step([slot])
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.x, other.x, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.memory, other.memory, atol=1e-5, rtol=1e-5)
        assert not one.x.requires_grad
