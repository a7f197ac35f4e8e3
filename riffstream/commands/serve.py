"""Stream endless music to browsers, players and apps."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from riffstream.errors import ParameterError, RiffstreamError

if TYPE_CHECKING:
    import subprocess

    from riffstream.config import Config
    from riffstream.server.handover import Taking
    from riffstream.station.hub import Hub

STANDBY_S = 0.05  # between looks at the other server's lock
AUDIBLE_S = 5.0  # longest wait of a new server for sound, before the old one sends its listeners

EXAMPLES = """examples:
  riffstream serve                                       then open http://localhost:8080 and press play
  riffstream serve --port 0                              on a free port, printed at the start
  riffstream serve --host 0.0.0.0 --config public-radio  for the public; only token holders may steer
  riffstream serve --model riffusion/riffusion-model-v1 --device cuda
  riffstream serve --generator ray:local --device cuda   needs 'riffstream[ray]'; docs/generators.md has clusters
  RIFFSTREAM_ACCESS_DJ_TOKEN=secret riffstream serve --host 0.0.0.0
  riffstream serve --icecast icecast://source:hackme@radio.example:8000/live.mp3

Any player: http://HOST:PORT/stream/main.mp3. Scripts: ws://HOST:PORT/ws/main/plain. 'riffstream config' prints
every setting. SIGTERM ends the server cleanly."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--host",
        help="address to listen on (default: localhost; 0.0.0.0 is all IPv4 interfaces, :: adds IPv6)",
    )
    parser.add_argument("--port", type=int, help="port (default: 8080; 0 picks a free one)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that share the listeners, 1 to 64 (default: 1)"
    )
    parser.add_argument("--config", metavar="F", help="a TOML file, or the name of a preset")
    parser.add_argument("--model", help="mini (default), a folder, a safetensors file or a hub id")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="(default: auto)")
    parser.add_argument(
        "--runtime", choices=("torch", "openvino"), help="what evaluates the embedded model on a CPU (default: torch)"
    )
    parser.add_argument(
        "--generator",
        metavar="WHERE",
        help="where the model runs: local (default), or on a Ray cluster: ray:auto, ray:local or ray://HOST:PORT",
    )
    parser.add_argument(
        "--icecast",
        "--push",
        dest="push",
        action="append",
        default=[],
        metavar="URL",
        help="also send the first station to an Icecast server (icecast://source:PASSWORD@HOST:PORT/MOUNT; icecasts: "
        "TLS) or over rtmp://; may be repeated. [push.NAME] in the config chooses station and codec",
    )
    parser.add_argument(
        "--standby",
        action="store_true",
        help="wait until the server that uses the same server.state_dir has ended, then continue its stations",
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="load the model, then take the port, stations and listeners of the server that uses the same "
        "server.state_dir; start anew without one",
    )
    parser.add_argument("--quiet", action="store_true", help="warnings and errors only")
    parser.add_argument("--json", action="store_true", help="logs as JSON lines, and the address as one on stdout")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises RiffstreamError on bad settings, a busy port or a model that fails."""
    from riffstream._malloc import fix_thresholds
    from riffstream.config import load_config
    from riffstream.generator.packages import check_installed
    from riffstream.generator.supervisor import start_process

    end_when_asked_early()
    fix_thresholds(own_pages_kb=128, keep_kb=1024)
    if args.standby and args.port == 0:
        raise ParameterError("--standby", "--port 0", "the port of the other server")
    if args.port is not None and not 0 <= args.port <= 65535:
        raise ParameterError("--port", args.port, "0 to 65535")
    config = load_config(
        args.config,
        flags={
            "server.host": args.host,
            "server.port": args.port,
            "server.workers": args.workers,
            "generator.model": args.model,
            "generator.device": args.device,
            "generator.runtime": args.runtime,
            "generator.backend": args.generator,
            "log.level": "warning" if args.quiet else None,
            "log.format": "json" if args.json else None,
            **{f"push.flag-{number}": {"url": url} for number, url in enumerate(args.push, 1)},
        },
    )
    if config.relay.upstreams:
        raise ParameterError(
            "relay.upstreams", list(config.relay.upstreams), "nothing for serve; use 'riffstream relay'"
        )
    if config.server.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise ParameterError("server.workers", config.server.workers, "1 on this system")
    if args.standby and args.take_over:
        raise ParameterError("--standby", "--take-over", "one of the two")
    if args.take_over and not config.server.state_dir:
        raise ParameterError("--take-over", "no server.state_dir", "a server.state_dir that both servers use")
    if args.standby and not config.server.state_dir:
        raise ParameterError("--standby", "no server.state_dir", "a server.state_dir that both servers use")
    for settings in config.generators().values():
        check_installed(settings)
    with contextlib.ExitStack() as ending:
        process = None
        # A limit of files or memory is no error here: the supervisor tries again.
        with contextlib.suppress(OSError):
            if not config.generator.on_ray:
                process = ending.enter_context(start_process(config.generator))  # loads slowest: first
                ending.callback(process.kill)
        from riffstream.server.app import loop_factory

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(config, process, args))
    return 0


def end_when_asked_early() -> None:
    """Handle SIGTERM before the server starts: the kernel drops unhandled signals of process 1 in a container."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


