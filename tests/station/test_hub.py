"""Stations in real time beside a real generator process (a metronome), which is killed, stalled and starved."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from riffstream import protocol
from riffstream.audio.encoders import make_encoder
from riffstream.config import Config, GeneratorSettings, LimitsSettings, StationConfig, TimelineSettings
from riffstream.errors import MediaError, ParameterError
from riffstream.generator.messages import Configure, Info
from riffstream.protocol import Event, Now, Prompt, Steer, Transport
from riffstream.station.block import Block
from riffstream.station.hub import GeneratorError, Hub, TooManyStationsError, UnknownStationError, UnplayableError
from riffstream.station.outlet import Chunk, Outlet
from riffstream.station.ring import PcmRing
from riffstream.station.station import Station
from tests.conftest import PATIENCE_S

FAST = TimelineSettings(frame_ms=40, send_lead_ms=60, client_buffer_ms=40, ring_s=5.0)


@asynccontextmanager
async def playing(
    *,
    timeline: TimelineSettings = FAST,
    stations: dict[str, StationConfig] | None = None,
    limits: LimitsSettings | None = None,
    configure: Configure | None = None,
    generator: GeneratorSettings | None = None,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[Hub]:
    config = Config(
        generator=generator or GeneratorSettings(model="tone", backoff_s=0.05, stall_s=1.0),
        timeline=timeline,
        limits=limits or LimitsSettings(),
        stations=stations or {"main": StationConfig(prompts=("first",), bpm=120.0)},
    )
    more = {} if clock is None else {"clock": clock}
    hub = Hub(config, configure=configure, **more)  # type: ignore[arg-type]
    await hub.start()
    try:
        await hub.wait_ready(30)
        yield hub
    finally:
        await hub.close()


async def until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class HandClock:
    """A clock that is set by hand, so that a busy machine changes nothing."""

    STEP = 0.04

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def go(self, station: Station, seconds: float) -> None:
        """Let time go by for a station, and let its generator answer."""
        for _ in range(round(seconds / self.STEP)):
            self.now += self.STEP
            station._pacer.drive()
            await asyncio.sleep(0.002)

    async def until(self, station: Station, condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Until something holds, for at most so long of this clock."""
        end = self.now + seconds
        while not condition():
            assert self.now < end, "it does not happen"
            await self.go(station, self.STEP)


PATIENT = GeneratorSettings(model="tone", stall_s=3600, load_s=86400)  # it watches the same clock


def hostile(how: str, tmp_path: Path, **more: object) -> Configure:
    return Configure("tests.station.factories:hostile", {"how": how, "flag": str(tmp_path / "flag"), **more})


async def recorded(station: Station, meanwhile: Callable[[], Awaitable[None]]) -> np.ndarray:
    """What a listener to PCM hears while something happens; its frames must follow each other."""
    chunks: list[Chunk | None] = []
    outlet = station.outlet("pcm_s16")
    await outlet.start(chunks.append)
    chunks.clear()  # what was before
    await meanwhile()
    outlet.stop()
    frames = [chunk for chunk in chunks if chunk is not None]
    for one, two in itertools.pairwise(frames):
        assert two.sample_pos == one.sample_pos + one.n_samples
        assert two.rev >= one.rev
    return np.concatenate([np.frombuffer(chunk.payload, "<i2").reshape(-1, 2) for chunk in frames])


async def test_the_values_behind_a_null_are_those_of_the_model() -> None:
    station = Station("main", StationConfig(), Config(), lambda message: None)
    assert station.caps().seed_image is None
    station._info = Info(model="m", seed_image="auto", denoising=0.8)
    assert (station.caps().seed_image, station.caps().denoising) == ("auto", 0.8)


async def test_the_server_process_never_imports_torch() -> None:
    code = "import riffstream.station.hub, riffstream.station.offline, sys; print('torch' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.strip() == b"False"


