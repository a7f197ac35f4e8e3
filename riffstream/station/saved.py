"""The saved state of a station, from which a restarted server continues its music.

:func:`saved` makes it from a timeline; :func:`continued` reads it for a new one. Both are pure functions. The file is
the server's (``server/state_file.py``).
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from riffstream import protocol
from riffstream.audio.checks import Pcm
from riffstream.audio.tone import CHUNK
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.generator.messages import Info
from riffstream.journey.chords import parse_bars
from riffstream.journey.conditions import PARTS
from riffstream.journey.form import FormName
from riffstream.journey.journey import Journey
from riffstream.journey.plan import Row, without_conditions
from riffstream.ranges import check
from riffstream.station.asked import LEVELS, NOTHING, Asked, bars_in_clip
from riffstream.station.bars import Bars
from riffstream.station.beats import Ramp
from riffstream.station.history import Begin, Rest
from riffstream.station.score import Score
from riffstream.station.splices import Opening
from riffstream.station.timed import MOST

__all__ = [
    "Continued",
    "SavedPlace",
    "SavedScore",
    "SavedStation",
    "anew",
    "begun",
    "continued",
    "journey_hash",
    "packed",
    "saved_score",
    "unpacked",
]

log: Final = logging.getLogger(__name__)

GRID: Final = CHUNK  # samples: the desk filters whole chunks
_MOST: Final = 2**53
Count = Annotated[int, Meta(ge=0, le=_MOST)]
Beat = Annotated[float, Meta(ge=-1e6, le=1e12)]


class SavedRamp(Struct, frozen=True, forbid_unknown_fields=True):
    """A :class:`Ramp`."""

    a: float
    b: float
    beat: Beat
    beats: Beat


class SavedRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A :class:`Row`."""

    text: Annotated[str, Meta(max_length=1000)]
    key: float
    bar: Count | None


class SavedScore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What steering has changed in a :class:`Score`.

    Attributes:
        path: the steered journey (``Journey.to_dict``); None: the default journey.
        form, row, parts, energy, density, brightness: as in :class:`Asked`.
        The others are as in :class:`Score`.
    """

    path: dict[str, Any] | None = None
    negative: Annotated[str, Meta(max_length=1000)] | None = None
    seed_image: tuple[str | None] | None = None
    denoising: SavedRamp | None = None
    guidance: SavedRamp | None = None
    bpm: SavedRamp | None = None
    beats_per_bar: int | None = None
    key: float | None = None
    form: FormName | None = None
    row: SavedRow | None = None
    parts: tuple[tuple[str, float], ...] | None = None
    energy: float | None = None
    density: float | None = None
    brightness: float | None = None


class SavedPlace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Musical position at the end of the committed audio.

    Attributes:
        beat: beat of the station.
        clip_beat: beat at which the clip begins.
        index: index of the clip in the path.
        bar: number of the clip's first bar in the form.
        samples_per_beat: at 48 kHz.
        line, beats, number: last bar line, beats in its bar, and its number.
    """

    beat: Beat
    clip_beat: Beat
    index: Count
    bar: Count
    samples_per_beat: Annotated[float, Meta(ge=1000, le=1_000_000)]
    line: Beat
    beats: Annotated[int, Meta(ge=3, le=4)]
    number: Annotated[int, Meta(ge=-_MOST, le=_MOST)]


