"""A picture of a clip before and after the round trip through mel amplitudes and the vocoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from riffstream.spectrogram.analysis import analyse
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.vocoder import Vocoder

__all__ = ["LABEL_HEIGHT", "draw_round_trip"]

LABEL_HEIGHT = 18
INK = ((0, 0, 4), (64, 10, 103), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))  # dark to light


def draw_round_trip(wave: Tensor, params: SpectrogramParams, path: str | Path) -> None:
    """Draw the spectrogram of ``wave`` [A, N] above that of its analysis and resynthesis, as PNG."""
    mono = wave.mean(0, keepdim=True)
    mel = analyse(mono, params, frames=int(mono.shape[-1] / params.hop()))
    again = analyse(Vocoder(params)(mel), params, frames=mel.shape[-1])
    height, width = mel.shape[-2:]
    page = Image.new("P", (width, 2 * (height + LABEL_HEIGHT)))
    page.putpalette(_palette())
    draw = ImageDraw.Draw(page)
    panels = (("clip", mel), ("the same clip from mel amplitudes alone, through the vocoder", again))
    for k, (label, amplitudes) in enumerate(panels):
        top = k * (height + LABEL_HEIGHT)
        # 64 grey levels are visually sufficient and keep the file small.
        share = np.clip(amplitudes[0].numpy() / float(mel.max()), 0, 1) ** params.power_for_image
        page.paste(Image.fromarray(np.round(share * 63).astype(np.uint8)[::-1]), (0, top + LABEL_HEIGHT))
        draw.text((4, top + 3), label, fill=63)
    page.save(path, format="PNG", optimize=True)


def _palette() -> list[int]:
    stops = np.linspace(0, 1, len(INK))
    places = np.linspace(0, 1, 64)
    columns = [np.interp(places, stops, [colour[k] for colour in INK]) for k in range(3)]
    return [int(value) for row in zip(*columns, strict=True) for value in row]
