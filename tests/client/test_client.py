"""The Python client against the real server with a test tone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

import riffstream
from riffstream import protocol
from riffstream.client import Block, Radio, RadioError, blocks, socket_url
from riffstream.errors import ParameterError
from tests.conftest import PATIENCE_S
from tests.scripted import scripted, welcome
from tests.server.conftest import Running, running
from tests.server.fakes import pitch


@pytest.fixture
async def radio() -> AsyncIterator[Running]:
    async with running(speed=8.0, limits={"steer_interval_s": 0.0}) as served:
        yield served


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:8080", "ws://localhost:8080/ws/main"),
        ("http://localhost:8080", "ws://localhost:8080/ws/main"),
        ("https://radio.example/", "wss://radio.example/ws/main"),
        ("https://radio.example/embed/jazz", "wss://radio.example/ws/jazz"),
        ("https://h/radio/embed/jazz", "wss://h/radio/ws/jazz"),
        ("ws://h/ws/jazz", "ws://h/ws/jazz"),
        ("https://h/behind/proxy", "wss://h/behind/proxy/ws/main"),
        ("http://[::1]:80/?token=x#y", "ws://[::1]:80/ws/main"),
        ("http://h/stream/jazz.mp3", "ws://h/ws/jazz"),
        ("https://h/radio/hls/jazz/master.m3u8", "wss://h/radio/ws/jazz"),
        ("http://h/listen/jazz.m3u", "ws://h/ws/jazz"),
        ("http://h/stage/jazz", "ws://h/ws/jazz"),
        ("http://h/api/stations/jazz/recording?seconds=5", "ws://h/ws/jazz"),
        ("http://h/radio/api/stations", "ws://h/radio/ws/main"),
        ("http://h/healthz", "ws://h/ws/main"),
        ("http://h/index.html", "ws://h/ws/main"),
        ("http://h/?station=jazz&p=rain", "ws://h/ws/jazz"),
        ("ws://h/ws/jazz/plain", "ws://h/ws/jazz"),
    ],
)
def test_any_address_of_a_server_leads_to_its_socket(given: str, url: str) -> None:
    assert socket_url(given) == url


@pytest.mark.parametrize("url", ["ftp://x", "http://", "", "file:///etc"])
def test_addresses_that_are_none_are_explained(url: str) -> None:
    with pytest.raises(ParameterError, match="an address like"):
        socket_url(url)


@pytest.mark.parametrize("codec", ["opus", "pcm_s16"])
async def test_blocks_follow_each_other_and_sound_like_the_station(radio: Running, codec: Any) -> None:
    got: list[Block] = []
    async with riffstream.connect(radio.url, codec=codec) as station:
        async for block in station:
            got.append(block)
            if len(got) == 15:
                break
    assert all(block.samples.dtype == np.float32 for block in got)
    assert all(block.samples.shape[1] == 2 for block in got)
    for one, other in itertools.pairwise(got):
        assert other.sample_pos == one.sample_pos + len(one.samples)
    assert not any(block.discontinuity for block in got)
    samples = np.concatenate([block.samples for block in got])
    assert abs(pitch(samples[-48_000:]) - 300) < 2
    start = got[0].sample_pos
    settled = slice(9600, len(samples))  # an Opus decoder that joins in the middle needs 80 ms
    expected = radio.station.read(start, start + len(samples))[settled]
    error = np.abs(samples[settled] - expected).max()
    assert error < (0.02 if codec == "opus" else 1e-4)  # positions are right to the sample, or it would be 0.6


async def test_a_radio_that_is_closed_at_once_leaves_no_connection(radio: Running) -> None:
    for _ in range(3):
        async with riffstream.connect(radio.url):
            pass
    async with asyncio.timeout(PATIENCE_S):
        while radio.server.context.connections.open:
            await asyncio.sleep(0.02)


async def test_steer_returns_when_the_change_has_arrived(radio: Running) -> None:
    async with riffstream.connect(radio.url) as station:
        applied = await station.steer(["church bells", ("rain", 0.3)], bpm=90, at="beat")
        assert station.received > applied.audible_at
        assert station.rev == applied.rev == 1
        assert [(part.text, part.weight) for part in station.state.prompts] == [("church bells", 1.0), ("rain", 0.3)]
        async for block in station:
            if block.sample_pos >= applied.audible_at:
                assert block.rev == 1
                break
    steer = radio.station.steers[0]
    assert isinstance(steer, protocol.Steer)
    assert (steer.bpm, steer.at) == (90, "beat")
    assert isinstance(steer.bpm, float)
    assert steer.seed is msgspec.UNSET


async def test_steering_without_taking_the_audio(radio: Running) -> None:
    async with riffstream.connect(radio.url, codec="none") as station:
        assert (await station.steer("rain")).rev == 1
        assert (await station.transport("pause")).rev == 2
        assert station.state.paused
        assert (await station.clock()).sample_pos > 0


async def test_messages_tell_what_plays(radio: Running) -> None:
    async with riffstream.connect(radio.url, codec="none") as station:
        messages = station.messages()
        first = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        await station.steer("wind")
        kinds = [type(await first)]
        async with asyncio.timeout(PATIENCE_S):
            while protocol.Now not in kinds:
                kinds.append(type(await anext(messages)))
        assert protocol.Applied in kinds
        await messages.aclose()


async def test_of_messages_that_nobody_takes_the_newest_are_kept() -> None:
    async with scripted(welcome()) as (url, _), riffstream.connect(url, codec="none") as station:
        messages = station.messages()
        first = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        for place in range(1500):
            station._handle(protocol.Event(kind="repeat", sample_pos=place))
        await station.close()
        got = [await first, *[message async for message in messages]]
        assert [message async for message in station.messages()] == [], "nothing comes any more"
    places = [message.sample_pos for message in got if isinstance(message, protocol.Event)]
    assert places == list(range(500, 1500))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"prompt": "x" * 301}, RadioError, "301 characters"),
        ({"bpm": 500}, RadioError, "240"),
        ({"at": "sometime"}, RadioError, "sometime"),
        ({"if_rev": 99}, RadioError, "revision"),
        ({"tempo": 90}, ParameterError, "bpm"),
    ],
)
async def test_what_cannot_be_steered_to_is_explained(
    radio: Running, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    async with riffstream.connect(radio.url, codec="none") as station:
        with pytest.raises(error, match=words):
            await station.steer(**changes)


async def test_roles_and_tokens() -> None:
    async with running(speed=8.0, access={"dj_token": "dj"}) as served:
        async with riffstream.connect(served.url, codec="none") as station:
            assert station.welcome.role == "listener"
            with pytest.raises(RadioError, match="needs a DJ's token") as refused:
                await station.steer("rain")
            assert refused.value.code == "forbidden"
        async with riffstream.connect(served.url, codec="none", token="dj") as station:
            await station.steer("rain")
        with pytest.raises(RadioError, match="not valid") as wrong:
            await riffstream.connect(served.url, token="no").__aenter__()
        assert wrong.value.code == "unauthorised"


async def test_a_server_that_is_not_there_is_told_plainly() -> None:
    with pytest.raises(RadioError, match=r"cannot reach ws://127\.0\.0\.1:9/ws/main") as refused:
        await riffstream.connect("http://127.0.0.1:9").__aenter__()
    assert refused.value.code == "unreachable"


async def test_an_unknown_station_is_told_plainly(radio: Running) -> None:
    with pytest.raises(RadioError, match="404"):
        await riffstream.connect(radio.url, station="none").__aenter__()


async def test_a_dropped_line_is_mended_without_a_gap(radio: Running) -> None:
    async with riffstream.connect(radio.url, codec="pcm_s16") as station:
        got = [await anext(station) for _ in range(5)]
        assert station._socket is not None
        station._socket.transport.abort()
        async with asyncio.timeout(PATIENCE_S):
            while station.reconnects == 0:
                got.append(await anext(station))
            got += [await anext(station) for _ in range(10)]
        assert station.welcome.resumed
    samples = np.concatenate([block.samples for block in got])
    assert not any(block.discontinuity for block in got)
    expected = radio.station.read(got[0].sample_pos, got[0].sample_pos + len(samples))
    assert np.abs(samples - expected).max() < 1e-4


async def test_a_restarted_server_is_found_again_with_a_discontinuity() -> None:
    """It has audio at the client's position again: that of another sample clock."""
    async with running(speed=1.0) as first:
        port = int(first.url.rsplit(":", 1)[1])
        station = riffstream.connect(first.url)
        await station.__aenter__()
        await anext(station)
    async with running(speed=1.0, server={"port": port}):
        async with asyncio.timeout(PATIENCE_S):
            while not (await anext(station)).discontinuity:
                pass
        assert station.reconnects == 1
        assert not station.welcome.resumed
        await station.close()
        await station.close()
        with pytest.raises(RadioError, match="not connected"):
            await station.steer("rain")


