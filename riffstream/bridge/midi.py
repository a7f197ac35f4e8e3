"""MIDI clock: 24 ticks a beat, start at a bar, stop when the station pauses.

Threading model
  One event loop; the port's driver has its own thread.
"""

from __future__ import annotations

from typing import Any, Final

import mido

from riffstream.bridge.beats import BeatClock
from riffstream.errors import ParameterError

__all__ = ["MidiClock", "open_port"]

TICKS: Final = 24  # of a MIDI clock, a beat


def open_port(name: str) -> Any:
    """Open an output port.

    Args:
        name: part of the name of a port; ``virtual``: make a port called riffstream (not on Windows).

    Raises:
        ParameterError: there is no such port, or this machine has no MIDI.
    """
    try:
        if name == "virtual":
            return mido.open_output("riffstream", virtual=True)
        ports = mido.get_output_names()
    except Exception as error:  # the driver's own types
        raise ParameterError("port", name, f"a MIDI port; this machine offers none: {error}") from None
    found = [each for each in ports if name.lower() in each.lower()]
    if not found:
        raise ParameterError("port", name, f"virtual, or one of: {', '.join(ports) or 'none is there'}")
    return mido.open_output(found[0])


class MidiClock:
    """Sender of a MIDI clock.

    Args:
        port: an output port of mido.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self._running = False

    async def run(self, clock: BeatClock) -> None:
        """Send until cancelled."""
        last = None
        try:
            async for tick in clock.ticks(TICKS):
                if last is not None and tick != last + 1 and abs(tick - last) > TICKS:
                    self._stop()  # a pause, or another clock: start again at a bar
                last = tick
                bar = clock.bar
                if not self._running and (tick - bar.line * TICKS) % (bar.beats * TICKS) == 0:
                    self._send("start")
                    self._running = True
                self._send("clock")
        finally:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            self._running = False
            self._send("stop")

    def _send(self, kind: str) -> None:
        self._port.send(mido.Message(kind))
