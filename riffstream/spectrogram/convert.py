"""Audio to spectrogram image and back, in one call each."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image

from riffstream.errors import ParameterError
from riffstream.spectrogram import parity
from riffstream.spectrogram.analysis import analyse
from riffstream.spectrogram.image import amplitudes_from_image, image_from_amplitudes, image_params
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.vocoder import Vocoder

__all__ = ["audio_to_image", "image_to_audio"]

INT16 = 32768.0
LOUDNESS_DBFS, PEAK_DBFS = -12.0, -0.1


def audio_to_image(
    wave: np.ndarray,
    params: SpectrogramParams | None = None,
    *,
    hop: float | None = None,
    device: torch.device | str = "cpu",
) -> Image.Image:
    """Draw audio as a spectrogram image with the parameters as EXIF.

    Args:
        wave: [n, channels] or [n] float in [-1, 1], at ``params.sample_rate``, n >= 1, 1 or 2 channels. The channels
            are mixed or copied to the number that ``params`` asks for.
        params: Riffusion's mono parameters by default.
        hop: samples from frame to frame; ``params.hop()`` by default.
        device: torch device of the computation.

    Returns:
        RGB image, ``n // hop + 1`` wide. For 16-bit audio it equals the image that Riffusion draws.

    Raises:
        ParameterError: another shape, no samples, or samples that are not finite.
    """
    params = SpectrogramParams.riffusion() if params is None else params
    channels = _channels(wave, params.channels)
    mel = analyse(torch.from_numpy(channels).to(device), params, hop=hop)
    if hop is not None:
        params = params.replace(step_size_ms=hop * 1000 / params.sample_rate)
    return image_from_amplitudes(mel.cpu().numpy(), params)


def image_to_audio(
    image: Image.Image,
    params: SpectrogramParams | None = None,
    *,
    method: Literal["pghi", "griffin-lim", "parity"] = "pghi",
    iterations: int | None = None,
    hop: float | None = None,
    key: float = 0.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Convert a spectrogram image to audio.

    Args:
        image: any PIL image of ``params.num_frequencies`` rows.
        params: its parameters; by default those in its EXIF (see ``image_params``).
        method: ``"pghi"`` (see ``Vocoder``), ``"griffin-lim"``, or ``"parity"`` (Riffusion's own steps, slow).
        iterations: Griffin-Lim iterations; each method has its own default.
        hop: samples from frame to frame; ``params.hop()`` by default. Another value stretches time.
        key: transposition in semitones, -6 to 6.
        seed: seed of the random start of the parity method.
        device: torch device of the computation.

    Returns:
        [n, channels] float32 in [-1, 1] at ``params.sample_rate``. The level is -12 dBFS, or lower where the peak
        would exceed -0.1 dBFS. The parity method clips there, as Riffusion does.

    Raises:
        ParameterError: an image of another height, or an argument outside its range.
    """
    params = image_params(image) if params is None else params
    if image.height != params.num_frequencies:
        allowed = f"{params.num_frequencies}, one row for each mel bin of its parameters"
        raise ParameterError("image height", image.height, allowed)
    mel = torch.from_numpy(amplitudes_from_image(image, power=params.power_for_image, stereo=params.stereo)).to(device)
    if method == "parity":
        if iterations is not None:
            params = params.replace(num_griffin_lim_iters=iterations)
        generator = torch.Generator(device=mel.device).manual_seed(seed)
        samples = parity.normalise_int16(parity.waveform(mel, params, generator=generator).cpu().numpy())
        return (parity.apply_filters(samples) / INT16).astype(np.float32).T
    vocoder = Vocoder(params, method=method, iterations=iterations, device=device)
    return _level(vocoder(mel, hop=hop, key=key).cpu().numpy().T)


def _channels(wave: np.ndarray, count: int) -> np.ndarray:
    """[n, channels] in [-1, 1] to [count, n] in int16 units."""
    if wave.ndim == 1:
        wave = wave[:, None]
    if wave.ndim != 2 or wave.shape[1] not in (1, 2) or not wave.shape[0]:
        raise ParameterError("wave", wave.shape, "[samples, 1 or 2 channels], at least one sample")
    scaled = wave.T.astype(np.float32) * np.float32(INT16)
    if not np.isfinite(scaled).all():
        raise ParameterError("wave", "NaN or infinity", "finite samples")
    if count == 1 and len(scaled) == 2:
        mean = scaled.mean(0, keepdims=True)
        # 16-bit audio is mixed in integers, as in Riffusion.
        return np.ascontiguousarray(np.floor(mean) if (scaled == np.round(scaled)).all() else mean)
    return np.array(np.broadcast_to(scaled, (count, scaled.shape[1])))


def _level(wave: np.ndarray) -> np.ndarray:
    peak, rms = float(np.abs(wave).max(initial=0.0)), float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    if not rms > 0:
        return np.zeros_like(wave)
    return (wave * min(10 ** (LOUDNESS_DBFS / 20) / rms, 10 ** (PEAK_DBFS / 20) / peak)).astype(np.float32)
