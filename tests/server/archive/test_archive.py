"""The rolling archive through HTTP: what a download contains, what bounds it, and what survives."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import av
import msgspec
import numpy as np
import pytest

from riffstream import protocol
from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.server.app import Server
from riffstream.server.archive.archive import check_folder
from riffstream.server.archive.recorder import Recorder
from riffstream.server.archive.store import FILE, Row, Title
from riffstream.server.archive.writer import Job
from riffstream.server.broadcast import Broadcast
from riffstream.server.uploads.locked_folder import LockedFolder
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running
from tests.server.fakes import FakeHub, FakeStation, pitch
from tests.server.test_process import Process

CODECS = ("mp3", "aac", "opus")


async def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def archive(served: Running) -> Any:
    found = served.server.context.archive
    assert found is not None
    return found


async def get(url: str, **query: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url, params=query) as answer:
        return answer.status, await answer.read()


async def written(served: Running, seconds: float) -> None:
    """Play on until so much of the station is on disk."""
    await until(lambda: archive(served).figures()["written_s"] >= seconds, f"{seconds} s written")


def prompt(station: FakeStation, text: str) -> int:
    """Change the prompt now; return the sample of the change."""
    station.state = msgspec.structs.replace(station.state, prompts=(protocol.Prompt(text=text),))
    station.tell(station.now())
    return station.sample_pos


@pytest.mark.parametrize("codec", CODECS)
async def test_a_span_becomes_a_file_with_tags_chapters_and_a_cover(tmp_path: Path, codec: str) -> None:
    async with running(speed=1.0, preroll=480_000, archive={"dir": str(tmp_path), "codec": codec}) as served:
        await written(served, 4)
        at = prompt(served.station, 'Größe "live"') / 48_000
        await until(lambda: served.station.committed / 48_000 > at + 6, "played on")
        await written(served, 8)
        url = f"{served.url}/api/stations/main/archive/recording"
        status, data = await get(url, **{"from": f"{at - 3}", "to": f"{at + 3}"})
        assert status == 200, data
        with av.open(io.BytesIO(data)) as file:
            title = file.metadata.get("title") or file.streams.audio[0].metadata.get("title", "")
            assert title.startswith("The Test Tone 20")
            chapters = file.chapters()
            named = [(each["metadata"]["title"], float(each["start"] * each["time_base"])) for each in chapters]
            assert [name for name, _ in named] == ["a test tone", 'Größe "live"']
            assert [start for _, start in named] == pytest.approx([0, 3], abs=0.05)
            covers = [stream for stream in file.streams if stream.type == "video"]
            assert [(cover.width, cover.height) for cover in covers] == [(600, 600)]
        with av.open(io.BytesIO(data)) as file:
            resampler = av.AudioResampler("fltp", "mono", 48_000)
            frames = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
        wave = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        assert len(wave) / 48_000 == pytest.approx(6, abs=0.06)
        assert pitch(np.stack([wave[48_000:96_000]] * 2, 1)) == pytest.approx(300, abs=1)
        level = np.abs(wave[4800 : len(wave) // 480 * 480 - 4800]).reshape(-1, 480).max(1)
        assert level.min() > 0.2, f"a gap at {level.argmin() / 100 + 0.1} s"
        _, cue = await get(url, **{"from": f"{at - 3}", "to": f"{at + 3}", "format": "cue"})
        lines = cue.decode().splitlines()
        assert [line.strip() for line in lines if "TITLE" in line][1:] == [
            'TITLE "a test tone"',
            "TITLE \"Größe 'live'\"",
        ]
        assert lines[-1].strip().startswith(("INDEX 01 00:03:0", "INDEX 01 00:02:7"))
        _, text = await get(url, **{"from": f"{at - 3}", "to": f"{at + 3}", "format": "chapters"})
        assert text.decode().splitlines()[0] == "0:00:00 a test tone"


async def test_wall_clock_and_station_time_are_the_same_audio(tmp_path: Path) -> None:
    async with running(speed=1.0, preroll=48_000 * 10, archive={"dir": str(tmp_path)}) as served:
        await until(lambda: archive(served).figures()["written_s"] >= 6, "written")
        _, data = await get(f"{served.url}/api/stations/main/archive")
        about = json.loads(data)
        assert (about["codec"], about["state"], about["problem"]) == ("mp3", "recording", "")
        [one] = about["stretches"]
        assert one["current"]
        begin = datetime.datetime.fromisoformat(one["from"])
        now = datetime.datetime.now(datetime.UTC)
        heard = one["from_s"] + (now - begin).total_seconds()
        assert heard == pytest.approx(served.station.sample_pos / 48_000, abs=0.3)
        url = f"{served.url}/api/stations/main/archive/recording"
        middle = begin + datetime.timedelta(seconds=2)
        zoned = middle.astimezone(datetime.timezone(datetime.timedelta(hours=2)))
        spans = [
            {"from": f"{one['from_s'] + 2}", "to": f"{one['from_s'] + 4}"},
            {"from": middle.isoformat(), "to": (middle + datetime.timedelta(seconds=2)).isoformat()},
            {"from": zoned.isoformat(), "to": (middle + datetime.timedelta(seconds=2)).isoformat()},
        ]
        found = [(await get(url, **span))[1] for span in spans]
        audio = [each[each.index(b"\xff\xfb") :] for each in found]
        assert audio[0] == audio[1] == audio[2]
        unescaped = f"{url}?from={zoned.isoformat()}"  # a plus sign that is not escaped
        assert (await get(unescaped))[0] == 200


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({"from": "x"}, 400, "from is 'x'; allowed: station time"),
        ({"from": "-1"}, 400, "station time in seconds (0 or more)"),
        ({"from": "nan"}, 400, "station time"),
        ({"from": "2026-11-28T19:00:00"}, 400, "a date with a time zone"),
        ({"from": "0", "to": "2026-11-28T19:00:00Z"}, 400, "both in station time"),
        ({"from": "3", "to": "3"}, 400, "to is not after from"),
        ({"to": "3"}, 400, "from is missing"),
        ({"from": "0", "run": "x"}, 400, "run is 'x'"),
        ({"from": "0", "run": "999"}, 404, "no audio of this span"),
        ({"from": "1e9"}, 404, "no audio of this span"),
        ({"from": "1999-01-01T00:00:00Z", "to": "1999-01-02T00:00:00Z"}, 404, "no audio of this span"),
        ({"from": "2026-13-01T00:00:00Z"}, 400, "a date"),
        ({"from": "0", "format": "flac"}, 400, "format is 'flac'; allowed: mp3, cue, chapters"),
    ],
)
async def test_wrong_questions_are_answered_with_the_field(
    tmp_path: Path, query: dict[str, str], status: int, says: str
) -> None:
    async with running(speed=10.0, archive={"dir": str(tmp_path)}) as served:
        await written(served, 2)
        found, data = await get(f"{served.url}/api/stations/main/archive/recording", **query)
        assert found == status, data
        assert says in json.loads(data)["message"]


async def test_without_an_archive_a_span_is_refused() -> None:
    async with running(speed=10.0) as served:
        for path in ("archive/recording?from=0", "archive"):
            status, data = await get(f"{served.url}/api/stations/main/{path}")
            assert (status, "archive.dir" in json.loads(data)["message"]) == (404, True)
        assert "archive" not in json.loads((await get(f"{served.url}/healthz"))[1])


async def test_the_archive_stays_below_its_size(tmp_path: Path) -> None:
    async with running(speed=None, archive={"dir": str(tmp_path), "max_mb": 20}) as served:
        writer = archive(served)._writer
        largest, noise = 0, os.urandom(64_000)
        for number in range(600):
            await until(lambda: writer._queue.qsize() < 20, "written")
            row = Row(0, number * 96_000, 96_000, time.time() + number * 2, noise)
            writer.put(Job(("main", 9), "mp3", b"", 128, row, (Title(number * 96_000, "t" * 100),)))
            if number % 20 == 0:
                largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir()))
        await until(lambda: writer._queue.empty(), "all written")
        assert writer.problem == ""
        assert 10e6 < largest <= 20e6
        with sqlite3.connect(tmp_path / FILE) as db:
            first, count = db.execute("SELECT min(pos), count(*) FROM audio").fetchone()
        assert first == (600 - count) * 96_000, "the newest rows are kept"
        assert count > 100


async def test_what_is_too_old_goes(tmp_path: Path) -> None:
    async with running(speed=None, archive={"dir": str(tmp_path), "hours": 0.1}) as served:
        writer = archive(served)._writer
        for number in range(10):
            row = Row(0, number * 96_000, 96_000, time.time() - 400 + number * 20, b"x")
            writer.put(Job(("main", 9), "mp3", b"", 128, row, ()))
        await until(lambda: writer.written >= 10 * 96_000, "written")
        with sqlite3.connect(tmp_path / FILE) as db:
            [oldest] = db.execute("SELECT min(wall) FROM audio").fetchone()
        assert time.time() - oldest < 361


async def test_the_audio_of_an_earlier_process_is_not_recorded_again() -> None:
    """A restarted server gives its encoders the last seconds of the old one, for clients that resume."""
    station = FakeStation()
    station.advance(10 * 48_000)
    station.first_pos = 7 * 48_000
    broadcast = Broadcast(station, Config())
    jobs: list[Job] = []
    recorder = Recorder("main", "mp3", 128, {"main": broadcast}, jobs.append)  # type: ignore[arg-type]
    recording = asyncio.create_task(recorder.run())
    await until(lambda: bool(jobs), "a row")
    recording.cancel()
    await asyncio.gather(recording, return_exceptions=True)
    await broadcast.close("the test ends")
    await station.close()
    assert 7 * 48_000 <= jobs[0].row.pos < 7 * 48_000 + 4800  # from the next border of chunks


async def test_a_pause_of_the_clock_ends_a_stretch(tmp_path: Path) -> None:
    """The sample clock stands still while a station sleeps."""
    async with running(speed=1.0, preroll=480_000, archive={"dir": str(tmp_path)}) as served:
        await written(served, 6)
        _, data = await get(f"{served.url}/api/stations/main/archive")
        assert len(json.loads(data)["stretches"]) == 1
        assert served.station.task is not None
        served.station.task.cancel()
        await asyncio.sleep(1)
        served.station.play(1.0)
        await written(served, 9)
        _, data = await get(f"{served.url}/api/stations/main/archive")
        before, after = json.loads(data)["stretches"]
        assert before["to_s"] == after["from_s"]
        begun = datetime.datetime.fromisoformat(after["from"]) - datetime.datetime.fromisoformat(before["to"])
        assert begun.total_seconds() == pytest.approx(1, abs=0.3)


def test_a_folder_that_cannot_be_used_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        with pytest.raises(ParameterError, match=r"archive\.dir is .*a folder that can be written to"):
            Server(Config.from_dict({"archive": {"dir": folder}}), FakeHub())


def test_a_folder_in_use_is_checked_for_the_server_that_takes_over(tmp_path: Path) -> None:
    check_folder(str(tmp_path / "new"))
    held = LockedFolder.lasting(tmp_path / "new")
    check_folder(str(tmp_path / "new"))
    held.close()
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match=r"archive\.dir"):
        check_folder(str(tmp_path / "file"))


async def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    async with running(archive={"dir": str(tmp_path)}):
        with pytest.raises(ParameterError, match="no other running server"):
            Server(Config.from_dict({"archive": {"dir": str(tmp_path)}}), FakeHub())


async def test_a_damaged_archive_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 1000)
    async with running(speed=10.0, archive={"dir": str(tmp_path)}) as served:
        await written(served, 4)
        assert archive(served).figures()["problem"] == ""
    assert (tmp_path / f"{FILE}.damaged").read_bytes().startswith(b"not a database")


def test_a_killed_server_leaves_a_whole_archive(tmp_path: Path) -> None:
    environment = {"RIFFSTREAM_ARCHIVE_DIR": str(tmp_path), "RIFFSTREAM_TIMELINE_IDLE_S": "0"}
    stretches: list[dict[str, Any]] = []
    for life in (1, 2):
        process = Process(**environment)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                with urllib.request.urlopen(f"{process.url}/api/stations/main/archive", timeout=5) as answer:
                    about = json.loads(answer.read())
                if any(each["current"] and each["seconds"] > 4 for each in about["stretches"]):
                    break
                assert time.monotonic() < deadline
                time.sleep(0.2)
            stretches = about["stretches"]
            if life == 2:
                earlier = stretches[0]
                query = f"from=0&run={earlier['run']}"
                with urllib.request.urlopen(
                    f"{process.url}/api/stations/main/archive/recording?{query}", timeout=20
                ) as sent:
                    data = sent.read()
        finally:
            process.end(signal.SIGKILL)
    assert [each["current"] for each in stretches] == [False, True]
    with av.open(io.BytesIO(data)) as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
    assert samples / 48_000 == pytest.approx(stretches[0]["seconds"], abs=0.05)


FULL = """
import asyncio, json, sys, urllib.request
from pathlib import Path
from tests.server.conftest import running

