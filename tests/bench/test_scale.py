"""Sums of large installations, against cases by hand, and their simulation."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from riffstream.bench.scale import EXAMPLES, LISTENERS, SOURCES, STATIONS
from riffstream.bench.scale_simulation import carried_at_random, simulate
from riffstream.bench.scale_sums import MEASURED, Box, Costs, hls_break_even, limits_of_one_box, plan
from riffstream.cli import main

ROUND = Costs(  # round numbers, for sums in the head
    listener_us=20.0,
    relay_listener_us=20.0,
    feed_us=200.0,
    join_us=500.0,
    station_ms=50.0,
    relay_station_ms=10.0,
    music_cores=0.2,
    eased_cores=0.15,
    hls_cores=0.1,
    listener_kb=50.0,
    kbit_s=100.0,
    hls_kbit_s=400.0,
)
BOX = Box(cores=10, gbit_s=10.0, memory_gb=10.0, share=0.5)  # 5 cores and 5 Gbit/s, which is 50,000 listeners


def test_one_box_serves_what_it_can_alone() -> None:
    found = plan(40_000, 1, ROUND, BOX)
    assert (found.origins, found.relays, found.levels, found.boxes) == (1, 0, 0, 1)
    assert found.gbit_s == pytest.approx(4.0)
    assert found.petabyte_month == pytest.approx(4.0e9 / 8 * 2_629_800 / 1e15)
    assert found.music_cores == pytest.approx(0.2)
    assert found.feed_gbit_s == 0
    assert plan(1, 1, ROUND, BOX).first == "nothing"


def test_relays_follow_the_network_with_one_to_spare() -> None:
    found = plan(1_000_000, 1, ROUND, BOX)  # 100 Gbit/s over 5 Gbit/s a box
    assert (found.origins, found.relays) == (1, 20 + 1)
    assert found.carried == 20  # each box takes the station once
    assert found.feed_gbit_s == pytest.approx(20 * 100e-6)
    assert (found.levels, found.first) == (1, "network")


def test_relays_follow_the_cores_when_these_are_fewer() -> None:
    weak = replace(BOX, cores=1)  # half a core: 25,000 listeners without the station's 0.01
    found = plan(1_000_000, 1, ROUND, weak)
    # 1,000,000 x 20 us = 20 cores, and 20 x 0.01 for the station on as many boxes as the network needs: 20.2 / 0.5
    assert found.relays == math.ceil(20.2 / 0.5) + 1
    assert found.first == "CPU of the listeners"


def test_stations_without_listeners_rest() -> None:
    found = plan(3, 10_000, ROUND, BOX)
    assert (found.active, found.origins) == (3, 1)
    assert found.music_cores == pytest.approx(0.6)


def test_many_stations_need_origins_for_their_music() -> None:
    found = plan(1_000, 1_000, ROUND, BOX)
    # 0.25 cores a station and 20 us for its listener: 19 stations on 5 cores
    assert (found.origins, found.relays) == (math.ceil(1000 / 19), 0)
    assert found.first == "music (generator)"
    assert found.hls_cores == pytest.approx(100)
    assert found.hls_gbit_s == pytest.approx(1000 * 2 * 400e-6)


def test_gpus_replace_the_cores_of_the_music() -> None:
    found = plan(1_000, 1_000, replace(ROUND, stations_per_gpu=60), BOX)
    assert found.gpus == math.ceil(1000 / 60)
    assert found.stations_per_origin == 60  # of the 100 that the server itself could carry
    assert found.origins == math.ceil(1000 / 60)
    assert plan(1_000, 1_000, ROUND, BOX).gpus is None


def test_a_second_level_of_relays_when_the_origin_cannot_feed_all() -> None:
    # A core feeds 0.5 / 0.2 = 2 relays; eight relays need three levels of two.
    assert plan(400_000, 1, replace(ROUND, feed_us=200_000), BOX).levels == 3


def test_the_limits_of_a_box_are_in_the_order_in_which_they_are_met() -> None:
    found = limits_of_one_box(ROUND, BOX)
    listeners = {each.name: each.listeners for each in found if each.listeners is not None}
    assert list(listeners.values()) == sorted(listeners.values())
    assert listeners["network of 10 Gbit/s"] == 50_000
    assert listeners["one process"] == 22_500  # (0.5 - 0.05) / 20 us
    assert listeners["10 cores"] == 237_500  # (5 - 0.05 - 0.2) / 20 us
    assert listeners["memory"] == 100_000
    stations = {each.name: each.stations for each in found if each.stations is not None}
    assert stations == {
        "limits.stations, as shipped": 8,
        "music at full quality on 10 cores": 20,  # 5 / (0.2 + 0.05)
        "music without guidance on 10 cores": 25,  # 5 / (0.15 + 0.05)
    }


def test_hls_costs_less_from_its_break_even() -> None:
    by_cpu, by_bandwidth = hls_break_even(ROUND)
    assert (by_cpu, by_bandwidth) == (5_000, 8)  # 0.1 core / 20 us; two shields x 400 / 100 kbit/s


@pytest.mark.parametrize("listeners", LISTENERS)
@pytest.mark.parametrize("stations", STATIONS)
def test_more_of_anything_never_needs_less(listeners: int, stations: int) -> None:
    found = plan(listeners, stations)
    assert plan(listeners * 2, stations).boxes >= found.boxes
    assert plan(listeners, stations * 2).boxes >= found.boxes
    assert plan(listeners, stations, box=Box(cores=16, gbit_s=20)).boxes <= found.boxes
    assert found.origins * found.stations_per_origin >= found.active


def test_the_simulation_agrees_with_the_sums() -> None:
    planned = plan(1_000_000, 100, ROUND, BOX)
    found = simulate(planned, ROUND, BOX)
    by_sum = 1_000_000 * ROUND.kbit_s / 1e6 / BOX.gbit_s / planned.relays
    assert found.mean_load == pytest.approx(by_sum, rel=0.01)
    assert found.worst_load <= BOX.share * 1.05  # although the stations are uneven
    assert found.carried <= planned.carried * 1.2
    assert found.after_load <= found.worst_load * planned.relays / (planned.relays - 1) * 1.05
    assert found.lost == pytest.approx(1_000_000 / planned.relays, rel=0.1)
    assert found.back_s < 10
    assert simulate(planned, ROUND, BOX) == found, "one seed, one result"


def test_the_simulation_finds_a_plan_without_room() -> None:
    planned = replace(plan(1_000_000, 1, ROUND, BOX), relays=10)  # twice as many listeners as a box has network for
    found = simulate(planned, ROUND, BOX)
    assert found.worst_load > 0.95
    assert found.back_s == math.inf, "the others have no core or network left"
    alone = replace(plan(400_000, 1, ROUND, BOX), relays=1)
    assert simulate(alone, ROUND, BOX).back_s == math.inf


def test_stations_of_random_routing_by_sum_and_by_lot() -> None:
    expected, found = carried_at_random(100_000, 1_000, 50)
    assert expected == pytest.approx(1000 * (1 - 0.999**2000))
    assert found == pytest.approx(expected, rel=0.02)


def test_the_page_is_the_one_that_the_command_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scale"]) == 0
    made = capsys.readouterr().out
    page = Path(__file__).parents[2] / "docs" / "capacity.md"
    assert page.read_text() == made, "riffstream bench scale > docs/capacity.md"


def test_every_constant_names_its_source_and_the_source_has_it() -> None:
    named = set(SOURCES)
    assert named == {name for name in Costs.__dataclass_fields__ if name != "stations_per_gpu"}
    performance = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    for _, _, source in SOURCES.values():
        if source.startswith("performance.md, "):
            assert source.removeprefix("performance.md, ") in performance, source


def test_the_command_answers_one_question_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scale", "--listeners", "200000", "--stations", "1", "--gbit", "25", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plans"][0]["gbit_s"] == pytest.approx(200_000 * MEASURED.kbit_s / 1e6)
    assert found["simulations"][0]["listeners"] == 200_000
    assert main(["bench", "scale", "--stations", "5", "--stations-per-gpu", "40"]) == 0
    assert "None of these installations has relays." in capsys.readouterr().out
    assert "bench scale" in EXAMPLES


def test_a_box_of_every_allowed_size_has_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scale", "--gbit", "0.1", "--listeners", "50"]) == 0
    assert "The network of one box serves 542." in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", ["--listeners=0", "--stations=-1", "--stations=1000001", "--cores=0", "--gbit=0", "--stations-per-gpu=0"]
)
def test_impossible_numbers_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scale", option]) == 2
    assert option.split("=")[0] in capsys.readouterr().err


def test_loads_are_numbers() -> None:
    found = simulate(plan(1_000_000, 10_000), MEASURED, Box())
    assert np.isfinite([found.mean_load, found.worst_load, found.after_load, found.back_s]).all()
