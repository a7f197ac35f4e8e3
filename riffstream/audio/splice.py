"""Splicing on the beat: the entry points of a change, and the crossfade."""

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
    """Beats of one tempo on the sample clock: beat k is at ``origin + round(k * samples_per_beat)``.

    Attributes:
        origin: sample of beat 0, the start of a clip.
        samples_per_beat: fractional, 1 or more; rounding errors do not accumulate.
        beats_per_bar: 1 or more.
        beats_per_clip: 1 or more.

    Raises:
        ParameterError: a value outside its range.
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

    def position(self, beat: int) -> int:
        """Start of beat number ``beat`` in samples."""
        return self.origin + round(beat * self.samples_per_beat)

    def beat(self, sample: int) -> float:
        """Musical position of a sample, in beats from the origin."""
        return (sample - self.origin) / self.samples_per_beat

    def next(self, sample: int, at: At = "beat") -> int:
        """First entry point of a change at or after ``sample``, in samples.

        "asap" is ``sample`` itself; "beat", "bar" and "clip" are the next beat, bar line and clip start.
        """
        if at == "asap":
            return sample
        steps = {"beat": 1, "bar": self.beats_per_bar, "clip": self.beats_per_clip}
        if at not in steps:
            raise ParameterError("at", at, "asap, beat, bar or clip")
        step = steps[at]
        # One step early, because the rounded grid may be up to half a sample later than the exact one.
        unit = int(np.floor(self.beat(sample) / step)) - 1
        while self.position(unit * step) < sample:
            unit += 1
        return self.position(unit * step)


def splice(old: Pcm, new: Pcm, at: int, fade: int, curve: Curve = "auto") -> Pcm:
    """Crossfade from one running sound to another on the same clock.

    The result is ``old`` up to ``at``, a crossfade of ``fade`` samples, then ``new``. To keep a drum hit on the beat
    whole, end the fade on the beat: ``at = beat - fade``.

    Args:
        old: [n, channels].
        new: [m, channels], starting at the same sample as ``old``.
        at: start of the fade in samples.
        fade: length of the fade in samples.
        curve: see :class:`Crossfade`.

    Returns:
        float32 [len(new), channels].

    Raises:
        ParameterError: the fade does not lie inside both blocks.
    """
    if at < 0 or fade < 0 or at + fade > min(len(old), len(new)):
        raise ParameterError("at", at, f"a position whose fade of {fade} samples lies inside both blocks")
    if fade == 0:
        return np.concatenate([old[:at], new[at:]])
    head, tail = old[at : at + fade], new[at : at + fade]
    mixed = Crossfade(fade, curve, correlation(head, tail) if curve == "auto" else 0.0).mix(head, tail)
    return np.concatenate([old[:at], mixed, new[at + fade :]])
