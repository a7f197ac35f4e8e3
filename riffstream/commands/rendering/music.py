"""The music of ``riffstream render``'s options: checked before a model is loaded, a score afterwards."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from riffstream.commands.rendering.mix import desk
from riffstream.config import StationConfig, TimelineSettings
from riffstream.errors import ParameterError
from riffstream.generator.messages import Info
from riffstream.journey.conditions import parse_parts
from riffstream.journey.journey import Journey, Keyframe, PromptPart
from riffstream.journey.keyframe import CONDITIONED, NONE
from riffstream.journey.pace import read_pace
from riffstream.protocol import SAMPLE_RATE, Mix
from riffstream.ranges import check

if TYPE_CHECKING:
    from riffstream.station.score import Score

__all__ = ["Music", "length"]

LONGEST_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Music:
    """What to render.

    Attributes:
        args: the options; numbers that are not in the other fields are checked by the journey.
        n_samples: length at 48 kHz.
        settings: loudness and lead time.
        station: tempo, key and metre.
        steps: sampler steps; None: the model's.
        mix: settings of the desk; None: neutral.
    """

    args: argparse.Namespace
    n_samples: int
    settings: TimelineSettings
    station: StationConfig
    steps: int | None
    mix: Mix | None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Music:
        """Check the options. Raises ParameterError, or MediaError for a journey file."""
        n_samples = length(30.0 if args.seconds is None else args.seconds)
        try:
            settings = TimelineSettings(loudness_lufs=args.lufs, ahead_s=1.0)
        except ParameterError as error:
            raise ParameterError("lufs", error.value, error.allowed) from None
        _journey(args, Info(model="check"), n_samples)
        station = StationConfig(bpm=args.bpm, key=args.key, beats_per_bar=args.beats_per_bar, form=args.form)
        steps = None if args.steps is None else check("steps", args.steps)
        return cls(args, n_samples, settings, station, steps, desk(args.mix))

    @property
    def seed_images(self) -> set[str]:
        """Seed images of the journey: names or paths."""
        stops = _journey(self.args, Info(model="check"), self.n_samples).stops
        return {stop.keyframe.seed_image for stop in stops if stop.keyframe.seed_image is not None}

    def score(self, info: Info) -> Score:
        """Score for a model. Raises ParameterError for conditions that it does not support."""
        from riffstream.station.score import Score

        journey = _journey(self.args, info, self.n_samples)
        _check_asked(journey, info, self.args.form)
        return Score.of(self.station, info, journey)

    def note(self, info: Info) -> str:
        """A sentence about an option that has no effect with a model; "" without such an option."""
        args = self.args
        if args.journey or args.denoising is None or (args.seed_image or info.seed_image or NONE) != NONE:
            return ""
        return "--denoising has no effect, because the music starts from noise; --seed-image auto starts from a loop"

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the audio file."""
        prompts = self.args.prompt
        title = " → ".join(prompts) or Journey.from_file(self.args.journey).name or "riffstream"
        tags = {"title": title, "artist": "riffstream"}
        if tempo := self.args.bpm or (read_pace(prompts[0]).bpm if len(prompts) == 1 else None):
            tags["bpm"] = f"{tempo:g}"
        return tags


def length(seconds: float) -> int:
    if not math.isfinite(seconds) or not 0.1 <= seconds <= LONGEST_S:
        raise ParameterError("seconds", seconds, f"0.1 to {LONGEST_S:g}")
    return round(seconds * SAMPLE_RATE)


def _journey(args: argparse.Namespace, info: Info, n_samples: int) -> Journey:
    """Journey through the prompts, as long as the file."""
    if args.journey:
        if args.prompt:
            raise ParameterError("prompt", args.prompt[0], "nothing together with --journey")
        return Journey.from_file(args.journey)
    if not args.prompt:
        raise ParameterError("prompt", None, "one or more --prompt, or --journey, or --replay")
    prompts = [prompt.strip() for prompt in args.prompt]
    if not all(prompts):
        raise ParameterError("prompt", "", "1 or more characters")
    seed_image = args.seed_image
    if seed_image is not None and Path(seed_image).is_file():
        seed_image = str(Path(seed_image).resolve())
    keyframe = Keyframe(
        (PromptPart(prompts[0]),),
        negative=args.negative,
        seed=args.seed,
        denoising=args.denoising,
        guidance=args.guidance,
        seed_image=seed_image,
        bpm=args.bpm,
        beats_per_bar=args.beats_per_bar,
        key=args.key or 0.0,
        chords=args.chords,
        parts=parse_parts(args.parts) or None,
        energy=args.energy,
        density=args.density,
        brightness=args.brightness,
    )
    if len(prompts) == 1:
        return Journey.single(keyframe)
    own = info.bpm or 120.0
    clip_samples = info.hop * info.frames * fmean(_relative_length(args, info, own, prompt) for prompt in prompts)
    share = n_samples / clip_samples / len(prompts)
    travel = max(1, round(share / 3))
    stay = max(1, round(share - travel * (len(prompts) - 1) / len(prompts)))
    keyframes = [replace(keyframe, prompts=(PromptPart(prompt),)) for prompt in prompts]
    return Journey.along(keyframes, stay=stay, travel=travel, ending="stay")


def _relative_length(args: argparse.Namespace, info: Info, own: float, prompt: str) -> float:
    """Length of a prompt's clips relative to the model's clip at its own tempo and metre."""
    pace = read_pace(prompt)
    metre = args.beats_per_bar or pace.beats
    beats = info.meters[metre][1] if metre in info.meters else info.beats
    return beats / info.beats * own / (args.bpm or pace.bpm or own)


def _check_asked(journey: Journey, info: Info, form: str | None) -> None:
    """Raise ParameterError for conditions that the model does not support."""
    if info.conditions:
        return
    if (form or journey.form or "none") != "none":
        raise ParameterError("form", form or journey.form, f"none with the model {info.model}: it takes words alone")
    for stop in journey.stops:
        for name in CONDITIONED:
            if (value := getattr(stop.keyframe, name)) is not None:
                raise ParameterError(name, value, f"nothing with the model {info.model}: it takes words alone")
