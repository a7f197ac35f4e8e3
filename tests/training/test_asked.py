"""Conditions for training: facts become numbers, and any few of them are left in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from riffstream.journey import conditions as layout
from riffstream.training.asked import COLUMNS, USUAL, clip_conditions, leave_out, share

BAR = {
    "chords": ["Am"], "parts": {"drums": 0.0, "pad": -27.0}, "onsets": 4.0, "level_db": 41.0, "brightness": 10.0,
    "starts": True, "ends": False, "fill": False,
}  # fmt: skip


def test_facts_become_what_one_would_ask_for() -> None:
    numbers = clip_conditions([BAR, {**BAR, "chords": [None], "parts": {}, "starts": False}], 8)
    assert numbers.shape == (COLUMNS, layout.SIZE)
    assert numbers[0, layout.PARTS_LEVEL].tolist() == [1, 0, 0, 0.5, 0, 0]
    assert numbers[:, layout.PARTS_GIVEN].all()
    assert numbers[:8, layout.CHORD.stop - 1].all()
    assert not numbers[8:, layout.CHORD].any()
    assert numbers[0, layout.DENSITY].tolist() == [pytest.approx(share("onsets", 4.0)), 1]
    assert numbers[0, layout.FORM.start] == 1


def test_waltzes_fill_twelve_columns_and_old_songs_none() -> None:
    numbers = clip_conditions([BAR, BAR], 6)
    assert numbers[:12].any(1).all()
    assert not numbers[12:].any()
    assert not clip_conditions([], 8).any()


@pytest.mark.parametrize("measure", ["onsets", "level_db", "brightness"])
def test_shares_rise_from_zero_to_one(measure: str) -> None:
    mean, spread = USUAL[measure]  # of log2(1 + onsets), of decibels and of octaves
    low, high = mean - 4 * spread, mean + 4 * spread
    if measure == "onsets":
        low, high = 0.0, 2**high - 1
    shares = [share(measure, value) for value in np.linspace(low, high, 20)]
    assert all(b > a for a, b in itertools.pairwise(shares))
    assert shares[0] < 0.02
    assert shares[-1] > 0.98


def test_every_group_is_left_out_on_its_own() -> None:
    given = torch.from_numpy(clip_conditions([BAR, BAR], 8)).expand(4000, -1, -1)
    left = leave_out(given, torch.Generator().manual_seed(0))
    flags = torch.stack([left[:, 0, group.stop - 1] > 0 for group in layout.GROUPS], 1)
    parts = left[:, 0, layout.PARTS_GIVEN] > 0
    flags[:, 1] = parts.any(1)
    none, each = (~flags).all(1).float().mean(), flags.float().mean(0)
    assert 0.15 <= none <= 0.2
    assert all(0.4 < share < 0.75 for share in each.tolist())
    alone = flags.sum(1) == 1
    assert {int(k) for k in flags[alone].int().argmax(1)} == set(range(len(layout.GROUPS)))
    assert ((parts.sum(1) == 1) & flags[:, 1]).any()
    # What is not given is all zeros; what is given is as it was.
    for place, group in enumerate(layout.GROUPS):
        if place != 1:
            assert not left[~flags[:, place]][:, :, group].any()
            assert torch.equal(left[flags[:, place]][:, :, group], given[flags[:, place]][:, :, group])
    assert not left[:, :, layout.PARTS_LEVEL][~parts[:, None].expand(-1, 16, -1)].any()


def test_the_original_stays_as_it_was() -> None:
    given = torch.from_numpy(clip_conditions([BAR, BAR], 8))[None]
    before = given.clone()
    leave_out(given, torch.Generator().manual_seed(1))
    assert torch.equal(given, before)