async def test_a_station_plays_and_is_steered() -> None:
    async with playing() as hub:
        station = hub.get("main")
        told: list[Now | Event] = []
        station.subscribe(told.append)
        lease = station.join()
        replies: list[protocol.ServerMessage] = []
        station.steer(Steer(id="a", prompts=(Prompt(text="second"),)), replies.append, by="test")
        assert isinstance(replies[0], protocol.Scheduled)
        await until(lambda: len(replies) == 2)
        assert isinstance(replies[1], protocol.Applied)
        at = replies[1].audible_at
        await until(lambda: station.sample_pos > at)
        await until(lambda: any(isinstance(each, Now) and each.rev == 1 for each in told))
        assert station.now().state.prompts[0].text == "second"
        assert station.state == station.now().state
        assert station.sample_pos <= station.committed
        assert station.rev == 1
        start, pcm = station.recording(1.0)
        assert start + len(pcm) == station.committed
        assert pcm.any()
        lease.close()
        lease.close()
        assert station.listeners == 0


@pytest.mark.parametrize("how", ["kill", "crash", "exit", "stall", "memory", "print"])
async def test_a_generator_that_fails_is_bridged_and_nobody_hears_it(how: str, tmp_path: Path) -> None:
    configure = hostile("nothing" if how == "kill" else how, tmp_path)
    restarts = 0 if how in ("print", "crash") else 1  # an exception ends a clip, not the process
    async with playing(configure=configure) as hub:
        station = hub.get("main")
        station.join()
        await until(lambda: how != "kill" or station.stats()["horizon_s"] > 5)

        async def happening() -> None:
            if how == "kill":
                os.kill(hub.supervisor.pid or 0, signal.SIGKILL)
            elif how in ("print", "crash"):
                await until((tmp_path / "flag").exists)
            await until(lambda: hub.supervisor.restarts == restarts)
            await until(lambda: hub.supervisor.state == "ready")
            replies: list[protocol.ServerMessage] = []
            station.steer(Steer(id="a", prompts=(Prompt(text="after"),)), replies.append)
            await until(lambda: len(replies) == 2)

        pcm = await recorded(station, happening)
        assert np.abs(np.diff(pcm[:, 0].astype(int))).max() < 32767 * 0.12
        assert hub.health()["stations"]["main"]["underruns"] == 0
        assert hub.supervisor.restarts == restarts
        if how == "memory":
            assert "out of memory" in hub.supervisor.reason


async def test_out_of_memory_makes_the_next_batches_smaller(tmp_path: Path) -> None:
    async with playing(configure=hostile("memory", tmp_path, max_batch=16)) as hub:
        hub.get("main").join()
        await until(lambda: hub.supervisor.restarts == 1)
        assert hub.supervisor._configure.options["max_batch"] == 8


async def test_a_model_that_cannot_be_loaded_is_reported() -> None:
    configure = Configure("tests.station.factories:unloadable", {"model": "nowhere"})
    with pytest.raises(GeneratorError, match="there is no checkpoint nowhere"):
        async with playing(configure=configure):
            pass


async def test_a_journey_that_cannot_be_read_is_reported_before_any_generator_starts(tmp_path: Path) -> None:
    stations = {"main": StationConfig(journey=str(tmp_path / "nowhere.toml"))}
    hub = Hub(Config(generator=GeneratorSettings(model="tone"), stations=stations))
    with pytest.raises(MediaError, match=r"nowhere\.toml"):
        await hub.warm_up()
    assert hub.info is None
    await hub.close()


async def test_a_load_that_never_ends_is_restarted() -> None:
    hub = Hub(
        Config(generator=GeneratorSettings(model="tone", load_s=1.0, backoff_s=0.05)),
        configure=Configure("tests.station.factories:slow_to_load", {}),
    )
    await hub.start()
    await until(lambda: hub.supervisor.restarts >= 1)
    replies: list[protocol.ServerMessage] = []
    hub.get("main").steer(Steer(id="a", bpm=100.0), replies.append)
    assert isinstance(replies[0], protocol.Rejected)
    assert (replies[0].code, replies[0].retry_after_ms) == ("busy", 1000)
    assert hub.get("main").now().state.prompts
    await hub.close()
    await hub.close()


