"""The choice of a style's loops: windows of its songs, typical of the style and unlike each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from riffstream.corpus.data import SongFile
from riffstream.journey.conditions import QUIET, Levels
from riffstream.models.seeds import SeedEntry
from riffstream.training.asked import clip_conditions

__all__ = ["Window", "choose_loops"]

# Difference of two loops for each part that only one of them plays (drums, bass, chords, pad, arp, lead), for each 1.0
# of density, energy and brightness, and for another metre.
WEIGHTS: Final = np.array([1.0, 0.4, 0.4, 0.5, 0.4, 0.5, 0.6, 0.8, 0.4, 1.0], np.float32)
INSTRUMENTS: Final = 0.6  # for instruments that have none in common
# Prices in the unit of differences: a filter sweep, a telephone's band, a fill and a nearly silent bar are poor starts.
PLAIN: Final = {"plain": 0.0, "filtered": 0.3, "radio": 0.3, "phaser": 0.2}
DRESSED, FILL, HELD_OUT = 0.05, 0.08, 10.0
SOFT, SILENCE = 0.25, 0.8  # energy below which a loop has a price, and the price for each 1.0 below


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a song."""

    song: SongFile
    number: int

    @property
    def instruments(self) -> tuple[str, ...]:
        """Audible instruments, loudest first."""
        return self.song.instruments[self.number]

    @property
    def levels(self) -> Levels:
        """Its parts and levels; all open in a corpus without facts."""
        conditions = clip_conditions(self.song.facts[self.number], self.song.beats)
        return Levels.of(conditions[: len(conditions) * self.song.beats // 8])

    @property
    def chords(self) -> str:
        """Its chords as in a steer; "" without any, and in a corpus without facts."""
        bars = [bar["chords"] for bar in self.song.facts[self.number]]
        return " ".join(" / ".join(name or "N.C." for name in bar) for bar in bars) if any(map(any, bars)) else ""


def choose_loops(songs: Sequence[SongFile], known: Sequence[SeedEntry], count: int) -> list[Window]:
    """Choose up to ``count`` loops of one style, best first.

    The first loop of a style is the window with the most instruments. Each further one is that to which the most
    windows are nearer than to the chosen ones, in parts, levels, metre and instruments (greedy k-medoids). In most
    styles windows without drums are fewer than those with drums, so they count more (the root of their share).

    Args:
        songs: songs of the style.
        known: loops of the style that are there already.
        count: number of loops.
    """
    windows = [Window(song, number) for song in songs for number in range(len(song.captions))]
    if not windows or count < 1:
        return []
    names = sorted({name for window in windows for name in window.instruments})
    own = np.stack([_row(window.levels, window.song.beats) for window in windows])
    played = np.array([[name in window.instruments for name in names] for window in windows], bool)
    apart = _differences(own, played, own, played)
    drums = own[:, 0] > 0
    weights = np.where(drums, max(1, drums.sum()), max(1, (~drums).sum())) ** -0.5
    weights /= weights.sum()
    price = np.array([_price(window) for window in windows])
    chosen: list[int] = []
    nearest = np.full(len(windows), np.inf)
    if known:
        theirs = np.stack([_row(entry.levels, entry.beats) for entry in known])
        tags = np.array([[name in entry.tags for name in names] for entry in known], bool)
        nearest = _differences(own, played, theirs, tags).min(1)
    while len(chosen) < min(count, len(windows)):
        if known or chosen:
            gain = (nearest[:, None] - apart).clip(0).T @ weights - price
            gain[chosen] = -np.inf
            best = int(gain.argmax())
        else:
            best = _fullest(windows)
        chosen.append(best)
        nearest = np.minimum(nearest, apart[best])
    return [windows[index] for index in chosen]


def _fullest(windows: Sequence[Window]) -> int:
    def rank(index: int) -> tuple[bool, bool, bool, int, int]:
        song, number = windows[index].song, windows[index].number
        full = song.sections[number] == "full"
        return not song.held_out, song.look == "plain", full, len(windows[index].instruments), -index

    return max(range(len(windows)), key=rank)


def _row(levels: Levels, beats: int) -> np.ndarray:
    row = levels.row
    parts = np.where(np.isnan(row[:6]), np.nan, row[:6] >= QUIET)
    return np.concatenate([parts, row[6:], [float(beats == 6)]]).astype(np.float32)


def _differences(a: np.ndarray, a_played: np.ndarray, b: np.ndarray, b_played: np.ndarray) -> np.ndarray:
    """[n, m] differences of n and m loops. What one of two does not know makes half a difference."""
    apart = np.nan_to_num(np.abs(a[:, None] - b[None]), nan=0.5) @ WEIGHTS
    both = (a_played[:, None] & b_played[None]).sum(-1)
    either = (a_played[:, None] | b_played[None]).sum(-1).clip(1)
    return np.asarray(apart + INSTRUMENTS * (1 - both / either))


def _price(window: Window) -> float:
    fill = any(bar["fill"] for bar in window.song.facts[window.number])
    energy = window.levels.energy
    quiet = 0.0 if energy is None else max(0.0, SOFT - energy)
    return PLAIN.get(window.song.look, DRESSED) + FILL * fill + SILENCE * quiet + HELD_OUT * window.song.held_out
