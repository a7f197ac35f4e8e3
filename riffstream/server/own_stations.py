"""Private stations of visitors: their tokens, their quotas, and the end of their time.

The token of such a station steers it and nothing else. The server keeps only a hash of it.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta, Struct

from riffstream.config import SessionSettings
from riffstream.errors import RiffstreamError
from riffstream.server.limits import AddressBuckets
from riffstream.server.proxies import INSIDE
from riffstream.server.roles import Role
from riffstream.server.tokens import SignedToken

__all__ = ["PRIVATE", "OwnStation", "OwnStations", "QuotaError", "SavedOwnStation"]

PRIVATE: Final = "private-"  # prefix of the names of private stations
TOKEN_PREFIX: Final = "own_"
FULL_RETRY_S: Final = 30.0


class QuotaError(RiffstreamError):
    """One more private station is not allowed now.

    Attributes:
        shared: True if the server has no place for anybody; False if the client has its share.
        retry_after_s: delay after which a repeat may succeed, seconds.
    """

    def __init__(self, text: str, *, shared: bool, retry_after_s: float) -> None:
        super().__init__(text)
        self.shared, self.retry_after_s = shared, retry_after_s


class SavedOwnStation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A private station in the saved state; its music is among the stations.

    Attributes:
        digest: SHA-256 of its token, hexadecimal.
        expires_at: end of its time, Unix time in seconds.
        address, origin: of the client that made it, for the quotas.
    """

    digest: Annotated[str, Meta(min_length=64, max_length=64)]
    expires_at: Annotated[float, Meta(ge=0, le=1e12)]
    address: Annotated[str, Meta(max_length=100)]
    origin: Annotated[str, Meta(max_length=300)]


@dataclass(frozen=True, slots=True)
class OwnStation:
    """A new private station: its name, its token, and the length of its life in seconds."""

    name: str
    token: str
    seconds: float


class OwnStations:
    """Table of the private stations that visitors have made.

    Args:
        settings: quotas and times.
        clock: Unix time, seconds.
    """

    def __init__(self, settings: SessionSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self._found: dict[str, SavedOwnStation] = {}
        self._buckets = AddressBuckets(settings.interval_s, settings.burst)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        """Names, the oldest first."""
        return iter(tuple(self._found))

    def __len__(self) -> int:
        return len(self._found)

    def open(self, address: str, origin: str) -> OwnStation:
        """Reserve a place; the caller starts the station, or gives the place back with :meth:`forget`.

        Args:
            address: client address in the form for limits.
            origin: ``Origin`` of the page; "" for programs.

        Raises:
            QuotaError: a limit of ``[sessions]``.
        """
        limits = self.settings
        if len(self._found) >= limits.most:
            text = f"all {limits.most} private stations of this server are in use"
            raise QuotaError(text, shared=True, retry_after_s=FULL_RETRY_S)
        quotas = (
            (address, "address", "your address", limits.per_address),
            (origin, "origin", origin, limits.per_origin),
        )
        for value, field, shown, most in quotas:
            counts = value and value != INSIDE
            if counts and sum(getattr(each, field) == value for each in self._found.values()) >= most:
                text = f"{shown} has {most} private stations already; allowed: {most}"
                raise QuotaError(text, shared=False, retry_after_s=FULL_RETRY_S)
        if address != INSIDE and (wait_s := self._buckets.wait_s(address)):
            raise QuotaError("too many private stations in a short time", shared=False, retry_after_s=wait_s)
        name, token = f"{PRIVATE}{secrets.token_hex(12)}", f"{TOKEN_PREFIX}{secrets.token_urlsafe(24)}"
        self._found[name] = SavedOwnStation(
            digest=_digest(token), expires_at=self._clock() + limits.ttl_s, address=address, origin=origin
        )
        return OwnStation(name, token, limits.ttl_s)

    def forget(self, name: str) -> None:
        """Remove a station that has ended. Idempotent."""
        self._found.pop(name, None)

    def read(self, token: str) -> SignedToken | None:
        """Rights of a private station's token; None for other tokens and after its time."""
        if not token.startswith(TOKEN_PREFIX):
            return None
        digest, found = _digest(token), None
        for name, each in self._found.items():
            if hmac.compare_digest(digest, each.digest) and self._clock() < each.expires_at:
                found = SignedToken(Role.DJ, name, each.expires_at)
        return found

    def is_over(self, name: str) -> bool:
        """Whether the time of a station has passed."""
        found = self._found.get(name)
        return found is not None and self._clock() >= found.expires_at

    def save(self) -> dict[str, SavedOwnStation]:
        """The stations for a later process, by name."""
        return dict(self._found)

    def restore(self, saved: Mapping[str, SavedOwnStation], stations: Collection[str]) -> None:
        """Take over those of an earlier process that still play."""
        self._found |= {name: each for name, each in saved.items() if name in stations}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
