"""Capacity of a large installation on paper: boxes, bandwidth and GPUs, from measured costs; a simulation checks it."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, replace
from typing import Any, Final

from riffstream.bench.common import check_ranges, markdown_table, to_json
from riffstream.bench.scale_simulation import carried_at_random, simulate
from riffstream.bench.scale_sums import (
    MEASURED,
    Box,
    Costs,
    Limit,
    Plan,
    by_network,
    hls_break_even,
    limits_of_one_box,
    plan,
)

__all__ = ["EXAMPLES", "add_arguments", "page", "run"]

EXAMPLES = """examples:
  riffstream bench scale                                      the page docs/capacity.md
  riffstream bench scale --listeners 50000 --stations 20
  riffstream bench scale --cores 32 --gbit 25 --stations-per-gpu 400
  riffstream bench scale --listeners 50000 --json"""

LISTENERS: Final = (1, 1_000, 100_000, 1_000_000)
STATIONS: Final = (1, 100, 10_000)
SEEDS: Final = 5
SOURCES: Final = {  # constant -> meaning, unit, source
    "listener_us": ("CPU of the server for a passive Opus listener", "µs/s", "performance.md, 2,000 listeners"),
    "relay_listener_us": ("the same at a relay", "µs/s", "performance.md, A relay"),
    "feed_us": ("CPU of the server for a relay of one station", "µs/s", "performance.md, A tree or a bus"),
    "join_us": ("CPU of a connection with its burst", "µs", "performance.md, Joins"),
    "station_ms": ("CPU of the server for a station with Opus", "ms/s", "performance.md, A relay"),
    "relay_station_ms": ("CPU of a relay for a station", "ms/s", "performance.md, A relay"),
    "music_cores": ("cores of the generator for a station at full quality", "", "performance.md, Cores of a station"),
    "eased_cores": ("the same without guidance", "", "performance.md, Cores of a station"),
    "hls_cores": ("cores for HLS of a station", "", "performance.md, MP3 listeners and HLS"),
    "listener_kb": ("memory of the server for a listener", "kB", "performance.md, Joins"),
    "kbit_s": ("Opus on the wire", "kbit/s", "performance.md, 2,000 listeners"),
    "hls_kbit_s": ("all renditions of HLS", "kbit/s", "the bit rates of HLS"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench scale``."""
    parser.add_argument("--listeners", type=int, metavar="N", help="listeners at the same time (default: a table)")
    parser.add_argument("--stations", type=int, metavar="N", help="stations (default: a table, or 1)")
    parser.add_argument("--cores", type=int, default=8, help="cores of a box (8)")
    parser.add_argument("--gbit", type=float, default=10.0, help="network of a box, Gbit/s (10)")
    parser.add_argument("--memory", type=float, default=32.0, help="memory of a box, GB (32)")
    parser.add_argument("--stations-per-gpu", type=float, metavar="N", help="stations that one GPU carries")
    parser.add_argument("--json", action="store_true", help="JSON instead of the page")


def run(args: argparse.Namespace) -> int:
    """Calculate and print."""
    check_ranges(
        args,
        listeners=(1, 100_000_000),
        stations=(1, 1_000_000),
        cores=(1, 1024),
        gbit=(0.1, 1000),
        memory=(1, 10_000),
        stations_per_gpu=(1, 1_000_000),
    )
    costs = replace(MEASURED, stations_per_gpu=args.stations_per_gpu)
    box = Box(args.cores, args.gbit, args.memory)
    if args.listeners is None and args.stations is None:
        asked = [(listeners, stations) for stations in STATIONS for listeners in LISTENERS]
    else:
        asked = [(args.listeners or 1, args.stations or 1)]
    plans = [plan(*each, costs, box) for each in asked]
    print(to_json(_values(plans, costs, box)) if args.json else page(plans, costs, box), end="\n" if args.json else "")
    return 0


def _values(plans: list[Plan], costs: Costs, box: Box) -> dict[str, Any]:
    return {
        "costs": asdict(costs),
        "box": asdict(box),
        "limits_of_one_box": [asdict(each) for each in limits_of_one_box(costs, box)],
        "hls_break_even": dict(zip(("by_cpu", "by_bandwidth"), hls_break_even(costs), strict=True)),
        "plans": [{**asdict(each), "boxes": each.boxes} for each in plans],
        "simulations": [
            {"listeners": each.listeners, "stations": each.stations, **asdict(simulate(each, costs, box))}
            for each in plans
            if each.relays > 1
        ],
    }