async def _serve(config: Config, process: subprocess.Popen[bytes] | None, args: argparse.Namespace) -> None:
    from riffstream.commands._workers import Workers
    from riffstream.config import injected_variables, similar_variables
    from riffstream.server import logs
    from riffstream.server.app import Server
    from riffstream.server.binding import inherited_sockets, listening_sockets
    from riffstream.server.state_keeper import load_state
    from riffstream.server.uploads.intake import Uploads, seeds_folder
    from riffstream.station.hub import Hub

    logs.configure(config.log.level, json_lines=config.log.format == "json")
    if foreign := injected_variables(os.environ):
        logs.event("environment variables of Kubernetes services or Docker links passed over", names=",".join(foreign))
    for name, meant in similar_variables().items():
        logs.event("environment variable ignored", level=logging.WARNING, name=name, did_you_mean=meant)
    taking: Taking | None = None
    if args.take_over:
        hub = Hub(config, uploads=seeds_folder(config), process=process)
        try:
            taking = await _taken_over(config, hub)
        except BaseException:
            await hub.close()
            raise
        uploads = Uploads(config)
    else:
        if args.standby:
            await _released(config)
        uploads = Uploads(config)
        hub = Hub(config, uploads=uploads.generator_folder, process=process)
    saved = load_state(config)
    hub.continue_from({} if saved is None else saved.stations)
    server = Server(config, hub, uploads, saved)
    server.catch_signals()  # before the address is printed: its reader may send SIGTERM at once
    workers: Workers | None = None
    try:
        sockets, inherited = inherited_sockets() or (taking.sockets if taking is not None else []), True
        if not sockets and config.server.workers > 1:
            sockets, inherited = listening_sockets(config.server.host, config.server.port, share=True), False
        url = await server.start(sockets)
        if config.server.workers > 1:
            workers = Workers(config, sockets, inherited=inherited)
            await server.listen_locally(str(workers.feed_path), workers.token)
            workers.start()
            server.context.workers = workers
        if taking is not None:
            await _when_audible(hub)
            taking.serving()
        _say(url, config, quiet=args.quiet, as_json=args.json)
        warming = asyncio.create_task(hub.wait_ready(), name="warm-up")
        serving = asyncio.create_task(server.asked(), name="serve")
        await asyncio.wait({warming, serving}, return_when=asyncio.FIRST_COMPLETED)
        if warming.done() and (error := warming.exception()) is not None:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            raise error
        if warming.done() and hub.ready:
            logs.event("ready", stations=",".join(hub.stations), model=config.generator.model)
        elif not warming.done():
            warming.cancel()
        await serving
    finally:
        if taking is not None:
            taking.close()
        try:
            if not server.handed_over:  # otherwise there is no fade-out that the workers must pass on
                await server.stop()
        finally:
            stopping = [] if workers is None else [workers.stop(upgraded=bool(server.handed_over))]
            await asyncio.gather(server.stop(), *stopping)
    logs.event("stopped", level=logging.INFO)
    if server.handed_over is False:
        raise RiffstreamError("the new server has failed after it had taken over; start this one again")


async def _taken_over(config: Config, hub: Hub) -> Taking | None:
    """Load the model, then take over from the running server; None if there is none.

    Raises:
        ParameterError, MediaError: this server cannot start with its configuration; the running server goes on.
        GeneratorError: the model cannot be loaded; the running server goes on.
        HandoverError: the running server does not hand over.
    """
    from riffstream.server import logs, tracing
    from riffstream.server.archive.archive import check_folder
    from riffstream.server.handover import HandoverError, ask, handover_path
    from riffstream.server.uploads.intake import is_taken

    path = handover_path(config)
    if path is None:
        raise HandoverError("servers cannot take over from each other on this system; use --standby")
    tracing.check_installed(config.tracing)
    if config.archive.dir:
        check_folder(config.archive.dir)
    await hub.warm_up()
    taking = await asyncio.to_thread(ask, path)
    if taking is None and is_taken(config.server.state_dir):
        raise HandoverError(f"the running server offers no hand-over ({path}); end it, or use --standby")
    if taking is None:
        logs.event("no server to take over from; the stations begin here", state_dir=config.server.state_dir)
    else:
        logs.event("took over from the running server", version=taking.version)
        warn_of_port(config.server.port, taking.sockets)
    return taking


def warn_of_port(asked: int, sockets: Sequence[socket.socket]) -> None:
    """Log that sockets of an earlier server have another port than the configuration; 0 asks for any."""
    from riffstream.server import logs

    ports = sorted({sock.getsockname()[1] for sock in sockets})
    if asked and asked not in ports:
        kept = ",".join(map(str, ports))
        logs.event("a server that takes over keeps the port", level=logging.WARNING, port=kept, configured=asked)


async def _when_audible(hub: Hub) -> None:
    """Wait until the stations have sound, for at most ``AUDIBLE_S``.

    Raises:
        UnplayableError, GeneratorError: they will have none; the old server must not be told that they play.
    """
    with contextlib.suppress(TimeoutError):
        await hub.wait_ready(AUDIBLE_S)


async def _released(config: Config) -> None:
    """Wait until no other server uses ``server.state_dir``."""
    from riffstream.server import logs
    from riffstream.server.uploads.intake import is_taken

    waiting = False
    while is_taken(config.server.state_dir):
        if not waiting:
            logs.event("standing by until the other server ends", state_dir=config.server.state_dir)
        waiting = True
        await asyncio.sleep(STANDBY_S)


def _say(url: str, config: Config, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        record: dict[str, Any] = {"event": "listening", "url": url, "stations": list(config.stations)}
        with contextlib.suppress(OSError):  # a closed stdout is no reason to stop
            print(json.dumps(record), flush=True)
    elif not quiet:
        print(f"riffstream is warming up; open {url}", file=sys.stderr, flush=True)
