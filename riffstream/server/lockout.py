"""Lock-out of addresses that try many wrong tokens."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from riffstream.server.limits import TokenBucket

__all__ = ["Lockout"]

TRIES = 20  # wrong tokens in a row, enough for a page that reconnects with an old one
INTERVAL_S = 5.0
ADDRESSES = 10_000


class Lockout:
    """Count of wrong tokens per address: 20 at once, then one every 5 s. Right tokens count nothing.

    An IPv6 client owns a /64 network, so that is its address here.

    Args:
        clock: a monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()  # the longest unused first

    def wait_s(self, address: str) -> float:
        """Seconds until a token from ``address`` is read again; 0 if it would be read now."""
        bucket = self._buckets.get(_network(address))
        return 0.0 if bucket is None else bucket.wait_s()

    def wrong(self, address: str) -> None:
        """Count a wrong token from ``address``."""
        name = _network(address)
        bucket = self._buckets.pop(name, None) or TokenBucket(INTERVAL_S, TRIES, self._clock)
        bucket.take()
        self._buckets[name] = bucket
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.version == 6:
        return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
    return address
