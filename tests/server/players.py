"""Players that others wrote, as listeners of a stream: each is started, gives so many seconds of sound, and is ended.

A player's :class:`Heard` holds what it decoded (48 kHz mono) and what it complained of. :func:`broken` says where
that is not the steady tone of the test generator: a gap, a repetition, a jump.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
from numpy.typing import NDArray

from tests.conftest import PATIENCE_S

Wave = NDArray[np.float32]

RATE = 48_000
CODECS = ("mp3", "aac", "ogg", "wav")
# Its tone makes no whole number of turns in a frame of any codec, so that one frame too few or too many shows.
PROMPT = "tone 5"
PITCH = 200 + zlib.crc32(PROMPT.encode()) % 601


@dataclass
class Heard:
    """What a player made of a stream.

    Attributes:
        wave: float32 [n], 48 kHz.
        complaints: its own words about errors.
        title: what it showed.
    """

    wave: Wave = field(default_factory=lambda: np.zeros(0, np.float32))
    complaints: str = ""
    title: str | None = None


def broken(wave: Wave, seconds: float) -> str:
    """What is wrong with ``seconds`` of the tone; "" where nothing is.

    The tone is turned down to 0 Hz: its phase then stands still. A sample too many or too few would turn it by
    360 * PITCH / 48000 degrees (some four), a lost frame by a quarter of a turn at least, for good.
    """
    if abs(len(wave) - seconds * RATE) > 0.25 * RATE:
        return f"{len(wave) / RATE:.2f} s of sound, not {seconds:g}"
    wave = wave[RATE // 5 :]  # in which MP3 and AAC decoders, which begin in mid-stream, find their way
    size = 2400
    count = len(wave) // size
    pieces = wave[: count * size].reshape(count, size)
    level = np.sqrt((pieces.reshape(-1, size // 5) ** 2).mean(1))
    if level.min() < 0.5 * np.median(level) or not 0.01 < np.median(level) < 0.9:
        at = int(level.argmin())
        return f"level {level[at]:.4f} at {at * size / 5 / RATE + 0.2:.2f} s, {np.median(level):.4f} elsewhere"
    turning = np.exp(-2j * np.pi * PITCH * np.arange(count * size) / RATE).reshape(count, size)
    turned = (pieces * turning * np.hanning(size)).sum(1)
    off = np.abs(np.degrees(np.angle(turned * np.exp(-1j * np.angle(np.median(turned[:10]))))))
    steady = np.median(off[: count // 10 * 10].reshape(-1, 10), axis=1)  # beats carry a click, which turns it a little
    if steady.max() > 4 or off.max() > 60:
        at = int(np.argmax(off > 60) if off.max() > 60 else 10 * np.argmax(steady > 4))
        return f"the tone jumps by {off[at]:.0f} degrees at {at * size / RATE + 0.2:.2f} s"
    return ""


def _as_nobody(command: list[str]) -> list[str]:
    """A command for a program that refuses to run as root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]


