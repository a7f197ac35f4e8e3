"""Title of what a station plays, for players."""

from __future__ import annotations

from riffstream import protocol

__all__ = ["title_of"]


def title_of(state: protocol.State) -> str:
    """Title for players: the prompts, the strongest first."""
    parts = sorted(state.prompts, key=lambda part: -part.weight)
    return " + ".join(part.text for part in parts if part.weight > 0) or "riffstream"
