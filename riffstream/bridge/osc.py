"""Open Sound Control over UDP: messages become steers, beats become messages.

Threading model
  One event loop owns the sockets.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from pythonosc.osc_bundle import ParseError as BundleError
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message import ParseError as MessageError
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket, ParseError

from riffstream import protocol
from riffstream.bridge.beats import BeatClock
from riffstream.bridge.changes import Changes
from riffstream.client import Radio
from riffstream.client.requests import steer_message
from riffstream.errors import ParameterError, RadioError

__all__ = ["OscIn", "OscOut", "change_of"]

PREFIX: Final = "/riffstream"
OPS: Final = ("pause", "resume", "reset", "skip")
GROUPS: Final = ("mix", "parts")
NAMES: Final = {"prompt": "prompts", "tempo": "bpm", "desk": "mix", "ramp": "ramp_s"}
LATEST_S: Final = 60.0  # a bundle further in the future is played at once
Mix = list[tuple[str, float]]
PARSE_ERRORS: Final = (ParseError, MessageError, BundleError, ValueError, IndexError, UnicodeDecodeError)


def change_of(address: str, args: list[Any], prompts: Mix) -> dict[str, Any]:
    """Fields of the steer that an OSC message asks for.

    Args:
        address: ``/FIELD`` or ``/mix/FIELD``, with or without ``/riffstream`` in front.
        args: arguments: the value; ``default`` or nil returns it to the station's default. Prompts: texts, each with a
            weight behind it if it is not 1. ``/weight``: number of the prompt from 1, weight.
        prompts: the mix of the station, for ``/weight``.

    Raises:
        ParameterError: an unknown address or a missing argument.
        RadioError: a value out of its range; the message names both.
    """
    path = address.removeprefix(PREFIX).strip("/").lower().split("/")
    name = NAMES.get(path[0], path[0])
    if name == "weight" and len(path) == 1:
        fields: dict[str, Any] = {"prompts": _weighted(args, prompts)}
    elif name in GROUPS and len(path) == 2:
        fields = {name: {path[1]: _value(args, address, f"{name}.{path[1]}")}}
    elif name in protocol.Steer.__struct_fields__ and name != "id" and len(path) == 1:
        fields = {name: _mix(args, address) if name == "prompts" else _value(args, address, name)}
    else:
        known = [each for each in protocol.Steer.__struct_fields__ if each not in ("id", *GROUPS)]
        groups = [f"{each}/NAME" for each in GROUPS if each in protocol.Steer.__struct_fields__]
        raise ParameterError("address", address, ", ".join(["weight", *known, *groups, *OPS]))
    mix = fields.pop("prompts", None)
    checked = steer_message("osc", mix, fields)  # refused here, where the sender is known
    for group in GROUPS:
        _known_names(group, fields.get(group), checked)
    return fields if mix is None else {**fields, "prompts": mix}


def _known_names(group: str, given: Any, checked: protocol.Steer) -> None:
    """Refuse unknown names inside a group, which the protocol ignores."""
    held = getattr(checked, group, None)
    if isinstance(given, dict) and isinstance(held, msgspec.Struct):
        for name in given:
            if name not in held.__struct_fields__:
                raise ParameterError(group, name, ", ".join(held.__struct_fields__))


def _value(args: list[Any], address: str, name: str) -> Any:
    if len(args) != 1:
        raise ParameterError(address, f"{len(args)} arguments", "one value")
    value = args[0]
    if value == "default":
        return None
    if name in ("seed", "if_rev") and isinstance(value, float) and value.is_integer():
        return int(value)
    if name in ("mix.hold", "mix.fade") and isinstance(value, int | float):
        return bool(value)
    if name in ("mix.mute", "mix.solo"):
        return [each for each in str(value).split() if each != "none"]
    return value


def _mix(args: list[Any], address: str) -> Mix:
    """Prompts with weights from ``text [weight] text [weight] ...``."""
    found: Mix = []
    for arg in args:
        if isinstance(arg, str):
            found.append((arg, 1.0))
        elif found and isinstance(arg, int | float) and not isinstance(arg, bool):
            found[-1] = (found[-1][0], float(arg))
        else:
            raise ParameterError(address, arg, "texts, each with its weight behind it")
    if not found:
        raise ParameterError(address, "no argument", "a text")
    return found


def _weighted(args: list[Any], prompts: Mix) -> Mix:
    parts = list(prompts)
    if len(args) != 2 or not isinstance(args[0], int | float) or not isinstance(args[1], int | float):
        raise ParameterError("/weight", args, "the number of a prompt and its weight")
    place = int(args[0])
    if not 1 <= place <= len(parts):
        raise ParameterError("/weight", place, f"a prompt from 1 to {len(parts)}")
    parts[place - 1] = (parts[place - 1][0], float(args[1]))
    return parts


class OscIn(asyncio.DatagramProtocol):
    """Receiver of OSC messages.

    Args:
        radio: connection to the station.
        changes: steers on their way.
        complain: log of bad messages.
    """

    def __init__(self, radio: Radio, changes: Changes, complain: Callable[[str], None]) -> None:
        self._radio, self._changes, self._complain = radio, changes, complain
        self._asked: tuple[tuple[protocol.Prompt, ...], Mix] | None = (
            None  # the station's prompts then, and those asked for
        )

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            messages = OscPacket(data).messages
        except PARSE_ERRORS as error:
            self._complain(f"osc from {addr[0]}: {len(data)} bytes are no OSC: {error}")
            return
        for timed in messages:
            wait_s = timed.time - time.time()
            if 0 < wait_s <= LATEST_S:
                asyncio.get_running_loop().call_later(wait_s, self._take, timed.message, addr)
            else:
                self._take(timed.message, addr)

    def error_received(self, exc: Exception) -> None:
        self._complain(f"osc: {exc}")

    def _take(self, message: OscMessage, addr: Any) -> None:
        address, args = message.address, list(message.params)
        try:
            op = address.removeprefix(PREFIX).strip("/").lower()
            if op in OPS:
                if not args or args[0]:  # a button sends 1 and then 0
                    self._changes.operate(op)
                return
            fields = change_of(address, args, self._prompts())
            if "prompts" in fields:
                self._asked = (self._radio.state.prompts, fields["prompts"])
            self._changes.put(fields)
        except (ParameterError, RadioError) as error:
            self._complain(f"osc from {addr[0]}: {address}: {error}")

    def _prompts(self) -> Mix:
        """The mix that is on its way to the station, or else the station's."""
        prompts = self._radio.state.prompts
        if self._asked is not None and self._asked[0] == prompts:
            return self._asked[1]
        return [(part.text, part.weight) for part in prompts]


