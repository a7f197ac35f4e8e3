"""Who may do what: tokens, roles and the Origin of a browser's request.

Tokens are no cookies: they travel in ``hello`` or in an ``Authorization: Bearer`` header, so another site's page does
not have one by accident. Without a token configured the machine is private and whoever can connect may steer; the
Origin then keeps pages of other sites, open in the same person's browser, from doing it in their name.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from enum import StrEnum
from urllib.parse import urlsplit

__all__ = ["Access", "Role", "is_public_address"]


class Role(StrEnum):
    """What a connection may do: ``listener`` hears, ``dj`` steers as well, ``owner`` also manages stations."""

    LISTENER = "listener"
    DJ = "dj"
    OWNER = "owner"

    @property
    def may_steer(self) -> bool:
        """Whether steer and transport messages are accepted."""
        return self is not Role.LISTENER


# A page can point a domain of its own at this machine (DNS rebinding), but none of these names.
_PRIVATE_SUFFIXES = (".localhost", ".local", ".lan", ".home.arpa", ".internal")


def _host(netloc: str) -> str:
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


def _is_own_name(host: str) -> bool:
    if "." not in host or host.endswith(_PRIVATE_SUFFIXES):
        return bool(host)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public_address(host: str) -> bool:
    """Whether listening on ``host`` lets other machines in: anything but a loopback address or name."""
    if host in {"", "*"}:
        return True
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() != "localhost" and not host.lower().endswith(".localhost")


class Access:
    """Decides roles.

    Args:
        tokens: token to role. Empty: everyone is an owner, subject to ``Origin``.
        origins: other sites ("https://radio.example") whose pages may steer like our own.
    """

    def __init__(self, tokens: Mapping[str, Role], origins: Iterable[str] = ()) -> None:
        self._tokens = [(token.encode(), role) for token, role in tokens.items() if token]
        self.origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    @property
    def has_tokens(self) -> bool:
        """Whether any token is configured."""
        return bool(self._tokens)

    def role_of(self, token: str) -> Role | None:
        """The role that ``token`` gives, None for an unknown one. Takes the same time for every wrong token."""
        given, found = token.encode(errors="replace"), None
        for known, role in self._tokens:
            if hmac.compare_digest(given, known):
                found = role
        return found

    def trusts(self, origin: str | None, host: str) -> bool:
        """Whether a request without a token may change things.

        Args:
            origin: its ``Origin`` header; programs other than browsers send none.
            host: its ``Host`` header.
        """
        if origin is None:
            return True
        origin = origin.rstrip("/").lower()
        if origin in self.origins:
            return True
        if "://" not in origin:  # "null": a file, a sandboxed frame
            return False
        netloc = origin.split("://", 1)[1]
        return netloc == host.lower() and _is_own_name(_host(netloc))

    def grant(self, token: str | None, origin: str | None, host: str) -> Role | None:
        """The role of a connection; None where it gave a token that is wrong."""
        if token:
            role = self.role_of(token)
            if role is not None or self.has_tokens:
                return role
            # A stale token on a server that asks for none is no reason to refuse.
        if self.has_tokens:
            return Role.LISTENER
        return Role.OWNER if self.trusts(origin, host) else Role.LISTENER
