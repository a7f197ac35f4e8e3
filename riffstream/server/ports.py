"""What the server needs of a station and of whatever keeps the stations: the seam to ``riffstream.station``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from riffstream import protocol
from riffstream.audio.blocks import Pcm
from riffstream.config import StationConfig

__all__ = ["Chunk", "Notice", "Station", "Stations"]

Notice = protocol.Applied | protocol.Superseded | protocol.Now | protocol.Event


class Chunk(Protocol):
    """A stretch of committed audio of one revision: ``pcm`` is float32 [n, 2] in [-1, 1]."""

    @property
    def sample_pos(self) -> int: ...
    @property
    def pcm(self) -> Pcm: ...
    @property
    def rev(self) -> int: ...


class Station(Protocol):
    """One endless stream. Everything here is called on the event loop and returns at once."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def rev(self) -> int: ...
    @property
    def state(self) -> protocol.State: ...
    @property
    def caps(self) -> protocol.Caps: ...
    @property
    def audible(self) -> int:
        """Sample clock: what is audible now."""
        ...

    @property
    def committed(self) -> int:
        """Sample behind the last that can be read; the first that can be is ``ring_start``."""
        ...

    @property
    def ring_start(self) -> int: ...
    def now(self) -> protocol.Now: ...
    def read(self, start: int, stop: int) -> Pcm:
        """Committed samples [stop - start, 2]; IndexError outside the ring."""
        ...

    def listen(self, start: int | None = None) -> AsyncIterator[Chunk]:
        """Committed audio from ``start`` (default: ``committed``) on, without gaps, for ever."""
        ...

    def attach(self) -> None:
        """One more listener."""
        ...

    def detach(self) -> None:
        """One listener less."""
        ...

    def steer(self, steer: protocol.Steer) -> protocol.Scheduled:
        """Raises ProtocolError. ``applied`` or ``superseded`` with the same id follows through ``subscribe``."""
        ...

    def transport(self, transport: protocol.Transport) -> protocol.Scheduled: ...
    def subscribe(self, callback: Callable[[Notice], None]) -> Callable[[], None]:
        """Call back at every notice; returns what ends it."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Counters and gauges (``underruns``, ``clip_seconds``, ...)."""
        ...


class Stations(Protocol):
    """Every station and the generator behind them."""

    @property
    def ready(self) -> bool: ...
    @property
    def stations(self) -> Mapping[str, Any]: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def create(self, name: str, config: StationConfig) -> Any:
        """Raises ParameterError."""
        ...

    async def delete(self, name: str) -> None: ...
    def metrics(self) -> Mapping[str, float]:
        """Of the generator (``restarts``, ``rss_mb``, ...)."""
        ...
