"""Spectrogram options of the command line, and the conversion for ``audio-to-image`` and its batch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from riffstream.errors import ParameterError

if TYPE_CHECKING:
    from PIL.Image import Image

    from riffstream.spectrogram.params import SpectrogramParams

__all__ = [
    "ImageOptions",
    "add_device_option",
    "add_image_options",
    "add_param_options",
    "check_device",
    "given_params",
    "spectrogram_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """Options of the conversion from audio to an image; ``sample_rate`` None keeps the file's."""

    step_size_ms: float
    num_frequencies: int
    min_frequency: float
    max_frequency: float
    window_duration_ms: float
    padded_duration_ms: float
    power_for_image: float
    stereo: bool
    sample_rate: int | None
    device: str
    max_seconds: float

    @classmethod
    def of(cls, args: argparse.Namespace, *, stereo: bool) -> ImageOptions:
        """Collect the parsed arguments."""
        names = (name for name in cls.__slots__ if name != "stereo")
        return cls(stereo=stereo, **{name: getattr(args, name) for name in names})

    def params(self, sample_rate: int) -> SpectrogramParams:
        """Spectrogram parameters for a sample rate in Hz. Raises ParameterError."""
        from riffstream.spectrogram.params import SpectrogramParams

        return SpectrogramParams(
            stereo=self.stereo,
            sample_rate=sample_rate,
            step_size_ms=self.step_size_ms,
            window_duration_ms=self.window_duration_ms,
            padded_duration_ms=self.padded_duration_ms,
            num_frequencies=self.num_frequencies,
            min_frequency=self.min_frequency,
            max_frequency=self.max_frequency,
            power_for_image=self.power_for_image,
        )


def add_image_options(parser: argparse.ArgumentParser, *, sample_rate: int | None) -> None:
    """Add the options of the spectrogram's parameters, with Riffusion's defaults."""
    add = parser.add_argument
    add("--step-size-ms", type=float, default=10, metavar="MS", help="time from column to column (default 10)")
    add("--num-frequencies", type=int, default=512, metavar="N", help="rows of the image (default 512)")
    add("--min-frequency", type=float, default=0, metavar="HZ", help="lowest frequency (default 0)")
    add("--max-frequency", type=float, default=10000, metavar="HZ", help="highest frequency (default 10000)")
    add("--window-duration-ms", type=float, default=100, metavar="MS", help="analysis window (default 100)")
    add("--padded-duration-ms", type=float, default=400, metavar="MS", help="length of the transform (default 400)")
    add("--power-for-image", type=float, default=0.25, metavar="X", help="companding exponent (default 0.25)")
    default = "the file's" if sample_rate is None else str(sample_rate)
    add("--sample-rate", type=int, default=sample_rate, metavar="HZ", help=f"resample first (default {default})")
    add("--max-seconds", type=float, default=600, metavar="S", help="longest audio file (default 600)")
    add_device_option(parser)


# Options that replace parameters of an image: name, type, unit, description.
_PARAMS = (
    ("sample_rate", int, "HZ", "sample rate"),
    ("step_size_ms", float, "MS", "time from column to column"),
    ("min_frequency", float, "HZ", "lowest frequency"),
    ("max_frequency", float, "HZ", "highest frequency"),
    ("window_duration_ms", float, "MS", "analysis window"),
    ("padded_duration_ms", float, "MS", "length of the transform"),
    ("power_for_image", float, "X", "companding exponent"),
)


def add_param_options(parser: argparse.ArgumentParser) -> None:
    """Add options that replace the spectrogram parameters of an image's EXIF."""
    for name, kind, unit, what in _PARAMS:
        option, text = f"--{name.replace('_', '-')}", f"{what} (default: from the EXIF, else Riffusion's)"
        parser.add_argument(option, type=kind, default=None, metavar=unit, help=text)


def given_params(args: argparse.Namespace, params: SpectrogramParams) -> SpectrogramParams:
    """``params`` with the replacements from the options."""
    given = {name: getattr(args, name) for name, *_ in _PARAMS}
    return params.replace(**{name: value for name, value in given.items() if value is not None})


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default auto)")


def check_device(name: str) -> str:
    """Torch device of ``--device`` on this machine. Raises ParameterError."""
    import torch

    available = ["cpu"]
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if name == "auto":
        return available[0]
    if name.partition(":")[0] not in available:
        raise ParameterError("--device", name, f"auto, {', '.join(sorted(available))} on this machine")
    return name


def spectrogram_of(path: Path, options: ImageOptions) -> Image:
    """Spectrogram image of an audio file, with the parameters in the EXIF."""
    from riffstream.audio.files import audio_info, read_audio

    info = audio_info(path)
    rate = info.sample_rate if options.sample_rate is None else options.sample_rate
    if options.sample_rate is None and rate < 2 * options.max_frequency:
        rate = 44_100  # the mel range exceeds half the file's own rate
    params = options.params(rate)  # checked before the file is decoded
    channels = None if info.channels <= 2 else 2
    device = check_device(options.device)
    audio = read_audio(path, sample_rate=rate, channels=channels, max_seconds=options.max_seconds)

    from riffstream.spectrogram.convert import audio_to_image

    return audio_to_image(audio.samples, params, device=device)
