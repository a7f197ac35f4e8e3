"""Sums of a large installation: boxes, bandwidth and GPUs for a number of listeners and stations.

Everything follows from :class:`Costs`, which are measurements, and :class:`Box`, which is an assumption. The sums are
pure; :mod:`riffstream.bench.scale_simulation` checks them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["MEASURED", "Box", "Costs", "Limit", "Plan", "by_network", "hls_break_even", "limits_of_one_box", "plan"]

MONTH_S: Final = 365.25 * 86_400 / 12
MOST_STATIONS: Final = 1000  # range of limits.stations
DEFAULT_CONNECTIONS: Final = 4000  # limits.connections and limits.listeners_per_station
DEFAULT_STATIONS: Final = 8  # limits.stations


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured costs.

    Attributes:
        listener_us: CPU of the server for a passive Opus listener, microseconds per second.
        relay_listener_us: the same at a relay.
        feed_us: CPU of the server for a relay or worker that takes one codec of a station, microseconds per second.
        join_us: CPU of a connection with its burst, microseconds.
        station_ms: CPU of the server for a station with its Opus encoder, ms per second.
        relay_station_ms: CPU of a relay for a station, ms per second.
        music_cores: cores of the generator for a station of the embedded model, at full quality.
        eased_cores: the same without the guidance of clips ahead of playback, which late stations leave out.
        hls_cores: cores for HLS of a station: three encoders and the segments.
        listener_kb: memory of the server for a listener, kB.
        kbit_s: Opus on the wire, kbit/s.
        hls_kbit_s: all renditions of HLS together, kbit/s.
        stations_per_gpu: stations that a GPU carries; None: not measured.
    """

    listener_us: float
    relay_listener_us: float
    feed_us: float
    join_us: float
    station_ms: float
    relay_station_ms: float
    music_cores: float
    eased_cores: float
    hls_cores: float
    listener_kb: float
    kbit_s: float
    hls_kbit_s: float
    stations_per_gpu: float | None = None


MEASURED: Final = Costs(
    listener_us=25.3,
    relay_listener_us=31.7,
    feed_us=411.0,
    join_us=738.0,
    station_ms=19.9,
    relay_station_ms=7.1,
    music_cores=0.15,
    eased_cores=0.13,
    hls_cores=0.097,
    listener_kb=25.0,
    kbit_s=129.0,
    hls_kbit_s=64.0 + 128.0 + 256.0,
)


@dataclass(frozen=True, slots=True)
class Box:
    """A machine, an assumption.

    Attributes:
        cores: cores.
        gbit_s: network, Gbit/s.
        memory_gb: memory, GB.
        share: share of cores and network for regular load; the rest is for peaks.
    """

    cores: int = 8
    gbit_s: float = 10.0
    memory_gb: float = 32.0
    share: float = 0.7


@dataclass(frozen=True, slots=True)
class Plan:
    """What an installation needs.

    Attributes:
        listeners, stations: the question.
        active: stations that play; a station without listeners rests.
        gbit_s: audio to all listeners, Gbit/s.
        petabyte_month: the same in a month with these listeners at all times, PB.
        music_cores: cores of the generators.
        gpus: GPUs in place of these cores; None: not measured.
        stations_per_origin: stations that one origin box carries.
        origins: boxes with generators.
        relays: boxes with relays, with one to spare; 0: the origins serve the listeners.
        carried: stations that all relay boxes carry together, when a load balancer routes by station.
        feed_gbit_s: audio from the origins to the relays, Gbit/s.
        levels: levels of relays.
        hls_cores: cores of all origins for HLS in place of relays.
        hls_gbit_s: audio from the origins to the CDN, Gbit/s.
        first: what limits it first.
    """

    listeners: int
    stations: int
    active: int
    gbit_s: float
    petabyte_month: float
    music_cores: float
    gpus: int | None
    stations_per_origin: int
    origins: int
    relays: int
    carried: int
    feed_gbit_s: float
    levels: int
    hls_cores: float
    hls_gbit_s: float
    first: str

    @property
    def boxes(self) -> int:
        """All boxes."""
        return self.origins + self.relays


def plan(listeners: int, stations: int, costs: Costs = MEASURED, box: Box = Box(), *, shields: int = 2) -> Plan:
    """Boxes, bandwidth and GPUs for passive listeners.

    The origins serve all listeners without relays only if the most popular of unevenly popular stations (Zipf's law)
    fits in one box.

    Args:
        listeners: listeners at the same time, 1 or more.
        stations: stations, 1 or more.
        costs: measured costs.
        box: one machine.
        shields: caches of the CDN that ask the origin for each segment.
    """
    active = min(stations, listeners)
    gbit_s = listeners * costs.kbit_s / 1e6
    cores = box.cores * box.share
    station_cores = costs.station_ms / 1000
    own_music = costs.music_cores if costs.stations_per_gpu is None else 0.0
    per_origin = math.floor(cores / (own_music + station_cores))
    if costs.stations_per_gpu is not None:
        per_origin = min(per_origin, math.floor(costs.stations_per_gpu))
    per_origin = max(1, min(per_origin, MOST_STATIONS))
    origins = math.ceil(active / per_origin)

    direct = _direct(listeners, active, own_music + station_cores, per_origin, costs, box)
    relays = carried = levels = 0
    feed_gbit_s = 0.0
    needed, carrying = _relays(listeners, active, costs, box)
    if direct is None or origins + needed + 1 < direct:
        relays, carried = needed + 1, carrying  # one may fail
        feed_gbit_s = carried * costs.kbit_s / 1e6
        a_feed_serves = math.floor(box.share * 1e6 / costs.feed_us)  # relays on one core of the origin
        levels = max(1, math.ceil(math.log(max(1.0, carried / active), a_feed_serves)))
    else:
        origins = direct
    return Plan(
        listeners=listeners,
        stations=stations,
        active=active,
        gbit_s=gbit_s,
        petabyte_month=gbit_s * MONTH_S / 8e6,
        music_cores=active * costs.music_cores,
        gpus=None if costs.stations_per_gpu is None else math.ceil(active / costs.stations_per_gpu),
        stations_per_origin=per_origin,
        origins=origins,
        relays=relays,
        carried=carried,
        feed_gbit_s=feed_gbit_s,
        levels=levels,
        hls_cores=active * costs.hls_cores,
        hls_gbit_s=active * shields * costs.hls_kbit_s / 1e6,
        first=_first(listeners, active, costs, box),
    )


