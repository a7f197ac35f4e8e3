"""Recognition of the server's own web pages, by host names that a stranger's page cannot have.

With DNS rebinding, a stranger's own domain can point at this machine, so that page and server have the same origin.
This is not possible with an IP address, a name of one word, a name in a domain that is not sold, or this machine's own
name.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["is_own_name", "normal_origin"]

# Reserved for private networks (RFC 6761, 6762 and 8375, ICANN's .internal), or not for sale because private networks
# use them (.home, .corp). Not .box: fritz.box was for sale.
_PRIVATE_DOMAINS = (
    "localhost",
    "local",
    "lan",
    "home.arpa",
    "internal",
    "home",
    "corp",
    "localdomain",
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_CHARS = 253  # of a name in the DNS (RFC 1035), without its final dot
_RESOLVER = Path("/etc/resolv.conf")


def normal_origin(text: str) -> str | None:
    """Normalise an address to the form of an ``Origin`` header: scheme, host and port in lower case, no default port.

    Returns:
        ``https://radio.example`` for ``HTTPS://Radio.example:443/path``, at most 267 characters; None if it is not an
        http or https address, or if its name is too long for the DNS.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        return None
    if ":" in host:
        try:
            host = f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            return None
    else:
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    if len(host) > _HOST_CHARS:
        return None
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _DEFAULT_PORTS[parts.scheme]) else "")


def is_own_name(host: str) -> bool:
    """Whether a page from ``host`` (a name or an address, without a port) must belong to this server."""
    name = host.lower().rstrip(".")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        pass
    else:
        return True
    if "." not in name or name.endswith(tuple(f".{domain}" for domain in _PRIVATE_DOMAINS)):
        return bool(name)
    return name in _machine_names()


def _machine_names() -> set[str]:
    """Names of this machine, alone and in the search domains of its network ("mypc.fritz.box")."""
    full = socket.gethostname().lower().rstrip(".")
    short = full.partition(".")[0]
    try:
        lines = [line.split() for line in _RESOLVER.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        lines = []
    domains = [word.lower().strip(".") for line in lines if line[:1] in (["search"], ["domain"]) for word in line[1:]]
    return {full, *(f"{short}.{domain}" for domain in domains if domain)}
