"""A preview is the clip with which the change would begin, and changes nothing."""

from __future__ import annotations

import msgspec
import pytest

from riffstream import protocol
from riffstream.config import StationConfig
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey, Stop
from riffstream.journey.keyframe import Keyframe
from riffstream.protocol import ProtocolError
from riffstream.station.preview import preview
from tests.station.sim import Sim

BELLS = (protocol.Prompt(text="church bells"),)


@pytest.mark.parametrize("form", ["none", "song"])
def test_a_change_with_the_seed_of_its_preview_begins_with_the_same_clip(form: str) -> None:
    stop = Stop(Keyframe.of("first", seed=3, denoising=0.5), 90, 0)
    sim = Sim(journey=Journey((stop,), "loop"), station=StationConfig(form=form, bpm=100.0, key=2.0))  # type: ignore[arg-type]
    sim.run(9.3)
    rev, jobs = sim.timeline.rev, len(sim.jobs)
    heard = preview(sim.timeline, protocol.Steer(id="p", prompts=BELLS), StationConfig())
    assert (sim.timeline.rev, len(sim.jobs), sim.timeline.coming) == (rev, jobs, None)
    assert (heard.bpm, heard.key, heard.meter) == (100.0, 2.0, 4)
    sim.run(9)  # the station goes on, with other seeds
    seed = heard.spec.start.seed
    sim.steer("drop", prompts=BELLS, seed=seed, bar=14)
    sim.run(16)
    assert sim.answers("drop")[-1] == "Applied"
    first = next(job for job in sim.jobs[jobs:] if job.spec.prompts[0].text == "church bells")
    assert (first.spec, first.key) == (heard.spec, heard.key)


def test_a_preview_follows_the_fields_of_its_change() -> None:
    sim = Sim()
    sim.run(9.3)
    change = protocol.Steer(id="p", prompts=BELLS, seed=11, bpm=90.0, key=-3.0, negative="drums", guidance=4.0)
    heard = preview(sim.timeline, change, StationConfig(steps=3, model="other"))
    assert (heard.spec.start.seed, heard.bpm, heard.key) == (11, 90.0, -3.0)
    assert (heard.steps, heard.model) == (3, "other")
    assert (heard.spec.start.negative, heard.spec.start.guidance) == ("drums", 4.0)


def test_a_preview_has_guidance_only_where_the_first_clip_of_its_change_has_it() -> None:
    renderer = ToneRenderer(waits=3, level=0.1)
    renderer.info = msgspec.structs.replace(renderer.info, spare=True)
    sim = Sim(renderer=renderer)
    sim.run(9.3)
    asked = len(sim.jobs)
    for guidance, ident in ((None, "a"), (3.0, "b")):
        heard = preview(sim.timeline, protocol.Steer(id="p", prompts=BELLS, guidance=guidance), StationConfig())
        sim.steer(ident, prompts=BELLS, guidance=guidance, seed=asked)
        sim.run(6)
        first, *rest = [job for job in sim.jobs[asked:] if job.spec.prompts[0].text == "church bells"]
        assert heard.guided == first.guided == (guidance is not None)
        assert rest[-1].guided, "clips with time to spare have it"
        asked = len(sim.jobs)


def test_what_is_refused_as_a_change_is_refused_as_a_preview() -> None:
    sim = Sim()
    sim.run(3)
    with pytest.raises(ProtocolError, match="energy") as refused:
        preview(sim.timeline, protocol.Steer(id="p", energy=0.5), StationConfig())
    assert refused.value.field == "energy"
