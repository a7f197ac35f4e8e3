"""Musical time of a take: the mapping between beats and samples. The tempo may change at every beat."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

__all__ = ["BeatMap", "CueTime", "Ramp"]


@dataclass(frozen=True, slots=True)
class Ramp:
    """A value that changes linearly from ``a`` to ``b`` over ``beats`` beats from ``beat`` on; constant outside."""

    a: float
    b: float
    beat: float = 0.0
    beats: float = 0.0

    @classmethod
    def constant(cls, value: float) -> Ramp:
        """A ramp with a constant value."""
        return cls(value, value)

    def settled(self, beat: float) -> Ramp:
        """The ramp from ``beat`` on: a constant if it has ended."""
        return Ramp.constant(self.b) if self.a == self.b or beat >= self.beat + self.beats else self

    def at(self, beat: float) -> float:
        """Value at ``beat``."""
        if self.beats <= 0 or beat >= self.beat + self.beats:
            return self.b
        return self.a + (self.b - self.a) * max(0.0, (beat - self.beat) / self.beats)


class BeatMap:
    """Piecewise linear mapping between beats of the station and local samples of a take.

    Args:
        beat: the station's beat at local sample 0.
        samples_per_beat: fractional; valid until the first :meth:`extend`.
    """

    def __init__(self, beat: float, samples_per_beat: float) -> None:
        self._beats = [beat]
        self._samples = [0.0]
        self._slope = samples_per_beat
        self._shift = 0.0

    @property
    def end(self) -> float:
        """Beat up to which the tempo is known; it continues unchanged beyond."""
        return self._beats[-1] + self._shift

    @property
    def slope(self) -> float:
        """Samples per beat at the end."""
        return self._slope

    def extend(self, beats: float, samples_per_beat: float) -> None:
        """Append ``beats`` beats at this tempo."""
        self._beats.append(self._beats[-1] + beats)
        self._samples.append(self._samples[-1] + beats * samples_per_beat)
        self._slope = samples_per_beat
        if len(self._beats) > 4096:  # an hour at 60 bpm; the past is not needed
            del self._beats[:2048], self._samples[:2048]

    @property
    def shifted(self) -> float:
        """Beats added by :meth:`shift` so far."""
        return self._shift

    def shift(self, beats: float) -> None:
        """Add ``beats`` to all beats of this take, because music was repeated while it was late."""
        self._shift += beats

    def sample(self, beat: float) -> float:
        """Local sample of a beat, fractional."""
        beat -= self._shift
        i = bisect.bisect_right(self._beats, beat) - 1
        if i < 0:
            return (beat - self._beats[0]) * self._first_slope + self._samples[0]
        if i >= len(self._beats) - 1:
            return self._samples[-1] + (beat - self._beats[-1]) * self._slope
        part = (beat - self._beats[i]) / (self._beats[i + 1] - self._beats[i])
        return self._samples[i] + part * (self._samples[i + 1] - self._samples[i])

    def beat(self, sample: float) -> float:
        """Beat at a local sample."""
        i = bisect.bisect_right(self._samples, sample) - 1
        if i < 0:
            return (sample - self._samples[0]) / self._first_slope + self._beats[0] + self._shift
        if i >= len(self._samples) - 1:
            return self._beats[-1] + (sample - self._samples[-1]) / self._slope + self._shift
        part = (sample - self._samples[i]) / (self._samples[i + 1] - self._samples[i])
        return self._beats[i] + part * (self._beats[i + 1] - self._beats[i]) + self._shift

    def slope_before(self, sample: float) -> float:
        """Samples per beat just before a local sample."""
        i = min(bisect.bisect_left(self._samples, sample - 2), len(self._samples) - 1)  # 2: ends are rounded
        if i == 0:
            return self._first_slope
        return (self._samples[i] - self._samples[i - 1]) / (self._beats[i] - self._beats[i - 1])

    @property
    def _first_slope(self) -> float:
        if len(self._beats) < 2:
            return self._slope
        return (self._samples[1] - self._samples[0]) / (self._beats[1] - self._beats[0])


@dataclass(frozen=True, slots=True)
class CueTime:
    """Musical time of a scheduled or played cue: the mapping between station samples and beats of the station.

    Attributes:
        beats: the take's beats.
        offset: local sample minus station sample.
        shift: shift of the take's beats during this cue; a later cue of the take may have another.
        since: local sample from which a bridge repeats the music, at the tempo before it; None: no bridge.
    """

    beats: BeatMap
    offset: int
    shift: float
    since: float | None = None

    @property
    def _added(self) -> float:
        return self.shift - self.beats.shifted

    @property
    def end(self) -> float:
        """Beat at ``since``."""
        return self.beats.beat(self.since or 0.0) + self._added

    def beat(self, pos: float) -> float:
        """Beat at a station sample."""
        local = pos + self.offset
        if self.since is None or local <= self.since:
            return self.beats.beat(local) + self._added
        return self.end + (local - self.since) / self.beats.slope_before(self.since)

    def where(self, beat: float) -> float:
        """Station sample of a beat, fractional."""
        if self.since is None or beat <= self.end:
            return self.beats.sample(beat - self._added) - self.offset
        return self.since + (beat - self.end) * self.beats.slope_before(self.since) - self.offset
