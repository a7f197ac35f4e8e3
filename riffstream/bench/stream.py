"""Benchmark of the server through real sockets: time to first sound, delay of steers, soak, cost of a listener."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from riffstream.bench.common import check_ranges, environment, markdown_table, report, to_json
from riffstream.errors import ParameterError

__all__ = ["EXAMPLES", "PARTS", "add_arguments", "run"]

PARTS = ("start", "steer", "fields", "trace", "soak", "fanout", "outlets", "icecast", "load", "relay")
EXAMPLES = """parts:
  start   command to first audible sample
  steer   a steer to its first audible sample, for a listener with 200 ms of buffer
  fields  the same for each field: prompt, tempo, key, and the desk, whose steers need no clip (--settle 100: for a
          listener whose buffer has adapted to the line)
  trace   a steer by stage, for prompts and for changes of the key, after the listener's buffer has settled
  soak    a long run with steers: underruns and memory
  fanout  CPU of the server per listener and second, in comparison with a bare write of the same bytes
  outlets CPU of the server per MP3 listener (500 at most) and second, and of HLS with all bit rates
  icecast CPU per MP3 listener (500 at most) and second in comparison with icecast2, which sends the same bytes
  relay   added latency of a relay, and CPU of its listeners in comparison with the server's own
  load    the delay of steers with and without these listeners, and their cost to the server

examples:
  riffstream bench stream
  riffstream bench stream --only fanout --listeners 2000 --seconds 30
  riffstream bench stream --only soak --soak 1800 --out soak.json
  riffstream bench stream --model tone --only steer"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``riffstream bench stream``."""
    parser.add_argument("--only", action="append", choices=PARTS, help="one part (may be repeated; default: all)")
    parser.add_argument("--model", default="mini", help="model of the stations (tone: a test signal)")
    parser.add_argument("--listeners", type=int, default=2000, metavar="N", help="listeners of fanout and load (2000)")
    parser.add_argument("--seconds", type=float, default=20, metavar="S", help="duration of fanout (20)")
    parser.add_argument("--steers", type=int, default=30, metavar="N", help="steers of steer, trace and load (30)")
    parser.add_argument(
        "--settle", type=float, default=0, metavar="S", help="playback before the steers of a field (0)"
    )
    parser.add_argument("--soak", type=float, default=120, metavar="S", help="duration of the soak (120)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file for the soak, rewritten every minute")
    parser.add_argument("--core", type=int, help="pin the server of fanout to this core")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if args.out is not None and not args.out.resolve().parent.is_dir():
        raise ParameterError("--out", str(args.out), "a file in a folder that exists")
    check_ranges(
        args, listeners=(2, 18_000), seconds=(2, 3600), steers=(1, 10_000), settle=(0, 3600), soak=(10, 1_000_000)
    )
    parts = args.only or PARTS
    results: dict[str, Any] = {"environment": environment(("torch", "aiohttp", "uvloop", "av"))}
    for part in PARTS:
        if part in parts:
            if not args.quiet:
                print(f"stream: {part} ...", file=sys.stderr, flush=True)
            results[part] = _MEASURE[part](args)
    print(to_json(results) if args.json else _page(results))
    return 0 if results.get("soak", {}).get("complete", True) else 1


