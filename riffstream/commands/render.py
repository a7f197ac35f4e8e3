"""Render prompts to an audio file. Several prompts follow each other; equal arguments give equal samples."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from riffstream.audio.files import AudioFileWriter, file_format
from riffstream.config import GeneratorSettings, StationConfig, TimelineSettings
from riffstream.errors import ParameterError
from riffstream.generator.messages import Info, Pcm
from riffstream.generator.renderer import Renderer, ToneRenderer
from riffstream.journey.conditions import PARTS
from riffstream.journey.form import FORMS
from riffstream.journey.journey import Journey, Keyframe, PromptPart
from riffstream.journey.keyframe import CONDITIONED
from riffstream.journey.pace import read_pace
from riffstream.protocol import SAMPLE_RATE
from riffstream.ranges import check
from riffstream.text_files import readable

EXAMPLES = """examples:
  riffstream render --prompt "lo-fi hip hop beat" --seconds 30 -o beat.flac
  riffstream render --prompt "bossa nova guitar" --prompt "deep house" --seconds 60 --bpm 118 -o journey.mp3
  riffstream render --prompt "funk bass" --seed-image og_beat --denoising 0.6 --seconds 10 -o funk.wav
  riffstream render --prompt "viennese waltz" --beats-per-bar 3 --bpm 160 --seconds 20 -o waltz.flac
  riffstream render --prompt "synth pop" --chords "Am F C G" --parts drums=0 --energy 0.3 --model my-model -o intro.flac
  riffstream render --prompt "deep house" --form dj --seconds 240 --model my-model -o set.flac
  riffstream render --journey tour.toml --seconds 600 -o tour.ogg
  riffstream render --replay steering.jsonl -o again.flac"""

LONGEST_S = 24 * 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    what = parser.add_argument_group("what to play")
    what.add_argument(
        "--prompt", type=readable, action="append", default=[], metavar="P", help="a prompt; repeat for a journey"
    )
    what.add_argument("--journey", metavar="FILE", help="a journey file (TOML or JSON) instead of prompts")
    what.add_argument("--replay", metavar="LOG", help="a station's steering log: render the same samples again")
    what.add_argument("--negative", type=readable, default="", metavar="P", help="negative prompt")
    what.add_argument("--seconds", type=float, metavar="N", help="duration (30; with --replay, that of the log)")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="noise seed, 0 to 4294967295 (0)")
    what.add_argument(
        "--seed-image",
        metavar="NAME|FILE",
        help="start from a loop, a spectrogram image or an audio file; auto: a similar loop, none: noise",
    )
    what.add_argument("--denoising", type=float, metavar="X", help="distance from the seed image, 0 to 1 (the model's)")
    what.add_argument("--guidance", type=float, metavar="X", help="strength of the prompt, 0 to 30 (the model's)")
    what.add_argument("--bpm", type=float, metavar="X", help="tempo, 40 to 240 (that of the words, docs/tempo.md)")
    what.add_argument("--key", type=float, metavar="X", help="transposition in semitones, -6 to 6")
    what.add_argument("--beats-per-bar", type=int, default=4, metavar="N", help="4, or 3 for waltzes (4)")
    asked = parser.add_argument_group("musical conditions, for models that support them (see docs/mini.md)")
    asked.add_argument(
        "--chords",
        metavar="ROW",
        help='repeated progression in the sounding key, one chord a bar: "Am F C G"; " / " halves a bar',
    )
    asked.add_argument(
        "--parts",
        nargs="+",
        default=[],
        metavar="PART=LEVEL",
        help=f"level of {', '.join(PARTS)}: 0 (silent) to 1",
    )
    asked.add_argument("--form", choices=FORMS, help="plan of sections and chords (see docs/form.md); none by default")
    for name, words in (("energy", "soft to loud"), ("density", "few notes to many"), ("brightness", "dark to bright")):
        asked.add_argument(f"--{name}", type=float, metavar="X", help=f"{words}: 0 to 1")
    how = parser.add_argument_group("how")
    how.add_argument("--model", default="mini", metavar="M", help="mini, a folder, a file, or a hub id (mini)")
    how.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="device (default: auto)")
    how.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="number type (default: auto)",
    )
    how.add_argument("--lora", action="append", default=[], metavar="FILE[:SCALE]", help="LoRA to merge")
    how.add_argument("--steps", type=int, metavar="N", help="denoising steps, 1 to 1000 (the model's)")
    how.add_argument("--sampler", metavar="NAME", help="the model's by default")
    how.add_argument("--lufs", type=float, default=-16.0, metavar="X", help="target loudness, -40 to -8 (-16)")
    out = parser.add_argument_group("output")
    out.add_argument("-o", "--output", required=True, metavar="FILE", help="wav, flac, ogg, opus or mp3")
    out.add_argument("--save-log", metavar="LOG", help="write a log for --replay")
    out.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    out.add_argument("--json", action="store_true", help="the summary as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Run the command. All arguments are checked before the model is loaded, as far as possible."""
    if Path(args.output).is_dir():
        raise ParameterError("--output", args.output, "the name of a file, not of a folder, such as music.flac")
    file_format(args.output)
    if args.replay:
        return _replay(args)
    n_samples = _length(30.0 if args.seconds is None else args.seconds)
    try:
        settings = TimelineSettings(loudness_lufs=args.lufs, ahead_s=1.0)
    except ParameterError as error:
        raise ParameterError("lufs", error.value, error.allowed) from None
    _journey(args, Info(model="check"), n_samples)
    station = StationConfig(bpm=args.bpm, key=args.key, beats_per_bar=args.beats_per_bar, form=args.form)
    steps = None if args.steps is None else check("steps", args.steps)
    began = time.monotonic()
    with AudioFileWriter(args.output, SAMPLE_RATE, 2) as file:  # a file that cannot be written is an error at once
        renderer = _renderer(args)
        from riffstream.station.offline import run as play
        from riffstream.station.score import Score
        from riffstream.station.steering_log import SteeringLog

        journey = _journey(args, renderer.info, n_samples)
        _check_asked(journey, renderer.info, args.form)
        log = SteeringLog("render", args.save_log or None)
        score = Score.of(station, renderer.info, journey)
        file.tags = {"title": " → ".join(args.prompt) or journey.name or "riffstream", "artist": "riffstream"}
        if tempo := args.bpm or (read_pace(args.prompt[0]).bpm if len(args.prompt) == 1 else None):
            file.tags["bpm"] = f"{tempo:g}"
        blocks = play(score, renderer, n_samples, settings, log=log, model=args.model, steps=steps)
        _write(args, file, blocks, n_samples, renderer.info, began)
    log.close(n_samples)
    return 0


