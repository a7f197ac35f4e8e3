"""Conditions for training: conversion of a song's facts to the denoiser's input, and random omission."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from riffstream.journey.chords import Chord
from riffstream.journey.conditions import GROUPS, PARTS, PARTS_GIVEN, PARTS_LEVEL, SIZE, BarPlan, lay_out

__all__ = ["COLUMNS", "clip_conditions", "leave_out", "plan_of", "share"]

COLUMNS = 16  # columns of a clip in 4/4; clips in 3/4 use twelve
# Mean and standard deviation over the corpus. They convert a measure to its quantile among the bars.
USUAL = {"onsets": (2.2, 0.7), "level_db": (41.7, 1.8), "brightness": (9.7, 0.8)}
PART_DB = (-45.0, -9.0)  # levels of a silent and of a full part, relative to the loudest part
NOTHING, EACH = (
    0.15,
    (0.05, 0.65),
)  # share of examples without conditions; range of an example's probability of omission per group


def share(measure: str, value: float) -> float:
    """Share of the corpus's bars with a lower ``measure`` (a key of :data:`USUAL`), 0 to 1."""
    mean, spread = USUAL[measure]
    raw = math.log2(1 + value) if measure == "onsets" else value
    return 0.5 * (1 + math.erf((raw - mean) / spread / math.sqrt(2)))


def plan_of(facts: Mapping[str, Any]) -> BarPlan:
    """The conditions that request a bar with these facts (``bars.bar_facts``)."""
    low, high = PART_DB
    levels = {part: (facts["parts"].get(part, -120.0) - low) / (high - low) for part in PARTS}
    return BarPlan(
        chords=[None if name is None else Chord.parse(name) for name in facts["chords"]],
        parts={part: min(max(level, 0.0), 1.0) for part, level in levels.items()},
        density=share("onsets", facts["onsets"]),
        energy=share("level_db", facts["level_db"]),
        brightness=share("brightness", facts["brightness"]),
        starts=facts["starts"],
        ends=facts["ends"],
        fill=facts["fill"],
    )


def clip_conditions(facts: Sequence[Mapping[str, Any]], beats: int) -> np.ndarray:
    """Conditions of a clip, float32 [COLUMNS, SIZE]; zeros for unknown values.

    Args:
        facts: facts of each bar; empty for a song without facts.
        beats: beats in the clip, 8 or 6.
    """
    out = np.zeros((COLUMNS, SIZE), np.float32)
    if facts:
        columns = COLUMNS * beats // 8
        out[:columns] = lay_out([plan_of(bar) for bar in facts], columns, beats // len(facts))
    return out


def leave_out(conditions: Tensor, generator: torch.Generator) -> Tensor:
    """Conditions [B, columns, SIZE] with random omissions: all of an example, or groups and parts independently. The
    model thus learns to follow any subset of conditions."""
    size = len(conditions)
    conditions = conditions.clone()
    chance = EACH[0] + (EACH[1] - EACH[0]) * torch.rand(size, generator=generator)
    chance = torch.where(torch.rand(size, generator=generator) < NOTHING, torch.ones(()), chance)
    for group in GROUPS:
        gone = torch.rand(size, generator=generator) < chance
        if group.start == PARTS_LEVEL.start:
            for part in range(len(PARTS)):
                without = gone | (torch.rand(size, generator=generator) < chance)
                conditions[without, :, PARTS_LEVEL.start + part] = 0
                conditions[without, :, PARTS_GIVEN.start + part] = 0
        else:
            conditions[gone, :, group] = 0
    return conditions
