"""A new server process that takes over from a running one (``riffstream serve --take-over``)."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import riffstream
from riffstream.client import Radio
from riffstream.commands.serve import _when_audible, warn_of_port
from riffstream.server.handover import ASK, HandoverError, Offer, ask
from riffstream.server.sockets import UPGRADING, bye_frame
from riffstream.station.hub import UnplayableError
from tests.conftest import PATIENCE_S
from tests.server.test_process import COMMAND

Started = Callable[..., "Running"]


class Running:
    """A server process with a folder for its state."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        command = [*COMMAND, "serve", "--host", "127.0.0.1", "--port", str(port), "--model", "tone", "--json", *options]
        state = {"RIFFSTREAM_SERVER_STATE_DIR": str(folder), "RIFFSTREAM_LIMITS_STEER_INTERVAL_S": "0"}
        self.folder = folder
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | state
        )

    def wait_listening(self) -> str:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, self.popen.communicate()[1]
        return str(json.loads(line)["url"])

    def wait_ended(self) -> tuple[int, str]:
        """Exit code, and what was logged."""
        _, logged = self.popen.communicate(timeout=60)
        return self.popen.returncode, logged

    def end(self) -> str:
        self.popen.send_signal(signal.SIGTERM)
        code, logged = self.wait_ended()
        assert code == 0, logged
        return logged


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Started]:
    servers: list[Running] = []

    def started(*options: str, port: int = 0) -> Running:
        servers.append(Running(tmp_path, *options, port=port))
        return servers[-1]

    yield started
    for server in servers:
        if server.popen.poll() is None:
            server.popen.kill()
            server.popen.communicate()


def fetched(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return dict(json.load(answer))


def version_of(url: str) -> str:
    """What /healthz says on a connection of its own. Raises OSError if it is refused or reset."""
    return str(fetched(f"{url}/healthz")["version"])


async def read(radio: Radio, blocks: list[Any], seconds: float) -> None:
    """Read ``seconds`` of audio more."""
    end = (blocks[-1].sample_pos if blocks else 0) + seconds * 48_000
    async with asyncio.timeout(90):
        while not blocks or blocks[-1].sample_pos < end:
            blocks.append(await anext(radio))


async def read_through(radio: Radio, blocks: list[Any]) -> None:
    """Read until two seconds of audio have come over another connection."""
    async with asyncio.timeout(90):
        while not radio.reconnects:
            blocks.append(await anext(radio))
    await read(radio, blocks, 2)


def missing(blocks: list[Any]) -> list[int]:
    """Samples that are missing (above 0) or repeated (below 0) between the blocks."""
    return [after.sample_pos - before.sample_pos - len(before.samples) for before, after in itertools.pairwise(blocks)]


async def test_an_upgrade_refuses_no_connection_and_loses_no_sample(start: Started) -> None:
    old = start()
    url = await asyncio.to_thread(old.wait_listening)
    answers, overlap = [], asyncio.Event()

    async def knock() -> None:
        while not overlap.is_set():
            answers.append(await asyncio.to_thread(version_of, url))
            await asyncio.sleep(0.02)

    heard: dict[str, list[Any]] = {"pcm_s16": [], "opus": []}
    async with (
        riffstream.connect(url, codec="pcm_s16") as steering,
        riffstream.connect(url, codec="opus", steer=False) as passive,
    ):
        await asyncio.gather(read(steering, heard["pcm_s16"], 1), read(passive, heard["opus"], 1))
        async with asyncio.timeout(PATIENCE_S):
            await steering.steer("church bells", bpm=97, mix={"low": -12})
        readers = [
            asyncio.create_task(read_through(steering, heard["pcm_s16"])),
            asyncio.create_task(read_through(passive, heard["opus"])),
        ]
        knocking = asyncio.create_task(knock())
        quiet = socket.create_connection(
            ("127.0.0.1", int(url.rsplit(":", 1)[1])), 30
        )  # the old server has accepted it
        new = start("--take-over", port=int(url.rsplit(":", 1)[1]))
        assert await asyncio.to_thread(new.wait_listening) == url
        await asyncio.sleep(1)
        quiet.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await asyncio.to_thread(quiet.recv, 4096)).startswith(b"HTTP/1.0 200")
        quiet.close()
        code, logged = await asyncio.to_thread(old.wait_ended)
        assert code == 0, logged
        await asyncio.gather(*readers)
        overlap.set()
        await knocking
        assert (steering.reconnects, passive.reconnects) == (1, 1)
        assert steering.welcome.resumed
        assert passive.welcome.resumed
        for codec, blocks in heard.items():
            assert not any(missing(blocks)), codec
            assert not any(block.discontinuity for block in blocks[1:]), codec
        assert heard["pcm_s16"][-1].rev == 1
        assert steering.state.bpm == 97
        async with asyncio.timeout(PATIENCE_S):
            await steering.steer("rain")
    assert len(answers) > 20
    assert "a new server takes over" in logged
    assert "Traceback" not in logged + await asyncio.to_thread(new.end)


