"""Serve the stations of another riffstream server to more listeners."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

from riffstream.errors import ParameterError

if TYPE_CHECKING:
    from riffstream.config import Config

EXAMPLES = """examples:
  riffstream relay --upstream wss://radio.example
  riffstream relay --upstream ws://10.0.0.1:8080/ws/main --host 0.0.0.0    one station
  riffstream relay --upstream wss://one.example --upstream wss://two.example    the second takes over from the first
  RIFFSTREAM_RELAY_TOKEN=secret riffstream relay --upstream wss://radio.example

Listeners use the relay like the server itself: page, players, sockets, HLS, steering with their own tokens. Let the
server trust the relay's address (server.trusted_proxies), so that it counts the relay's clients one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="URL",
        help="address of the server (wss://HOST), or of one station (wss://HOST/ws/STATION); repeat it for failover",
    )
    parser.add_argument("--host", help="address to listen on (default: localhost; 0.0.0.0 is all IPv4 interfaces)")
    parser.add_argument("--port", type=int, help="port (default: 8080; 0 picks a free one)")
    parser.add_argument("--config", metavar="F", help="a TOML file, or the name of a preset")
    parser.add_argument("--quiet", action="store_true", help="warnings and errors only")
    parser.add_argument("--json", action="store_true", help="logs as JSON lines, and the address as one on stdout")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises RiffstreamError on bad settings or a busy port."""
    from riffstream._malloc import fix_thresholds
    from riffstream.commands.serve import end_when_asked_early
    from riffstream.config import load_config

    end_when_asked_early()
    fix_thresholds(own_pages_kb=128, keep_kb=1024)
    if args.port is not None and not 0 <= args.port <= 65535:
        raise ParameterError("--port", args.port, "0 to 65535")
    config = load_config(
        args.config,
        flags={
            "server.host": args.host,
            "server.port": args.port,
            "relay.upstreams": tuple(args.upstream) or None,
            "log.level": "warning" if args.quiet else None,
            "log.format": "json" if args.json else None,
        },
    )
    if not config.relay.upstreams:
        raise ParameterError("--upstream", "", "the address of a server, such as wss://radio.example")
    from riffstream.server.app import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(relay_config(config), quiet=args.quiet, as_json=args.json))
    return 0


def relay_config(config: Config) -> Config:
    """The configuration without what only a server with a generator has. A private server's relay is private too."""
    import msgspec

    replace = msgspec.structs.replace
    access = config.access
    if config.relay.token and not (access.listen_token or access.private):
        access = replace(access, listen_token=config.relay.token)
    limits = replace(config.limits, uploads=0, inputs=0, clips=0)
    return replace(config, access=access, limits=limits)


async def _serve(config: Config, *, quiet: bool, as_json: bool) -> None:
    from riffstream.relay.hub import RelayHub
    from riffstream.server import logs
    from riffstream.server.app import Server
    from riffstream.server.binding import inherited_sockets

    logs.configure(config.log.level, json_lines=config.log.format == "json")
    hub = RelayHub(config)
    server = Server(config, hub)
    server.catch_signals()
    try:
        url = await server.start(inherited_sockets())
        if as_json:
            print(json.dumps({"event": "listening", "url": url, "upstreams": len(config.relay.upstreams)}), flush=True)
        elif not quiet:
            print(f"riffstream relays {', '.join(each.base for each in config.relay.addresses)}; open {url}",
                  file=sys.stderr, flush=True)  # fmt: skip
        await server.run()
    finally:
        await server.stop()
    logs.event("stopped")