def _start(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.live import first_sound

    async def measure() -> list[float]:
        return [await first_sound(["--model", args.model]) for _ in range(3)]

    seconds = sorted(asyncio.run(measure()))
    return {"median_s": round(seconds[1], 2), "worst_s": round(seconds[2], 2), "limit_s": 6.0}


def _steer(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.live import serving, steer_delays

    async def measure() -> dict[str, Any]:
        async with serving(["--model", args.model]) as (url, _):
            return (await steer_delays(url, args.steers, 5.0)).to_dict()

    return asyncio.run(measure())


def _fields(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.live import SteerDelays, field_delays, serving

    def told(field: str, found: SteerDelays) -> None:
        if not args.quiet:
            print(f"stream: fields: {field}: p50 {found.to_dict()['p50_s']} s", file=sys.stderr, flush=True)

    async def measure() -> dict[str, Any]:
        async with serving(["--model", args.model]) as (url, _):
            found = await field_delays(url, args.steers, args.settle, told)
        return {field: delays.to_dict() for field, delays in found.items()}

    return asyncio.run(measure())


def _trace(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.live import serving
    from riffstream.bench.trace import trace

    async def measure() -> dict[str, Any]:
        async with serving(["--model", args.model]) as (url, _):
            traces, underruns = await trace(url, args.steers)
            return {"kinds": {kind: each.to_dict() for kind, each in traces.items()}, "underruns": underruns}

    return asyncio.run(measure())


def _soak(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.live import serving
    from riffstream.bench.soak import Soak, soak, write_json

    facts = environment(("torch", "aiohttp", "uvloop", "av"))

    def told(found: Soak) -> None:
        figures = found.to_dict()
        if args.out is not None:
            write_json(args.out, {"environment": facts, "soak": figures})
        if not args.quiet and figures["rss_mb"]:
            memory = figures["rss_mb"][-1]
            print(
                f"soak: minute {memory['minute']}: server {memory['server']} MB, generator {memory['generator']} MB; "
                f"{figures['steers']} steers, p95 {figures['p95_s']} s, {figures['failed']} failed; "
                f"{figures['underruns']} + {figures['station_underruns']} underruns, {figures['gaps']} gaps",
                file=sys.stderr,
                flush=True,
            )

    async def measure() -> dict[str, Any]:
        async with serving(["--model", args.model]) as (url, process):
            return (await soak(url, process.pid, args.soak, told=told)).to_dict()

    return asyncio.run(measure())


def _fanout(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.fan_out import bare, serve_noise

    # Interleaved: other load on the machine affects both equally.
    rounds = [(bare, "bare"), (serve_noise, "server"), (bare, "bare"), (serve_noise, "server")]
    found: dict[str, list[Any]] = {"bare": [], "server": []}
    for measure, name in rounds:
        found[name].append(measure(args.listeners, args.seconds, core=args.core))
    best = {name: min(each, key=lambda one: one.us_per_listener_s) for name, each in found.items()}
    ratio = best["server"].us_per_listener_s / best["bare"].us_per_listener_s
    return {
        "bare": asdict(best["bare"]),
        "server": asdict(best["server"]),
        "ratio": round(ratio, 3),
        "drops": sum(each.skips + each.closed + each.report.gaps + each.report.lost for each in found["server"]),
    }


def _outlets(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.outlets import measure_outlets

    found = [measure_outlets(min(args.listeners, 500), args.seconds, core=args.core) for _ in range(2)]
    return asdict(min(found, key=lambda one: one.mp3_us_per_listener_s))


def _icecast(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.icecast import measure_icecast, missing

    if why := missing():
        return {"left_out": why}
    found = measure_icecast(min(args.listeners, 500), args.seconds, core=args.core)
    return {**asdict(found), "ratio": round(found.ratio, 3)}


def _relay(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.relay_hop import measure_relay

    found = measure_relay(args.listeners, args.seconds, core=args.core)
    return {**asdict(found), "cpu_ratio": round(found.cpu_ratio, 3)}


def _load(args: argparse.Namespace) -> dict[str, Any]:
    from riffstream.bench.load import load

    found = load(["--model", args.model], args.listeners, args.steers, seconds=args.seconds, core=args.core)
    return {**asdict(found), "without": found.without.to_dict(), "with_load": found.with_load.to_dict()}


_MEASURE = {
    "start": _start,
    "steer": _steer,
    "fields": _fields,
    "trace": _trace,
    "soak": _soak,
    "fanout": _fanout,
    "outlets": _outlets,
    "icecast": _icecast,
    "load": _load,
    "relay": _relay,
}
_TITLES = {
    "start": "Command to first audible sample",
    "steer": "Steer to first audible sample",
    "fields": "Steer to first audible sample, by field",
    "trace": "Stages of a steer, median ms",
    "soak": "Soak, a steer every 5 s",
    "fanout": "CPU of a listener",
    "outlets": "CPU of MP3 listeners and of HLS",
    "icecast": "MP3 listeners of riffstream and of icecast2",
    "load": "Steering under load",
    "relay": "A relay",
}


def _load_page(found: dict[str, Any]) -> str:
    rows = [(name, *found[key].values()) for name, key in (("alone", "without"), ("with them", "with_load"))]
    cost = (
        ("server", found["us_per_listener_s"], found["kbit_s"]),
        ("bare write of as many bytes", found["bare_us_per_listener_s"], found["bare_kbit_s"]),
    )
    clients = (
        f"{found['joined']} of {found['listeners']} listeners joined; their process took {found['client_cpu']:.0%}"
    )
    return "\n\n".join(
        (
            markdown_table(("", *found["without"]), rows),
            markdown_table(("", "us/listener/s", "kbit/s"), cost),
            f"The server costs {found['ratio']:.2f} times the bare write; {found['drops']} drops; event loop "
            f"{found['lag_p95_ms']:.1f} ms late (p95). {clients} of a core.",
        )
    )


def _icecast_page(found: dict[str, Any]) -> str:
    if "left_out" in found:
        return f"Not measured: {found['left_out']}."
    rows = [
        (name, found["listeners"], found[f"{key}_us_per_listener_s"], found[f"{key}_kbit_s"])
        for name, key in ((f"icecast {found['version']}", "icecast"), ("riffstream", "riffstream"))
    ]
    return markdown_table(("", "listeners", "us/listener/s", "kbit/s"), rows) + (
        f"\n\nFor as many bytes riffstream takes {found['ratio']:.2f} times the CPU of icecast2, which has one worker "
        f"thread here."
    )


def _relay_page(found: dict[str, Any]) -> str:
    rows = [
        (name, found[key]["listeners"], found[key]["us_per_listener_s"], found[key]["idle_ms_per_s"])
        for name, key in (("server", "direct"), ("relay of it", "relay"))
    ]
    return markdown_table(("", "listeners", "us/listener/s", "idle ms/s"), rows) + (
        f"\n\nWith 1,000 listeners the relay takes {found['cpu_ratio']:.2f} times the server's CPU. It adds "
        f"{found['added_p50_ms']} ms (median), {found['added_p95_ms']} ms (p95), {found['added_worst_ms']} ms (worst), "
        f"measured on {found['frames']} frames; {found['different']} frames differ."
    )


def _trace_page(found: dict[str, Any]) -> str:
    from riffstream.bench.trace import STAGES

    kinds = found["kinds"]
    rows = [
        (text, *(each.get("stages_ms", {}).get(name, "") for each in kinds.values())) for name, text in STAGES.items()
    ]
    rows += [(name, *(each.get(key, "") for each in kinds.values())) for name, key in _TOTALS]
    return markdown_table(("stage", *kinds), rows) + f"\n\n{found['underruns']} underruns of the listener's buffer."


_TOTALS = (("to the ear, p50", "p50_ms"), ("p95", "p95_ms"), ("worst", "worst_ms"), ("steers", "steers"))


def _page(results: dict[str, Any]) -> str:
    sections = []
    for part, title in _TITLES.items():
        if part not in results:
            continue
        found = results[part]
        if part == "fanout":
            rows = [
                (
                    name,
                    found[name]["listeners"],
                    found[name]["us_per_listener_s"],
                    found[name]["kbit_s"],
                    found[name]["idle_ms_per_s"],
                    found[name]["lag_p95_ms"],
                    found[name]["lag_max_ms"],
                )
                for name in ("bare", "server")
            ]
            header = ("", "listeners", "us/listener/s", "kbit/s", "idle ms/s", "lag p95 ms", "lag max ms")
            body = markdown_table(header, rows)
            body += f"\n\nThe server costs {found['ratio']:.2f} times the bare write; {found['drops']} drops."
        elif part == "fields":
            rows = [(field, *figures.values()) for field, figures in found.items()]
            body = markdown_table(("field", *next(iter(found.values()))), rows)
        elif part == "load":
            body = _load_page(found)
        elif part == "icecast":
            body = _icecast_page(found)
        elif part == "relay":
            body = _relay_page(found)
        elif part == "trace":
            body = _trace_page(found)
        else:
            flat = {key: value for key, value in found.items() if not isinstance(value, (dict, list))}
            body = markdown_table(tuple(flat), [tuple(flat.values())])
        if part == "soak":
            memory = [(each["minute"], each["server"], each["generator"]) for each in found["rss_mb"]]
            body += "\n\n" + markdown_table(("minute", "server MB", "generator MB"), memory)
        sections.append((title, body))
    return report("The server through real sockets", sections, results["environment"])
