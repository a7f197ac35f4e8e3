"""Live input in a station: the image for the next clips, and the position of the last audible beats.

No clock and no audio. One thread makes every call (``timeline.py``'s).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from riffstream.generator.messages import InputImage, Job
from riffstream.protocol import SAMPLE_RATE
from riffstream.station.history import Played
from riffstream.station.take import Take

__all__ = ["Beats", "LiveInput", "last_beats"]

Heard = Callable[[int], Played | None]


@dataclass(frozen=True, slots=True)
class Beats:
    """Consecutive beats of a station.

    Attributes:
        first: number of the first beat in the station.
        edges: station samples at which the beats begin, and the end of the last: one more than there are beats.
        key: transposition of the sound in semitones.
        bpm: tempo of the last beat, beats per minute.
    """

    first: int
    edges: tuple[int, ...]
    key: float
    bpm: float


class LiveInput:
    """The live input of a station.

    Attributes:
        open: True while there is one: clips are requested late, so that they contain its newest beats.
        used: name of the newest image in a job; None before the first.
    """

    def __init__(self) -> None:
        self.open = False
        self.used: str | None = None
        self._image: InputImage | None = None
        self._first = 0

    def hear(self, image: InputImage | None, first: int = 0, *, live: bool = True) -> None:
        """Set the input of the next clips.

        Args:
            image: image of its last beats; None: it changes nothing.
            first: the station's beat at the image's beginning.
            live: False if there is no live input.
        """
        self.open = live
        self._image, self._first = image if live else None, first

    def added(self, job: Job, take: Take) -> Job:
        """A job of a new clip with the input, its beats turned to those of the clip."""
        if self._image is None:
            return job
        self.used = self._image.name
        turn = (round(take.next_beat) - self._first) % len(job.hops)
        return msgspec.structs.replace(job, input=msgspec.structs.replace(self._image, turn=turn))


def last_beats(heard: Heard, pos: int) -> Beats | None:
    """The last whole beats before a played sample, as many as a clip has; None before the first and in a pause.

    Each beat has its own length, because the tempo may have changed in any of them.

    Args:
        heard: what was played at a sample.
        pos: station sample.
    """
    played = heard(pos)
    if played is None or played.take is None or played.time is None or played.cue.kind == "pause":
        return None
    take, entry = played.take, played.take.entry(played.local(pos))
    last = math.floor(played.time.beat(pos) + 1e-6)
    info = take.info if entry is None else take.score.info.in_meter(entry.meter)
    cue, time = played.cue, played.time
    edges: list[float] = []
    for beat in range(last, last - info.beats - 1, -1):
        while (edge := time.where(beat)) < cue.pos:
            before = heard(cue.pos - 1)
            if before is None or before.time is None or before.cue.kind != "take" or before.cue.pos >= cue.pos:
                break  # the tempo before it is unknown: as now
            cue, time = before.cue, before.time
        edges.append(min(edge, edges[-1] - 1) if edges else edge)
    edges.reverse()
    key = 0.0 if entry is None else take.score.transposition(entry.spec)
    return Beats(last - info.beats, tuple(map(round, edges)), key, 60 * SAMPLE_RATE / (edges[-1] - edges[-2]))