def _length(seconds: float) -> int:
    if not math.isfinite(seconds) or not 0.1 <= seconds <= LONGEST_S:
        raise ParameterError("seconds", seconds, f"0.1 to {LONGEST_S:g}")
    return round(seconds * SAMPLE_RATE)


def _journey(args: argparse.Namespace, info: Info, n_samples: int) -> Journey:
    """Journey through the prompts, as long as the file."""
    if args.journey:
        if args.prompt:
            raise ParameterError("prompt", args.prompt[0], "nothing together with --journey")
        return Journey.from_file(args.journey)
    if not args.prompt:
        raise ParameterError("prompt", None, "one or more --prompt, or --journey, or --replay")
    prompts = [prompt.strip() for prompt in args.prompt]
    if not all(prompts):
        raise ParameterError("prompt", "", "1 or more characters")
    seed_image = args.seed_image
    if seed_image is not None and Path(seed_image).is_file():
        seed_image = str(Path(seed_image).resolve())
    keyframe = Keyframe(
        (PromptPart(prompts[0]),),
        negative=args.negative,
        seed=args.seed,
        denoising=args.denoising,
        guidance=args.guidance,
        seed_image=seed_image,
        bpm=args.bpm,
        key=args.key or 0.0,
        chords=args.chords,
        parts=_parts(args.parts),
        energy=args.energy,
        density=args.density,
        brightness=args.brightness,
    )
    if len(prompts) == 1:
        return Journey.single(keyframe)
    own = info.bpm or 120.0
    tempos = [args.bpm or read_pace(prompt).bpm or own for prompt in prompts]
    clip_samples = info.hop * info.frames * fmean(own / tempo for tempo in tempos)
    share = n_samples / clip_samples / len(prompts)
    travel = max(1, round(share / 3))
    stay = max(1, round(share - travel * (len(prompts) - 1) / len(prompts)))
    keyframes = [replace(keyframe, prompts=(PromptPart(prompt),)) for prompt in prompts]
    return Journey.along(keyframes, stay=stay, travel=travel, ending="stay")


