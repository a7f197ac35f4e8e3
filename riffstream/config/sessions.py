"""The section ``[sessions]``: private stations that visitors make for themselves."""

from __future__ import annotations

from typing import Annotated

from riffstream.config.rules import Section
from riffstream.ranges import between

__all__ = ["SessionSettings"]


class SessionSettings(Section, frozen=True, kw_only=True):
    """``[sessions]``: private stations that visitors make with ``POST /api/sessions``, each for one page.

    They need no token where listening needs none. Pages of other sites need a place in ``server.allowed_origins``.
    Each one costs as much as any other station, and counts for ``limits.stations``. If the owner starts a station and
    there are too many, the oldest private one ends.

    Attributes:
        most: private stations at once; 0: none.
        per_address: private stations of one client address at once.
        per_origin: private stations of the pages of one site at once.
        idle_s: time without a listener until a private station ends, seconds.
        ttl_s: longest life of a private station, and of its token, seconds.
        interval_s: time between the stations that one address makes, seconds.
        burst: stations that one address makes at once.
    """

    most: Annotated[int, between(0, 1000)] = 4
    per_address: Annotated[int, between(1, 1000)] = 2
    per_origin: Annotated[int, between(1, 1000)] = 4
    idle_s: Annotated[float, between(1, 3600, "s")] = 60.0
    ttl_s: Annotated[float, between(60, 604_800, "s")] = 14_400.0
    interval_s: Annotated[float, between(0, 3600, "s")] = 10.0
    burst: Annotated[int, between(1, 1000)] = 3
