"""Check this machine for a server, and say how many stations and listeners it carries."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from riffstream.commands._checks import Finding
    from riffstream.config import Config
    from riffstream.generator.renderer import Renderer

EXAMPLES = """examples:
  riffstream doctor                           the defaults, in about half a minute
  riffstream doctor --config public-radio     with the settings of a preset or a file
  riffstream doctor --quick                   without the measurement of the model
  riffstream doctor --json                    for programs

The exit code is 0 if a server can run (also with warnings), and 1 if it cannot."""

MEASURE_S: Final = 12.0  # of the model, at full quality and again with less effort
AT_ONCE: Final = 8  # stations of the measurement
SHARE: Final = 0.7  # of the machine for music, and of a core for listeners; the rest is for encoders, steers and peaks
MARKS: Final = {"good": "ok  ", "warning": "note", "bad": "BAD "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--config", metavar="F", help="a TOML file, or the name of a preset")
    parser.add_argument("--model", help="mini (default), a folder, a safetensors file or a hub id")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="(default: auto)")
    parser.add_argument(
        "--runtime", choices=("torch", "openvino"), help="what evaluates the embedded model on a CPU (default: torch)"
    )
    parser.add_argument("--quick", action="store_true", help="leave out the model and its speed")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Check, and print the findings. Raises RiffstreamError for settings that are not allowed."""
    from riffstream.commands._checks import Finding, listener_us, look
    from riffstream.config import load_config

    flags = {"generator.model": args.model, "generator.device": args.device, "generator.runtime": args.runtime}
    config = load_config(args.config, flags=flags, check_secrets=False)
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        if not args.json:
            print(f"{MARKS[finding.level]} {finding.name}: {finding.text}", flush=True)

    for finding in look(config):
        found(finding)
    listeners = _listeners(asyncio.run(listener_us()), config)
    figures: dict[str, Any] = {"listeners": listeners, "stations": None, "stations_eased": None, "device": None}
    figures["preset"] = _preset(config, "")
    if not args.quick and config.generator.on_ray:
        text = f"it runs on a Ray cluster ({config.generator.backend}), so its speed is not measured here"
        found(Finding("model", "warning", text))
    elif not args.quick:
        if not args.json:
            print("     the model is being measured ...", file=sys.stderr, flush=True)
        finding, device, *speeds = _measured(config)
        found(finding)
        figures |= {"device": device, "preset": _preset(config, device)}
        figures |= zip(("stations", "stations_eased"), (math.floor(speed * SHARE) for speed in speeds), strict=True)
    ready = all(finding.level != "bad" for finding in findings)
    if args.json:
        print(json.dumps({"ready": ready, **figures, "findings": [asdict(each) for each in findings]}))
        return 0 if ready else 1
    carries = f"about {listeners} listeners on one core"
    if figures["stations"] is not None:
        carries = f"{_stations(figures['stations'], figures['stations_eased'])} and {carries}"
    print(f"\nThis machine carries {carries}. Preset: riffstream serve --config {figures['preset']}")
    return 0 if ready else 1


def _stations(full: int, eased: int) -> str:
    """Numbers of stations in words."""
    at_once = f"{full} station{'' if full == 1 else 's'} at once at full quality"
    return at_once if eased == full else f"{at_once}, {eased} without the guidance of clips ahead of playback,"


def _listeners(cost_us: float, config: Config) -> int:
    """Passive listeners that one core serves, with the same reserve as the music, in round numbers."""
    most = min(round(SHARE * 1e6 / max(cost_us, 1.0)), config.limits.connections)
    digits = 10 ** max(0, len(str(most)) - 2)
    return int(most // digits * digits)


def _measured(config: Config) -> tuple[Finding, str, float, float]:
    """Finding about the model, its device, and the seconds of music that it makes in a second for several stations.

    Two speeds: at full quality, and with the effort of stations that are late but play on without fewer steps. They are
    equal for models without guidance to spare.
    """
    from riffstream.commands._checks import Finding
    from riffstream.commands.rendering.model import load_renderer
    from riffstream.errors import RiffstreamError

    generator = config.generator
    options = argparse.Namespace(
        model=generator.model,
        device=generator.device,
        dtype=generator.dtype,
        runtime=generator.runtime,
        lora=list(generator.lora),
        sampler=generator.sampler,
        quiet=True,
    )
    try:
        began = time.monotonic()
        renderer = load_renderer(options, max_batch=generator.max_batch)
        load_s = time.monotonic() - began
        info = renderer.info
        speed = eased = _speed(renderer, config)
        if info.spare:
            eased = max(speed, _speed(renderer, config, spare=False))
    except RiffstreamError as error:
        return Finding("model", "bad", str(error)), "", 0.0, 0.0
    where = f"{info.model} on {info.device}, evaluated by {renderer.info.runtime}"
    text = f"{where}: loaded in {load_s:.0f} s, {speed:.1f} s of music in a second"
    if info.spare:
        text += f", {eased:.1f} s without the guidance that it can do without"
    if busy := _busy():
        return (
            Finding("model", "warning", f"{text}; but the machine is busy (load {busy:.0f}), so measure again"),
            info.device,
            speed,
            eased,
        )
    if eased * SHARE >= 1:
        level: Literal["good", "warning"] = "warning" if renderer.info.runtime.fault else "good"
        return Finding("model", level, text), info.device, speed, eased
    remedy = "a faster device, or fewer generator.steps"
    return (
        Finding("model", "warning", f"{text}: too slow to play without repetitions; use {remedy}"),
        info.device,
        speed,
        eased,
    )


def _speed(renderer: Renderer, config: Config, *, spare: bool = True) -> float:
    """Seconds of music that a renderer makes in a second for several stations; ``spare``: see ``Part``."""
    from riffstream.errors import RiffstreamError
    from riffstream.journey.wander import wander
    from riffstream.protocol import SAMPLE_RATE
    from riffstream.station.offline import Finished, Part, run_together
    from riffstream.station.score import Score

    station, samples = next(iter(config.stations.values())), 0
    parts = [
        Part(
            name=f"doctor-{number}",
            score=Score.of(station, renderer.info, wander(number)),
            n_samples=3600 * SAMPLE_RATE,
            settings=config.timeline,
            steps=station.steps,
            spare=spare,
        )
        for number in range(AT_ONCE)
    ]
    began = time.monotonic()
    try:
        for _, made in run_together(parts, renderer, at_once=AT_ONCE):
            if isinstance(made, RiffstreamError):
                raise made
            if not isinstance(made, Finished):
                samples += len(made)
            if time.monotonic() - began > MEASURE_S and samples:
                break
        return samples / SAMPLE_RATE / (time.monotonic() - began)
    finally:
        for part in parts:
            renderer.forget(part.name)


def _busy() -> float | None:
    """Load of the machine by other programs; None if it is low or unknown."""
    from riffstream.threads import usable_cores

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return load if load > usable_cores() + 1 else None


def _preset(config: Config, device: str) -> str:
    """The preset that fits the machine and the settings."""
    from riffstream.server.access import is_public_address

    if is_public_address(config.server.host):
        return "public-radio"
    return "riffusion-gpu" if device.startswith("cuda") else "mini"