class SavedStation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of one station.

    Attributes:
        settings: configuration of a station made over the API; None: the server's configuration has it.
        journey: :func:`journey_hash` of the default journey.
        rev: revision of the newest accepted change.
        sample_pos: end of the committed audio on the sample clock.
        clip: identity of the next clip.
        paused: whether the station is paused.
        mix: settings of the desk.
        score: what steering has changed.
        place: the musical position.
        queue: the prompts that follow (``PromptQueue.to_dict``).
        requests: what listeners wish (``Requests.to_dict``).
        waiting: steers that wait for their bars, earliest first.
        recent: the last audio before ``sample_pos``, int16 interleaved; only of a planned stop.
        epoch: identity of the sample clock; only of a planned stop, after which the audio goes on at the same place.
    """

    settings: dict[str, Any] | None = None
    journey: str
    rev: Count
    sample_pos: Count
    clip: Count
    paused: bool
    mix: protocol.Mix
    score: SavedScore
    place: SavedPlace
    queue: dict[str, Any] | None = None
    requests: dict[str, Any] | None = None
    waiting: Annotated[tuple[protocol.Steer, ...], Meta(max_length=MOST)] = ()
    recent: bytes = b""
    epoch: Annotated[str, Meta(max_length=64)] = ""

    def after(self, samples: int) -> SavedStation:
        """The state ``samples`` later: music that was perhaps sent before a crash is left out."""
        return msgspec.structs.replace(self, sample_pos=_on_grid(self.sample_pos + samples), place=self._place(samples))

    def _place(self, samples: int) -> SavedPlace:
        if self.paused:
            return self.place
        here = self.place
        beat = here.beat + (_on_grid(self.sample_pos + samples) - self.sample_pos) / here.samples_per_beat
        bars = Bars.of(here.line, here.beats, here.number)
        return msgspec.structs.replace(here, beat=beat, line=bars.line(beat), number=bars.number(beat))


def _on_grid(pos: int) -> int:
    return -(-pos // GRID) * GRID


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """The beginning of a timeline, by default that of its journey; or the continuation of a saved one.

    Attributes:
        score: the score.
        begin: its first sample.
        opening: start of the first take.
        clip: identity of the first clip.
        paused: whether the station is paused.
        waiting: steers that wait for their bars.
    """

    score: Score
    begin: Begin = field(default_factory=Begin)
    opening: Opening = field(default_factory=lambda: Opening(0.0, 0.0, 0, []))
    clip: int = 0
    paused: bool = False
    waiting: tuple[protocol.Steer, ...] = ()


def packed(pcm: Pcm) -> bytes:
    """Audio [n, 2] as interleaved int16."""
    data: bytes = np.clip(np.rint(pcm * 32767.0), -32768, 32767).astype("<i2").tobytes()
    return data


def unpacked(data: bytes) -> Pcm:
    """Inverse of :func:`packed`."""
    whole = np.frombuffer(data[: len(data) // 4 * 4], "<i2").reshape(-1, 2)
    return whole.astype(np.float32) / np.float32(32767.0)


def journey_hash(journey: Journey) -> str:
    """Short hash of a journey's content."""
    return hashlib.blake2b(msgspec.json.encode(journey.to_dict(), order="sorted"), digest_size=8).hexdigest()


def saved_score(score: Score) -> SavedScore:
    """What steering has changed in a score."""
    row = score.asked.row
    return SavedScore(
        path=None if score.path is score.home else score.path.to_dict(),
        negative=score.negative,
        seed_image=score.seed_image,
        denoising=_saved_ramp(score.denoising),
        guidance=_saved_ramp(score.guidance),
        bpm=_saved_ramp(score.bpm),
        beats_per_bar=score.beats_per_bar,
        key=score.key,
        form=score.asked.form,
        row=None if row is None else SavedRow(row.text, row.key, row.bar),
        parts=score.asked.parts,
        energy=score.asked.energy,
        density=score.asked.density,
        brightness=score.asked.brightness,
    )


def _saved_ramp(ramp: Ramp | None) -> SavedRamp | None:
    return None if ramp is None else SavedRamp(ramp.a, ramp.b, ramp.beat, ramp.beats)


