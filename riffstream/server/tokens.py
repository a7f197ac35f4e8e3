"""Signed tokens: rights for a time, for one station or all, without a list on the server.

They are JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256. Any program with the key and a JWT library can make them.
Claims: ``role`` (listener, dj or owner), ``exp`` (end of validity, Unix time in seconds), ``station`` (optional).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import jwt

from riffstream.errors import ParameterError
from riffstream.server.roles import Role

__all__ = ["MAX_DAYS", "SignedToken", "SignedTokens"]

MAX_DAYS = 3660
MAX_CHARS = 2048
LEEWAY_S = 5  # clocks of other machines
_ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class SignedToken:
    """Content of a valid token.

    Attributes:
        role: its rights.
        station: the station to which they are limited; "": all stations, and the server itself.
        expires_at: end of validity, Unix time in seconds.
    """

    role: Role
    station: str
    expires_at: float


class SignedTokens:
    """Signer and reader of tokens.

    Args:
        keys: secrets of 32 or more characters. The first signs; all are accepted, so that a key can be replaced while
            tokens of the old one are in use.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)

    def issue(self, role: Role, *, seconds: float, station: str = "") -> str:
        """Make a token.

        Args:
            role: its rights.
            seconds: validity from now, 1 s to :data:`MAX_DAYS` days.
            station: a station's name; "": all stations, and the server itself.

        Raises:
            ParameterError: ``seconds`` is out of range, or there is no key.
        """
        if not self._keys:
            raise ParameterError("access.signing_keys", (), "one or more keys ('riffstream token --new-key' makes one)")
        if not 1 <= seconds <= MAX_DAYS * 86400:
            raise ParameterError("seconds", seconds, f"1 s to {MAX_DAYS} days")
        claims = {"role": role.value, "exp": int(time.time() + seconds)} | ({"station": station} if station else {})
        return jwt.encode(claims, self._keys[0], algorithm=_ALGORITHM)

    def read(self, token: str) -> SignedToken | None:
        """Content of a token; None if it is not signed by one of the keys, has expired, or lacks a claim."""
        if len(token) > MAX_CHARS:
            return None
        for key in self._keys:
            try:
                claims = jwt.decode(
                    token, key, algorithms=[_ALGORITHM], leeway=LEEWAY_S, options={"require": ["exp", "role"]}
                )
                station = claims.get("station", "")
                if isinstance(station, str):
                    return SignedToken(Role(claims["role"]), station, float(claims["exp"]))
            except (jwt.InvalidTokenError, ValueError):  # also an unknown role and text that cannot be encoded
                continue
        return None
