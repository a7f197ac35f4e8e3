"""Selection of the proxy for a connection: none in the local network, else by the environment.

Threading model
  One event loop; there is no state between calls.
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
# Addresses for documentation. The standard library considers them private, but no such network exists.
_EXAMPLES = [
    ipaddress.ip_network(each) for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]
# websockets' order: CONNECT, which a WebSocket needs, is what a proxy for HTTPS offers.
_KEYS = {"wss": ("wss", "socks", "https"), "ws": ("ws", "socks", "https", "http")}


async def choose_proxy(url: str) -> str | None:
    """Choose the proxy for a socket's URL from HTTPS_PROXY, HTTP_PROXY and so on; None: connect directly.

    Loopback and private addresses, and names that resolve to them, are connected directly, because a remote proxy
    cannot reach them. NO_PROXY applies, also with networks (``192.0.2.0/24``) and ``*`` in a list. A proxy without a
    scheme (``proxy.example:3128``) is an HTTP proxy, as in curl.

    Args:
        url: ``ws://`` or ``wss://`` URL.
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
        pieces = pieces._replace(scheme="socks5h")  # the form of SOCKS proxies on some systems
    if "@" in pieces.netloc and ":" not in pieces.netloc.rpartition("@")[0]:
        user, _, place = pieces.netloc.rpartition("@")
        pieces = pieces._replace(netloc=f"{user}:@{place}")  # an empty password
    return urlunsplit(pieces)


def _excepted(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY contains a host in a form unknown to urllib: its network, or ``*`` in a list."""
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
    except (OSError, UnicodeError, TimeoutError):  # often only the proxy can resolve names
        return False
    return bool(found) and all(_private(str(address[0])) for *_, address in found)


def _private(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    if any(address.version == each.version and address in each for each in _EXAMPLES):
        return False
    carrier = address.version == 4 and address in ipaddress.ip_network("100.64.0.0/10")  # also Tailscale's
    return address.is_private or address.is_loopback or address.is_link_local or carrier


def shown_proxy(proxy: str) -> str:
    """Address of a proxy without its password."""
    scheme, _, rest = proxy.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
