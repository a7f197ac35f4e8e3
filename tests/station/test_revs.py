"""The revision that frames carry never goes back."""

from __future__ import annotations

import itertools

import pytest

from tests.station.sim import Sim


@pytest.mark.parametrize("then", ["kill", "starve"])
def test_music_that_goes_on_after_a_pause_keeps_the_pauses_revision(then: str) -> None:
    sim = Sim()
    sim.run(7.3)
    sim.transport("pause", "p")
    sim.run(0.3)
    sim.transport("resume", "r")
    sim.run(3)
    if then == "kill":
        sim.kill()
        sim.run(30)
        sim.restart()
    else:
        sim.steps = 0
        sim.run(30)
        sim.steps = 12
    sim.run(5)
    assert [rev for rev, _ in itertools.groupby(block.rev for block in sim.blocks)] == [0, 1, 2]
    assert sim.timeline.now(sim.timeline.committed - 1).rev == sim.timeline.rev == 2
