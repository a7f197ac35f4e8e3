"""Storage of the corpus's spectrograms: one byte per mel amplitude, in steps of 0.4 dB."""

from __future__ import annotations

import numpy as np
import torch

from riffstream.spectrogram.analysis import analyse
from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["CODE_FLOOR_DB", "CODE_STEP_DB", "amplitudes", "encode_song", "quantise"]

CODE_FLOOR_DB, CODE_STEP_DB = -42.0, 0.4  # codes 1 to 255 are -41.6 to +60 dB; a full-scale sine is about 57 dB
_TABLE = np.concatenate(
    [[0.0], 10 ** ((CODE_FLOOR_DB + CODE_STEP_DB * np.arange(1, 256)) / 20)],
).astype(np.float32)


def quantise(mel: np.ndarray) -> np.ndarray:
    """Amplitudes to bytes: ``round((20 log10(mel) + 42) / 0.4)``, 0 for silence. Any shape."""
    db = 20 * np.log10(np.maximum(mel, 1e-6))
    return np.asarray(np.clip(np.rint((db - CODE_FLOOR_DB) / CODE_STEP_DB), 0, 255).astype(np.uint8))


def amplitudes(codes: np.ndarray) -> np.ndarray:
    """Bytes to amplitudes, float32; the error is at most 0.2 dB between -41 and 60 dB."""
    return np.asarray(_TABLE[codes])


def encode_song(
    wave: np.ndarray, *, bpm: float, beats: int, beats_in_window: int, at: np.ndarray | None = None
) -> np.ndarray:
    """Analyse a whole song and cut it into beat-synchronous windows.

    Args:
        wave: [2, N] float32, beat 0 at sample 0.
        bpm: beats per minute.
        beats: beats in the song; the remainder after the last whole window is dropped.
        beats_in_window: beats in a window, 8, or 6 in 3/4.
        at: centres of the frames in samples, [64 * beats or more], for beats that are not evenly spaced.

    Returns:
        uint8 [windows, 2, 256, 64 * beats_in_window].
    """
    params = SpectrogramParams.mini()
    per_beat = int(params.frames_per_beat or 64)
    size = per_beat * beats_in_window
    windows = beats // beats_in_window
    out = np.empty((windows, 2, params.num_frequencies, size), np.uint8)
    hop = params.hop(bpm)
    audio = torch.from_numpy(np.ascontiguousarray(wave))
    for window in range(windows):
        first = window * size
        centres = None if at is None else torch.from_numpy(at[first : first + size])
        mel = analyse(audio, params, hop=hop, frames=size, first=first, at=centres)
        out[window] = quantise(mel.numpy())
    return out