class OscOut:
    """Sender of ``/beat`` (beat, beat in the bar from 1, tempo), ``/prompt``, ``/bpm`` and ``/key``.

    Args:
        host: receiver.
        port: its UDP port.
    """

    def __init__(self, host: str, port: int) -> None:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._to = info[4]
        self._socket = socket.socket(info[0], socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._told: tuple[Any, ...] = ()

    async def run(self, clock: BeatClock) -> None:
        """Send until cancelled."""
        async for beat in clock.ticks(1):
            self.tell(clock.state)
            bar = clock.bar
            self._send("/beat", beat, (beat - bar.line) % bar.beats + 1, float(clock.bpm or 0))

    def tell(self, state: protocol.State) -> None:
        """Send what has changed in the music."""
        parts = sorted(state.prompts, key=lambda part: -part.weight)
        told = (" + ".join(part.text for part in parts), state.bpm, state.key)
        for address, value, before in zip(("/prompt", "/bpm", "/key"), told, self._told or (None,) * 3, strict=True):
            if value is not None and value != before:
                self._send(address, value)
        self._told = told

    def _send(self, address: str, *args: str | float) -> None:
        built = OscMessageBuilder(address)
        for arg in args:
            built.add_arg(arg, "f" if isinstance(arg, float) else "i" if isinstance(arg, int) else "s")
        try:
            self._socket.sendto(built.build().dgram, self._to)
        except OSError:
            return  # nobody listens there at present

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