def _parts(given: list[str]) -> dict[str, float] | None:
    """Parse part levels such as ``drums=0 pad=0.5``, also separated by commas."""
    levels: dict[str, float] = {}
    for text in (part for word in given for part in word.split(",") if part):
        name, sign, level = text.partition("=")
        try:
            levels[name.strip()] = float(level)
        except ValueError:
            sign = ""
        if not sign:
            raise ParameterError("parts", text, f"PART=LEVEL with a level of 0 to 1, PART one of {', '.join(PARTS)}")
    return levels or None


def _check_asked(journey: Journey, info: Info, form: str | None) -> None:
    """Raise ParameterError for conditions that the model does not support."""
    if info.conditions:
        return
    if (form or journey.form or "none") != "none":
        raise ParameterError("form", form or journey.form, f"none with the model {info.model}: it takes words alone")
    for stop in journey.stops:
        for name in CONDITIONED:
            if (value := getattr(stop.keyframe, name)) is not None:
                raise ParameterError(name, value, f"nothing with the model {info.model}: it takes words alone")


def _renderer(args: argparse.Namespace) -> Renderer:
    if args.model == "tone":
        return ToneRenderer()
    from riffstream.generator.model_renderer import make_renderer

    settings = GeneratorSettings(
        model=args.model,
        device=args.device,
        dtype=args.dtype,
        lora=tuple(args.lora),
        sampler=args.sampler,
    )
    options = {name: getattr(settings, name) for name in settings.__struct_fields__}

    def progress(what: str) -> None:
        if not args.quiet:
            print(what, file=sys.stderr)

    return make_renderer(options, progress, files=True)


def _replay(args: argparse.Namespace) -> int:
    from riffstream.station.offline import replay, replay_header

    header = replay_header(args.replay)
    n_samples = header["sample_pos"] if args.seconds is None else _length(args.seconds)
    if args.model == "mini":
        args.model = header.get("model") or "mini"
    began = time.monotonic()
    tags = {"title": f"riffstream {header.get('station', '')}".strip(), "artist": "riffstream"}
    with AudioFileWriter(args.output, SAMPLE_RATE, 2, tags) as file:
        renderer = _renderer(args)
        _write(args, file, replay(args.replay, renderer, n_samples), n_samples, renderer.info, began)
    return 0


def _write(
    args: argparse.Namespace,
    file: AudioFileWriter,
    blocks: Iterator[Pcm],
    n_samples: int | None,
    info: Info,
    began: float,
) -> None:
    """Write blocks to the file, with progress and a summary."""
    from tqdm import tqdm

    total = None if n_samples is None else round(n_samples / SAMPLE_RATE, 1)
    rendering = time.monotonic()
    written = 0
    form = "{l_bar}{bar}| {n:.1f}/{total:.1f} s [{elapsed} elapsed, {remaining} left]"
    with tqdm(total=total, disable=args.quiet or None, desc="rendering", bar_format=form if total else None) as bar:
        for block in blocks:
            file.write(block)
            written += len(block)
            bar.update(len(block) / SAMPLE_RATE)
    file.close()
    now = time.monotonic()
    seconds = written / SAMPLE_RATE
    report: dict[str, Any] = {
        "file": args.output,
        "seconds": round(seconds, 3),
        "model": info.model,
        "device": info.device,
        "load_s": round(rendering - began, 3),
        "render_s": round(now - rendering, 3),
        "real_time_factor": round(seconds / max(1e-9, now - rendering), 2),
    }
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        speed = report["real_time_factor"]
        print(f"{args.output}: {seconds:.1f} s, {speed:g} times as fast as it plays", file=sys.stderr)
