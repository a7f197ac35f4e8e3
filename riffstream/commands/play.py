"""Play a file or a pipe into a station: its model hears the sound and starts the next clips from it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from riffstream.errors import MediaError, MediaWarning, ParameterError, RadioError
from riffstream.text_files import readable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riffstream.client import Radio

EXAMPLES = """examples:
  riffstream play guitar.wav --to http://localhost:8080
  riffstream play loop.flac --to http://localhost:8080 --loop --strength 0.7
  ffmpeg -f alsa -i default -f wav - | riffstream play - --to http://localhost:8080
  riffstream listen http://one.example -o - | riffstream play - --raw --to http://localhost:8080

RIFFSTREAM_TOKEN may hold the token, hidden from other users of this machine."""

RATE: Final = 48_000
FRAME: Final = 1920  # 40 ms
LEAD_S: Final = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("file", metavar="FILE", help="an audio file; - is stdin (wav, flac, ogg, mp3)")
    parser.add_argument("--to", required=True, metavar="URL", help="any address of the server")
    parser.add_argument(
        "--station", type=readable, default="main", metavar="NAME", help="default: that of URL, else main"
    )
    parser.add_argument("--token", type=readable, default=None, metavar="T", help="access token")
    parser.add_argument(
        "--strength", type=float, default=0.5, metavar="X", help="share of the input in the clips, 0.05 to 0.95 (0.5)"
    )
    parser.add_argument("--takeover", action="store_true", help="end the input of another client")
    parser.add_argument("--loop", action="store_true", help="repeat the file until Ctrl-C")
    parser.add_argument("--raw", action="store_true", help="stdin is float32, 48 kHz, stereo, as 'listen -o -' writes")
    parser.add_argument("--quiet", action="store_true", help="no messages")
    parser.add_argument("--json", action="store_true", help="report as JSON at the end")


def run(args: argparse.Namespace) -> int:
    """Play to the end, or until SIGINT or SIGTERM. Raises RiffstreamError on bad input or a lost server."""
    from riffstream.ranges import check

    args.strength = check("strength", args.strength, field="--strength")
    if args.loop and args.file == "-":
        raise ParameterError("--loop", True, "only with a file, stdin cannot be repeated")
    if args.raw and args.file != "-":
        raise ParameterError("--raw", True, "only with -, stdin")
    report, ended_by = asyncio.run(_play(args))
    if args.json:
        print(json.dumps(report))
    return 0 if ended_by is None else 128 + ended_by


def _blocks(args: argparse.Namespace) -> Iterator[NDArray[Any]]:
    """Blocks of int16 [n, 2] at 48 kHz, up to ``FRAME`` long. Raises MediaError."""
    if args.raw:
        yield from _raw()
        return
    name = "stdin" if args.file == "-" else args.file
    # A file of this machine is read with what the library knows of damaged and joined files.
    flows = args.file == "-" or "://" in args.file or (os.path.exists(args.file) and not _is_file(args.file))
    while True:
        count = 0
        for block in _flowing(args.file, name) if flows else _read(args.file):
            count += len(block)
            yield block
        if not count:
            raise MediaError(f"{name}: it contains no audio")
        if not args.loop:
            return


def _is_file(path: str) -> bool:
    """Whether a path is a file or folder, not a pipe or device."""
    return os.path.isfile(path) or os.path.isdir(path)


def _read(path: str) -> Iterator[NDArray[Any]]:
    """Blocks of a file, which may be damaged, or joined from several ones."""
    import numpy as np

    from riffstream.audio.files import audio_blocks

    for wave in audio_blocks(path, sample_rate=RATE, channels=2):
        samples = (np.clip(wave, -1, 1) * 32767).astype("<i2")
        for at in range(0, len(samples), FRAME):
            yield samples[at : at + FRAME]


def _flowing(source: str, name: str) -> Iterator[NDArray[Any]]:
    """Blocks of a pipe, a device or an address, as they come. What cannot be decoded is left out with a warning."""
    import av

    count, damaged = 0, 0
    try:
        with av.open(sys.stdin.buffer if source == "-" else source, "r", metadata_errors="replace") as container:
            if not container.streams.audio:
                raise MediaError(f"{name}: it contains no audio")
            kind: tuple[Any, ...] = ()
            resampler = av.AudioResampler("s16", "stereo", RATE, FRAME)
            for packet in container.demux(container.streams.audio[0]):
                try:
                    frames = packet.decode()
                except EOFError:
                    continue
                except av.FFmpegError:
                    damaged += 1
                    continue
                parts = []
                for frame in frames:
                    now = (frame.sample_rate, frame.layout.name, frame.format.name)
                    if kind and now != kind:  # a joined stream: its next part has another format
                        parts += resampler.resample(None)
                        resampler = av.AudioResampler("s16", "stereo", RATE, FRAME)
                    kind = now
                    frame.pts = None
                    parts += resampler.resample(frame)
                for part in parts:
                    count += part.samples
                    yield part.to_ndarray().reshape(-1, 2)
            for part in resampler.resample(None) if kind else ():
                yield part.to_ndarray().reshape(-1, 2)
    except av.FFmpegError as error:
        if not count:
            raise MediaError(f"{name}: it cannot be read as audio: {error.strerror}") from None
        warnings.warn(
            MediaWarning(f"{name}: it could be read up to {count / RATE:.2f} s: {error.strerror}"), stacklevel=2
        )
    if damaged and count:
        packets = "1 damaged packet was" if damaged == 1 else f"{damaged} damaged packets were"
        warnings.warn(MediaWarning(f"{name}: {packets} left out"), stacklevel=2)


def _raw() -> Iterator[NDArray[Any]]:
    import numpy as np

    while data := sys.stdin.buffer.read(FRAME * 8):
        wave = np.frombuffer(data[: len(data) // 8 * 8], "<f4").reshape(-1, 2)
        yield (np.clip(np.nan_to_num(wave), -1, 1) * 32767).astype("<i2")


async def _play(args: argparse.Namespace) -> tuple[dict[str, Any], int | None]:
    """Play; return the report, and the signal that ended it or None."""
    from riffstream.client import connect

    blocks = _blocks(args)
    first = await asyncio.to_thread(next, blocks, None)  # a bad file is an error before anything is disturbed
    token = args.token or os.environ.get("RIFFSTREAM_TOKEN")
    radio = connect(args.to, station=args.station, token=token, codec="none", reconnect=False)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with radio:
        with _signals() as signals:
            watching = asyncio.create_task(_watch(radio, ended, quiet=args.quiet))
            await radio.start_input(strength=args.strength, takeover=args.takeover)
            samples, begin = 0, asyncio.get_running_loop().time()
            block = first
            while block is not None and not signals and not ended.done():
                await radio.send_input(block.tobytes(), len(block))
                samples += len(block)
                ahead = samples / RATE - (asyncio.get_running_loop().time() - begin) - LEAD_S
                if ahead < -1:  # a pipe that stalled: its time has passed
                    begin -= ahead
                elif ahead > 0:
                    await asyncio.sleep(ahead)
                block = await asyncio.to_thread(next, blocks, None)
            if ended.done():
                raise RadioError("ended", f"the live input ended: {ended.result()}")
            with contextlib.suppress(RadioError):
                await radio.stop_input()
            watching.cancel()
    return {"seconds": round(samples / RATE, 3)}, signals[0] if signals else None


async def _watch(radio: Radio, ended: asyncio.Future[str], *, quiet: bool) -> None:
    """Print what becomes of the input; complete ``ended`` when the server ends it."""
    from riffstream.protocol import InputState

    words = {"live": "the station hears the input", "quiet": "too quiet", "noise": "only noise"}
    async for message in radio.messages():
        if not isinstance(message, InputState):
            continue
        if message.status == "ended":
            if message.reason != "stopped" and not ended.done():
                ended.set_result(message.reason or "")
            return
        if not quiet and not message.id:
            level = "" if message.level_db is None else f" ({message.level_db:g} dBFS)"
            print(f"{words[message.status]}{level}", file=sys.stderr, flush=True)
    if not ended.done():
        ended.set_result("the connection was lost")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals received during the ``with`` block, SIGINT and SIGTERM, which then do not end the process."""
    received: list[int] = []
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
            loop.add_signal_handler(number, received.append, int(number))
            handled.append(number)
    try:
        yield received
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
