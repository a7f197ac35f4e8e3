"""Counters and times of an engine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass(slots=True)
class Stats:
    """Counters and times of an engine since its start.

    ``prepare_s``, ``denoise_s`` and ``decode_s`` are seconds spent in preparation (text and seed images), the network,
    and the decoder.
    """

    ticks: int = 0
    rows: int = 0
    padded_rows: int = 0
    clips: int = 0
    failures: int = 0
    out_of_memory: int = 0
    prepare_s: float = 0.0
    denoise_s: float = 0.0
    decode_s: float = 0.0
