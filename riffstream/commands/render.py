"""Render prompts to an audio file. Several prompts follow each other; equal arguments give equal samples."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from riffstream.audio.files import AudioFileWriter, file_format
from riffstream.commands._conditions import add_levels, add_parts
from riffstream.commands.rendering.model import add_model_options, load_renderer
from riffstream.commands.rendering.music import Music, length
from riffstream.commands.rendering.writing import part_blocks, write_blocks
from riffstream.errors import ParameterError
from riffstream.journey.form import FORMS
from riffstream.protocol import SAMPLE_RATE
from riffstream.text_files import readable

if TYPE_CHECKING:
    from riffstream.generator.renderer import Renderer
    from riffstream.station.offline import Part
    from riffstream.station.steering_log import SteeringLog

EXAMPLES = """examples:
  riffstream render --prompt "lo-fi hip hop beat" --seconds 30 -o beat.flac
  riffstream render --prompt "bossa nova guitar" --prompt "deep house" --seconds 60 --bpm 118 -o journey.mp3
  riffstream render --prompt "funk bass" --seed-image og_beat --denoising 0.4 --seconds 10 -o funk.wav
  riffstream render --prompt "viennese waltz" --bpm 160 --seconds 20 -o waltz.flac
  riffstream render --prompt "synth pop" --chords "Am F C G" --parts drums=0 --energy 0.3 --model my-model -o intro.flac
  riffstream render --prompt "deep house" --form dj --seconds 240 --model my-model -o set.flac
  riffstream render --journey tour.toml --seconds 600 -o tour.ogg
  riffstream render --replay steering.jsonl -o again.flac
  riffstream render --batch sets.toml --seconds 10 --image -o comparison

batch file: sets of these options by name, as TOML ([defaults] and [[render]]), JSON (the same, or a list) or CSV"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    what = parser.add_argument_group("what to play")
    what.add_argument(
        "--prompt", type=readable, action="append", default=[], metavar="P", help="a prompt; repeat for a journey"
    )
    what.add_argument("--journey", metavar="FILE", help="a journey file (TOML or JSON) instead of prompts")
    what.add_argument("--replay", metavar="LOG", help="a station's steering log: render the same samples again")
    what.add_argument("--batch", type=Path, metavar="FILE", help="render many sets of options (toml, json or csv)")
    what.add_argument(
        "--state-dir", metavar="DIR", help="server.state_dir of the log's server, for its uploads and live inputs"
    )
    what.add_argument("--negative", type=readable, default="", metavar="P", help="negative prompt")
    what.add_argument("--seconds", type=float, metavar="N", help="duration (30; with --replay, that of the log)")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="noise seed, 0 to 4294967295 (0)")
    what.add_argument(
        "--seed-image",
        metavar="NAME|FILE",
        help="start from a loop, a spectrogram image or an audio file; auto: a similar loop, none: noise alone",
    )
    what.add_argument(
        "--denoising",
        type=float,
        metavar="X",
        help="distance from the seed image, 0 to 1 (the model's); no effect on music from noise, mini's default",
    )
    what.add_argument("--guidance", type=float, metavar="X", help="strength of the prompt, 0 to 30 (the model's)")
    what.add_argument("--bpm", type=float, metavar="X", help="tempo, 40 to 240 (that of the words, docs/tempo.md)")
    what.add_argument("--key", type=float, metavar="X", help="transposition in semitones, -6 to 6")
    what.add_argument("--beats-per-bar", type=int, metavar="N", help="metre, 3 or 4 (that of the words, docs/tempo.md)")
    asked = parser.add_argument_group("musical conditions, for models that support them (see docs/mini.md)")
    asked.add_argument(
        "--chords",
        metavar="ROW",
        help='repeated progression in the sounding key, one chord a bar: "Am F C G"; " / " halves a bar',
    )
    add_parts(asked)
    asked.add_argument("--form", choices=FORMS, help="plan of sections and chords (see docs/form.md); none by default")
    add_levels(asked)
    parser.add_argument_group("desk").add_argument(
        "--mix",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="levels in dB of drums, tonal, low, mid, high (-60: off); tilt, width, filter; "
        "mute or solo of drums or bass: drums=-6 mute=bass",
    )
    add_model_options(parser)
    out = parser.add_argument_group("output")
    out.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="wav, flac, ogg, opus or mp3; with --batch, a folder"
    )
    out.add_argument("--image", action="store_true", help="also write each clip's spectrogram, as NAME-01.png ...")
    out.add_argument("--format", default="flac", metavar="X", help="of a batch: wav, flac, ogg, opus, mp3 (flac)")
    out.add_argument(
        "--at-once", type=int, default=16, metavar="N", help="renderings of a batch at the same time, 1 to 256 (16)"
    )
    out.add_argument(
        "--processes", type=int, metavar="N", help="processes of a batch (one a core, where memory allows)"
    )
    out.add_argument("--save-log", metavar="LOG", help="write a log for --replay")
    out.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    out.add_argument("--json", action="store_true", help="the summary as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Run the command. All arguments are checked before the model is loaded, as far as possible."""
    if args.batch:
        return _batch(args)
    if Path(args.output).is_dir():
        raise ParameterError("--output", args.output, "the name of a file, not of a folder, such as music.flac")
    file_format(args.output)
    if args.replay:
        if args.image:
            raise ParameterError("--image", True, "nothing together with --replay")
        return _replay(args)
    music = Music.of(args)
    began = time.monotonic()
    with AudioFileWriter(args.output, SAMPLE_RATE, 2, music.tags) as file:  # an unwritable file is an error at once
        renderer = load_renderer(args, state_dir=args.state_dir)
        if note := music.note(renderer.info):
            print(f"riffstream render: {note}", file=sys.stderr)
        from riffstream.station.steering_log import SteeringLog

        log = SteeringLog("render", args.save_log or None)
        write_blocks(
            args,
            file,
            part_blocks(args, _part(args, music, renderer, log), renderer),
            music.n_samples,
            renderer.info,
            began,
        )
    log.close(music.n_samples)
    return 0


def _part(args: argparse.Namespace, music: Music, renderer: Renderer, log: SteeringLog) -> Part:
    from riffstream.station.offline import Part

    return Part(
        name="render",
        score=music.score(renderer.info),
        n_samples=music.n_samples,
        settings=music.settings,
        steps=music.steps,
        log=log,
        model=args.model,
        mix=music.mix,
    )


def _batch(args: argparse.Namespace) -> int:
    for option in ("replay", "save_log"):
        if getattr(args, option):
            raise ParameterError(
                f"--{option.replace('_', '-')}", getattr(args, option), "nothing together with --batch"
            )
    from riffstream.commands.rendering.batch import run_batch

    return run_batch(args, lambda: load_renderer(args, max_batch=args.at_once, state_dir=args.state_dir))


def _replay(args: argparse.Namespace) -> int:
    from riffstream.station.offline import replay, replay_header

    header = replay_header(args.replay)
    n_samples = header["sample_pos"] if args.seconds is None else length(args.seconds)
    if args.model == "mini":
        args.model = header.get("model") or "mini"
    began = time.monotonic()
    tags = {"title": f"riffstream {header.get('station', '')}".strip(), "artist": "riffstream"}
    with AudioFileWriter(args.output, SAMPLE_RATE, 2, tags) as file:
        renderer = load_renderer(args, state_dir=args.state_dir)
        write_blocks(args, file, replay(args.replay, renderer, n_samples), n_samples, renderer.info, began)
    return 0
