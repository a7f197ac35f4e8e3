"""Several real generator processes of one hub: a station moves when its process dies, stalls or is poisoned."""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any

import numpy as np
import pytest

from riffstream import protocol
from riffstream.config import Config, GeneratorSettings, StationConfig
from riffstream.errors import ParameterError
from riffstream.generator.messages import Configure
from riffstream.generator.supervisor import Supervisor
from riffstream.protocol import Prompt, Steer
from riffstream.station.hub import Hub
from riffstream.station.station import Station
from tests.station.test_hub import FAST, playing, recorded, until

TWO = GeneratorSettings(model="tone", workers=2, backoff_s=30.0, stall_s=1.0)  # a dead one does not come back


def worker_of(hub: Hub, name: str) -> Supervisor:
    worker = hub._seats[name].worker
    assert worker is not None
    return worker


async def steered(station: Station, prompt: str) -> protocol.ServerMessage:
    replies: list[protocol.ServerMessage] = []
    station.steer(Steer(id=prompt, prompts=(Prompt(text=prompt),)), replies.append)
    await until(lambda: len(replies) == 2, 30)
    return replies[-1]


async def both_ready(hub: Hub) -> None:
    await until(lambda: all(worker.state == "ready" for worker in hub.pool.workers))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_station_of_a_lost_worker_plays_on_at_the_other(how: signal.Signals) -> None:
    async with playing(generator=TWO) as hub:
        station = hub.get("main")
        station.join()
        await both_ready(hub)
        await until(lambda: station.stats()["horizon_s"] > 5)
        lost = worker_of(hub, "main")
        told: list[Any] = []
        station.subscribe(told.append)

        async def happening() -> None:
            os.kill(lost.pid or 0, how)
            await until(lambda: hub._seats["main"].worker not in (lost, None))
            assert isinstance(await steered(station, "after"), protocol.Applied)

        pcm = await recorded(station, happening)
        assert lost.state == "waiting", "the move did not wait for a restart"
        assert "generator" not in [each.kind for each in told if isinstance(each, protocol.Event)]
        assert np.abs(np.diff(pcm[:, 0].astype(int))).max() < 32767 * 0.12
        assert (station.stats()["underruns"], station.stats()["repeats"]) == (0, 0)
        figures = hub.health()["generator"]
        assert (figures["workers"], figures["workers_ready"], figures["restarts"]) == (2, 1, 1)


async def test_a_poisonous_steer_is_given_up_at_the_second_worker_and_no_station_suffers() -> None:
    stations = {name: StationConfig(prompts=(f"home of {name}",)) for name in "ab"}
    generator = GeneratorSettings(model="tone", workers=2, backoff_s=0.05, backoff_max_s=0.5, stall_s=3.0)
    configure = Configure("tests.station.factories:poisoned", {"max_batch": 16})
    async with playing(generator=generator, configure=configure, stations=stations) as hub:
        await both_ready(hub)
        for station in hub.stations.values():
            station.join()
            await until(lambda station=station: station.stats()["horizon_s"] > 5)  # type: ignore[misc]
        assert worker_of(hub, "a") is not worker_of(hub, "b")
        assert isinstance(await steered(hub.get("a"), "exit"), protocol.Rejected)
        assert hub.health()["generator"]["restarts"] == 2
        for station in hub.stations.values():
            assert isinstance(await steered(station, "after"), protocol.Applied)
            assert station.stats()["underruns"] == 0


async def test_a_station_of_another_model_has_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(
        generator=GeneratorSettings(model="tone", backoff_s=30.0),
        models={"second": GeneratorSettings(model="tone", backoff_s=30.0)},
        timeline=FAST,
        stations={"main": StationConfig(), "other": StationConfig(model="second")},
    )
    hub = Hub(config)
    await hub.start()
    try:
        await hub.wait_ready(30)
        assert [worker_of(hub, name) for name in ("main", "other")] == hub.pool.workers
        os.kill(worker_of(hub, "main").pid or 0, signal.SIGKILL)
        await until(lambda: hub._seats["main"].worker is None)
        for name in ("other", "third"):
            station = hub.get(name) if name == "other" else await hub.create(name, StationConfig(model="second"))
            assert isinstance(await steered(station, "after"), protocol.Applied)
        await hub.delete("third")
        with pytest.raises(ParameterError, match="model is 'first'; allowed: second"):
            await hub.create("fourth", StationConfig(model="first"))
        assert set(hub.stations) == set(hub._seats) == {"main", "other"}
    finally:
        await hub.close()
    assert all(worker.pid is None for worker in hub.pool.workers)


async def test_a_station_that_moves_for_its_load_loses_nothing() -> None:
    stations = {name: StationConfig(prompts=(name,)) for name in "ab"}
    async with playing(generator=TWO, stations=stations) as hub:
        await both_ready(hub)
        station = hub.get("a")
        station.join()
        await until(lambda: station.stats()["horizon_s"] > 5)
        before = worker_of(hub, "a")
        other = next(worker for worker in hub.pool.workers if worker is not before)

        async def happening() -> None:
            for worker in itertools.islice(itertools.cycle((other, before)), 5):
                hub.pool._move(hub._seats["a"], worker, "on purpose")
                assert isinstance(await steered(station, f"at {id(worker)}"), protocol.Applied)

        pcm = await recorded(station, happening)
        assert worker_of(hub, "a") is other
        assert np.abs(np.diff(pcm[:, 0].astype(int))).max() < 32767 * 0.12
        stats: dict[str, Any] = station.stats()
        assert (stats["underruns"], stats["repeats"], stats["faults"]) == (0, 0, 0)


async def test_a_process_with_too_much_work_gives_a_station_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riffstream.generator.supervisor.SMOOTH", 0.5)
    stations = {name: StationConfig(prompts=(name,)) for name in "ab"}
    half = Configure("riffstream.generator.renderer:make_tone", {"step_s": 0.25})  # a clip of 4 s takes 2.25 s
    async with playing(generator=TWO, configure=half, stations=stations) as hub:
        await both_ready(hub)
        for station in hub.stations.values():
            station.join()
            await until(lambda station=station: station.stats()["horizon_s"] > 4, 30)  # type: ignore[misc]
        full, other = worker_of(hub, "a"), worker_of(hub, "b")
        assert full is not other
        hub.pool._move(hub._seats["b"], full, "on purpose")
        await until(lambda: {worker_of(hub, name) for name in "ab"} == {full, other}, 30)
        assert [station.stats()["underruns"] for station in hub.stations.values()] == [0, 0]
