"""Which proxy a connection goes through: none inside the own network, else what the environment asks for.

Threading model
  One event loop; nothing is kept between two calls.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import urllib.request
from urllib.parse import urlsplit, urlunsplit

__all__ = ["choose_proxy", "shown_proxy"]

LOOK_UP_S = 3.0
# websockets' order: CONNECT, which a WebSocket needs, is what a proxy for HTTPS offers.
_KEYS = {"wss": ("wss", "socks", "https"), "ws": ("ws", "socks", "https", "http")}


async def choose_proxy(url: str) -> str | None:
    """The proxy for a socket's address, from HTTPS_PROXY, HTTP_PROXY and so on; None: connect directly.

    Loopback and private addresses go direct, and so do names that stand for one: a proxy elsewhere cannot reach them.
    NO_PROXY is obeyed. A proxy without a scheme (``proxy.example:3128``) is an HTTP proxy, as in curl.

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
    if urllib.request.proxy_bypass(f"{host}:{port}") or await _near(host):
        return None
    proxy = proxy.strip() if "://" in proxy else f"http://{proxy.strip().lstrip('/')}"
    pieces = urlsplit(proxy)
    if found.get("socks") and pieces.scheme == "http" and proxy.endswith(found["socks"].rpartition("://")[2]):
        pieces = pieces._replace(scheme="socks5h")  # some systems list SOCKS proxies so
    if "@" in pieces.netloc and ":" not in pieces.netloc.rpartition("@")[0]:
        user, _, place = pieces.netloc.rpartition("@")
        pieces = pieces._replace(netloc=f"{user}:@{place}")  # an empty password
    return urlunsplit(pieces)


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
    carrier = address.version == 4 and address in ipaddress.ip_network("100.64.0.0/10")  # also Tailscale's
    return address.is_private or address.is_loopback or address.is_link_local or carrier


def shown_proxy(proxy: str) -> str:
    """A proxy's address without its password."""
    scheme, _, rest = proxy.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
