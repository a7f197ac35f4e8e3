"""The desk: levels, tone, width, holding and fading of a station's audio, as ramps on the sample clock.

The input has four columns: the music, and its drums (the part of the music that the generator found to be percussive).
Input without drums counts as tonal. The output is a pure function of the input and of the moves; it does not depend on
the block size. While all settings are neutral, the output is the input without a delay. Filters look ahead by 10 ms, so
that the desk then holds samples back.

Threading model
  One thread makes every call. No clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from riffstream.audio.checks import Pcm
from riffstream.audio.tone import CHUNK, NEUTRAL, REACH, Tone, filtered, gain, response
from riffstream.protocol import SAMPLE_RATE, Mix
from riffstream.station.hold import Hold
from riffstream.station.lanes import Lane, Values

__all__ = ["COLUMNS", "Desk", "Move"]

COLUMNS: Final = 4  # left, right, drums left, drums right
RAMP_S: Final = 0.05  # default length of a change
FADE_S: Final = 2.0  # default length of a fade to silence or back
LEAST: Final = SAMPLE_RATE // 50  # shortest change in samples: nothing clicks
HISTORY: Final = 60 * SAMPLE_RATE
_TONE: Final = Tone._fields
_STEMS: Final = ("drums", "bass", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change of the desk on the sample clock.

    Attributes:
        pos: first sample of the change.
        fields: the changed fields of :class:`protocol.Mix` with their new values.
        ramp: length in samples; None: each field's own.
        bar: length of a bar in samples, for ``hold``.
        rev: revision from here on.
    """

    pos: int
    fields: Mapping[str, Any]
    ramp: int | None = None
    bar: int = 2 * SAMPLE_RATE
    rev: int = 0

    def length(self, lane: str, start: int = 0) -> int:
        """Length of a lane's ramp in samples; ``start``: first sample of the stream."""
        if self.pos == start and self.ramp == 0:  # the beginning of the station: nothing was audible before
            return 0
        own = round((FADE_S if lane == "fade" else RAMP_S) * SAMPLE_RATE)
        return max(LEAST, own if self.ramp is None else self.ramp)


@dataclass(frozen=True, slots=True)
class _Heard:
    """Settings from a sample on."""

    pos: int
    rev: int
    mix: Mix


@dataclass(slots=True)
class _Input:
    """The newest samples, with what the filters need of the past."""

    pcm: Pcm = field(default_factory=lambda: np.zeros((0, COLUMNS), np.float32))
    start: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.pcm)

    def add(self, pcm: Pcm) -> None:
        self.pcm = np.concatenate([self.pcm, pcm])

    def drop(self, before: int) -> None:
        if before > self.start:
            self.pcm, self.start = self.pcm[before - self.start :], before

    def read(self, start: int, stop: int) -> Pcm:
        """Samples [start, stop), zeros outside the input."""
        before, after = max(0, self.start - start), max(0, stop - self.end)
        part = self.pcm[max(0, start - self.start) : max(0, stop - self.start)]
        return np.pad(part, ((before, after), (0, 0))) if before or after else part