async def test_stations_are_created_and_deleted_up_to_the_cap() -> None:
    async with playing(limits=LimitsSettings(stations=2)) as hub:
        station = await hub.create("second", StationConfig(prompts=("x",)))
        await asyncio.wait_for(station.wait_ready(), PATIENCE_S)
        ended: list[Chunk | None] = []
        told: list[Now | Event] = []
        await station.outlet("opus").start(ended.append)
        station.subscribe(told.append)
        with pytest.raises(ParameterError, match="a name that is not taken"):
            await hub.create("second")
        with pytest.raises(TooManyStationsError, match="2 stations already; allowed: 2"):
            await hub.create("third")
        with pytest.raises(ParameterError, match="1 to 40 of"):
            await hub.create("No Good")
        await hub.delete("second")
        assert ended[-1] is None
        assert told[-1].kind == "closed"  # type: ignore[union-attr]
        with pytest.raises(UnknownStationError, match="allowed: main"):
            hub.get("second")
        with pytest.raises(UnknownStationError):
            await hub.delete("second")
        await hub.create("third")
        assert set(hub.stations) == {"main", "third"}


async def test_nobody_listening_pauses_and_a_listener_resumes_at_once() -> None:
    clock = HandClock()
    timeline = TimelineSettings(frame_ms=40, send_lead_ms=60, client_buffer_ms=40, idle_s=0.3)
    async with playing(timeline=timeline, clock=clock, generator=PATIENT) as hub:
        station = hub.get("main")
        await clock.until(station, lambda: bool(station.stats()["asleep"]))
        asleep = station.committed
        await clock.go(station, 20)
        assert station.committed == asleep
        lease = station.join()
        await clock.go(station, 0.4)
        assert 0.4 * 48_000 <= station.committed - asleep <= 0.6 * 48_000  # on from there, no catching up
        lease.close()


@pytest.mark.parametrize("at", ["asap", "bar"])
async def test_a_steer_wakes_a_station_until_it_would_be_heard(at: protocol.At) -> None:
    clock = HandClock()
    timeline = TimelineSettings(frame_ms=40, send_lead_ms=60, client_buffer_ms=40, idle_s=0.3, burst_ms=400)
    async with playing(timeline=timeline, clock=clock, generator=PATIENT) as hub:
        station = hub.get("main")
        await clock.until(station, lambda: bool(station.stats()["asleep"]))
        told: list[Now | Event] = []
        station.subscribe(told.append)
        replies: list[protocol.ServerMessage] = []
        station.steer(Steer(id="a", prompts=(Prompt(text="second"),), at=at), replies.append)
        assert station.state.prompts[0].text == "second"
        await clock.until(station, lambda: any(isinstance(reply, protocol.Applied) for reply in replies))
        await clock.until(station, lambda: station.now().state.prompts[0].text == "second", seconds=3)
        await clock.until(station, lambda: bool(station.stats()["asleep"]), seconds=3)
        applied = next(reply for reply in replies if isinstance(reply, protocol.Applied))
        burst = round(0.4 * 48_000)
        assert applied.audible_at + burst <= station.sample_pos < applied.audible_at + burst + 48_000
        assert [each.state.prompts[0].text for each in told if isinstance(each, Now)][-1] == "second"
        asleep = station.committed
        await clock.go(station, 2)
        assert station.committed == asleep


async def test_a_pause_in_sleep_is_shown_and_sleep_goes_on() -> None:
    clock = HandClock()
    timeline = TimelineSettings(frame_ms=40, send_lead_ms=60, client_buffer_ms=40, idle_s=0.3)
    async with playing(timeline=timeline, clock=clock, generator=PATIENT) as hub:
        station = hub.get("main")
        await clock.until(station, lambda: bool(station.stats()["asleep"]))
        replies: list[protocol.ServerMessage] = []
        station.transport(Transport(id="p", op="pause"), replies.append)
        await clock.until(station, lambda: station.now().state.paused, seconds=3)
        station.steer(Steer(id="a", prompts=(Prompt(text="second"),)), replies.append)
        assert not station.stats()["asleep"]
        await clock.until(station, lambda: bool(station.stats()["asleep"]), seconds=60)
        asleep = station.committed
        await clock.go(station, 2)
        assert station.committed == asleep
        assert station.now().state.paused
        assert station.state.prompts[0].text == "second", "the change is in hand"
        assert [type(reply) for reply in replies] == [protocol.Scheduled, protocol.Applied, protocol.Scheduled]
        with station.join():
            station.transport(Transport(id="r", op="resume"), replies.append)
            await clock.until(station, lambda: len(replies) == 6)
            assert isinstance(replies[-1], protocol.Applied)


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_clock_that_jumps_does_not_disturb_the_stream(jump: float) -> None:
    clock = HandClock()
    async with playing(clock=clock, generator=PATIENT) as hub:
        station = hub.get("main")
        station.join()
        told: list[Now | Event] = []
        station.subscribe(told.append)
        await clock.go(station, 1)
        before = station.committed

        async def happening() -> None:
            clock.now += jump
            await clock.go(station, 0.6)
            await asyncio.sleep(0.1)  # for the encoder

        pcm = await recorded(station, happening)
        assert 0.5 * 48_000 <= station.committed - before <= 0.7 * 48_000
        assert "clock_jump" in [each.kind for each in told if isinstance(each, Event)]
        assert len(pcm) <= 0.7 * 48_000