async def until_over(station: Radio) -> None:
    async for _ in station:
        pass


async def test_a_station_that_is_gone_after_a_restart_ends_the_iteration() -> None:
    async with running(speed=8.0) as first:
        port = int(first.url.rsplit(":", 1)[1])
        station = riffstream.connect(first.url)
        await station.__aenter__()
        await anext(station)
    async with running("other", speed=8.0, server={"port": port}):
        with pytest.raises(RadioError, match=r"cannot reach ws://.*/ws/main: .*404") as gone:
            await asyncio.wait_for(until_over(station), PATIENCE_S)
        assert gone.value.code == "unreachable"
        await station.close()


async def test_nobody_taking_the_audio_drops_the_oldest_and_says_so(radio: Running) -> None:
    async with riffstream.connect(radio.url, codec="pcm_s16", queue_s=0.5) as station:
        await asyncio.sleep(0.5)
        assert station._inbox.held <= 24_000
        first = await anext(station)
        assert first.discontinuity
        assert not (await anext(station)).discontinuity
        assert first.sample_pos >= station.received - 24_000 - 3 * 4800


async def test_without_reconnect_the_end_of_the_line_ends_the_iteration(radio: Running) -> None:
    async with riffstream.connect(radio.url, reconnect=False) as station:
        waiting = asyncio.create_task(station.steer("rain", at="clip"))
        await anext(station)
        await waiting
        radio.station.task.cancel()  # type: ignore[union-attr]
        stuck = asyncio.create_task(station.steer("snow"))
        await asyncio.sleep(0.1)
        await radio.server.stop()
        async for _ in station:
            pass
        with pytest.raises(RadioError) as lost:
            await stuck
        assert lost.value.code == "disconnected"


