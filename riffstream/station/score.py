"""The score: a station's journey with the changes made by steering. It is immutable: every change makes a new one.

No clock and no audio. Positions are beats of the station.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET

from riffstream import protocol
from riffstream.config import StationConfig
from riffstream.generator.messages import STILL_BPM, Info
from riffstream.journey.form import Form, FormName
from riffstream.journey.journey import ClipSpec, Journey, Keyframe, PromptPart
from riffstream.journey.keyframe import SONG
from riffstream.journey.pace import Pace, blend, read_pace
from riffstream.journey.plan import Row, form_of, lifted, planned, without_conditions
from riffstream.station.asked import LEVELS, NOTHING, Asked, bars_in_clip
from riffstream.station.beats import Ramp

__all__ = ["Change", "Here", "Score", "Setting"]

Kind = Literal["none", "vocoder", "clip"]
_SAMPLED: Final = ("negative", "seed_image", "denoising", "guidance")  # fields that decide how a clip is sampled


@dataclass(frozen=True, slots=True)
class Here:
    """Musical position of a request: the audible clip, and the beat from which the change counts.

    Attributes:
        spec: parameters of the audible clip.
        beat: beat from which the change counts.
        clip_s: duration of a clip, seconds.
        clip_beats: beats in a clip.
    """

    spec: ClipSpec
    beat: float
    clip_s: float
    clip_beats: int = 8


@dataclass(frozen=True, slots=True)
class Setting:
    """Changed fields of the desk.

    Attributes:
        fields: names of :class:`protocol.Mix` with their new values.
        ramp: length of the change in samples; None: each field's own.
    """

    fields: Mapping[str, Any]
    ramp: int | None = None

    def over(self, before: Setting | None) -> Setting:
        """Both changes in one; this one is the newer."""
        return self if before is None else Setting({**before.fields, **self.fields}, self.ramp)

    def without(self, newer: Setting) -> Setting | None:
        """The change without the fields of a newer one; None if there are no others."""
        rest = {name: value for name, value in self.fields.items() if name not in newer.fields}
        return Setting(rest, self.ramp) if rest else None


@dataclass(frozen=True, slots=True)
class Change:
    """A new score and the rendering that it needs.

    Attributes:
        score: the new score.
        kind: none (no audible change), vocoder (the same clips at another tempo or key) or clip (new clips).
        index: clip of the journey to continue with; None: the current one.
        fade_s: length of a long crossfade in seconds; 0: the default crossfade.
        mix: changed fields of the desk; None: without any.
    """

    score: Score
    kind: Kind
    index: int | None = None
    fade_s: float = 0.0
    mix: Setting | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A journey with overrides. None means the journey's value, or else the model's.

    Attributes:
        home: the station's default journey.
        path: the current journey.
        info: properties of the model.
        negative: negative prompt.
        seed_image: ``("x",)`` for an override, so that None can be an override too.
        denoising, guidance, bpm: ramps over beats.
        beats_per_bar: metre.
        key: transposition in semitones.
        asked: form and conditions.
        fixed_bpm, fixed_beats_per_bar, fixed_key, fixed_form: values of the station's configuration, which take
            precedence over the journey's.
        left_out: fields of the default journey that the model cannot follow.
    """

    home: Journey
    path: Journey
    info: Info
    negative: str | None = None
    seed_image: tuple[str | None] | None = None
    denoising: Ramp | None = None
    guidance: Ramp | None = None
    bpm: Ramp | None = None
    beats_per_bar: int | None = None
    key: float | None = None
    asked: Asked = NOTHING
    fixed_bpm: float | None = None
    fixed_beats_per_bar: int | None = None
    fixed_key: float | None = None
    fixed_form: FormName | None = None
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, station: StationConfig, info: Info, journey: Journey | None = None) -> Score:
        """Initial score of a station, before any steering. Raises ParameterError for a metre that the model lacks."""
        home = (station.plan(conditions=info.conditions) if journey is None else journey).paced(info.drift)
        left_out: tuple[str, ...] = ()
        if not info.conditions:
            home, left_out = without_conditions(home)
        for metre in {station.beats_per_bar, *(stop.keyframe.beats_per_bar for stop in home.stops)} - {None}:
            info.in_meter(metre or 0)
        bpm, key = station.bpm, station.key
        if info.bpm is None and (station.seed_image or "").startswith(SONG):
            bpm, key = STILL_BPM, 0.0  # clips without a beat grid have the song's own seconds and pitch
        return cls(
            home=home,
            path=home,
            info=info,
            fixed_bpm=bpm,
            fixed_beats_per_bar=station.beats_per_bar,
            fixed_key=key,
            fixed_form=station.form,
            left_out=left_out,
        )

    @property
    def steered(self) -> bool:
        """Whether the score differs from the default journey."""
        ours = (self.negative, self.seed_image, self.denoising, self.guidance, self.bpm, self.beats_per_bar, self.key)
        return self.path is not self.home or self.asked != NOTHING or any(each is not None for each in ours)

    @property
    def wanted_form(self) -> FormName:
        """The chosen planner, whether the model follows it or not."""
        return self.asked.form or self.fixed_form or self.path.form or self.home.form or "none"

    @property
    def form(self) -> Form | None:
        """The planner at work."""
        if not self.info.conditions:
            return None
        return form_of(self.wanted_form, self.path, bars_in_clip(self.info), home=self.path is self.home)

    @property
    def conducted(self) -> tuple[Form | None, Asked]:
        """All that decides the conditions of the path's clips."""
        return self.form, replace(self.asked, form=None)

    def keeps_sound(self, before: Score) -> bool:
        """Whether the words and the start of sampling are those of another score, so that the instruments stay."""
        return self.path == before.path and all(getattr(self, name) == getattr(before, name) for name in _SAMPLED)

    def index_at(self, bar: int, index: int) -> int:
        """Clip of the path for a take that begins at ``bar``, near ``index``: with a form, prompts keep to its bars."""
        own = bar // bars_in_clip(self.info)
        return own if abs(own - index) <= 1 and self.form is not None else index

    def anchored(self, bar: int, before: Score | None = None, moved: int = 0) -> Score:
        """The score with new chords beginning at ``bar`` of the form; for the others see :meth:`Asked.anchored`."""
        asked = self.asked.anchored(bar, NOTHING if before is None else before.asked, moved)
        return self if asked is self.asked else replace(self, asked=asked)

    def spec(self, index: int, beat: float, bar: int | None = None) -> ClipSpec:
        """Parameters of the clip at ``index`` of the path, starting at ``beat``.

        Args:
            index: number of the clip in the path.
            beat: beat of the station.
            bar: number of its first bar in the form; None: without the plan of its bars.
        """
        spec = self.path.clip(index)
        if self.asked != NOTHING:
            spec = replace(spec, start=self.asked.onto(spec.start), end=self.asked.onto(spec.end))
        if bar is not None and self.info.conditions:
            count = bars_in_clip(self.info)
            row = self._row(spec, bar - spec.index * count)
            spec = replace(spec, plan=planned(self.form, row, spec.start.prompts, bar, count))
        changes: dict[str, Any] = {}
        if self.negative is not None:
            changes["negative"] = self.negative
        if self.seed_image is not None:
            changes["seed_image"] = self.seed_image[0]
        if self.denoising is not None:
            changes["denoising"] = self.denoising.at(beat)
        if self.guidance is not None:
            changes["guidance"] = self.guidance.at(beat)
        if changes:
            spec = replace(spec, start=replace(spec.start, **changes), end=replace(spec.end, **changes))
        if spec.follows_song:  # beats of the station go on under steers; the index and the form's bars begin again
            spec = replace(spec, place=max(0.0, beat) / self.info.beats)
        return spec

    def tempo(self, spec: ClipSpec, beat: float) -> float | None:
        """Tempo at ``beat`` in bpm; None if the model's own tempo is unknown."""
        if self.bpm is not None:
            return self.bpm.at(beat)
        return self.fixed_bpm or spec.bpm or self.pace(spec).bpm or self.info.bpm

    def pace(self, spec: ClipSpec) -> Pace:
        """Tempo and metre requested by the words of a clip's prompts."""
        return _pace(spec.prompts)

    def tempo_reason(self, spec: ClipSpec) -> str | None:
        """Reason for the tempo as text for users; None if it was set as a number."""
        if self.bpm is not None or self.fixed_bpm or spec.bpm:
            return None
        return self.pace(spec).because or "the model's own"

    def meter(self, spec: ClipSpec) -> int:
        """Beats to the bar of a clip, one of the model's metres."""
        asked = self.beats_per_bar or self.fixed_beats_per_bar or spec.beats_per_bar or self.pace(spec).beats
        return asked if asked in self.info.meters else self.info.beats_per_bar

    def meter_reason(self, spec: ClipSpec) -> str | None:
        """Reason for the metre as text for users; None if it was set as a number."""
        if self.beats_per_bar or self.fixed_beats_per_bar or spec.beats_per_bar:
            return None
        return self.pace(spec).beats_because or "the model's own"

    def info_of(self, spec: ClipSpec) -> Info:
        """The model's properties for a clip: in its metre; guidance that somebody has set is not ``spare``."""
        info = self.info.in_meter(self.meter(spec))
        chosen = spec.start.guidance is not None or spec.end.guidance is not None
        return msgspec.structs.replace(info, spare=False) if info.spare and chosen else info

    def goal(self, index: int) -> ClipSpec:
        """The clip that a steer leads to: behind its transition, or clip ``index`` of the default journey."""
        if self.path is self.home:
            return self.path.clip(index)
        last = self.path.stops[-1].keyframe
        return ClipSpec(last, last, 0.0)

    def transposition(self, spec: ClipSpec) -> float:
        """Key in semitones."""
        if self.key is not None:
            return self.key
        if self.asked.row is not None:  # no modulation away from given chords
            return self.asked.row.key
        if self.fixed_key is None and spec.row is None and spec.plan and spec.plan[0].section:
            return lifted(spec)
        return self._own_key(spec)

    def _own_key(self, spec: ClipSpec) -> float:
        """Key of the station or the journey, which a journey's chords are written for."""
        return spec.key if self.fixed_key is None else self.fixed_key

    def _row(self, spec: ClipSpec, bar: int) -> Row | None:
        """Given chords, or the journey's, whose first clip begins at ``bar``."""
        if self.asked.row is not None or spec.row is None:
            return self.asked.row
        return Row(spec.row, self._own_key(spec), bar)

    def samples_per_beat(self, spec: ClipSpec, beat: float) -> float:
        """Length of a beat in samples at 48 kHz, fractional."""
        info = self.info_of(spec)
        own = info.hop * info.frames / info.beats
        tempo = self.tempo(spec, beat)
        if tempo is None:
            return own
        if self.info.bpm is None:
            return own * STILL_BPM / tempo
        return own * self.info.bpm / tempo

    def state(
        self, spec: ClipSpec, beat: float, *, beats_per_bar: int | None = None, paused: bool = False
    ) -> protocol.State:
        """What is announced. ``beats_per_bar``: metre of the bar at ``beat``; None: that of the clip."""
        return protocol.State(
            prompts=tuple(protocol.Prompt(text=part.text, weight=part.weight) for part in spec.prompts),
            negative=spec.start.negative,
            seed=spec.start.seed,
            seed_image=spec.start.seed_image,
            denoising=None if spec.start.denoising is None else round(self._denoising(spec), 4),
            guidance=None if spec.start.guidance is None else round(spec.guidance(self.info.guidance), 4),
            bpm=_rounded(self.tempo(spec, math.floor(beat + 1e-6))),  # a ramp is reported beat by beat
            bpm_reason=self.tempo_reason(spec),
            beats_per_bar=beats_per_bar or self.meter(spec),
            beats_per_bar_reason=self.meter_reason(spec),
            key=self.transposition(spec),
            **self._conditions(spec),
            paused=paused,
            steered=self.steered,
        )

    def _conditions(self, spec: ClipSpec) -> dict[str, Any]:
        """Fields of the state about form and conditions."""
        near = spec.start if spec.alpha < 0.5 else spec.end
        form, row = self.wanted_form, self._row(spec, 0)
        lacks = (form != "none" or bool(self.left_out)) and not self.info.conditions
        reason = f"the model {self.info.model} takes words alone"
        if self.left_out:
            reason += f": {', '.join(self.left_out)} of the journey are left out"
        rests = dict(near.rests) if self.info.conditions else {}
        levels = {name: level if (level := spec.level(name)) is None else round(level, 4) for name in LEVELS}
        return {
            "form": "none" if lacks else form,
            "form_reason": reason if lacks else None,
            "chords": None if row is None else row.sounding(self.transposition(spec)),
            "parts": None if near.parts is None else protocol.Parts(**dict(near.parts)),
            "rests": protocol.Rests(**rests) if rests else None,
            **levels,
        }

    def _denoising(self, spec: ClipSpec) -> float:
        return spec.denoising(self.info.denoising, seed_image=self.info.seed_image)

    def _settled(self, beat: float) -> Score:
        """The score with finished ramps as constants, so that equivalent scores compare equal."""
        names = ("denoising", "guidance", "bpm")
        ramps = {name: ramp.settled(beat) for name in names if (ramp := getattr(self, name)) is not None}
        return replace(self, **ramps) if ramps else self

    def reset(self) -> Change:
        """Return to the beginning of the default journey. An unsteered score does not change."""
        fresh = replace(
            self,
            path=self.home,
            negative=None,
            seed_image=None,
            denoising=None,
            guidance=None,
            bpm=None,
            beats_per_bar=None,
            key=None,
            asked=NOTHING,
        )
        return Change(fresh, "clip" if self.steered else "none", 0)

    def skip(self, index: int, here: Here) -> Change:
        """Go to the journey's next stop, or to another variation of a single prompt."""
        if len(self.path.stops) == 1:
            return self.steer(protocol.Steer(id="skip", seed=(here.spec.start.seed + 1000) % 2**32), here)
        now = self.path.clip(index).end.prompts
        for ahead in range(index + 1, index + 2 * self.path.length):
            spec = self.path.clip(ahead)
            if spec.alpha == 0 and spec.start.prompts != now:
                return Change(self, "clip", ahead)
        return Change(self, "clip", index + 1)

    def steer(self, steer: protocol.Steer, here: Here) -> Change:
        """Merge a steer. Absent fields keep their value; None returns a field to its default.

        Raises:
            ParameterError: a metre that the model lacks.
        """
        spec, beat = here.spec, here.beat
        old = score = self._settled(beat)
        ramp = _ramps(steer.ramp_s, here)
        if steer.negative is not UNSET:
            score = replace(score, negative=steer.negative)
        if steer.seed_image is not UNSET:
            score = replace(score, seed_image=None if steer.seed_image is None else (steer.seed_image,))
        if steer.denoising is not UNSET:
            score = replace(score, denoising=ramp(self._denoising(spec), steer.denoising))
        if steer.guidance is not UNSET:
            score = replace(score, guidance=ramp(spec.guidance(self.info.guidance), steer.guidance))
        if steer.bpm is not UNSET:
            goal = None if steer.bpm == "auto" else steer.bpm
            score = replace(score, bpm=ramp(self.tempo(spec, beat) or 120.0, goal))
        if steer.beats_per_bar is not UNSET:
            metre = steer.beats_per_bar if isinstance(steer.beats_per_bar, int) else None
            if metre is not None:
                self.info.in_meter(metre)
            score = replace(score, beats_per_bar=metre)
        if steer.key is not UNSET:
            score = replace(score, key=steer.key)
        score = replace(score, asked=score.asked.merged(steer, score.transposition(spec), self.info))
        kind: Kind = _kind(old, score) if old.meter(spec) == score.meter(spec) else "clip"
        if steer.prompts is None:
            back = replace(score, path=self.home)
            return Change(back, "clip" if self.path is not self.home else kind, 0)
        if steer.prompts is UNSET and (steer.seed is UNSET or steer.seed is None):
            return Change(score, kind)
        return score._redirect(steer, here)

    def _redirect(self, steer: protocol.Steer, here: Here) -> Change:
        """Replace the path: new prompts, or another seed."""
        spec = here.spec
        prompts = spec.prompts
        if isinstance(steer.prompts, tuple):
            prompts = tuple(PromptPart(part.text, part.weight) for part in steer.prompts)
        seed = steer.seed if isinstance(steer.seed, int) else spec.start.seed
        target = self.asked.off(spec.start)
        target = replace(target, prompts=prompts, seed=seed, bpm=None, beats_per_bar=None, key=0.0)
        # New prompts keep the journey's values, unless their words ask for a tempo or a metre.
        spoken = _pace(prompts)
        bpm = self.bpm or (Ramp.constant(spec.bpm) if spec.bpm is not None and spoken.bpm is None else None)
        metre = self.beats_per_bar or (spec.beats_per_bar if spoken.beats is None else None)
        score = replace(self, bpm=bpm, beats_per_bar=metre, key=self.transposition(spec) or self.key)
        clips = round(steer.ramp_s / here.clip_s)
        if clips >= 2:
            origin: Keyframe = replace(target, prompts=spec.prompts, seed=spec.start.seed)
            path = Journey.steered(origin, target, transition_clips=clips, drift=self.info.drift)
            return Change(replace(score, path=path), "clip", 1)  # alpha 0 plays already
        change = replace(score, path=Journey.single(target, drift=self.info.drift))
        moving_tempo = steer.bpm is not UNSET and steer.ramp_s > 0
        return Change(change, "clip", 0, 0.0 if moving_tempo else steer.ramp_s)


def _pace(prompts: Sequence[PromptPart]) -> Pace:
    return blend([(read_pace(part.text), part.weight) for part in prompts])


def _kind(old: Score, new: Score) -> Kind:
    if old.conducted != new.conducted or any(getattr(old, name) != getattr(new, name) for name in _SAMPLED):
        return "clip"
    voiced = ("bpm", "beats_per_bar", "key")
    return "vocoder" if any(getattr(old, name) != getattr(new, name) for name in voiced) else "none"


def _ramps(ramp_s: float, here: Here) -> Callable[[float, float | None], Ramp | None]:
    """Factory of ramps over the next ``ramp_s`` seconds."""
    beats = ramp_s * here.clip_beats / here.clip_s

    def ramp(now: float, goal: float | None) -> Ramp | None:
        return None if goal is None else Ramp(now, goal, here.beat, beats).settled(here.beat)

    return ramp


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