async def test_the_outlet_of_each_codec_begins_with_the_recent_past() -> None:
    async with playing() as hub:
        station = hub.get("main")
        station.join()
        await until(lambda: station.committed > 48_000)
        for codec in ("opus", "mp3", "ogg", "aac", "wav"):
            outlet = station.outlet(codec)
            chunks: list[Chunk | None] = []
            await asyncio.wait_for(outlet.start(chunks.append), PATIENCE_S)
            found = [chunk for chunk in chunks if chunk is not None]
            outlet.stop()
            assert sum(chunk.n_samples for chunk in found) >= 44_000, codec
            if outlet.codec == "opus":
                assert all(len(protocol.split_packets(chunk.payload)) == chunk.n_samples // 960 for chunk in found)
        with pytest.raises(ParameterError, match="opus, pcm_s16, mp3"):
            station.outlet("midi")


async def test_an_outlet_that_takes_long_to_start_still_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*given: Any, **more: Any) -> Any:
        time.sleep(0.3)
        return make_encoder(*given, **more)

    monkeypatch.setattr("riffstream.station.outlet.make_encoder", slow)
    block = Block(0, np.zeros((4800, 2), np.float32), 0, True)
    outlet = Outlet("pcm_s16", lambda: [block])
    chunks: list[Chunk | None] = []
    await asyncio.wait_for(outlet.start(chunks.append), PATIENCE_S)
    assert len(chunks) == 1
    outlet.close()


async def test_callbacks_that_fail_harm_nobody_else() -> None:
    async with playing() as hub:
        station = hub.get("main")
        station.join()

        def broken(*_: object) -> None:
            raise RuntimeError("a listener's fault")

        station.subscribe(broken)
        await station.outlet("mp3").start(broken)
        heard: list[Chunk | None] = []
        await station.outlet("pcm_s16").start(heard.append)
        heard.clear()
        station.steer(Steer(id="a", bpm=90.0), broken)
        await until(lambda: len(heard) > 10)
        assert station.rev == 1


async def test_a_station_that_may_not_be_steered_says_so() -> None:
    async with playing(stations={"main": StationConfig(prompts=("x",), steer=False)}) as hub:
        replies: list[protocol.ServerMessage] = []
        hub.get("main").steer(Steer(id="a", bpm=90.0), replies.append)
        hub.get("main").transport(Transport(id="b", op="pause"), replies.append)
        assert [reply.code for reply in replies if isinstance(reply, protocol.Rejected)] == ["forbidden", "forbidden"]


async def test_the_log_of_a_live_station_replays_to_what_was_heard(tmp_path: Path) -> None:
    from riffstream.generator.renderer import ToneRenderer
    from riffstream.station.offline import replay

    path = tmp_path / "live.jsonl"
    stations = {"main": StationConfig(prompts=("first",), save_log=str(path))}
    async with playing(stations=stations) as hub:
        station = hub.get("main")
        station.join()

        async def happening() -> None:
            replies: list[protocol.ServerMessage] = []
            station.steer(Steer(id="a", prompts=(Prompt(text="second"),)), replies.append)
            await until(lambda: len(replies) == 2)
            os.kill(hub.supervisor.pid or 0, signal.SIGKILL)
            await until(lambda: hub.supervisor.restarts == 1 and hub.supervisor.state == "ready")
            station.steer(Steer(id="b", key=4.0, at="beat"), replies.append)
            await until(lambda: len(replies) == 4)
            await asyncio.sleep(0.3)

        await recorded(station, happening)
        start, heard = station.recording(5.0)
    again = np.concatenate(list(replay(path, ToneRenderer())))
    assert len(again) >= start + len(heard)
    assert np.abs(again[start : start + len(heard)] - heard).max() <= 0.51 / 32767  # the ring holds int16