async def test_superseded_steers_say_so(radio: Running) -> None:
    radio.station.task.cancel()  # type: ignore[union-attr]
    async with riffstream.connect(radio.url, codec="none") as station:
        first = asyncio.create_task(station.steer("one"))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(station.steer("two"))
        with pytest.raises(RadioError, match="later change") as overtaken:
            await first
        assert overtaken.value.code == "superseded"
        radio.station.advance(14_400)
        await second


async def test_a_steer_that_is_never_heard_times_out(radio: Running) -> None:
    radio.station.task.cancel()  # type: ignore[union-attr]
    async with riffstream.connect(radio.url, codec="none") as station:
        with pytest.raises(RadioError, match="not audible within") as late:
            await station.steer("one", timeout_s=0.05)
        assert late.value.code == "timeout"


async def test_what_a_newer_server_says_is_skipped() -> None:
    frame = protocol.AudioFrame(
        seq=4, sample_pos=960, n_samples=960, rev=2, payload=bytes(3840), codec=protocol.Codec.PCM_S16
    )
    newer = ['{"type":"hologram","x":1}', '{"type":"now"}', b"\x09\x01\x02\x00" + bytes(30), b"short", "not json"]
    async with (
        scripted(welcome(), *newer, protocol.pack_frame(frame)) as (url, heard),
        riffstream.connect(url, codec="pcm_s16") as station,
    ):
        block = await asyncio.wait_for(anext(station), PATIENCE_S)
    assert (block.sample_pos, block.rev, block.samples.shape) == (960, 2, (960, 2))
    assert heard[0]["type"] == "hello"


