"""Convert a spectrogram image to audio. The parameters come from the image's EXIF, or else are Riffusion's defaults
(stereo by the colour planes). Options replace single parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

from riffstream.commands._reports import add_report_options, report
from riffstream.commands._spectra import add_device_option, add_param_options, check_device, given_params

EXAMPLES = """examples:
  riffstream image-to-audio --image song.png --audio song.wav
  riffstream image-to-audio --image clip.jpg --audio clip.mp3 --device cpu --key -2
  riffstream image-to-audio --image no-exif.png --audio clip.wav --stereo --sample-rate 48000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--image", type=Path, required=True, metavar="FILE", help="spectrogram image to read")
    add("--audio", type=Path, required=True, metavar="FILE", help=".wav, .flac, .ogg, .opus or .mp3 to write")
    channels = parser.add_mutually_exclusive_group()
    for name, value, what in (
        ("--stereo", True, "green is left, blue is right"),
        ("--mono", False, "red alone is read"),
    ):
        text = f"{what} (default: by the EXIF or the colours)"
        channels.add_argument(name, dest="stereo", action="store_const", const=value, default=None, help=text)
    add_param_options(parser)
    add("--key", type=float, default=0.0, metavar="K", help="transpose by semitones, -6 to 6 (default 0)")
    add("--bpm", type=float, default=None, metavar="B", help="tempo of images whose columns follow the beat")
    add(
        "--method",
        choices=("pghi", "griffin-lim", "parity"),
        default="pghi",
        help="phase reconstruction; parity repeats Riffusion's own steps, slowly (default pghi)",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of the parity method's random start (default 0)")
    add_device_option(parser)
    add_report_options(parser)


def run(args: argparse.Namespace) -> int:
    """Convert one image."""
    from riffstream.audio.files import file_format, write_audio
    from riffstream.errors import ParameterError

    file_format(str(args.audio))  # checked before any work
    if not -6 <= args.key <= 6:
        raise ParameterError("--key", args.key, "-6 to 6 semitones")

    from riffstream.spectrogram.convert import image_to_audio
    from riffstream.spectrogram.image import image_params, read_image
    from riffstream.spectrogram.params import SpectrogramParams

    image = read_image(args.image)
    found = SpectrogramParams.in_exif(image.getexif())
    params = given_params(args, image_params(image, name=str(args.image), stereo=args.stereo))
    hop = None
    if args.bpm is not None:
        if params.frames_per_beat is None:
            raise ParameterError("--bpm", args.bpm, "only images whose EXIF has FRAMES_PER_BEAT")
        hop = params.hop(args.bpm)
    wave = image_to_audio(
        image,
        params,
        method=args.method,
        hop=hop,
        key=args.key,
        seed=args.seed,
        device=check_device(args.device),
    )
    write_audio(args.audio, wave, params.sample_rate, {"title": args.image.stem})
    report(args, [args.audio], seconds=round(len(wave) / params.sample_rate, 3), exif=found)
    return 0
