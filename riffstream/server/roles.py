"""Rights of a connection."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Role"]


class Role(StrEnum):
    """Rights of a connection: ``listener`` listens, ``dj`` also steers, ``owner`` also manages stations."""

    LISTENER = "listener"
    DJ = "dj"
    OWNER = "owner"

    @property
    def may_steer(self) -> bool:
        """Whether steer and transport messages are accepted."""
        return self is not Role.LISTENER
