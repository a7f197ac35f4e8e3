"""Live input over the socket: who may send it, what becomes of it, and that nothing it does disturbs the station."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from riffstream import protocol
from riffstream.config import Config
from riffstream.protocol import AudioFrame, Codec
from riffstream.server.live_input import decoder, intake
from riffstream.server.live_input.intake import LIVE_INPUTS
from riffstream.server.uploads.intake import Uploads
from tests.conftest import PATIENCE_S
from tests.server.conftest import Running, running
from tests.server.test_sockets import joined

FRAME = 960  # 20 ms


@pytest.fixture
async def served() -> AsyncIterator[Running]:
    """A station in real time, on which eight beats have passed already."""
    async with running(speed=1.0, preroll=10 * 48_000) as found:
        yield found


def tone(n: int, hz: float = 440.0, level: float = 0.2, at: int = 0) -> NDArray[np.int16]:
    return (32767 * level * np.sin(2 * np.pi * hz * (at + np.arange(n)) / 48_000)).astype(np.int16)


def frame(samples: NDArray[np.int16], pos: int = 0) -> bytes:
    return protocol.pack_frame(AudioFrame(0, pos, len(samples), 0, samples.astype("<i2").tobytes(), Codec.PCM_S16))


def start(**fields: Any) -> str:
    return json.dumps({"type": "input", "id": "i", "channels": 1, **fields})


async def status(client: Any, wanted: str) -> dict[str, Any]:
    """The next state of the input with this status."""
    while (message := await client.message("input"))["status"] != wanted:
        pass
    return message


async def fill(client: Any, served: Running, make: Callable[[int], NDArray[np.int16]], seconds: float = 9.0) -> None:
    """Send the past ``seconds`` at their positions, in frames of 20 ms, as fast as the limit allows."""
    end = served.station.sample_pos
    for at in range(end - round(seconds * 48_000), end, 9600):
        await client.socket.send(frame(make(9600), at))


async def until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    for _ in range(round(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")


async def test_music_at_the_input_reaches_the_station_as_an_image(served: Running, monkeypatch: Any) -> None:
    monkeypatch.setattr(intake, "BURST", 60 * 48_000)
    async with joined(served) as client:
        await client.socket.send(start(strength=0.7))
        assert (await client.message("input"))["id"] == "i"
        assert served.station.hears
        assert served.station.heard == [None]
        await fill(client, served, tone)
        live = await status(client, "live")
        assert live["level_db"] == pytest.approx(-17, abs=1)
        image, first = served.station.heard[-1]
        assert image.strength == 0.7
        folder = served.server.uploads.folder / "live" / image.name
        wave, rate = soundfile.read(folder / "loop.wav")
        assert (rate, len(wave)) == (48_000, 8 * 24_000)
        assert np.abs(np.fft.rfft(wave)).argmax() / 4 == pytest.approx(440, abs=1)
        now = (served.station.sample_pos - intake.BEHIND) // 24_000 - 8
        assert now - 1 <= first <= now
        await client.socket.send(json.dumps({"type": "input", "id": "j", "action": "stop"}))
        ended = await status(client, "ended")
        assert (ended["id"], ended["reason"]) == ("j", "stopped")
        assert not served.station.hears
        assert served.station.heard[-1] is None


@pytest.mark.parametrize("kind", ["silence", "noise"])
async def test_silence_and_noise_change_nothing(served: Running, monkeypatch: Any, kind: str) -> None:
    monkeypatch.setattr(intake, "BURST", 60 * 48_000)
    rng = np.random.default_rng(0)

    def make(n: int) -> NDArray[np.int16]:
        return np.zeros(n, np.int16) if kind == "silence" else (rng.standard_normal(n) * 3000).astype(np.int16)

    async with joined(served) as client:
        await client.socket.send(start())
        await fill(client, served, make)
        if kind == "noise":
            await status(client, "noise")
        await until(lambda: len(served.station.heard) > 2)
        assert set(served.station.heard) == {None}
        assert not list((served.server.uploads.folder / "live").iterdir())


async def test_only_those_who_may_steer_have_an_input() -> None:
    async with running(access={"dj_token": "deejay"}) as served, joined(served) as client:
        await client.socket.send(start())
        refused = await client.message("rejected")
        assert (refused["code"], refused["id"]) == ("forbidden", "i")
        await client.socket.send(frame(tone(FRAME)))
        assert "without a live input" in (await client.message("rejected"))["message"]
    async with running(limits={"inputs": 0}) as served, joined(served) as client:
        await client.socket.send(start())
        assert "limits.inputs is 0" in (await client.message("rejected"))["message"]


async def test_a_station_has_one_input_and_takeover_is_asked_for(served: Running) -> None:
    async with joined(served) as one, joined(served) as two:
        await two.message("welcome")  # events before it are not for this client
        await one.socket.send(start())
        await one.message("input")
        assert (await two.message("event", kind="input"))["reason"] == "live"
        await two.socket.send(start())
        refused = await two.message("rejected")
        assert (refused["code"], refused["field"]) == ("busy", "takeover")
        await two.socket.send(json.dumps({"type": "input", "id": "x", "action": "stop"}))
        assert "no live input" in (await two.message("rejected"))["message"]
        await two.socket.send(start(takeover=True))
        assert (await two.message("input"))["status"] == "quiet"
        assert "taken over" in (await status(one, "ended"))["reason"]
        for _ in range(200):  # what was on its way is no violation
            await one.socket.send(frame(tone(FRAME)))
        await one.socket.send(start())
        assert (await one.message("rejected"))["code"] == "busy"
        await one.socket.send(start(takeover=True))
        assert (await one.message("input"))["status"] == "quiet"
        assert served.server.app[LIVE_INPUTS].open == 1


async def test_a_lost_connection_ends_its_input(served: Running) -> None:
    async with joined(served) as one:
        await one.socket.send(start())
        await one.message("input")
    await until(lambda: not served.station.hears)
    async with joined(served) as two:
        await two.socket.send(start())
        assert (await two.message("input"))["status"] == "quiet"
    await until(lambda: served.server.app[LIVE_INPUTS].open == 0)


async def test_a_stalled_input_ends(served: Running, monkeypatch: Any) -> None:
    monkeypatch.setattr(intake, "STALL_S", 0.3)
    async with joined(served) as client:
        await client.socket.send(start())
        await client.socket.send(frame(tone(FRAME)))
        assert "no audio for" in (await status(client, "ended"))["reason"]
        assert not served.station.hears


async def test_a_flood_loses_frames_then_its_input_and_nothing_else(served: Running, monkeypatch: Any) -> None:
    monkeypatch.setattr(intake, "FLOOD", 2 * 48_000)
    async with joined(served) as client, joined(served) as other:
        await client.socket.send(start())
        await client.message("input")
        for _ in range(2000):
            await client.socket.send(frame(tone(9600)))
            if served.server.app[LIVE_INPUTS].open == 0:
                break
        assert "faster than real time" in (await status(client, "ended"))["reason"]
        frames = await other.audio(5)
        assert [each.seq for each in frames] == list(range(frames[0].seq, frames[0].seq + 5))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x01", "24 or more"),
        (frame(tone(960))[:-2], "allowed: 1920 bytes"),
        (frame(tone(9601)), "allowed: 1 to 9600"),
        (protocol.pack_frame(AudioFrame(0, 0, 960, 0, b"\x01\x00\xff")), "allowed: pcm_s16"),
        (b"\x09" + frame(tone(960))[1:], "version 9"),
    ],
)
async def test_an_invalid_frame_ends_the_input_with_the_reason(served: Running, data: bytes, words: str) -> None:
    async with joined(served) as client:
        await client.socket.send(start())
        await client.socket.send(data)
        assert words in (await status(client, "ended"))["reason"]
        await client.socket.send(start())  # and it may begin again
        assert (await status(client, "quiet"))["id"] == "i"


async def test_frames_without_positions_follow_the_senders_clock(served: Running) -> None:
    """Bursts and pauses of the network do not cut the music: a late burst lands where its audio belongs."""
    async with joined(served) as client:
        await client.socket.send(start())
        await client.message("input")
        current = served.server.app[LIVE_INPUTS]._open["main"]
        given = np.concatenate([tone(FRAME, at=n * FRAME) for n in range(60)])
        for n in range(20):
            await client.socket.send(frame(given[n * FRAME : (n + 1) * FRAME]))
            await asyncio.sleep(0.02)
            if n == 0:
                await until(lambda: current._next is not None)
                end = current._next + len(given) - FRAME
        await asyncio.sleep(0.6)  # a stall
        for n in range(20, 60):
            await client.socket.send(frame(given[n * FRAME : (n + 1) * FRAME]))
        await until(lambda: current._ring.end == end)
        assert (current._ring.read(end - len(given), end).ravel() == given).all()


def opus_frames(wave: NDArray[np.int16]) -> list[bytes]:
    """Opus packets of 20 ms by libopus, as frames."""
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    packets = []
    for at in range(0, len(wave) - FRAME + 1, FRAME):
        block = av.AudioFrame.from_ndarray(wave[None, at : at + FRAME], "s16", "mono")
        block.sample_rate, block.pts = 48_000, at
        packets += [bytes(packet) for packet in encoder.encode(block)]
    return packets


def pack_opus(packet: bytes, pos: int = 0) -> bytes:
    return protocol.pack_frame(AudioFrame(0, pos, FRAME, 0, protocol.join_packets([packet])))


async def test_opus_is_decoded_in_a_process_of_its_own(served: Running) -> None:
    async with joined(served) as client:
        await client.socket.send(start(codec="opus"))
        await client.message("input")
        current = served.server.app[LIVE_INPUTS]._open["main"]
        packets = opus_frames(tone(48_000))
        begin = served.station.sample_pos - 48_000
        for n, packet in enumerate(packets):
            if n == 30:
                await client.socket.send(
                    pack_opus(b"\xff\x00garbage" * 9, begin + n * FRAME)
                )  # a damaged packet is silence
            else:
                await client.socket.send(pack_opus(packet, begin + n * FRAME))
        await until(lambda: (current._ring.end or 0) >= begin + len(packets) * FRAME, 20)
        process = current._decoder._process
        assert process is not None
        heard = current._ring.read(begin + 4800, begin + 24_000)[:, 0].astype(float)
        assert np.abs(np.fft.rfft(heard)).argmax() * 48_000 / len(heard) == pytest.approx(440, abs=4)
        assert np.sqrt((heard**2).mean()) == pytest.approx(32767 * 0.2 / np.sqrt(2), rel=0.1)
        await client.socket.send(json.dumps({"type": "input", "id": "x", "action": "stop"}))
        await status(client, "ended")
    await until(lambda: process.returncode is not None)


async def test_a_server_that_stops_waits_for_its_decoder() -> None:
    async with running(speed=1.0) as served, joined(served) as client:
        await client.socket.send(start(codec="opus"))
        inputs = served.server.app[LIVE_INPUTS]
        await until(lambda: any(each._decoder._process for each in inputs._open.values()))
        opus = next(iter(inputs._open.values()))._decoder
        ends = opus._process.wait

        async def late() -> int:
            await asyncio.sleep(3)
            return int(await ends())

        opus._process.wait = late
        await served.server.stop()
        assert opus._task.done()


async def test_a_decoder_that_dies_ends_the_input(served: Running, monkeypatch: Any) -> None:
    made = decoder.OpusDecoder.__init__

    def broken(self: Any, *given: Any, **named: Any) -> None:
        made(self, *given, **named, command=(sys.executable, "-c", "import os; os.abort()"))

    monkeypatch.setattr(decoder.OpusDecoder, "__init__", broken)
    async with joined(served) as client:
        await client.socket.send(start(codec="opus"))
        assert "decoder ended" in (await status(client, "ended"))["reason"]
        assert not served.station.hears


async def test_images_that_no_clip_used_are_deleted(served: Running, monkeypatch: Any) -> None:
    monkeypatch.setattr(intake, "BURST", 60 * 48_000)
    folder: Path = served.server.uploads.folder / "live"
    async with joined(served) as client:
        await client.socket.send(start())
        await fill(client, served, tone)
        await status(client, "live")
        served.station.input_used = served.station.heard[-1][0].name
        for n in range(6):
            await client.socket.send(frame(tone(9600, hz=300 + 50 * n), served.station.sample_pos))
            await asyncio.sleep(0.5)
        await until(lambda: len(list(folder.iterdir())) <= 3)
        assert served.station.input_used in {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("uploads", "inputs", "read"), [(0, 4, True), (4, 0, True), (0, 0, False)])
async def test_the_generator_reads_inputs_also_where_no_uploads_are_taken(
    uploads: int, inputs: int, read: bool
) -> None:
    store = Uploads(Config.from_dict({"limits": {"uploads": uploads, "inputs": inputs}}))
    try:
        assert store.generator_folder == (store.folder if read else None)
    finally:
        await store.close()
