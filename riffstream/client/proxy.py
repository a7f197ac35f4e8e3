"""Which proxy a connection goes through: none inside the own network, else what the environment asks for.

Threading model
  One event loop; nothing is kept between two calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import urllib.request
from urllib.parse import urlsplit, urlunsplit

__all__ = ["choose_proxy", "shown_proxy"]

LOOK_UP_S = 3.0
# Addresses for documentation. The standard library has them among the private ones, but no such network exists.
_EXAMPLES = [
    ipaddress.ip_network(each) for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]
# websockets' order: CONNECT, which a WebSocket needs, is what a proxy for HTTPS offers.
_KEYS = {"wss": ("wss", "socks", "https"), "ws": ("ws", "socks", "https", "http")}


async def choose_proxy(url: str) -> str | None:
    """The proxy for a socket's address, from HTTPS_PROXY, HTTP_PROXY and so on; None: connect directly.

    Loopback and private addresses go direct, and so do names that stand for one: a proxy elsewhere cannot reach them.
    NO_PROXY is obeyed, networks (``192.0.2.0/24``) and ``*`` in a list included. A proxy without a scheme
    (``proxy.example:3128``) is an HTTP proxy, as in curl.

    Args:
        url: ``ws://`` or ``wss://``.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    found = urllib.request.getproxies()
    proxy = next((found[key] for key in _KEYS.get(parts.scheme, ()) if found.get(key)), None)
    if proxy is None:
        return None
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    if urllib.request.proxy_bypass(f"{host}:{port}") or _excepted(host, found.get("no", "")) or await _near(host):
        return None
    proxy = proxy.strip() if "://" in proxy else f"http://{proxy.strip().lstrip('/')}"
    pieces = urlsplit(proxy)
    if found.get("socks") and pieces.scheme == "http" and proxy.endswith(found["socks"].rpartition("://")[2]):
        pieces = pieces._replace(scheme="socks5h")  # some systems list SOCKS proxies so
    if "@" in pieces.netloc and ":" not in pieces.netloc.rpartition("@")[0]:
        user, _, place = pieces.netloc.rpartition("@")
        pieces = pieces._replace(netloc=f"{user}:@{place}")  # an empty password
    return urlunsplit(pieces)


def _excepted(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host in a way that urllib does not know: by its network, or by ``*`` in a list."""
    for entry in no_proxy.split(","):
        if entry.strip() == "*":
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return False


async def _near(host: str) -> bool:
    """Whether a host is this machine or in a private network."""
    if host == "localhost" or host.endswith((".localhost", ".local")):
        return True
    try:
        return _private(host)
    except ValueError:
        pass
    try:
        async with asyncio.timeout(LOOK_UP_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):  # often only the proxy can look names up
        return False
    return bool(found) and all(_private(str(address[0])) for *_, address in found)


def _private(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    if any(address.version == each.version and address in each for each in _EXAMPLES):
        return False
    carrier = address.version == 4 and address in ipaddress.ip_network("100.64.0.0/10")  # also Tailscale's
    return address.is_private or address.is_loopback or address.is_link_local or carrier


def shown_proxy(proxy: str) -> str:
    """A proxy's address without its password."""
    scheme, _, rest = proxy.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