async def test_a_gap_in_the_numbers_is_a_discontinuity() -> None:
    frames = [
        protocol.pack_frame(
            protocol.AudioFrame(
                seq=seq, sample_pos=0, n_samples=1, rev=0, payload=bytes(4), codec=protocol.Codec.PCM_S16
            )
        )
        for seq in (2**32 - 2, 2**32 - 1, 0, 2)
    ]
    async with (
        scripted(welcome(), *frames) as (url, _),
        riffstream.connect(url, codec="pcm_s16") as station,
        asyncio.timeout(PATIENCE_S),
    ):
        got = [(await anext(station)).discontinuity for _ in frames]
    assert got == [False, False, False, True]


async def test_a_farewell_for_good_ends_the_iteration() -> None:
    async with (
        scripted(welcome(), '{"type":"bye","reason":"this station has ended"}') as (url, _),
        riffstream.connect(url) as station,
        asyncio.timeout(PATIENCE_S),
    ):
        assert station._socket is not None
        await station._socket.close()
        assert [block async for block in station] == []


async def test_stats_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.client.radio.STATS_S", 0.02)
    async with scripted(welcome()) as (url, heard), riffstream.connect(url), asyncio.timeout(PATIENCE_S):
        while len(heard) < 3:
            await asyncio.sleep(0.01)
    assert heard[1]["type"] == "stats"
    assert set(heard[1]) == {"type", "buffer_ms", "underruns", "played"}


async def test_blocks_needs_no_asyncio(radio: Running) -> None:
    def collect() -> list[Block]:
        return list(blocks(radio.url, seconds=0.5, codec="pcm_s16"))

    got = await asyncio.to_thread(collect)
    assert sum(len(block.samples) for block in got) >= 24_000
    assert sum(len(block.samples) for block in got[:-1]) < 24_000


async def test_a_damaged_packet_becomes_silence_and_the_stream_goes_on() -> None:
    samples = np.zeros((960, 2), np.float32)
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "stereo", "flt"
    sound = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="stereo")
    sound.sample_rate = 48_000
    good = bytes(encoder.encode(sound)[0])
    payloads = [
        protocol.join_packets([good]), protocol.join_packets([b"\xff" * 3]), b"\x09", b"",
        protocol.join_packets([good, good]), protocol.join_packets([good]),
    ]  # fmt: skip
    frames = [
        protocol.pack_frame(protocol.AudioFrame(seq=seq, sample_pos=seq * 960, n_samples=960, rev=0, payload=payload))
        for seq, payload in enumerate(payloads)
    ]
    async with (
        scripted(welcome(), *frames) as (url, heard),
        riffstream.connect(url) as station,
        asyncio.timeout(PATIENCE_S),
    ):
        got = [await anext(station) for _ in frames]
        assert (station.damaged, station.reconnects, len(heard)) == (4, 0, 1)
    assert [block.discontinuity for block in got] == [False, True, True, True, True, False]
    assert all(block.samples.shape == (960, 2) and not block.samples.any() for block in got)


async def test_a_header_that_promises_hours_costs_no_memory() -> None:
    frame = protocol.AudioFrame(
        seq=0, sample_pos=0, n_samples=2**32 - 1, rev=0, payload=b"123", codec=protocol.Codec.PCM_S16
    )
    async with scripted(welcome(), protocol.pack_frame(frame)) as (url, _), riffstream.connect(url) as station:
        block = await asyncio.wait_for(anext(station), PATIENCE_S)
    assert len(block.samples) == 5 * 48_000


async def test_an_unforeseen_error_ends_the_iteration_and_closes_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any, frame: protocol.AudioFrame) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr("riffstream.client.inbox.Inbox.take", fails)
    frame = protocol.AudioFrame(seq=0, sample_pos=0, n_samples=1, rev=0, payload=bytes(4), codec=protocol.Codec.PCM_S16)
    closed = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(welcome())
        await connection.send(protocol.pack_frame(frame))
        await connection.wait_closed()
        closed.set()

    async with serve(handle, "127.0.0.1", 0, subprotocols=["riffstream.v1"]) as server:  # type: ignore[list-item]
        station = await riffstream.connect(f"127.0.0.1:{server.sockets[0].getsockname()[1]}").__aenter__()
        with pytest.raises(RadioError, match="ZeroDivisionError: unforeseen"):
            await asyncio.wait_for(until_over(station), PATIENCE_S)
        await asyncio.wait_for(closed.wait(), PATIENCE_S)
        await station.close()


