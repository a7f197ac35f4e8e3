"""Splicing on the beat: where a change may enter, and the join itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from riffstream.audio.checks import Pcm
from riffstream.audio.fades import Crossfade, Curve, correlation
from riffstream.errors import ParameterError

__all__ = ["At", "BeatGrid", "splice"]

At = Literal["asap", "beat", "bar", "clip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatGrid:
    """Where the beats of one tempo fall on the sample clock: beat k sits at ``origin + round(k * samples_per_beat)``.

    Attributes:
        origin: sample of beat 0, the start of a clip.
        samples_per_beat: fractional; the rounding never accumulates.
        beats_per_bar, beats_per_clip: beats, 1 or more.
    """

    origin: int
    samples_per_beat: float
    beats_per_bar: int = 4
    beats_per_clip: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.samples_per_beat < 1e9:
            raise ParameterError("samples_per_beat", self.samples_per_beat, "1 or more samples")
        for field in ("beats_per_bar", "beats_per_clip"):
            if getattr(self, field) < 1:
                raise ParameterError(field, getattr(self, field), "1 or more beats")

    @classmethod
    def at_bpm(cls, bpm: float, sample_rate: int, *, origin: int = 0, bar: int = 4, clip: int = 8) -> BeatGrid:
        """The grid of a tempo in beats a minute."""
        if not 1 <= bpm <= 1000:
            raise ParameterError("bpm", bpm, "1 to 1000")
        return cls(origin=origin, samples_per_beat=60 * sample_rate / bpm, beats_per_bar=bar, beats_per_clip=clip)

    def position(self, beat: int) -> int:
        """Sample at which beat number ``beat`` starts."""
        return self.origin + round(beat * self.samples_per_beat)

    def beat(self, sample: int) -> float:
        """Musical position of a sample, in beats from the origin."""
        return (sample - self.origin) / self.samples_per_beat

    def next(self, sample: int, at: At = "beat") -> int:
        """The first sample at or after ``sample`` where a change may enter.

        "asap" is ``sample`` itself; the others are the next beat, bar line or clip start.
        """
        if at == "asap":
            return sample
        steps = {"beat": 1, "bar": self.beats_per_bar, "clip": self.beats_per_clip}
        if at not in steps:
            raise ParameterError("at", at, "asap, beat, bar or clip")
        step = steps[at]
        # One step early, because the rounded grid may lie up to half a sample after the exact one.
        unit = int(np.floor(self.beat(sample) / step)) - 1
        while self.position(unit * step) < sample:
            unit += 1
        return self.position(unit * step)


def splice(old: Pcm, new: Pcm, at: int, fade: int, curve: Curve = "auto") -> Pcm:
    """Change from one running sound to another that shares its clock.

    Both blocks [n, channels] start at the same sample and are in time with each other; the result is ``old`` up to
    ``at``, a crossfade of ``fade`` samples from there, then ``new``. To hear a drum hit on the beat whole, end the
    fade there: ``at = beat - fade``.

    Returns:
        float32 [len(new), channels].

    Raises:
        ParameterError: when ``old`` ends before the fade does, or ``new`` is shorter than it.
    """
    if at < 0 or fade < 0 or at + fade > min(len(old), len(new)):
        raise ParameterError("at", at, f"a place whose fade of {fade} samples lies inside both blocks")
    if fade == 0:
        return np.concatenate([old[:at], new[at:]])
    head, tail = old[at : at + fade], new[at : at + fade]
    mixed = Crossfade(fade, curve, correlation(head, tail) if curve == "auto" else 0.0).mix(head, tail)
    return np.concatenate([old[:at], mixed, new[at + fade :]])