def continued(state: SavedStation, fresh: Score) -> Continued:
    """The beginning of a timeline that continues ``state``.

    Args:
        state: the saved state.
        fresh: the score without steering, for the present configuration and model. A default journey that differs from
            the saved one begins anew; steered music goes on.

    Raises:
        ParameterError, MediaError: a value that the model or this version does not know.
    """
    score = _restored(state.score, fresh)
    if score.path is score.home and state.journey != journey_hash(fresh.home):
        return anew(state, score)
    place, beats = state.place, 1.0
    clip_beat, index, bar = place.clip_beat, place.index, place.bar
    for _ in range(10_000):  # the place may lie clips behind the saved one, if the generator was late
        beats = score.info_of(score.spec(index, clip_beat)).beats
        if place.beat < clip_beat + beats:
            break
        clip_beat, index, bar = clip_beat + beats, index + 1, bar + bars_in_clip(score.info)
    beat = min(max(place.beat, clip_beat), clip_beat + beats)
    return Continued(
        score=score,
        begin=Begin(
            pos=_on_grid(state.sample_pos),
            rev=state.rev,
            rest=Rest(beat, Bars.of(place.line, place.beats, place.number)),
            mix=state.mix.changed(hold=False),  # the repeated bar is not saved
        ),
        opening=Opening(beat, clip_beat, index, [], bar, bar),
        clip=state.clip,
        paused=state.paused,
        waiting=state.waiting,
    )


def begun(state: SavedStation | None, score: Score, station: str) -> Continued | None:
    """The place at which a station continues an earlier process; None: it begins."""
    if state is None:
        return None
    try:
        start = continued(state, score)
    except RiffstreamError as error:
        log.warning("station %s: its saved music cannot go on, so it begins anew: %s", station, error)
        start = anew(state, score)
    except Exception:  # a saved state must not keep a station from its music
        log.exception("station %s: its saved music cannot go on, so it begins anew", station)
        start = anew(state, score)
    if left_out := len(state.waiting) - len(start.waiting):
        log.warning("station %s: its bars count anew, so changes that waited for their bars end: %d", station, left_out)
    return start


def anew(state: SavedStation, score: Score) -> Continued:
    """The beginning of the default journey, with the saved sample clock and a new revision. Its bars count from 0."""
    metre = score.meter(score.spec(0, 0.0))
    begin = Begin(_on_grid(state.sample_pos), state.rev + 1, Rest(0.0, Bars.of(0.0, metre)))
    return Continued(score=score, begin=begin, clip=state.clip)


def _restored(state: SavedScore, fresh: Score) -> Score:
    info = fresh.info
    path = fresh.home
    if state.path is not None:
        path = Journey.from_dict(state.path).paced(info.drift)
        if not info.conditions:
            path, _ = without_conditions(path)
    for metre in {state.beats_per_bar, *(stop.keyframe.beats_per_bar for stop in path.stops)} - {None}:
        info.in_meter(metre or 0)
    return replace(
        fresh,
        path=path,
        negative=state.negative,
        seed_image=state.seed_image,
        denoising=_ramp("denoising", state.denoising),
        guidance=_ramp("guidance", state.guidance),
        bpm=_ramp("bpm", state.bpm),
        beats_per_bar=state.beats_per_bar,
        key=_checked("key", state.key),
        asked=_asked(state, info),
    )


def _ramp(name: str, ramp: SavedRamp | None) -> Ramp | None:
    if ramp is None:
        return None
    return Ramp(check(name, ramp.a), check(name, ramp.b), ramp.beat, ramp.beats)


def _checked(name: str, value: float | None) -> float | None:
    return None if value is None else float(check(name, value))


def _asked(state: SavedScore, info: Info) -> Asked:
    if not info.conditions:
        return NOTHING
    row = None
    if state.row is not None:
        parse_bars(state.row.text)
        row = Row(state.row.text, check("key", state.row.key), state.row.bar)
    parts = state.parts
    if parts is not None:
        if (unknown := next((name for name, _ in parts if name not in PARTS), None)) is not None:
            raise ParameterError("parts", unknown, ", ".join(PARTS))
        parts = tuple((name, check("part", level)) for name, level in parts)
    levels: dict[str, Any] = {name: _checked(name, getattr(state, name)) for name in LEVELS}
    return Asked(form=state.form, row=row, parts=parts, **levels)