async def test_a_clock_that_is_lost_with_the_line_says_so_at_once() -> None:
    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(welcome())
        await connection.recv()
        await connection.close()

    async with serve(handle, "127.0.0.1", 0, subprotocols=["riffstream.v1"]) as server:  # type: ignore[list-item]
        url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with riffstream.connect(url, codec="none", reconnect=False) as station:
            with pytest.raises(RadioError, match=r"lost|closed") as lost:
                await asyncio.wait_for(station.clock(timeout_s=2 * PATIENCE_S), PATIENCE_S)
    assert lost.value.code == "disconnected"


async def test_another_event_loop_is_refused(radio: Running) -> None:
    async with riffstream.connect(radio.url) as station:
        for call in (station.clock, lambda: anext(station)):
            with pytest.raises(RuntimeError, match="belongs to the event loop"):
                await asyncio.to_thread(lambda call=call: asyncio.run(_awaited(call())))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def test_blocks_lose_nothing_while_the_caller_works() -> None:
    def collect(url: str) -> list[Block]:
        got: list[Block] = []
        for block in blocks(url, seconds=4, codec="pcm_s16"):
            got.append(block)
            if len(got) == 3:
                time.sleep(2.5)  # the server's own buffer holds less
        return got

    async with running(speed=1.0) as served:
        got = await asyncio.to_thread(collect, served.url)
    assert not any(block.discontinuity for block in got)
    for one, other in itertools.pairwise(got):
        assert other.sample_pos == one.sample_pos + len(one.samples)


async def test_blocks_that_overflow_say_so(radio: Running) -> None:
    def collect() -> list[tuple[bool, bool]]:
        stream = blocks(radio.url, codec="pcm_s16", queue_s=0.5)
        last = next(stream)
        time.sleep(0.5)  # four seconds of this server's
        found = []
        for _ in range(8):
            block = next(stream)
            found.append((block.discontinuity, block.sample_pos != last.sample_pos + len(last.samples)))
            last = block
        stream.close()
        return found

    found = await asyncio.to_thread(collect)
    assert any(said for said, _ in found)
    assert all(said == missing for said, missing in found)


async def test_leaving_blocks_early_frees_everything(radio: Running) -> None:
    def leave() -> set[str]:
        for _ in blocks(radio.url):
            break
        with contextlib.suppress(ZeroDivisionError):
            for _ in blocks(radio.url):
                raise ZeroDivisionError
        unfinished = blocks(radio.url)
        next(unfinished)
        del unfinished
        return {thread.name for thread in threading.enumerate()}

    assert "riffstream-client" not in await asyncio.to_thread(leave)
    async with asyncio.timeout(PATIENCE_S):
        while radio.server.context.broadcasts["main"].members:
            await asyncio.sleep(0.02)


async def test_blocks_works_inside_a_coroutine_and_in_two_threads(radio: Running) -> None:
    def collect() -> int:
        return sum(len(block.samples) for block in blocks(radio.url, seconds=0.2))

    async def nested() -> int:
        return collect()

    pair = await asyncio.gather(asyncio.to_thread(asyncio.run, nested()), asyncio.to_thread(collect))
    assert all(samples >= 9600 for samples in pair)


async def test_errors_of_blocks_come_to_the_caller() -> None:
    with pytest.raises(RadioError, match="cannot reach"):
        await asyncio.to_thread(next, blocks("http://127.0.0.1:9"))
    with pytest.raises(ParameterError, match="codec"):
        await asyncio.to_thread(next, blocks("http://127.0.0.1:9", codec="mp3"))


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process")
async def test_ctrl_c_ends_blocks_in_good_order(radio: Running) -> None:
    code = """if True:
        import sys, threading
        from riffstream.client import blocks
        try:
            for block in blocks(sys.argv[1]):
                print("playing", flush=True)
        except KeyboardInterrupt:
            print("interrupted", [t.name for t in threading.enumerate()])
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, radio.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readline() == b"playing\n"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.endswith(b"interrupted ['MainThread']\n")
