"""The desk: settings that change the sound of the music without a new clip."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from riffstream.ranges import RANGES

Stem = Literal["drums", "bass"]
LevelDb = Annotated[float, RANGES["level_db"].meta]
Tilt = Annotated[float, RANGES["tilt"].meta]
Width = Annotated[float, RANGES["width"].meta]
Filter = Annotated[float, RANGES["filter"].meta]
Stems = Annotated[tuple[Stem, ...], Meta(max_length=2)]

# Ranges of the desk's numbers, for ``welcome.limits`` and for messages.
MIX_NUMBERS: Final = dict.fromkeys(("drums", "tonal", "low", "mid", "high"), RANGES["level_db"]) | {
    name: RANGES[name] for name in ("tilt", "width", "filter")
}
OFF_DB: Final = RANGES["level_db"].low


class Mix(Struct, frozen=True, kw_only=True):
    """Settings of the desk. The default of each field is neutral; a neutral desk does not change a sample.

    - ``drums``, ``tonal``: levels of the percussive and of the tonal sound in dB; -60 is off.
    - ``low``, ``mid``, ``high``: levels below 250 Hz, between, and above 2.5 kHz in dB; -60 is off.
    - ``tilt``: brightness in dB an octave, around 1 kHz.
    - ``width``: 0 is mono, 1 the clip's own width, 2 twice as wide.
    - ``filter``: below 0 a low-pass filter, down to 100 Hz at -1; above 0 a high-pass filter, up to 10 kHz at 1.
    - ``hold``: true repeats the last bar. The music continues silently, so its beat is kept.
    - ``fade``: true fades to silence, false back.
    - ``mute``, ``solo``: of the drums and the bass (the tonal sound below 250 Hz).
    """

    drums: LevelDb = 0.0
    tonal: LevelDb = 0.0
    low: LevelDb = 0.0
    mid: LevelDb = 0.0
    high: LevelDb = 0.0
    tilt: Tilt = 0.0
    width: Width = 1.0
    filter: Filter = 0.0
    hold: bool = False
    fade: bool = False
    mute: Stems = ()
    solo: Stems = ()

    def changed(self, **fields: Any) -> Mix:
        """The settings with new values of some fields."""
        return msgspec.structs.replace(self, **fields)


class MixChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Change of the desk in a steer. An absent field keeps its value; null is its neutral value. ``ramp_s``: length of
    the change in seconds; null: the steer's ``ramp_s``, or 0.05 s (2 s for ``fade``) if that is 0."""

    drums: LevelDb | UnsetType | None = UNSET
    tonal: LevelDb | UnsetType | None = UNSET
    low: LevelDb | UnsetType | None = UNSET
    mid: LevelDb | UnsetType | None = UNSET
    high: LevelDb | UnsetType | None = UNSET
    tilt: Tilt | UnsetType | None = UNSET
    width: Width | UnsetType | None = UNSET
    filter: Filter | UnsetType | None = UNSET
    hold: bool | UnsetType | None = UNSET
    fade: bool | UnsetType | None = UNSET
    mute: Stems | UnsetType | None = UNSET
    solo: Stems | UnsetType | None = UNSET
    ramp_s: Annotated[float, RANGES["ramp_s"].meta] | None = None

    def fields(self) -> dict[str, Any]:
        """The given fields with their values in the wire's names."""
        given = {name: getattr(self, name) for name in Mix.__struct_fields__}
        neutral = Mix()
        return {
            name: getattr(neutral, name) if value is None else tuple(sorted(set(value))) if _is_list(name) else value
            for name, value in given.items()
            if value is not UNSET
        }

    @classmethod
    def to(cls, mix: Mix, ramp_s: float | None = None) -> MixChange:
        """The change to all settings of ``mix``."""
        return cls(**msgspec.structs.asdict(mix), ramp_s=ramp_s)


def merged_mix(old: MixChange | UnsetType | None, new: MixChange | UnsetType | None) -> MixChange | UnsetType | None:
    """Two changes in one; the newer value of each field wins. None is the neutral desk."""
    if new is UNSET:
        return old
    if new is None or old is UNSET:
        return new
    before = MixChange.to(Mix()) if old is None else old
    kept = {
        name: getattr(before, name)
        for name in MixChange.__struct_fields__
        if (getattr(new, name) in (UNSET, None) and name == "ramp_s") or getattr(new, name) is UNSET
    }
    return msgspec.structs.replace(new, **kept)


def _is_list(name: str) -> bool:
    return name in ("mute", "solo")
