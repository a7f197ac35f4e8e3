"""Riff on a recording: a whole song again, clip by clip in its own tempo and key, as a prompt wants it."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from riffstream.audio.files import AudioFileWriter, file_format
from riffstream.commands.rendering.model import add_model_options, load_renderer
from riffstream.commands.rendering.music import length
from riffstream.commands.rendering.writing import part_blocks, write_blocks
from riffstream.config import StationConfig, TimelineSettings
from riffstream.errors import ParameterError
from riffstream.generator.messages import STILL_BPM, Info
from riffstream.journey.journey import Journey, Keyframe, PromptPart, Stop
from riffstream.journey.keyframe import SONG
from riffstream.protocol import SAMPLE_RATE
from riffstream.ranges import RANGES, check
from riffstream.station.score import Score
from riffstream.text_files import readable

if TYPE_CHECKING:
    from riffstream.models.songs import Song

EXAMPLES = """examples:
  riffstream riff song.mp3 --prompt "church organ" -o organ.flac
  riffstream riff song.mp3 --prompt "synthwave" --strength 0.7 --seconds 60 -o synthwave.flac
  riffstream riff song.mp3 --prompt "jazz trio" --prompt "techno" -o journey.flac
  riffstream riff one.mp3 --to two.mp3 --prompt "soft piano" --prompt "hard techno" -o between.flac"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("song", metavar="FILE", help="the recording, 1 s to 15 minutes")
    what = parser.add_argument_group("what to play")
    what.add_argument("--to", metavar="FILE", help="move from the recording to this one")
    what.add_argument(
        "--prompt", type=readable, action="append", default=[], metavar="P", help="a prompt; repeat for several in turn"
    )
    what.add_argument("--strength", type=float, default=0.5, metavar="X", help="0 (the recording) to 1 (0.5)")
    what.add_argument("--negative", type=readable, default="", metavar="P", help="negative prompt")
    what.add_argument("--seconds", type=float, metavar="N", help="duration (the shorter recording's)")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="noise seed, 0 to 4294967295 (0)")
    what.add_argument("--guidance", type=float, metavar="X", help="strength of the prompt, 0 to 30 (the model's)")
    what.add_argument("--bpm", type=float, metavar="X", help="the recording's tempo, 40 to 240 (measured)")
    what.add_argument("--key", type=float, metavar="X", help="its semitones above C or A minor, -6 to 6 (measured)")
    add_model_options(parser)
    out = parser.add_argument_group("output")
    out.add_argument("-o", "--output", required=True, metavar="FILE", help="wav, flac, ogg, opus or mp3")
    out.add_argument("--image", action="store_true", help="also write each clip's spectrogram, as NAME-01.png ...")
    out.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    out.add_argument("--json", action="store_true", help="the summary as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Run the command. All arguments are checked before the model is loaded, as far as possible."""
    from riffstream.models.songs import read_song

    file_format(args.output)
    _check(args)
    songs = {"a": read_song(args.song, bpm=args.bpm, key=args.key)}
    if args.to:
        songs["b"] = read_song(args.to)
    for name, song in zip((args.song, args.to), songs.values(), strict=False):
        for remark in song.remarks:
            print(f"riffstream riff: {readable(str(name))}: {remark}", file=sys.stderr)
    longest = min(song.seconds for song in songs.values())
    n_samples = length(longest if args.seconds is None else args.seconds)
    if n_samples > round(longest * SAMPLE_RATE):
        raise ParameterError("seconds", args.seconds, f"0.1 to {longest:.1f}, the length of the music")
    try:
        settings = TimelineSettings(loudness_lufs=args.lufs, ahead_s=1.0)
    except ParameterError as error:
        raise ParameterError("lufs", error.value, error.allowed) from None
    began = time.monotonic()
    tags = {"title": f"{' → '.join(args.prompt)} ({Path(args.song).stem})", "artist": "riffstream"}
    with AudioFileWriter(args.output, SAMPLE_RATE, 2, tags) as file:
        renderer = load_renderer(args, songs=songs)
        from riffstream.station.offline import Part

        journey = riff_journey(args, renderer.info, songs, n_samples)
        score = Score.of(StationConfig(), renderer.info, journey)
        part = Part(
            name="riff", score=score, n_samples=n_samples, settings=settings, steps=args.steps, model=args.model
        )
        write_blocks(args, file, part_blocks(args, part, renderer), n_samples, renderer.info, began)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Check what needs neither the recordings nor the model."""
    args.prompt = [prompt.strip() for prompt in args.prompt]
    if not args.prompt or not all(args.prompt):
        raise ParameterError("prompt", args.prompt or None, "one or more --prompt, of 1 or more characters")
    if args.to and len(args.prompt) > 2:
        raise ParameterError("prompt", args.prompt[2], "one prompt, or one for each recording with --to")
    if not 0 <= args.strength <= 1:
        raise ParameterError("--strength", args.strength, RANGES["denoising"].words)
    if args.model == "tone":
        raise ParameterError("model", "tone", "a model: the test tone does not listen")
    if args.steps is not None:
        check("steps", args.steps)
    _keyframe(args, args.prompt[0], "a", None)


def _keyframe(args: argparse.Namespace, prompt: str, name: str, song: Song | None) -> Keyframe:
    return Keyframe(
        (PromptPart(prompt),),
        negative=args.negative,
        seed=args.seed,
        denoising=args.strength,
        guidance=args.guidance,
        seed_image=f"{SONG}{name}",
        bpm=args.bpm if song is None else song.bpm,
        key=(args.key if song is None else song.key) or 0.0,
    )


def riff_journey(args: argparse.Namespace, info: Info, songs: dict[str, Song], n_samples: int) -> Journey:
    """Journey of the options: through the prompts with one recording, or from one recording to another.

    Models without a beat grid keep the recording's own tempo and key.
    """
    if info.bpm is None:
        songs = {name: _still(song) for name, song in songs.items()}
        clip_s = info.frames * info.hop / SAMPLE_RATE
    else:
        clip_s = info.beats * 60 / max(song.bpm for song in songs.values())
    clips = max(1, math.ceil(n_samples / SAMPLE_RATE / clip_s))
    if "b" in songs:
        ends = [_keyframe(args, args.prompt[at], name, songs[name]) for at, name in ((0, "a"), (-1, "b"))]
        return Journey((Stop(ends[0], 0, clips), Stop(ends[1])), "stay")
    keyframes = [_keyframe(args, prompt, "a", songs["a"]) for prompt in args.prompt]
    if len(keyframes) == 1:
        return Journey.single(keyframes[0])
    share = clips / len(keyframes)
    travel = max(1, round(share / 3))
    stay = max(1, round(share - travel * (len(keyframes) - 1) / len(keyframes)))
    return Journey.along(keyframes, stay=stay, travel=travel, ending="stay")


def _still(song: Song) -> Song:
    import msgspec

    return msgspec.structs.replace(song, bpm=STILL_BPM, key=0.0)
