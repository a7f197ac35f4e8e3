"""riffstream: an endless, steerable music stream made by spectrogram diffusion.

The names below are the public API. They load on first use, so that ``import riffstream`` is instant
and a process that never generates (the server, a client) never loads torch. The import sets one environment variable
(``OMP_WAIT_POLICY``, see :mod:`riffstream.threads`), because torch reads it when it is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from riffstream.threads import wait_passively

__version__ = "0.1.0"

wait_passively()

if TYPE_CHECKING:
    from riffstream.client import connect
    from riffstream.diffusion.checkpoint import Checkpoint
    from riffstream.journey.journey import Journey, Keyframe
    from riffstream.spectrogram.params import SpectrogramParams
    from riffstream.spectrogram.vocoder import Vocoder

_HOMES = {
    "Checkpoint": "riffstream.diffusion.checkpoint",
    "Journey": "riffstream.journey.journey",
    "Keyframe": "riffstream.journey.journey",
    "SpectrogramParams": "riffstream.spectrogram.params",
    "Vocoder": "riffstream.spectrogram.vocoder",
    "connect": "riffstream.client",
}

__all__ = [
    "Checkpoint",
    "Journey",
    "Keyframe",
    "SpectrogramParams",
    "Vocoder",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'riffstream' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
