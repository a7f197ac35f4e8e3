"""Access control: tokens, roles and the Origin of a browser's request.

Tokens are not cookies: clients send them in ``hello`` or in an ``Authorization`` header, so pages of other sites do not
have them by accident. Without a configured token the machine is private, and every client may steer. The Origin check
then prevents pages of other sites, open in the user's browser, from steering in the user's name.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import math
import time
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from riffstream.config import SessionSettings
from riffstream.server.origins import is_own_name, normal_origin
from riffstream.server.own_stations import OwnStations
from riffstream.server.roles import Role
from riffstream.server.tokens import SignedToken, SignedTokens

__all__ = ["Access", "authorization_token", "is_public_address", "shown_origin"]


def is_public_address(host: str) -> bool:
    """Whether other machines can reach a server on ``host``: any host but a loopback address or name."""
    if host in {"", "*"}:
        return True
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() != "localhost" and not host.lower().endswith(".localhost")


def authorization_token(header: str | None) -> str | None:
    """Token in an ``Authorization`` header: ``Bearer TOKEN``, or the password of ``Basic`` (media players)."""
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
        except ValueError:
            return None
    return None


class Access:
    """Assignment of roles to connections.

    Args:
        dj_token: token for steering; "": every client may steer.
        owner_token: token for managing stations; "": every client that may steer without a token.
        listen_token: token for listening; "": every client may listen, unless ``private``.
        signing_keys: keys of signed tokens (:class:`~riffstream.server.tokens.SignedTokens`); with one, steering needs
            a token.
        private: listening needs a token.
        hooked: rights of a token by the operator's service; None without one. With it, steering needs a token.
        own: private stations of visitors. Only their own tokens, and those of the server, steer them.
        origins: origins whose pages may steer: the server's own behind a proxy, and other sites; "*": all.
    """

    def __init__(
        self,
        *,
        dj_token: str = "",
        owner_token: str = "",
        listen_token: str = "",
        signing_keys: Sequence[str] = (),
        private: bool = False,
        hooked: Callable[[str], SignedToken | None] | None = None,
        own: OwnStations | None = None,
        origins: Iterable[str] = (),
    ) -> None:
        known = ((listen_token, Role.LISTENER), (dj_token, Role.DJ), (owner_token, Role.OWNER))
        self._tokens = [(token.encode(), role) for token, role in known if token]
        self._worker_token = b""
        self._signed = SignedTokens(signing_keys)
        self._hooked = hooked or (lambda token: None)
        self._own = OwnStations(SessionSettings()) if own is None else own
        self._expected = bool(self._tokens or signing_keys or hooked)
        self.listening_is_open = not listen_token and not private
        self.steering_is_open = self.listening_is_open and not (dj_token or signing_keys or hooked)
        self._open_role = Role.DJ if owner_token else Role.OWNER
        self.origins = frozenset(origin if origin in ("*", "null") else normal_origin(origin) for origin in origins)

    def role_of(self, token: str, station: str | None = "") -> Role | None:
        """Role of ``token``; None for an unknown token. The time is the same for every wrong token.

        Args:
            token: a configured or a signed token.
            station: the station that is asked for; "": the server itself; None: any one station. The token of another
                station gives the rights of a listener where listening is open to all, and none elsewhere. That of a
                private station is for itself: as "any one" it gives the rights of a listener.
        """
        given, found = token.encode(errors="replace"), None
        if self._worker_token and hmac.compare_digest(given, self._worker_token):
            return Role.LISTENER
        for known, role in self._tokens:
            if hmac.compare_digest(given, known):
                found = role
        if found is None and (made := self._own.read(token)) is not None:
            if made.station == station:
                return made.role
            return Role.LISTENER if self.listening_is_open or station is None else None
        if found is None and (signed := self._read(token)) is not None:
            if not signed.station or station is None or signed.station == station:
                return signed.role
            return Role.LISTENER if self.listening_is_open else None
        return found

    def admit_workers(self, token: str) -> None:
        """Let the server's own workers listen with a secret of this run."""
        self._worker_token = token.encode()

    def valid_s(self, token: str | None) -> float | None:
        """Remaining validity of a signed token, seconds; None for other tokens, which do not expire."""
        signed = self._read(token) if token else None
        if signed is None or math.isinf(signed.expires_at):
            return None
        return max(0.0, signed.expires_at - time.time())

    def _read(self, token: str) -> SignedToken | None:
        return self._own.read(token) or self._signed.read(token) or self._hooked(token)

    def knows(self, token: str) -> bool:
        """Whether the rights of a token are known without the operator's service."""
        given = token.encode(errors="replace")
        matches = [hmac.compare_digest(given, known) for known, _ in self._tokens]
        return any(matches) or (self._own.read(token) or self._signed.read(token)) is not None

    def trusts(self, origin: str | None, host: str) -> bool:
        """Whether a request without a token may make changes.

        Args:
            origin: ``Origin`` header; only browsers send one.
            host: ``Host`` header.
        """
        if origin is None or self.lists(origin):
            return True
        own = normal_origin(origin)
        if own is None:
            return False
        scheme, _, _ = own.partition(":")
        return own == normal_origin(f"{scheme}://{host}") and is_own_name(urlsplit(own).hostname or "")

    def lists(self, origin: str) -> bool:
        """Whether the configuration names this ``Origin`` header; "null" comes from files and sandboxed frames."""
        return "*" in self.origins or (normal_origin(origin) or origin.strip()) in self.origins

    def grant(self, token: str | None, origin: str | None, host: str, station: str | None = "") -> Role | None:
        """Role of a connection at a station (:meth:`role_of`); None if it may not listen or its token is wrong."""
        given = self.role_of(token, station) if token else None
        if token and given is None and self._expected:
            return None
        if given is None and not self.listening_is_open:
            return None
        if self.steering_is_open and given is not Role.OWNER and not (station and station in self._own):
            return self._open_role if self.trusts(origin, host) else Role.LISTENER
        return given or Role.LISTENER

    def invites(self, token: str | None, origin: str | None, host: str) -> bool:
        """Whether a request that may listen may make a private station: it has a token, or its page is known.

        On a server with tokens every page of the server's own host counts: what a stranger's name could gain there
        (DNS rebinding) is a quota, not a right.
        """
        if self.trusts(origin, host) or (token is not None and self.role_of(token, None) is not None):
            return True
        own = normal_origin(origin or "")
        return (
            not self.steering_is_open and own is not None and own == normal_origin(f"{own.partition(':')[0]}://{host}")
        )

    def refusal(self, origin: str | None) -> str:
        """Reason why a listener may not steer, with the remedy.

        Args:
            origin: ``Origin`` header of the request.
        """
        if not self.steering_is_open:
            return "steering this server needs a DJ's token"
        shown = shown_origin(origin or "")
        return (
            f"this server does not know {shown} as an address of its own, so pages from there may listen, not steer; "
            f'to change that, add "{shown}" to server.allowed_origins'
        )


def shown_origin(origin: str) -> str:
    """An ``Origin`` header in the form for ``server.allowed_origins``; "null" if it is not an address."""
    return normal_origin(origin[:300]) or "null"
