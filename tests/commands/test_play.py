"""``riffstream play``: a file or a pipe into a station."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from riffstream.commands import play
from riffstream.errors import MediaWarning
from riffstream.server.live_input.intake import LIVE_INPUTS
from tests.commands.conftest import RunResult, make_song
from tests.server.conftest import Running, running
from tests.server.live_input.test_intake import start, until
from tests.server.test_sockets import joined

Run = Callable[..., RunResult]


def level(served: Running) -> float:
    """Root mean square of the newest half second of the station's input."""
    current = served.server.app[LIVE_INPUTS]._open.get("main")
    if current is None or current._ring.end is None:
        return 0.0
    recent = current._ring.read(current._ring.end - 24_000, current._ring.end).astype(float)
    return float(np.sqrt((recent**2).mean()))


@pytest.mark.parametrize("kind", ["file", "ffmpeg", "raw"])
async def test_a_file_and_pipes_arrive_in_real_time(tmp_path: Path, kind: str) -> None:
    song = make_song(tmp_path / "song.wav", seconds=2.5)
    async with running(speed=1.0, preroll=480_000) as served:
        command = [sys.executable, "-m", "riffstream", "play", "--to", served.url, "--json"]
        if kind == "file":
            process = await asyncio.create_subprocess_exec(*command, str(song), stdout=subprocess.PIPE)
        else:
            shape = "-f f32le -ar 48000 -ac 2" if kind == "raw" else "-f wav"
            raw = "--raw" if kind == "raw" else ""
            line = f"ffmpeg -v error -i {song} {shape} - | {' '.join(command)} - {raw}"
            process = await asyncio.create_subprocess_shell(line, stdout=subprocess.PIPE)
        await until(lambda: level(served) > 3000, 30)
        began = asyncio.get_running_loop().time()
        out, _ = await process.communicate()
        assert asyncio.get_running_loop().time() - began > 1.0
        assert process.returncode == 0
        assert b'"seconds": 2.5' in out
        await until(lambda: served.server.app[LIVE_INPUTS].open == 0)


async def test_refusals_are_one_line(run: Run, tmp_path: Path) -> None:
    song = make_song(tmp_path / "song.wav", seconds=9)
    (tmp_path / "text.wav").write_text("no sound")
    async with running(speed=1.0) as served, joined(served) as other:
        await other.socket.send(start())
        await other.message("input")

        async def played(*words: object) -> RunResult:
            return await asyncio.to_thread(run, "play", *words, "--to", served.url)

        for words, problem in (
            ((song,), "another client's live input"),
            ((tmp_path / "text.wav",), "it is not audio"),
            ((tmp_path / "missing.wav",), "missing.wav"),
            ((song, "--strength", 1), "--strength is 1"),
            ((song, "--raw"), "--raw"),
            (("-", "--loop"), "--loop"),
        ):
            code, _, err = await played(*words)
            assert code == 2, words
            assert problem in err
            assert len(err.splitlines()) == 1
        playing = asyncio.create_task(played(song, "--takeover"))
        assert "taken over" in (await other.message("input", status="ended"))["reason"]
        await other.socket.send(start(takeover=True))
        code, _, err = await playing
        assert code == 2
        assert "taken over by another client" in err


@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize(
    ("coding", "ending", "piped_s"), [("aac", "aac", 4.0), ("libvorbis", "ogg", 2.0), ("libmp3lame", "mp3", 4.0)]
)
def test_a_file_joined_from_two_is_played_to_its_end(
    tmp_path: Path, need_tool: Callable[[str], str], way: str, coding: str, ending: str, piped_s: float
) -> None:
    """The halves differ in rate and channels, and ``cat`` joins them: libav's resampler refuses such a change."""
    joined_file = tmp_path / f"joined.{ending}"
    for name, rate, channels in (("one", 44_100, 1), ("two", 48_000, 2)):
        sound = ["-f", "lavfi", "-i", "sine=440:duration=2", "-ar", str(rate), "-ac", str(channels), "-c:a", coding]
        half = tmp_path / f"{name}.{ending}"
        subprocess.run([need_tool("ffmpeg"), "-v", "error", *sound, half], check=True)
        joined_file.write_bytes((joined_file.read_bytes() if joined_file.exists() else b"") + half.read_bytes())
    code = (
        "import argparse, warnings; from riffstream.commands.play import _blocks;"
        f"args = argparse.Namespace(file={str(joined_file)!r} if {way == 'file'} else '-', raw=False, loop=False);"
        "print(sum(map(len, _blocks(args))) / 48000)"
    )
    line = f"cat {joined_file} | {sys.executable} -c {shlex.quote(code)}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(4.0 if way == "file" else piped_s, abs=0.15)
    if way == "pipe" and piped_s < 4:  # libav cannot go on: the user is told where it ended
        assert "could be read up to" in done.stderr


def test_damage_in_a_file_is_told(tmp_path: Path) -> None:
    song = make_song(tmp_path / "song.wav", seconds=3)
    cut = tmp_path / "cut.wav"
    cut.write_bytes(song.read_bytes()[: song.stat().st_size // 2])
    args = argparse.Namespace(file=str(cut), raw=False, loop=False)
    with pytest.warns(MediaWarning, match="cut short"):
        assert sum(map(len, play._blocks(args))) / 48_000 == pytest.approx(1.5, abs=0.05)
