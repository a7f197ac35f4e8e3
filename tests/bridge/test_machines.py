"""Bridges in processes of their own, between a real server and programs of others: liblo, python-osc, mido, Link."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aalink
import mido.sockets
import pytest
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import ThreadingOSCUDPServer
from pythonosc.udp_client import SimpleUDPClient

import riffstream
from riffstream import cli
from riffstream.bridge.beats import BeatClock
from riffstream.bridge.midi import MidiClock
from riffstream.protocol import Now, State
from tests.conftest import PATIENCE_S, ROOT
from tests.served import tone_server


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the tone."""
    with tone_server(tmp_path_factory.mktemp("server")) as served:
        yield served


@contextlib.contextmanager
def bridge(*args: str) -> Iterator[tuple[int, list[str]]]:
    """``riffstream bridge``: its UDP port, and the lines of its log so far."""
    command = [sys.executable, "-m", "riffstream", "bridge", *args]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert "riffstream bridge: " in first, first + process.stderr.read()
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")), daemon=True)
        reader.start()
        try:
            yield int(first.split(",")[0].rsplit(":", 1)[1]) if "receive on" in first else 0, lines
            assert process.poll() is None, lines
        finally:
            process.terminate()
            process.wait(timeout=20)
            reader.join(timeout=5)


def share(state: State) -> float:
    """Share of the second prompt: only the relation of weights counts."""
    weights = [part.weight for part in state.prompts]
    return weights[1] / sum(weights)


