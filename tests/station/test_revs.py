"""The revision that frames carry never goes back."""

from __future__ import annotations

import itertools

import pytest

from riffstream import protocol
from riffstream.protocol import Prompt, Steer
from riffstream.station.outlet import Chunk
from tests.station.sim import Sim
from tests.station.test_hub import playing, until


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
    assert sim.timeline.now(sim.timeline.playout.committed - 1).rev == sim.timeline.rev == 2


async def test_a_new_encoder_begins_with_the_revisions_that_were_heard() -> None:
    async with playing() as hub:
        station = hub.get("main")
        station.join()
        await until(lambda: station.committed > 48_000)
        replies: list[protocol.ServerMessage] = []
        station.steer(Steer(id="a", prompts=(Prompt(text="second"),), at="clip"), replies.append)
        assert station.rev == 1
        chunks: list[Chunk | None] = []
        outlet = station.outlet("pcm_s16")
        await outlet.start(chunks.append)
        await until(lambda: len(replies) == 2 and chunks[-1] is not None and chunks[-1].rev == 1)
        applied = replies[1]
        assert isinstance(applied, protocol.Applied)
        for chunk in chunks:
            assert chunk is not None
            assert chunk.rev == int(chunk.sample_pos + chunk.n_samples > applied.audible_at)
