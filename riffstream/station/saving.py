"""The saved state of a running timeline (``saved.py``)."""

from __future__ import annotations

from typing import Any, Final

from riffstream.station.saved import SavedPlace, SavedStation, journey_hash, saved_score
from riffstream.station.splices import opening
from riffstream.station.timeline import Timeline

__all__ = ["saved"]

UNUSED: Final = 16  # clips may be on their way under the next identities


def saved(timeline: Timeline, settings: dict[str, Any] | None = None) -> SavedStation | None:
    """State of a timeline with its newest accepted change; None before the first audio.

    Args:
        timeline: the timeline.
        settings: configuration of a station made over the API.
    """
    playout = timeline.playout
    lead = playout.lead
    if lead is None or not lead.entries:
        return None
    pos = playout.committed
    beat = playout.beat(pos)
    score, change = timeline.score, timeline.coming
    if change is not None:
        start = opening(playout, change, pos)
        clip_beat, index, bar = start.clip_beat, start.index, start.bar
    else:
        entry = lead.entry(lead.beats.sample(beat)) or lead.entries[0]
        clip_beat, index, bar = entry.beat, entry.index, entry.bar
    bars = playout.bars(beat)
    line = bars.line(beat)
    spec = score.spec(index, clip_beat)
    return SavedStation(
        settings=settings,
        journey=journey_hash(score.home),
        rev=timeline.rev,
        sample_pos=pos,
        clip=max(entry.clip for entry in lead.entries) + UNUSED,
        paused=timeline.paused,
        mix=timeline.mix(),
        score=saved_score(score),
        waiting=timeline.timed.steers,
        place=SavedPlace(
            beat=beat,
            clip_beat=clip_beat,
            index=index,
            bar=bar,
            samples_per_beat=score.samples_per_beat(spec, beat),
            line=line,
            beats=bars.beats(beat),
            number=bars.number(line),
        ),
    )
