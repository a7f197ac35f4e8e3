"""Listen to a station from the terminal: play it, record it, steer it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from riffstream.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riffstream.client import Radio

EXAMPLES = """examples:
  riffstream listen http://localhost:8080                                play it (through ffplay, mpv or aplay)
  riffstream listen http://localhost:8080 -o an-hour.flac --seconds 3600
  riffstream listen http://localhost:8080 --steer "dub techno" -o dub.mp3 --seconds 60
  riffstream listen http://localhost:8080 -o - | sox -t f32 -r 48000 -c 2 - out.wav    (raw float32 on stdout)
  riffstream listen ws://radio.example/ws/jazz --token "$TOKEN" --steer "bossa nova"

The token may also come from RIFFSTREAM_TOKEN, where other users of this machine cannot see it."""

# Programs that play raw 32-bit float samples from their standard input.
_PLAYERS = {
    "ffplay": "-nodisp -autoexit -loglevel error -fflags nobuffer -f f32le -ar 48000 -ch_layout stereo -i -",
    "mpv": "--really-quiet --no-video --demuxer=rawaudio --demuxer-rawaudio-format=float "
    "--demuxer-rawaudio-rate=48000 --demuxer-rawaudio-channels=2 -",
    "aplay": "-q -f FLOAT_LE -r 48000 -c 2",
}


class _Sink(Protocol):
    def write(self, block: NDArray[Any], /) -> object: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("url", metavar="URL", help="any address of the server, such as http://localhost:8080")
    parser.add_argument("-o", "--output", metavar="FILE", help="record to .wav, .flac, .ogg or .mp3; - is stdout")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after so much audio (default: never)")
    parser.add_argument(
        "--steer", action="append", default=[], metavar="P", help="steer to this prompt; repeat it for several in turn"
    )
    parser.add_argument("--station", default="main", metavar="NAME", help="where URL names none (default: main)")
    parser.add_argument("--token", default=None, metavar="T", help="where the server asks for one")
    parser.add_argument("--codec", choices=("opus", "pcm_s16"), default="opus", help="(default: opus)")
    parser.add_argument("--quiet", action="store_true", help="no progress, no messages")
    parser.add_argument("--json", action="store_true", help="report as JSON at the end")


def run(args: argparse.Namespace) -> int:
    """Listen until done. Raises RiffstreamError on bad input or a lost server."""
    if args.seconds is not None and not args.seconds > 0:
        raise ParameterError("--seconds", args.seconds, "more than 0")
    if args.json and args.output == "-":
        raise ParameterError("--json", True, "not together with -o -, both write to stdout")
    report = asyncio.run(_listen(args))
    if args.json:
        print(json.dumps(report))
    return 0


class _Pipe:
    """A player, or standard output, as a sink of float32 samples."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, block: NDArray[Any]) -> None:
        self._stream.write(block.tobytes())
        self._stream.flush()


def _sink(args: argparse.Namespace, stack: ExitStack) -> _Sink:
    from riffstream.audio.writing import AudioFileWriter

    if args.output == "-":
        return _Pipe(sys.stdout.buffer)
    if args.output is not None:
        tags = {"title": ", ".join(args.steer)} if args.steer else {}
        return stack.enter_context(AudioFileWriter(Path(args.output), 48_000, 2, tags))
    for name, arguments in _PLAYERS.items():
        if path := shutil.which(name):
            process = stack.enter_context(subprocess.Popen([path, *arguments.split()], stdin=subprocess.PIPE))
            return _Pipe(process.stdin)
    raise ParameterError("-o", None, f"a file, or install a player ({', '.join(_PLAYERS)}) to hear it")


async def _listen(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    from riffstream.audio.writing import file_format
    from riffstream.client import connect

    if args.output not in (None, "-"):
        file_format(args.output)
    radio = connect(
        args.url,
        station=args.station,
        token=args.token or os.environ.get("RIFFSTREAM_TOKEN"),
        codec=args.codec,
        steer=bool(args.steer),
    )
    with ExitStack() as stack:
        async with radio:
            sink = _sink(args, stack)
            steered: list[dict[str, Any]] = []
            steering = asyncio.create_task(_steer(radio, args.steer, steered))
            bar = stack.enter_context(
                tqdm(total=args.seconds, unit="s", desc=_title(radio), disable=args.quiet or None, bar_format=_BAR)
            )
            samples = gaps = 0
            async for block in radio:
                data = block.samples
                if args.seconds is not None:
                    data = data[: round(args.seconds * 48_000) - samples]
                await asyncio.to_thread(sink.write, data)
                samples += len(data)
                gaps += block.discontinuity
                bar.set_description(_title(radio), refresh=False)
                bar.update(len(data) / 48_000)
                if steering.done() and steering.exception() is not None:
                    break
                if args.seconds is not None and samples >= round(args.seconds * 48_000):
                    break
            if steering.done():
                steering.result()
            else:
                steering.cancel()
            return {
                "url": radio.url,
                "output": args.output,
                "seconds": round(samples / 48_000, 3),
                "discontinuities": gaps,
                "reconnects": radio.reconnects,
                "rev": radio.rev,
                "prompts": [part.text for part in radio.state.prompts],
                "steered": steered,
            }


_BAR = "{desc}  {n:.1f} s {bar}"


def _title(radio: Radio) -> str:
    return " + ".join(part.text for part in radio.state.prompts)[:60]


async def _steer(radio: Radio, prompts: list[str], steered: list[dict[str, Any]]) -> None:
    for prompt in prompts:
        applied = await radio.steer(prompt)
        steered.append({"prompt": prompt, "rev": applied.rev, "audible_at": applied.audible_at})