PAGE: Final = """# Capacity

This page is for operators who plan an installation. `riffstream bench scale > docs/capacity.md` writes it, so it is not
edited by hand. Other numbers: `riffstream bench scale --listeners 50000 --stations 20 --cores 32`.

## Constants

A box is assumed to have {cores} cores, a network of {gbit:g} Gbit/s and {memory:g} GB of memory. {share:.0%} of cores
and network are for regular load, the rest is for peaks. Everything else was measured on machine A of
[performance.md](performance.md), but the cores at full quality, which are a sum of two measurements. Another processor
needs its own figures.

{constants}

{gpus}

## Limits of one box

{limits}

Stations that have little audio ahead leave out the guidance of their clips ([Time to spare](station.md#behaviour)) and
play on. `riffstream doctor` measures both numbers of stations on a machine.

## Installations

Passive Opus listeners; the most popular station has the share of Zipf's law. A station without listeners rests. A load
balancer sends the listeners of a station to few relays (consistent hashing of the path with bounded loads). One relay
box is to spare.

{plans}

`origins` have the generators, at full quality; without relays they serve the listeners too. `PB/month` is the traffic
with these listeners at all times. The columns of HLS are for all listeners behind a CDN with two shield caches.

## When HLS behind a CDN takes over

Three encoders cost a station {hls:.1f} % of a core, however many listen. HLS costs the origin less CPU than relays from
{by_cpu} listeners of a station, and less bandwidth from {by_bandwidth}. The network of one box serves {network}.
From two relay boxes on, HLS is the cheaper way for listeners who do not steer. It costs them a delay of 10 to 20 s in
place of half a second, so those who steer stay on the WebSocket.

## Simulation

The sums of the relays assume equal stations. The simulation gives them a Zipf distribution, fills the boxes as the load
balancer does, and ends the most loaded box. Its listeners reconnect with the delays of the clients, and a box admits as
many as its free cores allow. Loads are shares of a whole box, worst of {seeds} runs:

{simulation}

{routing}
"""


def page(plans: list[Plan], costs: Costs, box: Box) -> str:
    """The page docs/capacity.md."""
    by_cpu, by_bandwidth = hls_break_even(costs)
    network = by_network(box.gbit_s, costs, box)
    constants = [
        (text, f"{getattr(costs, name):g} {unit}".strip(), source) for name, (text, unit, source) in SOURCES.items()
    ]
    gpus = "No GPU was measured: `riffstream bench gpu` gives the number of stations for `--stations-per-gpu N`."
    if costs.stations_per_gpu is not None:
        gpus = f"A GPU carries {costs.stations_per_gpu:g} stations, a given number."
    return PAGE.format(
        cores=box.cores,
        gbit=box.gbit_s,
        memory=box.memory_gb,
        share=box.share,
        constants=markdown_table(("constant", "value", "source"), constants),
        gpus=gpus,
        limits=_limits_table(limits_of_one_box(costs, box)),
        plans=_plans_table(plans),
        hls=costs.hls_cores * 100,
        by_cpu=_number(by_cpu),
        by_bandwidth=by_bandwidth,
        network=_number(network if network < 1000 else network // 1000 * 1000),
        seeds=SEEDS,
        simulation=_simulation_table(plans, costs, box),
        routing=_random_routing(costs, box),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _limits_table(limits: list[Limit]) -> str:
    rows = [
        (
            each.name,
            _number(each.listeners) if each.listeners is not None else "",
            _number(each.stations) if each.stations is not None else "",
            each.remedy,
        )
        for each in limits
    ]
    return markdown_table(("what runs out", "listeners of one station", "stations", "remedy"), rows)


def _plans_table(plans: list[Plan]) -> str:
    header = (
        "stations",
        "listeners",
        "origins",
        "relays",
        "levels",
        "Gbit/s",
        "PB/month",
        "generator cores",
        "GPUs",
        "to relays, Gbit/s",
        "HLS: cores",
        "HLS: Gbit/s",
        "first limit of one box",
    )
    rows = [
        (
            _number(each.stations),
            _number(each.listeners),
            _number(each.origins),
            _number(each.relays),
            each.levels,
            _short(each.gbit_s),
            _short(each.petabyte_month),
            _short(each.music_cores),
            "not measured" if each.gpus is None else _number(each.gpus),
            _short(each.feed_gbit_s),
            _short(each.hls_cores),
            _short(each.hls_gbit_s),
            each.first,
        )
        for each in plans
    ]
    return markdown_table(header, rows)


def _short(value: float) -> str:
    return _number(value) if value >= 100 else f"{value:.2g}"


def _simulation_table(plans: list[Plan], costs: Costs, box: Box) -> str:
    rows = []
    for each in plans:
        if each.relays <= 1:
            continue
        runs = [simulate(each, costs, box, seed=seed) for seed in range(SEEDS)]
        worst = max(run.back_s for run in runs)
        rows.append(
            (
                _number(each.stations),
                _number(each.listeners),
                f"{runs[0].mean_load:.2f}",
                f"{max(run.worst_load for run in runs):.2f}",
                f"{max(run.after_load for run in runs):.2f}",
                _number(max(run.lost for run in runs)),
                "never" if math.isinf(worst) else f"{worst:.1f} s",
                f"{_number(max(run.carried for run in runs))} ({_number(each.carried)})",
            )
        )
    if not rows:
        return "None of these installations has relays."
    header = (
        "stations",
        "listeners",
        "mean load",
        "worst box",
        "after the loss of it",
        "listeners lost",
        "all back after",
        "stations carried (sum)",
    )
    return markdown_table(header, rows)


def _random_routing(costs: Costs, box: Box) -> str:
    """Why the load balancer must route by station."""
    listeners, active = 1_000_000, 10_000
    boxes = math.ceil(listeners / by_network(box.gbit_s, costs, box)) + 1
    expected, found = carried_at_random(listeners, active, boxes)
    cores = expected * costs.relay_station_ms / 1000
    return (
        f"With a million listeners and {_number(active)} stations, each of {boxes} relay boxes would carry "
        f"{_number(expected)} stations\n({_number(found)} simulated) without routing by station, which takes "
        f"{_number(cores)} cores of each box for stations alone."
    )