def _raw(data: bytes) -> Wave:
    return np.frombuffer(data[: len(data) // 4 * 4], np.float32)


def _piped(command: list[str], seconds: float, limit_s: float) -> Heard:
    """The first seconds of what a program writes: float32, mono."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        late = threading.Timer(limit_s, process.kill)
        late.start()
        assert process.stdout is not None
        with process.stdout as stdout:
            data = stdout.read(round(seconds * RATE) * 4)
        process.terminate()
        process.wait()
        late.cancel()
        errors.seek(0)
        return Heard(_raw(data), errors.read().decode(errors="replace").strip())


def ffmpeg(url: str, seconds: float, *options: str) -> Heard:
    command = ["ffmpeg", "-v", "error", *options, "-i", url, "-t", str(seconds), "-f", "f32le", "-ac", "1"]
    return _piped([*command, "-ar", str(RATE), "-"], seconds, seconds + PATIENCE_S)


def mpv(url: str, seconds: float, *options: str) -> Heard:
    quiet = ["--no-config", "--no-video", "--no-terminal", "--audio-samplerate=48000", "--audio-channels=mono"]
    sound = ["--ao=pcm", "--ao-pcm-waveheader=no", "--ao-pcm-file=/dev/stdout", "--audio-format=float"]
    return _piped(["mpv", *quiet, *sound, *options, url], seconds, seconds + PATIENCE_S)


def gstreamer(url: str, seconds: float) -> Heard:
    chain = "audioconvert ! audioresample ! audio/x-raw,format=F32LE,rate=48000,channels=1 ! fdsink fd=1"
    command = ["gst-launch-1.0", "-q", "uridecodebin", f"uri={url}", "!", *chain.split()]
    heard = _piped(command, seconds, seconds + PATIENCE_S)
    # Version 1.22 says this of every live Ogg stream, and plays it.
    lines = [line for line in heard.complaints.splitlines() if "gst_segment_do_seek: assertion" not in line]
    return Heard(heard.wave, "\n".join(lines).strip())


def vlc(url: str, seconds: float) -> Heard:
    """VLC has no pipe that keeps time, so it writes a file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        chain = "transcode{acodec=f32l,samplerate=48000,channels=1}:std{access=file,mux=raw,dst=%s}" % (folder / "out")
        options = ["--intf=dummy", "--no-interact", "--quiet", f"--run-time={seconds + 1:g}", f"--sout=#{chain}"]
        command = _as_nobody(["cvlc", *options, url, "vlc://quit"])
        environment = {**os.environ, "HOME": name}
        done = subprocess.run(command, capture_output=True, timeout=seconds + PATIENCE_S, env=environment, check=False)
        out = folder / "out"
        data = out.read_bytes() if out.exists() else b""
        return Heard(_raw(data)[: round(seconds * RATE)], "" if data else done.stderr.decode(errors="replace"))


class Ended(Exception):  # noqa: N818  (no fault of the player)
    """A stream broke off.

    Attributes:
        wave: what came before.
    """

    def __init__(self, wave: Wave) -> None:
        super().__init__(f"the stream ended after {len(wave) / RATE:.2f} s")
        self.wave = wave


def pyav(url: str, seconds: float) -> Heard:
    """PyAV, whose ffmpeg is newer than Debian's. Raises Ended."""
    parts: list[Wave] = [np.zeros(0, np.float32)]
    try:
        container = av.open(url, timeout=PATIENCE_S)
    except (OSError, EOFError, av.error.ExitError):  # the last: nothing came in time
        raise Ended(parts[0]) from None
    with container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        try:
            for frame in container.decode(audio=0):
                parts += [each.to_ndarray().reshape(-1) for each in resampler.resample(frame)]
                if sum(map(len, parts)) >= seconds * RATE:
                    break
            else:
                raise Ended(np.concatenate(parts))
        except (OSError, EOFError, av.error.ExitError):
            raise Ended(np.concatenate(parts)) from None
        # Ogg has it in its comments as well, and PyAV reads a container's metadata only once, while it opens it.
        title = container.metadata.get("StreamTitle") or container.streams.audio[0].metadata.get("TITLE")
    return Heard(np.concatenate(parts)[: round(seconds * RATE)], title=title)


def _decoder(seconds: float) -> list[str]:
    """A command that decodes the first seconds of its standard input."""
    return ["ffmpeg", "-v", "error", "-i", "-", "-t", f"{seconds}", *f"-f f32le -ac 1 -ar {RATE} -".split()]


def curl(url: str, seconds: float) -> Heard:
    """HTTP/1.0, as of old radios, and a decoder behind it."""
    script = f"curl -s --http1.0 {url} | {' '.join(_decoder(seconds))}"
    return _piped(["sh", "-c", script], seconds, seconds + PATIENCE_S)


def microcontroller(url: str, seconds: float) -> Heard:
    """A reader like an ESP32's, in a process of its own: beside twenty players in threads it would starve."""
    reader = f"{sys.executable} {Path(__file__).with_name('slow_reader.py')} {url} {seconds}"
    return _piped(["sh", "-c", f"{reader} | {' '.join(_decoder(seconds))}"], seconds, seconds + PATIENCE_S)


PLAYERS: dict[str, tuple[str | None, Callable[[str, float], Heard]]] = {
    "ffmpeg": ("ffmpeg", ffmpeg),
    "mpv": ("mpv", mpv),
    "vlc": ("cvlc", vlc),
    "gstreamer": ("gst-launch-1.0", gstreamer),
    "pyav": (None, pyav),
    "curl": ("curl", curl),
    "microcontroller": ("ffmpeg", microcontroller),
}
"""Name: the program that must be installed, and how it listens."""


def installed(name: str) -> bool:
    """Whether a player's program is here; curl's and the microcontroller's bodies are decoded by ffmpeg."""
    program = PLAYERS[name][0]
    return program is None or all(shutil.which(each) for each in (program, "ffmpeg"))


def listen(url: str, seconds: float) -> dict[tuple[str, str], Heard]:
    """Every player that is installed, on every format, all at once."""
    heard: dict[tuple[str, str], Heard] = {}

    def one(name: str, codec: str) -> None:
        try:
            heard[name, codec] = PLAYERS[name][1](f"{url}/stream/main.{codec}", seconds)
        except Exception as error:
            heard[name, codec] = Heard(complaints=f"{type(error).__name__}: {error}")

    threads = [
        threading.Thread(target=one, args=(name, codec)) for name in PLAYERS if installed(name) for codec in CODECS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return heard


class Relay:
    """A way to a server that can be cut, as a network does. Use it in a ``with``.

    Attributes:
        url: of the relay.
        requests: the first line and the ``Range`` of each request that came.
    """

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.requests: list[tuple[str, str | None]] = []
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self) -> None:
        for near in self._incoming():
            threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _incoming(self) -> Iterator[socket.socket]:
        with contextlib.suppress(OSError):
            while True:
                yield self._listening.accept()[0]

    def _pass(self, near: socket.socket) -> None:
        far = socket.create_connection((self._to.hostname or "", self._to.port or 80))
        self._open += [near, far]
        with near, far, contextlib.suppress(OSError):
            request = near.recv(65536)
            lines = request.decode("latin-1").split("\r\n")
            ranges = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("range:")]
            self.requests.append((lines[0], ranges[0] if ranges else None))
            far.sendall(request)
            while data := far.recv(65536):
                near.sendall(data)
