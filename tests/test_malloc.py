"""A station that is steered for ever takes no more memory than one that is steered for a few minutes."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from riffstream.journey.journey import Journey
from riffstream.station import steering_log
from riffstream.station.ring import PcmRing
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Take
from tests.station.sim import Sim


def steer_on(sim: Sim, steers: int) -> None:
    for _ in range(steers):
        sim.steer(f"s{sim.timeline.rev}", f"prompt {sim.timeline.rev}", seed=sim.timeline.rev)
        sim.run(3)
        sim.blocks.clear()
        sim.replies.clear()
        sim.jobs.clear()
        sim.events()


def test_a_station_that_is_steered_on_and_on_stays_as_large_as_it_was() -> None:
    sim = Sim()
    tracemalloc.start()
    try:
        steer_on(sim, 30)
        before = tracemalloc.get_traced_memory()[0]
        steer_on(sim, 60)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert before > 2e6  # what plays, and what is ready ahead of it: the measurement sees arrays
    assert after - before < 0.05 * before


def test_a_prompt_that_plays_for_hours_keeps_no_more_than_a_few_clips_of_sound() -> None:
    sim = Sim(journey=Journey.single("first"))
    sizes = []
    for _ in range(3):
        sim.run(60)
        lead = sim.timeline.playout.lead
        assert isinstance(lead, Take)
        sizes.append(lead.tape.end - lead.tape.begin)
    assert max(sizes) < 20 * 48_000
    assert sizes[2] <= sizes[1] + 48_000


def test_what_was_heard_is_remembered_without_its_sound() -> None:
    sim = Sim()
    sim.run(3)
    for name in "abc":
        sim.steer(name, name)
        sim.run(3)
    pos = sim.applied("a") + 4800
    assert sim.timeline.now(pos).state.prompts[0].text == "a"
    played = sim.timeline.playout.heard(pos)
    assert played is not None
    assert played.take is not None
    assert played.take.tape.begin == played.take.tape.end


def test_the_log_keeps_its_newest_entries_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering_log, "KEPT", 1024)
    log = SteeringLog("x")
    log.header({})
    for number in range(3000):
        log.add("cue", {"pos": number})
    lines = list(log.lines())
    assert 1024 <= len(lines) <= 1024 + steering_log.PAGE + 2
    assert '"entries":1792' in lines[1]
    assert '"pos":1792}' in lines[2]
    assert '"pos":2999}' in lines[-1]
    monkeypatch.setattr(steering_log, "KEPT_BYTES", 20_000)
    draw = np.random.default_rng(0)
    for _ in range(1024):
        log.add("steer", {"prompt": draw.bytes(150).hex()})
    # Hexadecimal digits take half their size when compressed; the newest page is not compressed.
    assert sum(map(len, log.lines())) <= 2 * 20_000 + 2 * steering_log.PAGE * 400


def test_the_ring_is_all_there_from_the_beginning() -> None:
    code = (
        "import riffstream.station.ring as r; p = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096;"
        "a = p(); ring = r.PcmRing(10_000_000); print(p() - a)"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) >= 39e6
    assert not PcmRing(100).read(0, 100).any()
