"""The servers that feed a relay: the preferred one, failover, and the delays between attempts.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import logging
import random
import secrets
from typing import Any

from websockets.asyncio.client import ClientConnection

from riffstream import protocol
from riffstream.client.greeting import greet
from riffstream.config import RelaySettings, UpstreamAddress
from riffstream.errors import RadioError

__all__ = ["LoopError", "Upstreams"]

log = logging.getLogger(__name__)

GREET_S = 5.0


class LoopError(RadioError):
    """The other server is fed by this relay."""

    def __init__(self, address: str) -> None:
        super().__init__("loop", f"{address} is fed by this relay itself", retry_after_ms=0)


class Upstreams:
    """The addresses of the relay's servers. Each connection tries them in turn, from the last one that answered.

    Args:
        settings: addresses, token and delays.
        addresses: the addresses; None: those of ``settings``.

    Attributes:
        server_id: id of this relay for the servers.
        path: ids of the servers from the one in use to the stations' own; empty while none is reached.
        failures: failed or lost connections since the start.
        reason: why the last connection failed; "" after a success.
    """

    def __init__(self, settings: RelaySettings, addresses: tuple[UpstreamAddress, ...] | None = None) -> None:
        self.settings = settings
        self.addresses = settings.addresses if addresses is None else addresses
        self.server_id = secrets.token_urlsafe(9)
        self.path: tuple[str, ...] = ()
        self.failures = 0
        self.reason = ""
        self._preferred = 0
        self._connected: set[object] = set()

    def address(self, failures: int = 0) -> UpstreamAddress:
        """Address for the next attempt.

        Args:
            failures: failed attempts in a row since the last success; each takes the next address.
        """
        return self.addresses[(self._preferred + failures) % len(self.addresses)]

    @property
    def live(self) -> bool:
        """Whether any connection to a server is open."""
        return bool(self._connected)

    def figures(self) -> dict[str, Any]:
        """State for /healthz, as JSON values."""
        return {
            "state": "connected" if self.live else "lost",
            "address": self.address().base,
            "servers": len(self.path),
            "failures": self.failures,
            "reason": self.reason or None,
        }

    async def connect(
        self,
        address: UpstreamAddress,
        station: str,
        hello: protocol.Hello,
        *,
        forwarded: str = "",
        timeout_s: float = GREET_S,
    ) -> tuple[ClientConnection, protocol.Welcome]:
        """Open a socket of a server.

        Args:
            address: the server.
            station: name of the station.
            hello: the first message, without ``relay``.
            forwarded: address of the client for whom the connection is made; "": the relay's own.
            timeout_s: time limit, seconds.

        Raises:
            RadioError: it cannot be reached or refuses; LoopError: it is fed by this relay.
        """
        options: dict[str, Any] = {"additional_headers": {"X-Forwarded-For": forwarded}} if forwarded else {}
        if address.unix:
            options["path"] = address.unix
        silence_s = self.settings.silence_s
        options |= {"ping_interval": silence_s, "ping_timeout": silence_s}
        socket, welcome = await greet(address.socket(station), hello, timeout_s, **options)
        if self.server_id in welcome.path:
            await socket.close()
            raise LoopError(address.base)
        return socket, welcome

    def opened(self, owner: object, address: UpstreamAddress, welcome: protocol.Welcome) -> None:
        """Record an open connection. Its server is preferred from now on."""
        at = self.addresses.index(address)
        if at != self._preferred:
            log.warning("the relay now uses %s", address.base)
        self._preferred = at
        self.path = welcome.path
        self.reason = ""
        self._connected.add(owner)

    def closed(self, owner: object) -> None:
        """Record that a connection has ended. Idempotent."""
        self._connected.discard(owner)
        if not self._connected:
            self.path = ()

    def failed(self, address: UpstreamAddress, reason: str) -> None:
        """Record a failed connection."""
        self.failures += 1
        if reason != self.reason:
            log.warning("upstream %s: %s", address.base, reason)
        self.reason = reason

    def pause_s(self, failures: int, asked_ms: int | None = None) -> float:
        """Random delay before the next attempt, seconds.

        Args:
            failures: failed attempts in a row.
            asked_ms: the delay that the server asked for, milliseconds.
        """
        rounds, untried = divmod(failures, len(self.addresses))
        if untried:  # another server is next
            return random.uniform(0, self.settings.backoff_s / 4)
        longest = min(self.settings.backoff_max_s, self.settings.backoff_s * 2.0 ** min(rounds - 1, 20))
        wanted_s = 0.0 if asked_ms is None else min(asked_ms / 1000, self.settings.backoff_max_s)
        return wanted_s + random.uniform(longest / 4, longest)
