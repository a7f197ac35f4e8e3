"""The section ``[relay]``: the servers that feed a relay, and their addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from riffstream.config.rules import Section
from riffstream.config.targets import without_secrets
from riffstream.errors import ParameterError
from riffstream.ranges import between

__all__ = ["RelaySettings", "UpstreamAddress"]

_ALLOWED = "an address such as wss://radio.example or wss://radio.example/ws/main"
_STATION = re.compile(r"(.*)/(?:ws|embed)/([a-z0-9][a-z0-9_-]{0,39})")


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Address of a server that feeds a relay.

    Attributes:
        base: ``ws://`` or ``wss://`` address of the server, with its path prefix, without a trailing slash.
        station: the only relayed station; "": all public ones.
        unix: path of its Unix socket; "": TCP.
    """

    base: str
    station: str = ""
    unix: str = ""

    @classmethod
    def parse(cls, url: str) -> UpstreamAddress:
        """Parse an address. Raises ParameterError."""
        shown = without_secrets(url)
        try:
            parts = urlsplit(url if "://" in url else f"ws://{url}")
            scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
            usable = scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # an invalid port
            usable = False
        if not usable or not url.isascii() or not url.isprintable() or " " in url or parts.query or parts.fragment:
            raise ParameterError("upstreams", shown, _ALLOWED)
        if parts.username is not None:
            raise ParameterError("upstreams", shown, f"{_ALLOWED}, without a user; use token")
        path, station = parts.path.rstrip("/"), ""
        if found := _STATION.fullmatch(path):
            path, station = found[1], found[2]
        return cls(f"{scheme}://{parts.netloc}{path}", station)

    def socket(self, station: str) -> str:
        """URL of a station's socket."""
        return f"{self.base}/ws/{station}"

    @property
    def http(self) -> str:
        """URL of the server for HTTP requests."""
        return re.sub("^ws", "http", self.base)


class RelaySettings(Section, frozen=True, kw_only=True):
    """``[relay]``: the servers that feed 'riffstream relay'.

    Attributes:
        upstreams: addresses (``wss://HOST``, or ``wss://HOST/ws/STATION`` for one station). The first is used, the
            others replace it when it fails.
        token: token for listening there, if the server needs one. Listeners of the relay then need a token as well.
        silence_s: time without a sign of life until a server is given up, seconds.
        backoff_s: longest random delay before the first reconnection, seconds; it doubles with each failure.
        backoff_max_s: limit of that delay, seconds.
    """

    upstreams: tuple[str, ...] = ()
    token: str = ""
    silence_s: Annotated[float, between(1, 300, "s")] = 5.0
    backoff_s: Annotated[float, between(0.05, 60, "s")] = 0.5
    backoff_max_s: Annotated[float, between(0.05, 3600, "s")] = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        stations = {each.station for each in self.addresses}
        if len(stations) > 1:
            raise ParameterError(
                "upstreams", list(self.upstreams), "addresses of the same station, or all without a station"
            )

    @property
    def addresses(self) -> tuple[UpstreamAddress, ...]:
        """The parsed addresses. Raises ParameterError."""
        return tuple(UpstreamAddress.parse(url) for url in self.upstreams)
