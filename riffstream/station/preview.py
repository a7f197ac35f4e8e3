"""The first clip of a change that is not made: for listening to it before everybody does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from riffstream import protocol
from riffstream.config import StationConfig
from riffstream.journey.keyframe import ClipSpec
from riffstream.station.splices import opening
from riffstream.station.timeline import Timeline

__all__ = ["Preview", "preview"]


@dataclass(frozen=True, slots=True)
class Preview:
    """A clip as the station would play it.

    Attributes:
        spec: its parameters.
        bpm: its tempo; None: the model's own.
        key: its transposition in semitones.
        meter: its beats to the bar.
        steps: its sampler steps; None: the model's own.
        guided: False without guidance, as the first clip of a change.
        model: name of the station's model; "": that of ``[generator]``.
    """

    spec: ClipSpec
    bpm: float | None
    key: float
    meter: int
    steps: int | None
    guided: bool
    model: str


def preview(timeline: Timeline, steer: protocol.Steer, settings: StationConfig) -> Preview:
    """The clip with which a change would begin at the next bar line. The timeline does not change.

    Raises:
        ProtocolError: the change is refused.
    """
    playout = timeline.playout
    change = timeline.merge(steer, playout.mixer.earliest)
    begin = opening(playout, change, playout.mixer.earliest)
    lead = playout.lead
    score = change.score.anchored(begin.row_bar, None if lead is None else lead.score, begin.moved)
    spec = score.spec(begin.index, begin.clip_beat, begin.bar)
    return Preview(
        spec,
        score.tempo(spec, math.inf),
        score.transposition(spec),
        score.meter(spec),
        settings.steps,
        timeline.effort.keeps_guidance(score.info_of(spec)),
        settings.model,
    )
