"""``riffstream play``: a file or a pipe into a station."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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
        play = [sys.executable, "-m", "riffstream", "play", "--to", served.url, "--json"]
        if kind == "file":
            process = await asyncio.create_subprocess_exec(*play, str(song), stdout=subprocess.PIPE)
        else:
            shape = "-f f32le -ar 48000 -ac 2" if kind == "raw" else "-f wav"
            raw = "--raw" if kind == "raw" else ""
            line = f"ffmpeg -v error -i {song} {shape} - | {' '.join(play)} - {raw}"
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

        async def play(*words: object) -> RunResult:
            return await asyncio.to_thread(run, "play", *words, "--to", served.url)

        for words, problem in (
            ((song,), "another client's live input"),
            ((tmp_path / "text.wav",), "cannot be read as audio"),
            ((tmp_path / "missing.wav",), "missing.wav"),
            ((song, "--strength", 1), "--strength is 1"),
            ((song, "--raw"), "--raw"),
            (("-", "--loop"), "--loop"),
        ):
            code, _, err = await play(*words)
            assert code == 2, words
            assert problem in err
            assert len(err.splitlines()) == 1
        playing = asyncio.create_task(play(song, "--takeover"))
        assert "taken over" in (await other.message("input", status="ended"))["reason"]
        await other.socket.send(start(takeover=True))
        code, _, err = await playing
        assert code == 2
        assert "taken over by another client" in err
