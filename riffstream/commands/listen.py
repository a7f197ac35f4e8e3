"""Play, record or steer a station from the terminal. Ctrl-C completes a recording before the end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from riffstream.errors import ParameterError, RiffstreamError
from riffstream.text_files import readable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riffstream.client import Radio

EXAMPLES = """examples:
  riffstream listen http://localhost:8080                                play it (through ffplay, mpv or aplay)
  riffstream listen http://localhost:8080 -o an-hour.flac --seconds 3600
  riffstream listen http://localhost:8080 --steer "dub techno" -o dub.mp3 --seconds 60
  riffstream listen http://localhost:8080 -o - | sox -t f32 -r 48000 -c 2 - out.wav    (raw float32 on stdout)
  riffstream listen ws://radio.example/ws/jazz --token "$TOKEN" --steer "bossa nova"

RIFFSTREAM_TOKEN may hold the token, hidden from other users of this machine."""

# Programs that play raw 32-bit float samples from their standard input.
_PLAYERS = {
    "ffplay": "-nodisp -autoexit -loglevel error -fflags nobuffer -f f32le -ar 48000 -ch_layout stereo -i -",
    "mpv": "--really-quiet --no-video --demuxer=rawaudio --demuxer-rawaudio-format=float "
    "--demuxer-rawaudio-rate=48000 --demuxer-rawaudio-channels=2 -",
    "aplay": "-q -f FLOAT_LE -r 48000 -c 2",
}


LONGEST_S = 30 * 24 * 3600.0


class _Sink(Protocol):
    """Destination of decoded blocks: a file, a pipe or a player."""

    def write(self, block: NDArray[Any], /) -> object: ...


class _PlayerLeftError(Exception):
    """The user closed the player."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("url", metavar="URL", help="any address of the server, such as http://localhost:8080")
    parser.add_argument("-o", "--output", metavar="FILE", help="record to .wav, .flac, .ogg or .mp3; - is stdout")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds of audio (default: at Ctrl-C)")
    parser.add_argument(
        "--steer",
        type=readable,
        action="append",
        default=[],
        metavar="P",
        help="steer to this prompt; repeat the option for several prompts in turn",
    )
    parser.add_argument(
        "--station", type=readable, default="main", metavar="NAME", help="default: that of URL, else main"
    )
    parser.add_argument("--token", type=readable, default=None, metavar="T", help="access token")
    parser.add_argument("--codec", choices=("opus", "pcm_s16"), default="opus", help="(default: opus)")
    parser.add_argument("--quiet", action="store_true", help="no progress, no messages")
    parser.add_argument("--json", action="store_true", help="report as JSON at the end")


def run(args: argparse.Namespace) -> int:
    """Listen until done, or until SIGINT or SIGTERM. Raises RiffstreamError on bad input or a lost server."""
    if args.seconds is not None and not (math.isfinite(args.seconds) and 0 < args.seconds <= LONGEST_S):
        raise ParameterError("--seconds", args.seconds, f"more than 0, up to {LONGEST_S:.12g}")
    if not all(prompt.strip() for prompt in args.steer):
        raise ParameterError("--steer", "", "a prompt")
    if args.json and args.output == "-":
        raise ParameterError("--json", True, "not together with -o -, both write to stdout")
    report, ended_by = asyncio.run(_listen(args))
    if args.json:
        print(json.dumps(report))
    return 0 if ended_by is None else 128 + ended_by


class _Pipe:
    """Standard output as a sink of float32 samples."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, block: NDArray[Any]) -> None:
        self._stream.write(block.tobytes())
        self._stream.flush()


class _Player:
    """A player program as a sink of float32 samples."""

    def __init__(self, command: list[str]) -> None:
        self._name = Path(command[0]).name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert self._process.stdin is not None
        self._pipe = _Pipe(self._process.stdin)

    def write(self, block: NDArray[Any]) -> None:
        """Play a block. Raises _PlayerLeftError if the player was closed, RiffstreamError if it failed."""
        try:
            self._pipe.write(block)
        except OSError:  # Windows has no BrokenPipeError for pipes
            code = self._process.wait()
            if code == 0:
                raise _PlayerLeftError from None
            raise RiffstreamError(f"{self._name} cannot play here: it ended with code {code}; -o records") from None

    def close(self) -> None:
        """Wait until the player has played its buffer."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


