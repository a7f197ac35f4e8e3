"""The hub of a relay: the stations of the upstream, found through its API.

Threading model
  Event loop   makes every call. Nothing blocks.
  close()      idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any

import aiohttp
from yarl import URL

from riffstream import protocol
from riffstream.audio.checks import Pcm
from riffstream.client.proxy import choose_proxy
from riffstream.config import STATION_NAME, Config, StationConfig, UpstreamAddress
from riffstream.errors import RadioError
from riffstream.generator.messages import Info
from riffstream.generator.single_clips import SingleClip
from riffstream.generator.supervisor import GeneratorError
from riffstream.journey.keyframe import ClipSpec
from riffstream.relay.line import ClientLine
from riffstream.relay.station import RelayStation
from riffstream.relay.upstreams import Upstreams
from riffstream.station.audition import AuditionError
from riffstream.station.hub import TooManyStationsError, UnknownStationError
from riffstream.station.saved import SavedStation

__all__ = ["RelayHub"]

log = logging.getLogger(__name__)

LIST_S = 10.0  # between readings of the list of stations
LIST_BYTES = 4 * 2**20
LEFT_OUT = 1000
LISTED_S = 10.0  # until the list must have come
SEARCHES = 8  # at once, for stations that are not listed
FIND_S = 5.0
UNKNOWN_S = 2.0  # time for which a station counts as unknown
NO_GENERATOR = "this server is a relay: the model runs at the server behind it"


class RelayHub:
    """All stations of the upstream.

    Args:
        config: the relay's configuration.
        addresses: the servers; None: those of ``config.relay``.
        inside: whether the upstream is the first process of the same server.
    """

    def __init__(
        self, config: Config, addresses: tuple[UpstreamAddress, ...] | None = None, *, inside: bool = False
    ) -> None:
        self.config = config
        self.inside = inside
        self.upstreams = Upstreams(config.relay, addresses)
        self._stations: dict[str, RelayStation] = {}
        self._searches: dict[str, asyncio.Task[None]] = {}
        self._left_out: deque[str] = deque(maxlen=LEFT_OUT)  # stations whose absence is logged
        self._unknown: dict[str, float] = {}
        self._tending: asyncio.Task[None] | None = None
        self._end: Callable[[str, str], None] = lambda name, reason: None
        self._closed = False

    # -- the interface of a hub -----------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there are stations and the upstream is connected."""
        stations = self._stations.values()
        return any(each.ready for each in stations) and self.upstreams.live

    @property
    def info(self) -> Info | None:
        """None: the model runs at the upstream."""
        return None

    @property
    def upstream(self) -> RelayHub:
        """The servers that feed this relay."""
        return self

    @property
    def stations(self) -> Mapping[str, RelayStation]:
        """Stations by name that the upstream has confirmed, read only."""
        return MappingProxyType({name: each for name, each in self._stations.items() if each.ready})

    async def start(self) -> None:
        """Begin to connect; :meth:`wait_ready` waits for stations."""
        for name in {each.station for each in self.upstreams.addresses} - {""}:
            self._open(name)
        self._tending = asyncio.create_task(self._tend(), name="relay-stations")

    async def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until there is a station. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not self.ready:
                await asyncio.sleep(0.05)

    async def create(self, name: str, station: StationConfig | None = None) -> RelayStation:
        """Raises TooManyStationsError: stations are made at the upstream."""
        raise TooManyStationsError("this server is a relay; make stations at the server behind it")

    async def delete(self, name: str) -> None:
        """Close a station here. Raises UnknownStationError."""
        if name not in self._stations:
            raise UnknownStationError("station", name, ", ".join(self._stations) or "none: there are no stations")
        self._stations.pop(name).close()
        if name in {each.station for each in self.upstreams.addresses} and not self._closed:
            self._open(name)  # it may come back

    async def clip(
        self,
        spec: ClipSpec,
        *,
        steps: int | None = None,
        guided: bool = True,
        mask: str | None = None,
        bpm: float | None = None,
        key: float = 0.0,
        meter: int | None = None,
        model: str = "",
    ) -> SingleClip:
        """Raises GeneratorError: the model runs at the upstream."""
        raise GeneratorError(NO_GENERATOR)

    async def audition(self, name: str, *, bpm: float, key: float = 0.0, beats: int = 8) -> Pcm:
        """Raises AuditionError: the model runs at the upstream."""
        raise AuditionError(NO_GENERATOR)

    def health(self) -> dict[str, Any]:
        """State of the upstream and of every station, as JSON values."""
        return {
            "ready": self.ready,
            "upstream": self.figures(),
            "stations": {name: station.stats() for name, station in self._stations.items()},
        }

    def drain(self) -> None:
        """Does nothing: playback continues until :meth:`close`."""

    def save(self) -> dict[str, SavedStation]:
        """A relay has no state: its stations are another server's."""
        return {}

    def freeze(self, recent_s: float = 0.0) -> dict[str, SavedStation]:
        """As :meth:`save`; playback continues."""
        return {}

    async def close(self) -> None:
        """Close every station. Idempotent."""
        if self._closed:
            return
        self._closed = True
        tasks = [*self._searches.values(), *([self._tending] if self._tending is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for station in self._stations.values():
            station.close("shutdown")
        self._stations.clear()

    # -- the interface of an upstream -----------------------------------------------------------------------------

    @property
    def path(self) -> tuple[str, ...]:
        """Ids of the servers from the one in use to the stations' own."""
        return self.upstreams.path

    @property
    def live(self) -> bool:
        """Whether the upstream is connected."""
        return self.upstreams.live

    def identify(self, server_id: str, ended: Callable[[str, str], None]) -> None:
        """Set the id by which other servers recognise this one, and the function that ends a station (name, reason)."""
        self.upstreams.server_id = server_id
        self._end = ended

    def figures(self) -> dict[str, Any]:
        """State of the connection, as JSON values."""
        return self.upstreams.figures()

    def line(
        self, station: str, token: str | None, address: str, tell: Callable[[protocol.ServerMessage], None]
    ) -> ClientLine:
        """A client's own connection to the upstream."""
        return ClientLine(self.upstreams, station, token, address, tell)

    def role(self, station: str) -> tuple[str, str | None]:
        """Role of clients without a token at the upstream, and the reason why they may not steer."""
        found = self._stations.get(station)
        if (self.config.relay.token and not self.inside) or found is None or found.welcome is None:
            return "listener", "steering this server needs a DJ's token"
        return found.welcome.role, found.welcome.reason

    async def find(self, name: str) -> None:
        """Open a station that the list does not show (a private one), if the upstream has it."""
        if self._closed or not STATION_NAME.fullmatch(name):
            return
        if (opened := self._stations.get(name)) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIND_S):
                    await opened.wait_ready()
            return
        if any(each.station for each in self.upstreams.addresses):
            return  # a single station is relayed
        loop = asyncio.get_running_loop()
        if loop.time() < self._unknown.get(name, 0.0):
            return
        if name not in self._searches:
            if len(self._searches) >= SEARCHES:
                return
            task = self._searches[name] = asyncio.create_task(self._search(name), name=f"relay-find-{name}")
            task.add_done_callback(lambda _: self._searches.pop(name, None) and None)
        await asyncio.wait([self._searches[name]])

    async def _search(self, name: str) -> None:
        hello = protocol.Hello(v=protocol.VERSION, codecs=(), token=self.config.relay.token or None)
        try:
            socket, _ = await self.upstreams.connect(self.upstreams.address(), name, hello, timeout_s=FIND_S)
        except RadioError:
            now = asyncio.get_running_loop().time()
            self._unknown = {each: until for each, until in self._unknown.items() if until > now}
            self._unknown[name] = now + UNKNOWN_S
            return
        socket.transport.abort()
        if (station := self._open(name)) is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIND_S):
                await station.wait_ready()

    # -- stations -------------------------------------------------------------------------------------------------

    def _open(self, name: str) -> RelayStation | None:
        """Relay a station; None if there are as many as allowed."""
        if len(self._stations) >= self.config.limits.stations:
            if name not in self._left_out:
                self._left_out.append(name)
                log.warning("station %s is not relayed: limits.stations is %d", name, len(self._stations))
            return None
        station = self._stations[name] = RelayStation(name, self.config, self.upstreams, self._ended)
        station.start()
        return station

    def _ended(self, name: str, reason: str) -> None:
        if name in self._stations and self._stations[name].ready:
            self._end(name, reason)  # the server says goodbye to the listeners, and deletes it
        elif (station := self._stations.pop(name, None)) is not None:
            station.close()

    async def _tend(self) -> None:
        """Read the upstream's list of stations again and again."""
        failures = 0
        while True:
            address = self.upstreams.address(failures)
            try:
                listed = await self._listed(address)
            except Exception as error:  # aiohttp has many; the stations that are known play on
                log.debug("the list of stations could not be read: %s", error)
                failures += 1
                if not self._stations:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    self.upstreams.failed(address, f"the list of stations cannot be read: {reason}")
                await asyncio.sleep(self.upstreams.pause_s(failures))
                continue
            failures = 0
            self._follow(listed)
            await asyncio.sleep(LIST_S)

    def _follow(self, listed: Mapping[str, Mapping[str, Any]]) -> None:
        only = {each.station for each in self.upstreams.addresses} - {""}
        for name, about in listed.items():
            if not STATION_NAME.fullmatch(name) or (only and name not in only):
                continue
            if name not in self._stations and self._open(name) is None:
                continue
            self._stations[name].title = str(about.get("title", name))[:200]
            self._stations[name].description = str(about.get("description", ""))[:2000]

    @contextlib.asynccontextmanager
    async def http(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Any = None,
        address: UpstreamAddress | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request to the server in use, or to ``address``. Raises aiohttp.ClientError, TimeoutError.

        ``path`` is percent-encoded, with its query.
        """
        address = address or self.upstreams.address()
        connector = aiohttp.UnixConnector(address.unix) if address.unix else None
        proxy = None if address.unix else await choose_proxy(address.base)
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=60)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
            ) as session,
            session.request(
                method,
                URL(f"{address.http}{path}", encoded=True),
                headers=headers,
                data=body,
                proxy=proxy,
                allow_redirects=False,
            ) as answer,
        ):
            yield answer

    async def _listed(self, address: UpstreamAddress) -> dict[str, dict[str, Any]]:
        token = self.config.relay.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = b""
        async with asyncio.timeout(LISTED_S), self.http("GET", "/api/stations", headers, address=address) as answer:
            answer.raise_for_status()
            async for data in answer.content.iter_any():
                body += data
                if len(body) > LIST_BYTES:
                    raise ValueError(f"it is longer than {LIST_BYTES >> 20} MiB")
        found = json.loads(body)["stations"]
        return {each["id"]: each for each in found}
