"""Connect a station to the machines of a room: OSC, MIDI clock, Ableton Link."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

from riffstream.bridge.beats import BeatClock
from riffstream.bridge.changes import Changes, Complaints
from riffstream.client import Radio, connect
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.protocol import Bye, Now
from riffstream.text_files import readable

EXAMPLES = """examples:
  riffstream bridge osc --to http://localhost:8080                          receive on 127.0.0.1:9000
  riffstream bridge osc --listen 0.0.0.0:9000 --send 192.168.1.20:9001      and send /beat
  riffstream bridge link --to http://localhost:8080                         the station leads the session
  riffstream bridge link --follow                                           the station takes the session's tempo
  riffstream bridge midi --port virtual                                     MIDI clock on a port called riffstream

osc needs pip install 'riffstream[osc]', link 'riffstream[link]', midi 'riffstream[midi]'.
RIFFSTREAM_TOKEN may hold the token, hidden from other users of this machine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("machine", choices=("osc", "link", "midi"), help="what to connect")
    parser.add_argument("--to", metavar="URL", default="http://localhost:8080", help="address of the server")
    parser.add_argument(
        "--station", type=readable, default="main", metavar="NAME", help="default: that of URL, or main"
    )
    parser.add_argument("--token", type=readable, default=None, metavar="T", help="token with the right to steer")
    parser.add_argument("--listen", metavar="HOST:PORT", default=None, help="osc: receive (default: 127.0.0.1:9000)")
    parser.add_argument("--send", metavar="HOST:PORT", help="osc: send /beat, /prompt, /bpm and /key there")
    parser.add_argument("--follow", action="store_true", help="link: take the session's tempo (default: lead it)")
    parser.add_argument("--port", metavar="NAME", default=None, help="midi: output port (default: virtual)")


def run(args: argparse.Namespace) -> int:
    """Run the command until Ctrl-C. Raises RiffstreamError."""
    _check(args)
    asyncio.run(_bridge(args))
    return 0


OWN = {"listen": "osc", "send": "osc", "follow": "link", "port": "midi"}
DEFAULTS = {"listen": "127.0.0.1:9000", "port": "virtual"}


def _check(args: argparse.Namespace) -> None:
    """Check the options before anything is connected, and complete them. Raises ParameterError."""
    for name, machine in OWN.items():
        if getattr(args, name) and machine != args.machine:
            raise ParameterError(f"--{name}", getattr(args, name), f"with {machine} only")
    for name, default in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    _address("--listen", args.listen)
    if args.send is not None and _address("--send", args.send)[1] == 0:
        raise ParameterError("--send", args.send, "HOST:PORT, with a port from 1 to 65535")


async def _bridge(args: argparse.Namespace) -> None:
    complain = Complaints(_say)
    token = args.token or os.environ.get("RIFFSTREAM_TOKEN")
    async with connect(args.to, station=args.station, token=token, codec="none") as radio:
        if radio.welcome.reason:
            _say(f"this connection only listens: {radio.welcome.reason}")
        clock, changes = BeatClock(radio), Changes(radio, complain)
        machine = {"osc": _osc, "link": _link, "midi": _midi}[args.machine]
        works = [*await machine(args, radio, clock, changes, complain), clock.run(), changes.run()]
        tasks = [asyncio.create_task(each) for each in (*works, _listen(radio, clock))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(radio: Radio, clock: BeatClock) -> None:
    """Pass musical positions to the clock until the connection ends for good. Raises RiffstreamError then."""
    reason = "the connection ended"
    async for message in radio.messages():
        if isinstance(message, Now):
            clock.hear(message)
        elif isinstance(message, Bye):
            reason = message.reason
    raise RiffstreamError(f"{radio.url}: {reason}")


Tasks = list[Coroutine[Any, Any, None]]


async def _osc(
    args: argparse.Namespace, radio: Radio, clock: BeatClock, changes: Changes, complain: Complaints
) -> Tasks:
    try:
        from riffstream.bridge.osc import OscIn, OscOut
    except ImportError:
        raise _missing("osc") from None
    address = _address("--listen", args.listen)
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: OscIn(radio, changes, complain), local_addr=address
        )
    except OSError as error:
        raise ParameterError(
            "--listen", args.listen, f"a free UDP address of this machine ({error.strerror})"
        ) from None
    host, port = transport.get_extra_info("sockname")[:2]
    _say(f"osc: receive on {host}:{port}, steer {radio.url}")
    if args.send is None:
        return []
    try:
        out = OscOut(*_address("--send", args.send))
    except OSError as error:
        raise ParameterError("--send", args.send, f"a reachable address ({error.strerror})") from None
    return [out.run(clock)]


async def _link(args: argparse.Namespace, radio: Radio, clock: BeatClock, changes: Changes, _: Complaints) -> Tasks:
    try:
        from riffstream.bridge.link import follow, lead, open_link
    except ImportError:
        raise _missing("link") from None
    link = open_link(clock.bpm or 120.0)
    _say(f"link: {'follow the session' if args.follow else 'lead the session'}, {radio.url}")
    return [follow(link, clock, changes) if args.follow else lead(link, clock)]


async def _midi(args: argparse.Namespace, radio: Radio, clock: BeatClock, changes: Changes, _: Complaints) -> Tasks:
    try:
        from riffstream.bridge.midi import MidiClock, open_port
    except ImportError:
        raise _missing("midi") from None
    port = open_port(args.port)
    _say(f"midi: clock on {port.name}, {radio.url}")
    return [MidiClock(port).run(clock)]


def _missing(extra: str) -> RiffstreamError:
    return RiffstreamError(f"{extra} needs a library: pip install 'riffstream[{extra}]'")


def _address(name: str, given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 <= int(port) <= 65535:
        raise ParameterError(name, given, "HOST:PORT, with a port from 0 to 65535")
    return host.strip("[]"), int(port)


def _say(line: str) -> None:
    print(f"riffstream bridge: {line}", file=sys.stderr, flush=True)
