"""Simulation of relay boxes with uneven stations and the loss of a box, which checks the sums of ``scale_sums.py``.

The sums assume that listeners are spread evenly. Here stations have a Zipf distribution, a load balancer chooses boxes
by station, listeners change places at random, and one box fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from riffstream.bench.scale_sums import Box, Costs, Plan

__all__ = ["Simulated", "carried_at_random", "simulate"]

STEP_S: Final = 0.1
LONGEST_S: Final = 120.0
FIRST_PAUSE_S: Final = 0.25  # of the clients (client/radio.py): random up to this, doubled after each failure
LONGEST_PAUSE_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """One run.

    Attributes:
        mean_load: load of the boxes before the failure, mean, as a share of their cores or network, the larger.
        worst_load: the same of the most loaded box.
        after_load: load of the most loaded box after the failure.
        lost: listeners of the box that failed.
        back_s: time until all of them play again, seconds; infinite if the others cannot take them.
        carried: stations that all boxes carry together.
    """

    mean_load: float
    worst_load: float
    after_load: float
    lost: int
    back_s: float
    carried: int


def simulate(planned: Plan, costs: Costs, box: Box, *, seed: int = 0, zipf: float = 1.0) -> Simulated:
    """Play a plan with relays.

    Args:
        planned: a plan with relays.
        costs, box: those of the plan.
        seed: seed of the random choices.
        zipf: exponent of the stations' popularity; 0: all the same.
    """
    random = np.random.default_rng(seed)
    boxes = planned.relays
    popularity = 1.0 / np.arange(1, planned.active + 1) ** zipf
    per_station = random.multinomial(planned.listeners, popularity / popularity.sum())
    listeners, carried = _routed(per_station, boxes, costs, box)
    loads = _loads(listeners, carried, costs, box)
    failed = int(np.argmax(loads))
    back_s, after = _failure(listeners, carried, failed, costs, box, random)
    loads_after = _loads(after, np.delete(carried, failed), costs, box)
    return Simulated(
        mean_load=float(loads.mean()),
        worst_load=float(loads.max()),
        after_load=float(loads_after.max()) if len(loads_after) else math.inf,
        lost=int(listeners[failed]),
        back_s=back_s,
        carried=int(carried.sum()),
    )


def _loads(listeners: np.ndarray, carried: np.ndarray, costs: Costs, box: Box) -> np.ndarray:
    cpu = (listeners * costs.relay_listener_us / 1e6 + carried * costs.relay_station_ms / 1000) / box.cores
    network = listeners * costs.kbit_s / 1e6 / box.gbit_s
    return np.maximum(cpu, network)


def _routed(per_station: np.ndarray, boxes: int, costs: Costs, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Listeners and stations of each box. A station's listeners fill the least loaded box, then the next one.

    A load balancer with consistent hashing and bounded loads does the same.
    """
    room = box.share * box.gbit_s * 1e6 / costs.kbit_s
    listeners, carried = np.zeros(boxes), np.zeros(boxes)
    for count in sorted((int(each) for each in per_station if each), reverse=True):
        left = float(count)
        parts = math.ceil(count / room)
        for part in range(parts):
            target = int(np.argmin(_loads(listeners, carried, costs, box)))
            share = left / (parts - part)
            listeners[target] += share
            carried[target] += 1
            left -= share
    return listeners, carried


def _failure(
    listeners: np.ndarray, carried: np.ndarray, failed: int, costs: Costs, box: Box, random: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Time until the listeners of a failed box are back, and the listeners of the other boxes then.

    A box joins as many listeners in a step as its free cores allow; the others wait for their next attempt.
    """
    others, stations = np.delete(listeners, failed), np.delete(carried, failed)
    if not len(others):
        return math.inf, others
    count = round(float(listeners[failed]))
    due = random.uniform(0.0, FIRST_PAUSE_S, count)
    pause = np.full(count, 2 * FIRST_PAUSE_S)
    waiting = np.arange(count)
    now = 0.0
    while len(waiting) and now < LONGEST_S:
        now += STEP_S
        asking = waiting[due[waiting] <= now]
        if not len(asking):
            continue
        free = np.maximum(0.0, 1.0 - _loads(others, stations, costs, box)) * box.cores
        room = np.floor(free * STEP_S * 1e6 / costs.join_us)
        chosen = random.integers(0, len(others), len(asking))
        order = np.argsort(chosen, kind="stable")
        rank = np.empty(len(asking), int)
        sorted_boxes = chosen[order]
        rank[order] = np.arange(len(asking)) - np.searchsorted(sorted_boxes, sorted_boxes)
        joined = rank < room[chosen]
        others += np.bincount(chosen[joined], minlength=len(others))
        refused = asking[~joined]
        due[refused] = now + random.uniform(0.0, 1.0, len(refused)) * pause[refused]
        pause[refused] = np.minimum(LONGEST_PAUSE_S, 2 * pause[refused])
        waiting = np.setdiff1d(waiting, asking[joined], assume_unique=True)
    return (now if not len(waiting) else math.inf), others


def carried_at_random(listeners: int, active: int, boxes: int, *, seed: int = 0) -> tuple[float, float]:
    """Stations that a box carries if listeners are sent to boxes at random: by the sum, and simulated.

    The sum is ``active * (1 - (1 - 1 / active) ** (listeners / boxes))``.
    """
    random = np.random.default_rng(seed)
    each = listeners // boxes
    expected = active * (1 - (1 - 1 / active) ** each)
    found = [len(np.unique(random.integers(0, active, each))) for _ in range(min(boxes, 20))]
    return expected, float(np.mean(found))