def _sink(args: argparse.Namespace, stack: ExitStack) -> _Sink:
    from riffstream.audio.writing import AudioFileWriter

    if args.output == "-":
        return _Pipe(sys.stdout.buffer)
    if args.output is not None:
        tags = {"title": ", ".join(args.steer)} if args.steer else {}
        file = AudioFileWriter(Path(args.output), 48_000, 2, tags)
        # A live stream cannot be recorded again: the recording is kept after any error.
        stack.callback(lambda: file.close() if file.n_samples else file.discard())
        return file
    for name, arguments in _PLAYERS.items():
        if path := shutil.which(name):
            player = _Player([path, *arguments.split()])
            stack.callback(player.close)
            return player
    raise ParameterError("-o", None, f"a file name; or install a player ({', '.join(_PLAYERS)})")


async def _listen(args: argparse.Namespace) -> tuple[dict[str, Any], int | None]:
    """Listen; return the report, and the signal that ended it or None."""
    from tqdm import tqdm

    from riffstream.audio.writing import file_format
    from riffstream.client import connect

    if args.output not in (None, "-"):
        file_format(args.output)
    wanted = None if args.seconds is None else round(args.seconds * 48_000)
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
            signals = stack.enter_context(_ending(radio))
            steered: list[dict[str, Any]] = []
            steering = asyncio.create_task(_steer(radio, args.steer, steered))
            bar = stack.enter_context(
                tqdm(total=args.seconds, unit="s", desc=_title(radio), disable=args.quiet or None, bar_format=_BAR)
            )
            samples = gaps = 0
            left = False
            async for block in radio:
                data = block.samples if wanted is None else block.samples[: wanted - samples]
                try:
                    await asyncio.to_thread(sink.write, data)
                except _PlayerLeftError:
                    left = True
                    break
                samples += len(data)
                gaps += block.discontinuity
                bar.set_description(_title(radio), refresh=False)
                bar.update(len(data) / 48_000)
                if steering.done() and steering.exception() is not None:
                    break
                if samples == wanted:
                    break
            ended_by = signals[0] if signals else None
            if steering.done() and ended_by is None:
                steering.result()
            else:
                steering.cancel()
                await asyncio.gather(steering, return_exceptions=True)
            if wanted is not None and samples < wanted and ended_by is None and not left:
                raise RiffstreamError(f"{radio.url} ended after {samples / 48_000:.1f} of {args.seconds:g} s")
            report = {
                "url": radio.url,
                "output": args.output,
                "seconds": round(samples / 48_000, 3),
                "discontinuities": gaps,
                "reconnects": radio.reconnects,
                "rev": radio.rev,
                "prompts": [part.text for part in radio.state.prompts],
                "steered": steered,
            }
            return report, ended_by


@contextlib.contextmanager
def _ending(radio: Radio) -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM end the stream in good order; the list then holds the signal's number.

    A second signal has its default effect.
    """
    loop = asyncio.get_running_loop()
    came: list[int] = []
    leaving: list[asyncio.Task[None]] = []
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(number: int) -> None:
        came.append(number)
        leaving.append(loop.create_task(radio.close()))
        restore()

    def restore() -> None:
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)

    for number in numbers:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, end, int(number))
    try:
        yield came
    finally:
        restore()


_BAR = "{desc}  {n:.1f} s {bar}"


def _title(radio: Radio) -> str:
    return " + ".join(part.text for part in radio.state.prompts)[:60]


async def _steer(radio: Radio, prompts: list[str], steered: list[dict[str, Any]]) -> None:
    for prompt in prompts:
        applied = await radio.steer(prompt)
        steered.append({"prompt": prompt, "rev": applied.rev, "audible_at": applied.audible_at})