class Desk:
    """A station's desk.

    Args:
        begun: called with each move when its first sample has been taken.
        start: sample clock at the first sample.

    Attributes:
        taken: sample clock at the end of the samples taken so far; a new move begins there at the earliest.
        given: sample clock at the end of the samples returned so far.
        mix: the settings after the moves that have begun.
        changed_at: first sample of the newest move that has begun.
    """

    def __init__(self, begun: Callable[[Move], None] = lambda move: None, start: int = 0) -> None:
        self._begun = begun
        self._start = start
        self.taken = self.given = self.changed_at = start
        self.mix = Mix()
        self._moves: list[Move] = []
        self._heard: deque[_Heard] = deque([_Heard(0, 0, self.mix)])
        self._hold = Hold(COLUMNS, start)
        self._lanes = {name: Lane(value) for name, value in _goals(self.mix).items()}
        self._input = _Input(start=start)

    # -- moves ----------------------------------------------------------------------------------------------------

    @property
    def coming(self) -> tuple[Move, ...]:
        """Moves that have not begun."""
        return tuple(self._moves)

    @property
    def target(self) -> Mix:
        """The settings after all moves."""
        mix = self.mix
        for move in self._moves:
            mix = mix.changed(**move.fields)
        return mix

    def move(self, move: Move) -> list[Move]:
        """Schedule a move. Earlier moves that have not begun lose the fields that it changes.

        Returns:
            The moves that have no field left; they are dropped.

        Raises:
            ValueError: the move is in the past.
        """
        kept: list[Move] = []
        dropped: list[Move] = []
        for each in self._moves:
            fields = {name: value for name, value in each.fields.items() if name not in move.fields}
            (kept if fields else dropped).append(replace(each, fields=fields) if fields else each)
        self._moves = kept
        self.add(move)
        return dropped

    def add(self, move: Move) -> None:
        """Schedule a move without an effect on others. Raises ValueError if it is in the past."""
        if move.pos < self.taken:
            raise ValueError(f"a move at {move.pos}; the first free sample is {self.taken}")
        self._moves = sorted([*self._moves, move], key=lambda each: each.pos)

    def at(self, pos: int) -> tuple[int, Mix]:
        """Revision and settings at a sample of the last minute."""
        found = next((each for each in reversed(self._heard) if each.pos <= pos), self._heard[0])
        return found.rev, found.mix

    def _begin(self, move: Move) -> None:
        before, self.mix = self.mix, self.mix.changed(**move.fields)
        for name, goal in _goals(self.mix).items():
            if goal != self._lanes[name].goal:
                self._lanes[name].move(move.pos, goal, move.length(name, self._start))
        if before.hold != self.mix.hold:
            self._hold.turn(move.pos, move.bar if self.mix.hold else 0)
        self.changed_at = move.pos
        self._heard.append(_Heard(move.pos, max(move.rev, self._heard[-1].rev), self.mix))
        while len(self._heard) > 1 and self._heard[1].pos < move.pos - HISTORY:
            self._heard.popleft()
        self._begun(move)

    # -- audio ----------------------------------------------------------------------------------------------------

    def push(self, pcm: Pcm) -> Pcm:
        """Take [n, 4]; return the samples that are now final, [m, 2]."""
        end = self.taken + len(pcm)
        while self._moves and self._moves[0].pos < end:
            self._begin(self._moves.pop(0))
        self._input.add(self._hold.push(pcm))
        self.taken = end
        return self._ready(end)

    def flush(self) -> Pcm:
        """End the stream: return the samples held back, [n, 2]."""
        return self._ready(math.inf)

    def _ready(self, known: float) -> Pcm:
        """The next samples, if the input up to ``known`` suffices."""
        parts = []
        while self.given < self.taken:
            start = self.given - self.given % CHUNK  # chunks are counted from sample 0
            quiet = min(self._quiet(self.given), self.taken)
            if quiet > self.given:
                parts.append(self._input.read(self.given, int(quiet))[:, :2])
                self.given = int(quiet)
            elif start + CHUNK + (REACH if self._filters(start) else 0) <= known:
                stop = min(start + CHUNK, self.taken)
                parts.append(self._chunk(start)[self.given - start : stop - start])
                self.given = stop
            else:
                break
        self._input.drop(self.given - self.given % CHUNK - REACH)
        for lane in self._lanes.values():
            lane.forget(self.given - CHUNK)
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)

    def _quiet(self, pos: int) -> float:
        """The sample until which no lane has an effect from ``pos`` on."""
        return min(lane.quiet(pos) for lane in self._lanes.values())

    def _tone(self, pos: int) -> Tone:
        return Tone(*(self._lanes[name].at(pos) for name in _TONE))

    def _filters(self, start: int) -> bool:
        """Whether a chunk needs samples around it."""
        if self._tone(start) != NEUTRAL or self._tone(start + CHUNK) != NEUTRAL:
            return True
        bass, other = (self._lanes[name].span(start, CHUNK) for name in ("bass", "other"))
        return _differ(bass, other)

    def _chunk(self, start: int) -> Pcm:
        """The output [CHUNK, 2] from sample ``start`` on."""
        lanes = self._lanes
        around = self._input.read(start - REACH, start + CHUNK + REACH)
        music, drums = around[:, :2], around[:, 2:]
        drum, bass, other = (_column(lanes[name].span(start, CHUNK)) for name in _STEMS)
        out = self._toned(music, start)
        if not (isinstance(other, float) and other == 1.0):
            out = out * other
        if _differ(drum, other):
            out = out + self._toned(drums, start) * (drum - other)
        if _differ(bass, other):
            out = out + self._toned(music - drums, start, bass=True) * (bass - other)
        width = lanes["width"].span(start, CHUNK)
        if not (isinstance(width, float) and width == 1.0):
            middle, side = (out[:, 0] + out[:, 1]) / 2, (out[:, 0] - out[:, 1]) / 2 * width
            out = np.stack([middle + side, middle - side], axis=1)
        fade = _column(lanes["fade"].span(start, CHUNK))
        if not (isinstance(fade, float) and fade == 1.0):
            out = out * fade
        return np.asarray(out, np.float32)

    def _toned(self, around: Pcm, start: int, *, bass: bool = False) -> Pcm:
        """A chunk after the tone controls. A change within the chunk is a crossfade from its first sample on."""
        before, after = self._tone(start), self._tone(start + CHUNK)
        old = _filter(around, before, bass=bass)
        if before == after:
            return old
        new = _filter(around, after, bass=bass)
        first = min(self._lanes[name].first_move(start, start + CHUNK) for name in _TONE) - start
        share = np.clip((np.arange(CHUNK) - first) / (CHUNK - first), 0, 1).astype(np.float32)[:, None]
        return old + (new - old) * share


def _goals(mix: Mix) -> dict[str, float]:
    """Values of the lanes for settings of the desk."""
    audible = {name: name not in mix.mute and (not mix.solo or name in mix.solo) for name in ("drums", "bass")}
    tonal = gain(mix.tonal)
    return {
        "drums": gain(mix.drums) * audible["drums"],
        "bass": tonal * audible["bass"],
        "other": tonal * (not mix.solo),
        **{name: float(getattr(mix, name)) for name in _TONE},
        "width": float(mix.width),
        "fade": 0.0 if mix.fade else 1.0,
    }


def _filter(around: Pcm, tone: Tone, *, bass: bool) -> Pcm:
    if tone == NEUTRAL and not bass:
        return around[REACH : REACH + CHUNK]
    return filtered(around, response(tone, bass=bass))


def _column(values: Values) -> Values:
    return values if isinstance(values, float) else values[:, None]


def _differ(a: Values, b: Values) -> bool:
    return not np.array_equal(a, b)
