"""Spectrogram images as tensors: Riffusion's image format without conversion to 8 bits.

A row is a mel bin, the highest at the top; loud is dark. Mono images are grey; stereo images have left in green, right
in blue and 0 in red. A pixel is ``1 - (amplitude / loudest) ** power``.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from riffstream.errors import MediaError
from riffstream.spectrogram.image import MAX_AMPLITUDE
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.pictures import as_rgb

__all__ = ["fit_image", "image_to_pixels", "mel_to_pixels", "pixels_to_image", "pixels_to_mel"]

MULTIPLE = 32  # of image sides: the denoiser halves latents (1/8 of the image) twice without a remainder


def fit_image(image: np.ndarray | Image.Image) -> np.ndarray:
    """Scale an image down to sides that are multiples of 32, with a Lanczos filter.

    Args:
        image: uint8 [H, W, 3], or a PIL image of any mode.

    Returns:
        uint8 [H', W', 3]; unchanged if the sides fit already.

    Raises:
        MediaError: a side is shorter than 32 pixels, or the array is not an RGB image.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise MediaError(f"a spectrogram image is uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
        image = Image.fromarray(image)
    width, height = (side - side % MULTIPLE for side in image.size)
    if not width or not height:
        raise MediaError(f"the image is {image.size[0]} x {image.size[1]} pixels; at least {MULTIPLE} x {MULTIPLE}")
    return np.array(as_rgb(image).resize((width, height), resample=Image.Resampling.LANCZOS))


def image_to_pixels(image: np.ndarray) -> Tensor:
    """Convert uint8 [H, W, 3] to float32 [1, 3, H, W] in [-1, 1], the input of the autoencoder."""
    scaled = image.astype(np.float32) / 255.0
    return 2.0 * torch.from_numpy(scaled[None].transpose(0, 3, 1, 2).copy()) - 1.0


def pixels_to_image(pixels: Tensor) -> np.ndarray:
    """Convert float [B, 3, H, W] in [-1, 1] to uint8 [B, H, W, 3], rounded half to even."""
    unit = (pixels.float() / 2 + 0.5).clamp(0, 1)
    return (unit * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def mel_to_pixels(mel: Tensor, params: SpectrogramParams) -> Tensor:
    """Convert mel amplitudes [B, A, M, T] >= 0 to pixels [B, 3, M, T] in [-1, 1].

    The loudest amplitude of a clip over both channels becomes black, silence becomes white. A mono clip fills both
    channels of a stereo image; a mono image shows the mean of a stereo clip.
    """
    channels = mel.expand(-1, 2, -1, -1) if params.stereo else mel.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    loudest = channels.amax(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    light = 1 - (channels.float() / loudest).clamp_min(0) ** params.power_for_image
    if params.stereo:
        light = torch.cat([torch.zeros_like(light[:, :1]), light], dim=1)
    return 2 * light.flip(2) - 1


def pixels_to_mel(pixels: Tensor, params: SpectrogramParams) -> Tensor:
    """Convert pixels [B, 3, M, T] in [-1, 1] to mel amplitudes [B, A, M, T], float32, 0 to 30e6.

    Mono is the mean of the three channels, which is less noisy than one channel, because the decoder fills them
    independently.
    """
    dark = (0.5 - pixels.float() / 2).clamp(0, 1).flip(2)
    channels = dark[:, 1:] if params.stereo else dark.mean(1, keepdim=True)
    return channels ** (1 / params.power_for_image) * MAX_AMPLITUDE
