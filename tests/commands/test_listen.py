"""``riffstream listen`` against the real server with a test tone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import soundfile

from riffstream import cli
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running


@pytest.fixture
async def radio() -> AsyncIterator[Running]:
    async with running("main", "other", speed=4.0) as served:
        yield served


async def listen(
    url: str,
    *arguments: str,
    environment: dict[str, str] | None = None,
    send: int | None = None,
    when: Path | None = None,
) -> tuple[int, str, str]:
    """Run the command; ``send`` is a signal to end it with as soon as the folder ``when`` holds a file."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "riffstream", "listen", url, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | (environment or {}),
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            if send is not None and when is not None:
                while not any(path.stat().st_size > 10_000 for path in when.iterdir()):
                    await asyncio.sleep(0.05)
                process.send_signal(send)
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("http://[half",), "url is"),
        (("http://host:port",), "url is"),
        (("http://host", "--seconds", "inf"), "--seconds is inf"),
        (("http://host", "--seconds", "nan"), "--seconds is nan"),
        (("http://host", "--seconds", "0"), "--seconds is 0"),
        (("http://host", "--steer", " "), "--steer is"),
        (("http://host", "--json", "-o", "-"), "--json is"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["listen", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"riffstream listen: {named}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_recording_that_is_interrupted_is_kept(radio: Running, tmp_path: Path, number: int) -> None:
    target = tmp_path / "endless.wav"
    code, out, err = await listen(
        radio.url, "-o", str(target), "--json", "--codec", "pcm_s16", send=number, when=tmp_path
    )
    assert (code, err) == (128 + number, "")
    report = json.loads(out)
    assert report["seconds"] > 0
    assert soundfile.info(target).frames == round(report["seconds"] * 48_000)
    assert [path.name for path in tmp_path.iterdir()] == ["endless.wav"]


async def test_a_station_that_ends_early_leaves_what_was_heard(radio: Running, tmp_path: Path) -> None:
    target = tmp_path / "long.wav"
    listening = asyncio.create_task(listen(radio.url, "-o", str(target), "--seconds", "3600", "--codec", "pcm_s16"))
    while not any(path.stat().st_size > 10_000 for path in tmp_path.iterdir()):
        await asyncio.sleep(0.05)
    await radio.server.context.broadcasts.end("main", "this station has ended")
    code, _, err = await listening
    assert code == 2
    assert "ended after" in err
    assert "Traceback" not in err
    assert soundfile.info(target).frames > 0


async def test_a_player_that_fails_is_told(radio: Running, tmp_path: Path) -> None:
    player = tmp_path / "ffplay"
    player.write_text("#!/bin/sh\nexit 3\n")
    player.chmod(0o755)
    code, _, err = await listen(radio.url, "--seconds", "30", environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert code == 2
    assert "ffplay cannot play here: it ended with code 3" in err


async def test_a_player_that_is_closed_ends_it(radio: Running, tmp_path: Path) -> None:
    player = tmp_path / "ffplay"
    player.write_text("#!/bin/sh\nhead -c 100000 > /dev/null\n")
    player.chmod(0o755)
    code, _, err = await listen(
        radio.url, "--seconds", "30", "--quiet", environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    assert (code, err) == (0, "")