async def main():
    folder = Path(sys.argv[1])
    async with running(speed=20.0, archive={"dir": str(folder)}) as served:
        archive = served.server.context.archive
        archive._writer._retry_s = 0.2
        for _ in range(600):
            await asyncio.sleep(0.05)
            if archive.figures()["problem"]:
                break
        before = served.station.committed
        await asyncio.sleep(0.5)
        figures = archive.figures()
        playing = served.station.committed - before
        (folder / "ballast").unlink()
        written = figures["written_s"]
        for _ in range(200):
            await asyncio.sleep(0.05)
            if archive.figures()["written_s"] > written and not archive.figures()["problem"]:
                break
        print(json.dumps([figures, playing, archive.figures()]))

asyncio.run(main())
"""


def test_a_full_disk_stops_only_the_archive(tmp_path: Path) -> None:
    """A real one: a file system of 2 MB in memory."""
    script = f'mount -t tmpfs -o size=2m none {tmp_path} && head -c 1000000 /dev/zero > {tmp_path}/ballast && exec "$@"'
    unshare = ["unshare", "--mount"] + (["--map-root-user"] if os.geteuid() else [])
    try:
        tried = subprocess.run([*unshare, "sh", "-c", script, "sh", "true"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if tried.returncode != 0:
        pytest.skip("this machine lets nobody mount a file system of their own")
    command = [*unshare, "sh", "-c", script, "sh", sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    figures, playing, later = json.loads(done.stdout.splitlines()[-1])
    assert (figures["state"], figures["problem"]) == ("stopped", "the disk is full")
    assert figures["lost_s"] > 0
    assert playing > 0, "the station plays on"
    assert (later["state"], later["problem"]) == ("recording", ""), "it continues once there is room"
