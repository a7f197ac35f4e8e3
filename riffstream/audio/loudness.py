"""Loudness of a stream: the EBU R128 meter, and the leveller that holds a constant loudness across clips."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import ArrayLike

from riffstream.audio.checks import Pcm, as_block
from riffstream.audio.kweighting import STEPS_PER_SECOND, StepPower, lufs
from riffstream.audio.limiter import TruePeakLimiter
from riffstream.audio.true_peak import TruePeakMeter
from riffstream.errors import ParameterError

__all__ = ["LoudnessLeveller", "LoudnessMeter"]

ABSOLUTE_GATE = -70.0  # LUFS; BS.1770-4
RELATIVE_GATE = -10.0  # LU relative to the loudness after the absolute gate
MOMENTARY, SHORT_TERM = 4, 30  # steps of 100 ms
BINS_PER_LU = 100


class LoudnessMeter:
    """Loudness meter after EBU R128 (EBU Tech 3341, ITU-R BS.1770-4). Readings are in LUFS, -inf before any sound.

    The integrated loudness keeps its 400 ms blocks in a histogram of 0.01 LU, so that weeks of sound take constant
    memory.

    Args:
        sample_rate: Hz.
        channels: 1 to 64. Mono reads 3 LU below the same sound on two channels.
        true_peak: True also measures true peaks.
    """

    def __init__(self, sample_rate: int, channels: int = 2, *, true_peak: bool = True) -> None:
        self.sample_rate, self.channels = sample_rate, channels
        self._power = StepPower(sample_rate, channels)
        self._peak = TruePeakMeter(channels) if true_peak else None
        self.reset()

    def reset(self) -> None:
        """Start a new measurement."""
        self._power.reset()
        if self._peak is not None:
            self._peak.reset()
        self._recent: deque[float] = deque(maxlen=SHORT_TERM)
        bins = int((20 - ABSOLUTE_GATE) * BINS_PER_LU)
        self._counts, self._powers = np.zeros(bins, np.int64), np.zeros(bins)
        self.max_momentary = self.max_short_term = -math.inf

    def push(self, block: ArrayLike) -> None:
        """Take [n, channels]. The readings do not depend on how the stream is cut into blocks."""
        pcm = as_block(block, self.channels)
        if self._peak is not None:
            self._peak.push(pcm)
        for power in self._power.push(pcm):
            self._recent.append(power)
            loudness = self.momentary
            self.max_momentary = max(self.max_momentary, loudness)
            self.max_short_term = max(self.max_short_term, self.short_term)
            if loudness > ABSOLUTE_GATE:
                index = min(int((loudness - ABSOLUTE_GATE) * BINS_PER_LU), len(self._counts) - 1)
                self._counts[index] += 1
                self._powers[index] += self._mean(MOMENTARY)

    def _mean(self, steps: int) -> float:
        if len(self._recent) < steps:
            return 0.0
        return math.fsum(list(self._recent)[-steps:]) / steps

    @property
    def momentary(self) -> float:
        """Loudness of the last 400 ms, in steps of 100 ms."""
        return lufs(self._mean(MOMENTARY))

    @property
    def short_term(self) -> float:
        """Loudness of the last 3 s, in steps of 100 ms."""
        return lufs(self._mean(SHORT_TERM))

    @property
    def integrated(self) -> float:
        """Gated loudness since the start or the last ``reset``."""
        count = int(self._counts.sum())
        if not count:
            return -math.inf
        gate = lufs(float(self._powers.sum()) / count) + RELATIVE_GATE
        first = max(0, math.ceil((gate - ABSOLUTE_GATE) * BINS_PER_LU))
        passed = int(self._counts[first:].sum())
        return lufs(float(self._powers[first:].sum()) / passed) if passed else -math.inf

    @property
    def true_peak(self) -> float:
        """Largest true peak so far in dBTP; -inf for silence.

        Raises:
            ParameterError: the meter was made with ``true_peak=False``.
        """
        if self._peak is None:
            raise ParameterError("true_peak", False, "a meter made with true_peak=True")
        return 20 * math.log10(self._peak.peak) if self._peak.peak > 0 else -math.inf


class LoudnessLeveller:
    """Slow automatic gain towards a target loudness, followed by a true-peak limiter.

    The loudness is the gated mean of the last ``WINDOW_S`` seconds. The gain follows it at up to ``rate_db_s``, in the
    first three seconds of sound at up to 6 dB/s. It does not move while the last 400 ms are silent or more than 20 LU
    below the rest, so that a break, a fade-out or an underrun causes no pumping. The gain of each 100 ms depends on
    earlier sound only and adds no delay; the limiter adds its look-ahead (``latency``).

    Args:
        sample_rate: Hz.
        channels: 1 to 64; one gain for all.
        target: LUFS, -40 to -8.
        ceiling_db: dBTP, -30 to 0.
        rate_db_s: 0.1 to 20 dB a second.
        max_boost_db: 0 to 40. Attenuation has no limit.

    Attributes:
        gain_db: slow gain at the end of the last complete 100 ms, limiter excluded.
        latency: samples held back by the limiter; ``flush`` returns them.
    """

    WINDOW_S = 10
    BREAK_LU = 20.0
    START_STEPS = 3 * STEPS_PER_SECOND
    START_RATE_DB_S = 6.0

    def __init__(
        self,
        sample_rate: int,
        channels: int = 2,
        *,
        target: float = -16.0,
        ceiling_db: float = -1.0,
        rate_db_s: float = 1.0,
        max_boost_db: float = 12.0,
    ) -> None:
        for field, value, low, high in (
            ("target", target, -40, -8),
            ("rate_db_s", rate_db_s, 0.1, 20),
            ("max_boost_db", max_boost_db, 0, 40),
        ):
            if not low <= value <= high:
                raise ParameterError(field, value, f"{low} to {high}")
        self.sample_rate, self.channels, self.target = sample_rate, channels, target
        self.rate_db_s, self.max_boost_db = rate_db_s, max_boost_db
        self._power = StepPower(sample_rate, channels)
        self._limiter = TruePeakLimiter(sample_rate, channels, ceiling_db=ceiling_db)
        self.latency = self._limiter.latency
        self.reset()

    def reset(self) -> None:
        """Start a new stream at unit gain."""
        self._power.reset()
        self._limiter.reset()
        self._recent: tuple[float, ...] = ()  # powers of the last 100 ms steps, for the momentary loudness
        self._blocks: tuple[float, ...] = ()  # powers of the 400 ms blocks that sounded
        self._sounding = 0  # steps that sounded since the start
        self._ramp = (1.0, 1.0)  # linear gain at the start and at the end of the step in progress
        self._taken = 0  # samples since the start
        self.gain_db = 0.0

    def prime(self, block: ArrayLike) -> None:
        """Set the initial gain by the loudness of ``block`` [n, channels], typically the first segment.

        Call it before the first ``push``. Less than 400 ms, or silence, changes nothing.
        """
        meter = LoudnessMeter(self.sample_rate, self.channels, true_peak=False)
        meter.push(block)
        if math.isfinite(meter.integrated):
            self.gain_db = min(self.target - meter.integrated, self.max_boost_db)
            gain = 10 ** (self.gain_db / 20)
            self._ramp = (gain, gain)
            self._sounding = self.START_STEPS

    @property
    def loudness(self) -> float:
        """Gated loudness of the recent input in LUFS; -inf before the first 400 ms of sound."""
        if not self._blocks:
            return -math.inf
        gate = sum(self._blocks) / len(self._blocks) * 10 ** (RELATIVE_GATE / 10)
        passed = [power for power in self._blocks if power > gate]
        return lufs(sum(passed) / len(passed))

    @property
    def reduction_db(self) -> float:
        """Gain reduction of the limiter at the last sample returned, in dB, >= 0."""
        return self._limiter.reduction_db

    def push(self, block: ArrayLike) -> Pcm:
        """Take [n, channels]; return the samples that are now final, the same for any cutting into blocks."""
        return self.limit(self.amplify(as_block(block, self.channels)))

    def limit(self, block: ArrayLike) -> Pcm:
        """The second half of :meth:`push`, for processing between gain and limiter: take [n, channels], limit it."""
        return self._limiter.push(block)

    def amplify(self, block: ArrayLike) -> Pcm:
        """The first half of :meth:`push`: measure the first ``channels`` columns, and apply the gain to all columns.

        Returns:
            As many samples and columns as given.
        """
        pcm = as_block(block, np.shape(block)[-1])
        parts = []
        while len(pcm):
            start, end = self._power.boundary(self._power.steps), self._power.boundary(self._power.steps + 1)
            part, pcm = pcm[: end - self._taken], pcm[end - self._taken :]
            parts.append(self._amplify(part, self._taken - start, end - start))
            self._taken += len(part)
            for power in self._power.push(part[:, : self.channels]):
                self._advance(power)
        return np.concatenate(parts) if parts else pcm

    def flush(self) -> Pcm:
        """End the stream: the samples held back. Afterwards the object is as new."""
        rest = self._limiter.flush()
        self.reset()
        return rest

    def _amplify(self, part: Pcm, offset: int, length: int) -> Pcm:
        start, end = self._ramp
        if start == end:
            return part if start == 1.0 else part * np.float32(start)
        place = np.arange(offset, offset + len(part), dtype=np.float64) / length
        return part * (start + (end - start) * place).astype(np.float32)[:, None]

    def _advance(self, power: float) -> None:
        """Complete a 100 ms step: set the gain at the end of the next one."""
        self._recent = (*self._recent, power)[-MOMENTARY:]
        momentary = sum(self._recent) / MOMENTARY
        if len(self._recent) == MOMENTARY and lufs(momentary) > max(ABSOLUTE_GATE, self.loudness - self.BREAK_LU):
            self._blocks = (*self._blocks, momentary)[-self.WINDOW_S * STEPS_PER_SECOND :]
            self._sounding += 1
            wanted = min(self.target - self.loudness, self.max_boost_db)
            rate = self.START_RATE_DB_S if self._sounding <= self.START_STEPS else self.rate_db_s
            step = max(rate, self.rate_db_s) / STEPS_PER_SECOND
            self.gain_db += min(max(wanted - self.gain_db, -step), step)
        self._ramp = (self._ramp[1], 10 ** (self.gain_db / 20))