async def client_of_a_worker(url: str) -> Radio:
    """A client that the kernel has given to a worker, which names its own server in its path."""
    while True:
        radio = await riffstream.connect(url, codec="opus").__aenter__()
        if len(radio.welcome.path) == 2:
            return radio
        await radio.close()
        await asyncio.sleep(0.1)


async def bye_of_a_worker(url: str) -> dict[str, Any]:
    """The ``bye`` that a worker's client gets."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(90):
        while True:
            async with session.ws_connect(f"{url}/ws/main") as ws:
                await ws.send_str('{"type": "hello", "v": 1, "codecs": ["opus"]}')
                told = (message.json() async for message in ws if message.type is aiohttp.WSMsgType.TEXT)
                if len((await anext(told)).get("path", ())) == 2:
                    async for message in told:
                        if message["type"] == "bye":
                            return dict(message)
            await asyncio.sleep(0.1)


async def test_a_client_of_a_worker_resumes_at_the_new_server(start: Started) -> None:
    old = start("--workers", "2")
    url = await asyncio.to_thread(old.wait_listening)
    async with asyncio.timeout(PATIENCE_S):
        while not (workers := fetched(f"{url}/healthz").get("workers", {})) or workers["1"]["pid"] is None:
            await asyncio.sleep(0.1)
        radios = [await client_of_a_worker(url) for _ in range(2)]
    heard: list[list[Any]] = [[] for _ in radios]
    await asyncio.gather(*(read(radio, blocks, 1) for radio, blocks in zip(radios, heard, strict=True)))
    readers = [asyncio.create_task(read_through(radio, blocks)) for radio, blocks in zip(radios, heard, strict=True)]
    leaving = asyncio.create_task(bye_of_a_worker(url))
    new = start("--take-over", "--workers", "2", port=int(url.rsplit(":", 1)[1]))
    assert await asyncio.to_thread(new.wait_listening) == url
    code, logged = await asyncio.to_thread(old.wait_ended)
    assert code == 0, logged
    await asyncio.gather(*readers)
    bye = await leaving
    assert bye["reason"] == UPGRADING
    assert bye["reconnect_ms"] < 300
    for radio, blocks in zip(radios, heard, strict=True):
        assert radio.reconnects == 1
        assert not any(missing(blocks))
        assert not any(block.discontinuity for block in blocks[1:])
        await radio.close()
    await asyncio.to_thread(new.end)


NOT_STARTING = {
    '[stations.main]\njourney = "{folder}/nowhere.toml"': "nowhere.toml",
    '[archive]\ndir = "{folder}/0.toml"': "archive.dir",
}


async def test_a_new_server_that_cannot_start_leaves_the_old_one_playing(start: Started) -> None:
    old = start()
    url = await asyncio.to_thread(old.wait_listening)
    heard: list[Any] = []
    async with riffstream.connect(url, codec="pcm_s16") as radio:
        await read(radio, heard, 1)
        broken = start("--take-over", "--model", str(old.folder / "no-such-model"))
        code, said = await asyncio.to_thread(broken.wait_ended)
        assert code not in (0, None)
        assert "no-such-model" in said
        for number, (wrong, name) in enumerate(NOT_STARTING.items()):
            config = old.folder / f"{number}.toml"
            config.write_text(wrong.format(folder=old.folder))
            broken = start("--take-over", "--config", str(config))
            code, said = await asyncio.to_thread(broken.wait_ended)
            assert code not in (0, None)
            assert name in said
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with stranger:
            stranger.connect(str(old.folder / "handover.sock"))
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stranger.settimeout(30)
            assert await asyncio.to_thread(stranger.recv, 100) == b""
        await read(radio, heard, 3)
        assert radio.reconnects == 0
    assert not any(missing(heard))
    await asyncio.to_thread(old.end)


async def test_a_new_server_that_fails_after_the_hand_over_leaves_the_state(start: Started) -> None:
    old = start()
    url = await asyncio.to_thread(old.wait_listening)
    async with riffstream.connect(url, codec="none") as dj, asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(wait_ready, url)
        await dj.steer("church bells", bpm=97)
    taking = await asyncio.to_thread(ask, old.folder / "handover.sock")
    assert taking is not None
    assert taking.sockets[0].getsockname()[1] == int(url.rsplit(":", 1)[1])
    for each in taking.sockets:
        each.close()
    taking.close()  # it dies
    code, logged = await asyncio.to_thread(old.wait_ended)
    assert code not in (0, None)
    assert "the new server has failed" in logged
    again = start("--take-over")
    url = await asyncio.to_thread(again.wait_listening)
    shown = await asyncio.to_thread(fetched, f"{url}/api/stations/main")
    assert (shown["rev"], shown["state"]["bpm"]) == (1, 97)
    assert "no server to take over from" in await asyncio.to_thread(again.end)


def wait_ready(url: str) -> None:
    with urllib.request.urlopen(f"{url}/api/stations/main", timeout=30):
        pass
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=30):
                return
        except OSError:
            continue


def test_the_flag_needs_a_folder_and_no_other_flag() -> None:
    for options, said in ((("--take-over",), "server.state_dir"), (("--take-over", "--standby"), "--standby")):
        refused = subprocess.run(
            [*COMMAND, "serve", "--model", "tone", *options], capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 2
        assert said in refused.stderr


def test_another_port_than_that_of_the_old_server_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        warn_of_port(0, [sock])
        warn_of_port(port, [sock])
        assert caplog.text == ""
        warn_of_port(port - 1, [sock])
        logged = vars(caplog.records[-1])
        assert (logged["field_port"], logged["field_configured"]) == (str(port), port - 1)


async def test_a_new_server_without_sound_does_not_say_that_it_plays() -> None:
    class SilentHub:
        def __init__(self, error: Exception) -> None:
            self.error = error

        async def wait_ready(self, timeout_s: float) -> None:
            raise self.error

    late: Any = SilentHub(TimeoutError())
    await _when_audible(late)
    refused: Any = SilentHub(UnplayableError("station main: there is no seed image nowhere"))
    with pytest.raises(UnplayableError, match="nowhere"):
        await _when_audible(refused)


async def test_only_the_user_can_ask_and_a_refusal_names_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "handover.sock"
    path.write_text("the socket of a killed server is replaced")

    async def refuse() -> list[socket.socket]:
        raise HandoverError("it cannot write its state; see its log")

    given: list[bool] = []
    offer = Offer(path, refuse, given.append)
    offer.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(HandoverError, match="it cannot write its state"):
        await asyncio.to_thread(ask, path)
    await offer.stop()
    await offer.stop()
    assert given == []
    assert await asyncio.to_thread(ask, path) is None
    assert await asyncio.to_thread(ask, tmp_path / "nothing.sock") is None


async def test_a_server_that_fails_while_it_freezes_ends_and_does_not_stand_still(tmp_path: Path) -> None:
    async def fail() -> list[socket.socket]:
        raise OSError(28, "No space left on device")

    given: list[bool] = []
    offer = Offer(tmp_path / "handover.sock", fail, given.append)
    offer.start()
    with pytest.raises(HandoverError):
        await asyncio.to_thread(ask, tmp_path / "handover.sock")
    await offer.stop()
    assert given == [False]


async def test_a_server_that_is_asked_to_end_meanwhile_completes_the_hand_over(tmp_path: Path) -> None:
    freezing = asyncio.Event()

    async def give() -> list[socket.socket]:
        freezing.set()
        await asyncio.sleep(0.2)
        return [socket.create_server(("127.0.0.1", 0))]

    given: list[bool] = []
    offer = Offer(tmp_path / "handover.sock", give, given.append)
    offer.start()
    asking = asyncio.create_task(asyncio.to_thread(ask, tmp_path / "handover.sock"))
    await freezing.wait()
    stopping = asyncio.create_task(offer.stop())
    taking = await asking
    assert taking is not None
    taking.sockets[0].close()
    taking.serving()
    await stopping
    assert given == [True]


async def test_a_server_that_ends_during_the_question_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "handover.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(1)

        def end() -> None:
            connection, _ = listening.accept()
            with connection:
                assert connection.recv(100) == ASK

        ending = asyncio.to_thread(end)
        asking = asyncio.to_thread(ask, path)
        results = await asyncio.gather(ending, asking, return_exceptions=True)
    assert isinstance(results[1], HandoverError)


async def test_a_folder_with_a_long_name_runs_without_the_offer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def give() -> list[socket.socket]:
        raise AssertionError

    offer = Offer(tmp_path / ("long" * 40) / "handover.sock", give, lambda taken: None)
    offer.start()
    await offer.stop()
    assert "no other server can take over from this one" in caplog.text


def test_the_reconnections_after_an_upgrade_are_spread_by_their_number() -> None:
    def pauses(connections: int) -> list[int]:
        frames = [bye_frame(UPGRADING, connections) for _ in range(300)]
        return [json.loads(frame[2:])["reconnect_ms"] for frame in frames]

    few, many = pauses(3), pauses(100_000)
    assert 50 <= min(few) <= max(few) < 250
    assert 3000 < max(many) < 4050
    assert len(set(many)) > 200
