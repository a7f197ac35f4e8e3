"""Pushes to a real Icecast server, with ffmpeg as its listener."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
import numpy as np
import pytest

from riffstream import protocol
from tests.conftest import PATIENCE_S
from tests.server import players
from tests.server.conftest import Running, running
from tests.server.fakes import pitch
from tests.server.push.icecast import Icecast, icecast, needs_icecast

pytestmark = needs_icecast
SECONDS = 3.0
CODECS = ("mp3", "aac", "ogg")


@pytest.fixture(scope="module")
def server() -> Iterator[Icecast]:
    with icecast() as started:
        yield started


async def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


@pytest.fixture
async def pushed(server: Icecast) -> AsyncIterator[Running]:
    """A station that is pushed in every codec, and one whose password is wrong."""
    push = {codec: {"url": server.push(f"/live.{codec}"), "genre": "tone"} for codec in CODECS}
    push["wrong"] = {"url": server.push("/wrong.mp3", "other"), "backoff_s": 0.2, "backoff_max_s": 0.4}
    async with running(speed=1.0, push=push) as served:
        yield served


async def test_a_listener_of_icecast_gets_the_audio_and_the_title(pushed: Running, server: Icecast) -> None:
    pushes = pushed.server.context.pushes
    await until(lambda: all(pushes[codec].state == "connected" for codec in CODECS), "connected")
    listening = [asyncio.to_thread(players.ffmpeg, server.listen(f"/live.{codec}"), SECONDS) for codec in CODECS]
    for codec, heard in zip(CODECS, await asyncio.gather(*listening), strict=True):
        assert heard.complaints == "", codec
        assert abs(len(heard.wave) - SECONDS * 48_000) < 4800, codec
        assert pitch(np.stack([heard.wave[-48_000:]] * 2, 1)) == pytest.approx(300, abs=2), codec
        assert np.abs(heard.wave[9600:134_400]).reshape(-1, 480).max(1).min() > 0.2, f"{codec} has a gap"
    about = server.source("/live.mp3")
    assert about["server_name"] == "The Test Tone"
    assert (about["genre"], about["bitrate"], about["audio_info"].count("48000")) == ("tone", 128, 1)
    for mount in ("/live.mp3", "/live.aac"):  # Icecast 2.4 reads no titles in Opus; its listeners do
        await until(lambda at=mount: server.source(at).get("title") == "a test tone", mount)  # type: ignore[misc]
    assert pushes["wrong"].state == "retrying"
    assert pushes["wrong"].problem == "the server refuses the stream: 401 wrong user or password"
    assert pushes["wrong"].failures > 1


async def test_a_new_prompt_becomes_the_title(pushed: Running, server: Icecast) -> None:
    pushes, station = pushed.server.context.pushes, pushed.station
    await until(lambda: all(pushes[codec].state == "connected" for codec in CODECS), "connected")
    station.state = msgspec.structs.replace(station.state, prompts=(protocol.Prompt(text="Größe & <b>"),))
    station.tell(station.now())
    for mount in ("/live.mp3", "/live.aac"):
        await until(lambda at=mount: "Größe &" in server.source(at).get("title", ""), mount)  # type: ignore[misc]
    command = ["ffprobe", "-v", "error", "-show_entries", "stream_tags=title", "-of", "csv=p=0"]

    def shown() -> str:
        return subprocess.check_output([*command, server.listen("/live.ogg")], timeout=20).decode().strip()

    await until(lambda: shown() == "Größe & <b>", "Icecast's burst begins in the new link")


async def test_a_push_returns_after_a_restart_of_icecast() -> None:
    with icecast() as server:
        push = {"home": {"url": server.push("/live.mp3"), "backoff_s": 0.1, "backoff_max_s": 0.3}}
        async with running(speed=1.0, push=push) as served:
            home = served.server.context.pushes["home"]
            await until(lambda: home.state == "connected", "connected")
            await asyncio.to_thread(server.stop)
            await until(lambda: home.state == "retrying", "the loss is seen")
            assert home.problem
            await asyncio.to_thread(server.start)
            await until(lambda: home.state == "connected" and bool(server.source("/live.mp3")), "connected again")
            assert home.problem == ""
            assert home.connects == 2


async def test_the_source_leaves_with_the_server(server: Icecast) -> None:
    async with running(speed=1.0, push={"home": {"url": server.push("/short.ogg")}}) as served:
        await until(lambda: bool(server.source("/short.ogg")), "connected")
        began = time.monotonic()
    assert time.monotonic() - began < 8
    assert served.server.context.pushes["home"].state == "stopped"
    await until(lambda: not server.source("/short.ogg"), "gone")


async def test_two_sources_of_one_mount_point_are_refused(server: Icecast) -> None:
    url = server.push("/same.mp3")
    async with running(speed=1.0, push={"a": {"url": url}, "b": {"url": url, "backoff_max_s": 0.5}}) as served:
        pushes = served.server.context.pushes
        await until(lambda: sorted(push.state for push in pushes.values()) == ["connected", "retrying"], "one of them")
        refused = next(push for push in pushes.values() if push.state == "retrying")
        assert "mount point in use" in refused.problem
