"""Original client address and host of requests through trusted proxies.

Only headers of trusted proxies count. The client is the right-most hop that is not a trusted proxy; hops further left
are claims of the client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web

__all__ = ["INSIDE", "Address", "Asked", "Proxies", "counted", "read_address"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

INSIDE = "inside"  # address of the server's own processes, which limits do not count
_LOOPBACK_4, _LOOPBACK_6 = ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")
_HOPS = 32  # longest accepted chain of proxies
# Host and port (RFC 9110) and a path (RFC 3986), without characters that could end markup or a header.
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~%!$&()*+,;=:@-]+)+")
# One parameter of RFC 7239: a token, "=", a token or a quoted string.
_PARAMETER = re.compile(r"""\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)=("(?:[^"\\]|\\.)*"|[^\s",;]*)\s*""")
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
_HEADERS = (
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Ingress-Path",  # Home Assistant
)


def read_address(text: str) -> Address | None:
    """Parse an address in the forms used by proxies: with a port, brackets, quotes or a zone, or IPv4-mapped.

    Returns:
        The address, as IPv4 if it is IPv4-mapped; None for other text (``unknown``, ``_hidden``, a name).
    """
    text = text.strip().strip('"').strip()
    if bracketed := re.fullmatch(r"\[([^\]]*)\](?::\d*)?", text):
        text = bracketed[1]
    elif text.count(":") == 1:  # an IPv6 address has two or more
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def counted(address: Address | None) -> str:
    """Key of an address for limits: the /64 network for IPv6, which belongs to one customer."""
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return str(ipaddress.IPv6Network((int(address), 64), strict=False))
    return "unknown" if address is None else str(address)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the client sent it, before trusted proxies.

    Attributes:
        address: client address in the form for limits (:func:`counted`).
        scheme: ``http`` or ``https``.
        host: name and optional port, as in a ``Host`` header; "" if absent.
        prefix: path before the server's own, such as ``/radio``; "" if unknown.
    """

    address: str
    scheme: str
    host: str
    prefix: str

    @property
    def url(self) -> str:
        """URL of the server from the client's view, without a trailing slash."""
        return f"{self.scheme}://{self.host}{self.prefix}"


class Proxies:
    """The set of trusted proxies: ``address in proxies``.

    Args:
        given: addresses and networks, checked by the configuration.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self._networks = [_unmapped(ipaddress.ip_network(each, strict=False)) for each in given]
        if any(_LOOPBACK_6 in network for network in self._networks):
            self._networks.append(ipaddress.ip_network(_LOOPBACK_4))

    def __contains__(self, address: str | Address | None) -> bool:
        found = read_address(address) if isinstance(address, str) else address
        if found == _LOOPBACK_6:  # a proxy that connects to "localhost" may use either
            found = _LOOPBACK_4
        return found is not None and any(found in network for network in self._networks)

    def asked(self, request: web.Request) -> Asked:
        """Reconstruct a request as the client sent it."""
        peer = read_address(request.remote or "")
        name = None if request.transport is None else request.transport.get_extra_info("sockname")
        if isinstance(name, str | bytes):  # a Unix socket of this server, in a private folder
            hop = read_address(request.headers.get("X-Forwarded-For", ""))
            host = request.headers.get("X-Forwarded-Host") or _own_host(request)
            scheme = _SCHEMES.get(request.headers.get("X-Forwarded-Proto", ""), request.scheme)
            return Asked(INSIDE if hop is None else counted(hop), scheme, host, "")
        if peer not in self:
            return Asked(counted(peer), request.scheme, _own_host(request), "")
        headers = {name: ",".join(request.headers.getall(name, ())) for name in _HEADERS}
        chain = _elements(headers["Forwarded"])
        address, place = self._client(peer, [element.get("for", "") for element in chain])
        if listed := [part for part in headers["X-Forwarded-For"].split(",") if part.strip()]:
            named, _ = self._client(peer, listed)
            # A proxy writes one of the two headers and may forward the other one as sent by the client.
            address = named if not chain or named == address else peer
        element = chain[-place] if place else {}
        schemes = (_first(headers["X-Forwarded-Proto"]), element.get("proto", ""))
        hosts = (_first(headers["X-Forwarded-Host"]), element.get("host", ""))
        return Asked(
            counted(address),
            next((_SCHEMES[each.lower()] for each in schemes if each.lower() in _SCHEMES), request.scheme),
            next((each for each in hosts if _HOST.fullmatch(each)), _own_host(request)),
            _path(_first(headers["X-Forwarded-Prefix"])) or _path(headers["X-Ingress-Path"]),
        )

    def _client(self, peer: Address | None, chain: list[str]) -> tuple[Address | None, int]:
        """Right-most hop that is not a trusted proxy, and its position from the right (1: the last; 0: none).

        If every hop is trusted, it is the last one, which the nearest proxy saw itself. If a hop is not an address
        (``unknown``), it is the proxy that wrote it, so that text cannot create identities.
        """
        nearer = peer
        for place, text in enumerate(reversed(chain[-_HOPS:]), 1):
            hop = read_address(text)
            if hop is None:
                return nearer, place
            if hop not in self:
                return hop, place
            nearer = hop
        return (read_address(chain[-1]), 1) if chain else (peer, 0)


def _own_host(request: web.Request) -> str:
    """The ``Host`` header, or the local address for HTTP/1.0 players without one."""
    if given := request.headers.get("Host", ""):
        return given
    name = None if request.transport is None else request.transport.get_extra_info("sockname")
    if not isinstance(name, tuple):
        return ""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _unmapped(network: Network) -> Network:
    """Convert ``::ffff:10.0.0.0/104`` to ``10.0.0.0/8``, because addresses are compared unmapped."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        return ipaddress.IPv4Network((int(mapped), network.prefixlen - 96)) if mapped else network
    return network


def _elements(header: str) -> list[dict[str, str]]:
    """Elements of a ``Forwarded`` header; empty for an invalid header."""
    elements: list[dict[str, str]] = []
    element: dict[str, str] = {}
    at = 0
    while at < len(header):
        if (found := _PARAMETER.match(header, at)) is None:
            return []
        value = re.sub(r"\\(.)", r"\1", found[2][1:-1]) if found[2].startswith('"') else found[2]
        element.setdefault(found[1].lower(), value)
        at = found.end()
        following = header[at : at + 1]
        if following not in ("", ",", ";"):
            return []
        if following != ";":
            elements.append(element)
            element = {}
        at += 1
    return elements


def _first(header: str) -> str:
    """First item of a comma-separated list, written by the first proxy."""
    return header.partition(",")[0].strip()


def _path(text: str) -> str:
    """Path prefix without a trailing slash; "" if it is not a path or contains ``..``."""
    path = text.strip().rstrip("/")
    steps = unquote(path).split("/")
    return path if _PREFIX.fullmatch(path) and not {".", ".."} & set(steps) else ""