def _direct(listeners: int, active: int, station_cores: float, per_origin: int, costs: Costs, box: Box) -> int | None:
    """Origins that serve all listeners without relays; None if the most popular station has too many for a box.

    Args:
        station_cores: cores of a station with its music.
        per_origin: stations that a box without listeners carries.
    """
    cores, network = box.cores * box.share, box.gbit_s * box.share * 1e6 / costs.kbit_s
    audience = listeners / active
    one = station_cores + audience * costs.listener_us / 1e6
    largest = listeners / sum(1 / rank for rank in range(1, active + 1))
    if largest > network or station_cores + largest * costs.listener_us / 1e6 > cores:
        return None
    most = min(per_origin, math.floor(cores / one), math.floor(network / audience))
    return math.ceil(active / max(1, most))


def _relays(listeners: int, active: int, costs: Costs, box: Box) -> tuple[int, int]:
    """Boxes of relays without a spare one, and the stations that they carry together, each box counted."""
    network = box.gbit_s * box.share * 1e6 / costs.kbit_s  # listeners of a box by its network
    carried = active * max(1, math.ceil(listeners / active / network))  # on as few boxes as its listeners need
    load = listeners * costs.relay_listener_us / 1e6 + carried * costs.relay_station_ms / 1000
    return max(math.ceil(listeners / network), math.ceil(load / (box.cores * box.share))), carried


def _first(listeners: int, active: int, costs: Costs, box: Box) -> str:
    """What a single box runs out of first, as the load grows to these numbers."""
    shares = {
        "music (generator)": active * costs.music_cores / box.cores,
        "network": listeners * costs.kbit_s / 1e6 / box.gbit_s,
        "CPU of the listeners": listeners * costs.listener_us / 1e6 / box.cores,
        "memory": listeners * costs.listener_kb / 1e6 / box.memory_gb,
    }
    name = max(shares, key=lambda each: shares[each])
    return "nothing" if shares[name] <= box.share else name


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of one box.

    Attributes:
        name: what runs out.
        listeners: number of listeners at which it does; None for a limit of stations.
        stations: number of stations at which it does; None for a limit of listeners.
        remedy: what to do.
    """

    name: str
    remedy: str
    listeners: int | None = None
    stations: int | None = None


def limits_of_one_box(costs: Costs = MEASURED, box: Box = Box()) -> list[Limit]:
    """Limits of a box with one station by number of listeners, then those of stations, the first to be reached first.

    The generator's cores of one station are taken off the box.
    """
    own = costs.station_ms / 1000
    process = math.floor((box.share - own) * 1e6 / costs.listener_us)
    cores = box.cores * box.share - own - costs.music_cores
    listeners = [
        Limit("limits.connections, as shipped", "raise it, and limits.listeners_per_station", DEFAULT_CONNECTIONS),
        Limit("network of 1 Gbit/s", "a faster network, or relays", by_network(1.0, costs, box)),
        Limit("one process", "server.workers", process),
        Limit(f"network of {box.gbit_s:g} Gbit/s", "relays, or HLS behind a CDN", by_network(box.gbit_s, costs, box)),
        Limit(f"{box.cores} cores", "relays", math.floor(cores * 1e6 / costs.listener_us)),
        Limit("memory", "relays", math.floor(box.share * box.memory_gb * 1e6 / costs.listener_kb)),
    ]
    stations = [
        Limit("limits.stations, as shipped", "raise it", stations=DEFAULT_STATIONS),
        *(
            Limit(f"{what} on {box.cores} cores", remedy, stations=math.floor(box.cores * box.share / (each + own)))
            for what, remedy, each in (
                ("music at full quality", "less guidance, by itself", costs.music_cores),
                ("music without guidance", "a GPU, or more boxes", costs.eased_cores),
            )
        ),
    ]
    return sorted(listeners, key=lambda each: each.listeners or 0) + sorted(
        stations, key=lambda each: each.stations or 0
    )


def by_network(gbit_s: float, costs: Costs, box: Box) -> int:
    """Listeners of a box with this network."""
    return math.floor(gbit_s * box.share * 1e6 / costs.kbit_s)


def hls_break_even(costs: Costs = MEASURED, *, shields: int = 2) -> tuple[int, int]:
    """Listeners of a station from which HLS behind a CDN costs the origin less than relays: by CPU, by bandwidth."""
    by_cpu = math.ceil(costs.hls_cores * 1e6 / costs.relay_listener_us)
    by_bandwidth = math.ceil(shields * costs.hls_kbit_s / costs.kbit_s)
    return by_cpu, by_bandwidth
