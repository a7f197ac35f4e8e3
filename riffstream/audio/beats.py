"""Beats of a recording: one tempo where it is steady, or every beat where the tempo drifts, as with a live drummer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riffstream.audio.beat_fit import EVERYWHERE, beat_profiles, mean_fit, unclear_part
from riffstream.audio.tempo import (
    HIGH_BPM,
    LOW_BPM,
    STEP_S,
    agreement,
    find_tempo,
    likeness_of,
    music_start,
    onset_curve,
    rise_of_loudness,
)

__all__ = ["Beats", "find_beats", "frame_positions"]

WINDOW_S, MOVE_S = 8.0, 1.0  # the local tempo is measured in windows of 8 s, one a second
LOCAL_MULTIPLES: Final = (0.5, 1, 1, 2, 4)
# Reach of the local tempo from the recording's, up and down as a logarithm, the number of tempos tried, and the cost of
# a change of the local tempo from second to second: times its squared logarithm. A wider reach is used only where the
# tempo comes to the end of the narrower one, or where the beats do not fit: with more choices, more music seems to
# drift. The last one also has steep ramps, as from 80 to 160 bpm in a minute.
REACHES: Final = ((0.2, 81, 4000.0), (0.4, 161, 4000.0), (0.8, 321, 500.0))
FITS: Final = 0.8  # fit of smoothed beats from which on no wider reach is tried
TIGHT: Final = 300.0  # cost of a beat that is early or late: TIGHT times the squared logarithm of interval by period
STEADY_S: Final = 0.02  # beats this near to one tempo are steady: two frames of the model at 100 bpm
REGULAR: Final = 0.05  # intervals of a drifting tempo differ by less, relative to their neighbours
# Change of the followed tempo from four beats to the next four, as a logarithm, from which on the beat is lost. Real
# recordings with a drift have 0.07 to 0.16, ramps followed in part 0.19 and more.
JUMP_BEATS, JUMP = 4, 0.17
STRONG: Final = 3.0  # least mean of both onset curves on followed beats, in deviations; noise has 2.2
STRONGER: Final = 1.3  # least ratio of the onsets on followed beats to those on the beats of one tempo
# Each followed beat is on an onset, also in music of one tempo, where the search goes from syncopation to syncopation.
# A drift is slow: where people drift, the beats still meet the onsets when they are smoothed over some beats. Of real
# recordings with a drift, the smoothed beats have 0.12 to 0.46 more fit than one tempo; of four machines 0.02 at most.
SLOW: Final = 4.0  # standard deviation of the smoothing, beats
GAIN: Final = 0.06
ON_GRID: Final = 0.65  # share of beats on the sixteenths of one tempo from which on it is steady, with slips
# Least highest rise of a recording with notes that begin: drones have less than 0.1, since their waves do not fit whole
# into the steps, and a soft jingle has 0.6.
ONSET: Final = 0.15
EARLY_S: Final = 0.035  # a beat at most this long before the first onset is the first


@dataclass(frozen=True, slots=True)
class Beats:
    """The beats of a recording.

    Attributes:
        bpm: tempo in beats a minute; of a drifting recording the mean.
        at: positions of the beats in samples, float64 [B], from the first one to the one at or behind the end.
        drifts: whether the beats are followed one by one; otherwise they are evenly spaced.
        unclear: part in seconds whose onsets do not meet the beats; 0 and infinity: all of it. None: no such part.
    """

    bpm: float
    at: NDArray[np.float64]
    drifts: bool
    unclear: tuple[float, float] | None = None

    @property
    def doubt(self) -> str | None:
        """A sentence about an unclear tempo; None for a clear one.

        >>> Beats(110.0, np.zeros(2), False, (42.9, 60.0)).doubt
        'tempo unclear from 43 to 60 s: onsets there do not meet the beats of 110 bpm'
        """
        if self.unclear is None:
            return None
        if self.unclear == EVERYWHERE:
            return f"tempo unclear: taken as {self.bpm:g} bpm, but too few onsets repeat with its beats"
        start, end = self.unclear
        part = f"tempo unclear from {start:.0f} to {end:.0f} s"
        if self.drifts:
            return f"{part}: the beats cannot be followed there"
        return f"{part}: onsets there do not meet the beats of {self.bpm:g} bpm"

    def range(self, rate: int) -> tuple[float, float]:
        """Lowest and highest tempo over any eight beats, in bpm."""
        span = min(8, len(self.at) - 1)
        tempos = 60 * span * rate / (self.at[span:] - self.at[:-span])
        return float(tempos.min()), float(tempos.max())

    def words(self, rate: int) -> str | None:
        """A sentence about a drifting tempo; None for a steady one."""
        if not self.drifts:
            return None
        low, high = self.range(rate)
        return f"tempo drifts from {low:.1f} to {high:.1f} bpm: every beat is followed"


def find_beats(wave: NDArray[np.float32], rate: int = 48_000, *, bpm: float | None = None) -> Beats:
    """Find the beats of a recording.

    The tempo of the whole recording comes from :func:`~riffstream.audio.tempo.find_tempo`. A Viterbi search over local
    autocorrelations finds its course within 20 % of that tempo, and in a wider reach if the beats fit badly there.
    Dynamic programming then places the beats on strong onsets that are about one local period apart (Ellis, "Beat
    tracking by dynamic programming", 2007). The result is used only if it is regular, departs from one tempo by more
    than 20 ms, has clearly stronger onsets on its beats, and fits better also when it is smoothed.

    Args:
        wave: [channels, N], in [-1, 1].
        rate: samples a second, 100 or more.
        bpm: a known tempo; a drifting one is searched around it. It is never called unclear.
    """
    tempo, first = find_tempo(wave, rate, bpm=bpm)
    end = wave.shape[1]
    lag = 60 / tempo * rate
    count = max(1, int(np.ceil((end - first) / lag))) + 1
    step = rate / 100
    rise = rise_of_loudness(wave, rate)
    curve = onset_curve(wave, rate)[: len(rise)]
    begins = curve.max(initial=0.0) > ONSET
    curve = curve / (curve.std() + 1e-12) + rise / (rise.std() + 1e-12) if curve.any() else curve
    even = np.asarray(first + lag * np.arange(count), np.float64)
    profiles = beat_profiles(curve, even / step)
    least = mean_fit(profiles) + GAIN
    found = Beats(tempo, even, False)
    if begins and len(curve) * STEP_S >= 2 * WINDOW_S:
        start = music_start(wave, rate) - EARLY_S / STEP_S
        for places in _followed(curve, 60 / tempo / STEP_S, start, known=bpm is not None):
            slow = mean_fit(beat_profiles(curve, _smoothed(places)))
            if slow < least or not _drift(curve, places, even / step, 60 / tempo / STEP_S):
                continue
            least = slow + GAIN
            places = np.append(places, _until(places, len(curve)))
            at = np.maximum((places + 0.5) * step, 0.0)  # the rise of a step begins somewhere inside it
            mean = 60 * rate * (len(at) - 1) / (at[-1] - at[0])
            found, profiles = Beats(round(float(mean), 2), at, True), beat_profiles(curve, places)
    if bpm is not None:
        return found
    if not begins:
        return replace(found, unclear=EVERYWHERE)
    at = found.at / rate
    return replace(found, unclear=unclear_part(profiles, at) or (_behind_a_jump(at) if found.drifts else None))


def _followed(curve: NDArray[np.float64], period: float, start: float, *, known: bool) -> Iterator[NDArray[np.float64]]:
    """Chains of 16 or more beats from ``start`` on, in steps: in the narrowest reach, and in wider ones if needed.

    The tempo of a steep ramp may have been found at any of its places, so of the chain, its half and its double the one
    with a usual mean is taken, unless the tempo is known.
    """
    size, move = int(WINDOW_S / STEP_S), int(MOVE_S / STEP_S)
    windows = np.arange(0, len(curve) - size + 1, move)
    likenesses = [likeness_of(curve[at : at + size] * np.hanning(size)) for at in windows]
    for reach, count, stiff in REACHES[:2] if known else REACHES:
        periods = period * np.exp(np.linspace(-reach, reach, count))
        path = _path(np.array([agreement(each, periods, LOCAL_MULTIPLES) for each in likenesses]), periods, stiff)
        local = np.interp(np.arange(len(curve)), windows + size / 2, periods[path])
        places = _refine(curve, _place_beats(curve, local))
        places = places[places >= start]
        if len(places) > 1 and not known:
            places = _usual(curve, places)
        inside = min(path) > 0 and max(path) < count - 1
        if len(places) >= 16:
            yield places
            inside = inside and mean_fit(beat_profiles(curve, _smoothed(places))) > FITS
        if inside:
            return


def _usual(curve: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The beats, every second one of them or twice as many, whichever has a mean from 70 to 170 bpm."""
    mean = 60 * (len(places) - 1) / ((places[-1] - places[0]) * STEP_S)
    if mean > HIGH_BPM:
        return max(places[::2], places[1::2], key=lambda half: _strength(curve, half))
    if mean < LOW_BPM:
        return _refine(curve, np.interp(np.arange(2 * len(places) - 1) / 2, np.arange(len(places)), places))
    return places


def _behind_a_jump(beats: NDArray[np.float64]) -> tuple[float, float] | None:
    """The shorter side of the place where followed beats jump to another tempo, in the unit of ``beats``; or None.

    No musician changes the tempo by a sixth within four beats and keeps on: the search has lost the beat there.
    """
    four = np.log(beats[JUMP_BEATS:] - beats[:-JUMP_BEATS])
    jumps = np.abs(four[JUMP_BEATS:] - four[:-JUMP_BEATS])
    if not len(jumps) or jumps.max() < JUMP:
        return None
    place = int(jumps.argmax()) + JUMP_BEATS
    first, last = (0, place) if place < len(beats) / 2 else (place, len(beats) - 1)
    return float(beats[first]), float(beats[last])


def _until(places: NDArray[np.float64], end: int) -> NDArray[np.float64]:
    """Beats behind the last one, at the last interval, up to one at or behind the end."""
    interval = float(np.median(np.diff(places[-5:])))
    return np.asarray(places[-1] + interval * np.arange(1, max(0, int(np.ceil((end - places[-1]) / interval))) + 1))


def _path(scores: NDArray[np.float64], periods: NDArray[np.float64], stiff: float) -> list[int]:
    """The best period of each window, as an index: a Viterbi search over scores [windows, periods]."""
    change = np.log(periods)[:, None] - np.log(periods)[None]
    cost = stiff * (change / MOVE_S) ** 2
    total, back = scores[0], []
    for score in scores[1:]:
        reached = total[:, None] - cost  # [from, to]
        back.append(reached.argmax(0))
        total = reached.max(0) + score
    path = [int(total.argmax())]
    for choice in reversed(back):
        path.append(int(choice[path[-1]]))
    return path[::-1]


def _place_beats(curve: NDArray[np.float64], periods: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions of the beats in steps, [B]: the chain with the most onsets less the costs of its intervals."""
    heard = np.convolve(curve, np.hanning(7)[1:-1], "same")
    score, before = heard.copy(), np.full(len(curve), -1)
    for at in range(len(curve)):
        near, far = int(periods[at] * 0.7), int(periods[at] * 1.4) + 1
        if at < near:
            continue
        gaps = np.arange(near, min(far, at) + 1)
        reached = score[at - gaps] - TIGHT * np.log(gaps / periods[at]) ** 2
        best = int(reached.argmax())
        if reached[best] > 0:
            score[at] += reached[best]
            before[at] = at - gaps[best]
    at = int(len(curve) - periods[-1] + score[-int(periods[-1]) :].argmax())
    places = []
    while at >= 0:
        places.append(at)
        at = int(before[at])
    return np.array(places[::-1], float)


def _refine(curve: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move beats to the centre of the onset within 20 ms, to fractions of a step."""
    moved = places.copy()
    for k, place in enumerate(places.astype(int)):
        low, high = max(0, place - 2), min(len(curve), place + 3)
        weights = curve[low:high] ** 2
        if weights.sum() > 1e-9:
            moved[k] = float((weights * np.arange(low, high)).sum() / weights.sum())
    return moved


def _drift(curve: NDArray[np.float64], places: NDArray[np.float64], even: NDArray[np.float64], period: float) -> bool:
    """Whether followed beats are a regular pulse that one tempo does not meet."""
    count = np.arange(len(places))
    slope, start = np.polyfit(count, places, 1)
    off = np.abs(places - (start + slope * count))
    if np.quantile(off, 0.8) * STEP_S < STEADY_S:
        return False
    intervals = np.diff(places)
    if np.median(np.abs(np.diff(intervals))) > REGULAR * np.median(intervals):
        return False
    if _on_sixteenths(places, period) > ON_GRID:
        return False
    followed = _strength(curve, places)
    return followed > STRONG and followed > STRONGER * _strength(curve, even[even < len(curve)])


def _smoothed(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Beats without their fast deviations from one tempo, for 13 beats and more."""
    count, half = np.arange(len(places)), round(3 * SLOW)
    slope, start = np.polyfit(count, places, 1)
    off = places - (start + slope * count)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / SLOW) ** 2)
    around = np.concatenate([2 * off[0] - off[half:0:-1], off, 2 * off[-1] - off[-2 : -half - 2 : -1]])
    return np.asarray(start + slope * count + np.convolve(around, kernel / kernel.sum(), "valid"))


def _on_sixteenths(places: NDArray[np.float64], period: float) -> float:
    """Share of beats within 20 ms of the sixteenths of one tempo at its best phase.

    Beats that slip by a half, as over a pause, still count. Those of another tempo do not.
    """
    phases = np.sort(places / (period / 4) % 1)
    reach = min(0.25, STEADY_S / STEP_S / (period / 4))
    around = np.concatenate([phases - 1, phases, phases + 1])
    near = np.searchsorted(around, phases + reach, "right") - np.searchsorted(around, phases - reach, "left")
    return float(near.max() / len(phases))


def _strength(curve: NDArray[np.float64], places: NDArray[np.float64]) -> float:
    near = np.convolve(curve, np.ones(3) / 3, "same")
    return float(np.interp(places, np.arange(len(curve)), near).mean()) if len(places) else 0.0


def frame_positions(beats: NDArray[np.float64], frames_in_beat: int) -> NDArray[np.float64]:
    """Positions of a model's frames on followed beats: every beat is divided evenly.

    Args:
        beats: positions of the beats, [B + 1], in samples.
        frames_in_beat: F, 1 or more.

    Returns:
        float64 [B * F + 1], in samples; the last one is the end of the last beat.
    """
    at = np.arange((len(beats) - 1) * frames_in_beat + 1) / frames_in_beat
    return np.asarray(np.interp(at, np.arange(len(beats)), beats), np.float64)