async def test_a_step_that_fails_is_counted_and_the_station_plays_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing() as hub:
        station = hub.get("main")
        with station.join(), monkeypatch.context() as patch:
            patch.setattr(PcmRing, "push", broken)  # a fault of ours, somewhere below
            await until(lambda: station.stats()["faults"] > 0)
            patch.undo()
            before = station.committed
            await until(lambda: station.committed > before + 48_000)
        answers: list[protocol.ServerMessage] = []
        station.steer(Steer(id="a", prompts=(Prompt(text="after"),)), answers.append)
        await until(lambda: len(answers) == 2)


def broken(*_: object) -> None:
    raise ValueError("broken on purpose")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full")
async def test_a_full_disk_ends_the_saved_log_and_not_the_music(caplog: pytest.LogCaptureFixture) -> None:
    stations = {"main": StationConfig(prompts=("first",), bpm=120.0, save_log="/dev/full")}
    async with playing(stations=stations) as hub:
        station = hub.get("main")
        with station.join():
            before = station.committed
            await until(lambda: station.committed > before + 24_000)
        assert station.stats()["faults"] == 0
        assert "the steering log of station main ends here" in caplog.text
        assert len(list(station.log.lines())) > 1


CHOOSY = Configure("tests.station.factories:choosy", {})


async def test_a_station_that_the_model_cannot_begin_is_not_made() -> None:
    async with playing(configure=CHOOSY) as hub:
        with pytest.raises(UnplayableError, match="station odd: seed_image is 'unknown'"):
            await hub.create("odd", StationConfig(prompts=("x",), seed_image="unknown"))
        assert list(hub.stations) == ["main"]
        assert (await hub.create("odd", StationConfig(prompts=("x",), seed_image="known"))).ready


async def test_a_configured_station_that_the_model_cannot_begin_ends_the_wait() -> None:
    with pytest.raises(UnplayableError, match="station main: seed_image is 'unknown'"):
        async with playing(configure=CHOOSY, stations={"main": StationConfig(prompts=("x",), seed_image="unknown")}):
            pass


async def test_a_steer_that_the_model_cannot_play_is_no_fault_of_the_station() -> None:
    async with playing(configure=CHOOSY) as hub:
        replies: list[protocol.ServerMessage] = []
        station = hub.get("main")
        with station.join():
            station.steer(Steer(id="a", seed_image="unknown"), replies.append, by="test")
            await until(lambda: any(isinstance(each, protocol.Rejected) for each in replies))
            await hub.wait_ready(5)
            assert (hub.ready, station.state.seed_image, hub.supervisor.restarts) == (True, None, 0)
            before = station.committed
            await until(lambda: station.committed > before + 24_000)
            assert not hub._refusals["main"].done()


async def test_the_server_stays_ready_while_a_new_station_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(configure=CHOOSY) as hub:
        monkeypatch.setattr("riffstream.station.hub.CREATE_S", 0.0)
        station = await hub.create("late", StationConfig(prompts=("x",), seed_image="unknown"))
        assert not station.ready
        assert hub.ready


async def test_a_station_whose_creation_is_cancelled_is_not_left_behind() -> None:
    """The client that asked for it has gone, and nobody knows of it."""
    async with playing(configure=CHOOSY) as hub:
        creating = asyncio.create_task(hub.create("late", StationConfig(prompts=("x",))))
        await asyncio.sleep(0)
        assert "late" in hub.stations
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert "late" not in hub.stations


@pytest.mark.parametrize("error", [ParameterError("beats_per_bar", 3, "4"), ValueError("broken on purpose")])
async def test_a_station_that_cannot_begin_does_not_keep_the_others_from_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Station.connect

    def connect(station: Station, info: Any) -> None:
        if station.name == "first":
            raise error
        real(station, info)

    monkeypatch.setattr(Station, "connect", connect)
    stations = {name: StationConfig(prompts=(name,)) for name in ("first", "second")}
    hub = Hub(Config(generator=GeneratorSettings(model="tone"), timeline=FAST, stations=stations))
    await hub.start()
    try:
        with pytest.raises(UnplayableError, match=f"station first: .*{error}"):
            await hub.wait_ready(30)
        await until(lambda: hub.get("second").ready)
    finally:
        await hub.close()