async def until(condition: Any, seconds: float = PATIENCE_S) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def test_osc_of_other_programs_steers_and_hears_beats(url: str) -> None:
    heard: list[tuple[float, str, tuple[Any, ...]]] = []
    dispatcher = Dispatcher()
    dispatcher.set_default_handler(lambda address, *args: heard.append((time.monotonic(), address, args)))
    with ThreadingOSCUDPServer(("127.0.0.1", 0), dispatcher) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        send = f"127.0.0.1:{receiver.server_address[1]}"
        with (
            bridge("osc", "--to", url, "--listen", "127.0.0.1:0", "--send", send) as (port, lines),
            SimpleUDPClient("127.0.0.1", port) as client,
        ):
            async with riffstream.connect(url, codec="none") as radio:
                if shutil.which("oscsend"):
                    subprocess.run(["oscsend", "127.0.0.1", str(port), "/prompt", "s", "church bells"], check=True)
                else:
                    client.send_message("/prompt", "church bells")
                await until(lambda: radio.state.prompts[0].text == "church bells")
                for bpm in range(60, 121):  # a fader: the last value counts
                    client.send_message("/bpm", float(bpm))
                await until(lambda: radio.state.bpm == 120)
                client.send_message("/prompt", ["piano", 1.0, "rain", 0.3])
                client.send_message("/weight", [2, 0.8])
                await until(lambda: [part.text for part in radio.state.prompts] == ["piano", "rain"])
                await until(lambda: share(radio.state) == pytest.approx(0.8 / 1.8, abs=1e-3))
                client.send_message("/mix/filter", -0.5)
                await until(lambda: radio.state.mix.filter == pytest.approx(-0.5))
                # What is wrong is logged, with its field and range, and harms nothing.
                client.send_message("/key", 99.0)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare:
                    bare.sendto(b"/key\0\0\0,x", ("127.0.0.1", port))
                for _ in range(500):
                    client.send_message("/nothing", 1)
                await until(lambda: any("/key: key" in line and "-6 to 6" in line for line in lines))
                await asyncio.sleep(1)  # the kernel drops datagrams of such a flood
                client.send_message("/key", 3)
                await until(lambda: radio.state.key == 3)
                assert len(lines) < 12
                heard.clear()
                await asyncio.sleep(3.2)
                fours = list(heard)
                client.send_message("/beats_per_bar", 3)
                await until(lambda: radio.state.beats_per_bar == 3)
                heard.clear()
                await until(lambda: [args[1] for _, address, args in heard if address == "/beat"][-4:] == [1, 2, 3, 1])
                heard[:] = fours
        receiver.shutdown()
    beats = [(at, *args) for at, address, args in heard if address == "/beat"]
    assert 5 <= len(beats) <= 8  # 120 bpm for 3.2 s
    numbers = [number for _, number, _, _ in beats]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert {place for _, _, place, _ in beats} == {1, 2, 3, 4}
    assert {bpm for *_, bpm in beats} == {120.0}
    apart = [b[0] - a[0] for a, b in itertools.pairwise(beats)]
    assert sorted(apart)[len(apart) // 2] == pytest.approx(0.5, abs=0.08)


async def test_another_link_session_is_led_and_followed(url: str) -> None:
    peer = aalink.Link(93.0)
    peer.enabled = True
    try:
        with bridge("link", "--to", url):
            try:
                await until(lambda: peer.num_peers > 0, 10)
            except TimeoutError:
                pytest.skip("Link finds no peer: this machine has no multicast")
            async with riffstream.connect(url, codec="none") as radio:
                await radio.steer(bpm=133)
                await until(lambda: abs(peer.tempo - 133) < 0.02)
        await until(lambda: peer.num_peers == 0)
        with bridge("link", "--to", url, "--follow"):
            await until(lambda: peer.num_peers > 0)
            peer.tempo = 87.5
            async with riffstream.connect(url, codec="none") as radio:
                await until(lambda: radio.state.bpm == 87.5)
    finally:
        peer.enabled = False


async def test_a_midi_clock_has_24_ticks_a_beat_and_starts_at_a_bar(url: str) -> None:
    """mido's own network port receives what a synthesiser would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    with mido.sockets.PortServer("127.0.0.1", number) as receiver, mido.sockets.connect("127.0.0.1", number) as port:
        synthesiser = receiver.accept()
        async with riffstream.connect(url, codec="none") as radio:
            await radio.steer(bpm=120)
            clock = BeatClock(radio)

            async def listen() -> None:
                async for message in radio.messages():
                    if isinstance(message, Now):
                        clock.hear(message)

            tasks = [asyncio.create_task(each) for each in (clock.run(), listen(), MidiClock(port).run(clock))]
            await radio.steer(key=1)  # a musical position
            await until(lambda: clock.playing)
            start = time.monotonic()
            await asyncio.sleep(5)
            took = time.monotonic() - start
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        kinds = [message.type for message in synthesiser.iter_pending()]
    assert kinds[-1] == "stop"
    assert kinds.count("start") == 1
    after = kinds[kinds.index("start") + 1 :]
    assert kinds.count("clock") == pytest.approx(48 * took, rel=0.1)
    assert after.count("clock") >= 96  # a bar or more after its start


def test_a_bridge_to_nowhere_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "riffstream", "bridge", "osc", "--to", "http://127.0.0.1:1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "cannot reach ws://127.0.0.1:1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("given", ["9000", "host:", "host:70000", ":9000"])
def test_a_bad_address_is_refused(given: str, url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "riffstream", "bridge", "osc", "--to", url, "--listen", given],
        cwd=Path(ROOT),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"listen is {given!r}; allowed: HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("osc", "--listen", "host:\u00b2"), "--listen is 'host:\u00b2'; allowed: HOST:PORT"),
        (("osc", "--send", "nowhere"), "--send is 'nowhere'; allowed: HOST:PORT"),
        (("osc", "--send", "127.0.0.1:0"), "--send is '127.0.0.1:0'; allowed: HOST:PORT, with a port from 1"),
        (("osc", "--follow"), "--follow is True; allowed: with link only"),
        (("link", "--port", "x"), "--port is 'x'; allowed: with midi only"),
        (("midi", "--listen", "127.0.0.1:1"), "--listen is '127.0.0.1:1'; allowed: with osc only"),
    ],
)
def test_options_are_checked_before_anything_is_connected(
    words: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bridge", *words, "--to", "http://127.0.0.1:1"]) == 2
    assert problem in capsys.readouterr().err
