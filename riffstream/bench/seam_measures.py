"""Audibility of the joins between clips, in comparison with the inside of clips.

There are three measures at each place, over a few milliseconds: spectral flux (change of the spectrum), phase jump
(deviation of partials from their predicted phase; after Bello et al., "A tutorial on onset detection in music signals",
IEEE TSAP 2005), and the step in level. Joins are on bar lines, which have note onsets, so a permutation test compares
them with the other bar lines (or beats) of the same music.

Pure numpy; used by tests and by ``riffstream bench stream``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riffstream.errors import ParameterError
from riffstream.generator.messages import Pcm

__all__ = ["MEASURES", "SeamReport", "compare", "measure", "report"]

WINDOW: Final = 1024
HOP: Final = 128
REACH: Final = 1536  # samples on either side of a place in the measures
MEASURES: Final = ("flux", "phase", "level")
PERMUTATIONS: Final = 4000


@dataclass(frozen=True, slots=True)
class SeamReport:
    """Comparison of joins with references.

    Attributes:
        joins: number of joins.
        references: number of references.
        ratio: measure -> ratio of the median at joins to the median at references.
        p: measure -> probability of at least this difference if joins and references are alike.
    """

    joins: int
    references: int
    ratio: dict[str, float]
    p: dict[str, float]

    @property
    def worst_p(self) -> float:
        """The smallest p, with Bonferroni correction for three measures."""
        return min(1.0, min(self.p.values()) * len(self.p))


def measure(pcm: Pcm, place: int) -> tuple[float, float, float]:
    """Flux, phase jump (radians, weighted by amplitude) and level step (dB) around a sample.

    Args:
        pcm: [n] or [n, channels] float.
        place: at least ``REACH + WINDOW`` samples from either end.
    """
    mono = pcm.mean(axis=1) if pcm.ndim == 2 else pcm
    edge = REACH + WINDOW
    if not edge <= place <= len(mono) - edge:
        raise ParameterError("place", place, f"{edge} to {len(mono) - edge}")
    part = mono[place - REACH - WINDOW // 2 : place + REACH + WINDOW // 2].astype(np.float64)
    starts = np.arange(0, len(part) - WINDOW + 1, HOP)
    frames = np.stack([part[start : start + WINDOW] for start in starts]) * np.hanning(WINDOW)
    spectra = np.fft.rfft(frames)
    size = np.abs(spectra)
    logs = np.log1p(100 * size)
    flux = np.maximum(np.diff(logs, axis=0), 0).sum(axis=1)
    unit = spectra / np.maximum(size, 1e-12)
    # A steady partial advances by the same angle in each frame: the second difference of its phase is 0.
    bend = np.abs(np.angle(unit[2:] * np.conj(unit[1:-1]) ** 2 * unit[:-2]))
    weight = np.minimum(np.minimum(size[2:], size[1:-1]), size[:-2])
    phase = (bend * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    half = len(part) // 2
    before, after = (np.sqrt(np.mean(side**2)) for side in (part[half - REACH : half], part[half : half + REACH]))
    level = abs(20 * np.log10((after + 1e-6) / (before + 1e-6)))
    # The strongest change relative to the surrounding ones: a click stands out, loud music does not.
    return float(flux.max() / (np.median(flux) + 1.0)), float(phase.max()), float(level)


def report(pcm: Pcm, joins: Sequence[int], references: Sequence[int], *, seed: int = 0) -> SeamReport:
    """Compare joins with references (places of the same musical kind inside clips).

    Raises:
        ParameterError: fewer than three places of either kind.
    """
    if len(joins) < 3 or len(references) < 3:
        raise ParameterError("joins", len(joins), "three places or more of each kind")
    return compare(
        np.array([measure(pcm, at) for at in joins]), np.array([measure(pcm, at) for at in references]), seed
    )


def compare(at_joins: NDArray[np.float64], inside: NDArray[np.float64], seed: int = 0) -> SeamReport:
    """Compare results of :func:`measure`, [n, 3] at joins and [m, 3] inside clips, of one or more streams."""
    ratio, p = {}, {}
    for column, name in enumerate(MEASURES):
        ratio[name] = float(np.median(at_joins[:, column]) / max(1e-9, np.median(inside[:, column])))
        p[name] = _permutation(at_joins[:, column], inside[:, column], seed)
    return SeamReport(len(at_joins), len(inside), ratio, p)


def _permutation(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> float:
    """One-sided p of the excess of the joins' mean rank over the references'."""
    values = np.concatenate([a, b])
    ranks = np.argsort(np.argsort(values)).astype(np.float64)
    found = ranks[: len(a)].mean()
    draw = np.random.default_rng(seed)
    shuffled = draw.permuted(np.tile(ranks, (PERMUTATIONS, 1)), axis=1)[:, : len(a)].mean(axis=1)
    return float((np.count_nonzero(shuffled >= found - 1e-9) + 1) / (PERMUTATIONS + 1))
