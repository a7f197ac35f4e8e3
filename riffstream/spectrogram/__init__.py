"""Spectrograms: parameters, mel scale, images, and the vocoder. Names load on first use (``params`` needs no torch)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from riffstream.spectrogram.analysis import analyse
    from riffstream.spectrogram.convert import audio_to_image, image_to_audio
    from riffstream.spectrogram.params import SpectrogramParams
    from riffstream.spectrogram.vocoder import Vocoder, VocoderStream

_HOMES = {
    "SpectrogramParams": "params",
    "Vocoder": "vocoder",
    "VocoderStream": "vocoder",
    "analyse": "analysis",
    "audio_to_image": "convert",
    "image_to_audio": "convert",
}

__all__ = ["SpectrogramParams", "Vocoder", "VocoderStream", "analyse", "audio_to_image", "image_to_audio"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"riffstream.spectrogram.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'riffstream.spectrogram' has no attribute {name!r}")
