"""Sources of songs: the built-in styles, and MMA's grooves if MMA is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from riffstream.corpus.grooves import groove_sources, mma_available
from riffstream.corpus.songs import Song, compose
from riffstream.corpus.styles import Style, own_styles
from riffstream.errors import ParameterError

__all__ = ["Source", "StyleSource", "all_sources"]


class Source(Protocol):
    """A source of songs of one style."""

    @property
    def name(self) -> str:
        """The style's name."""

    @property
    def weight(self) -> float:
        """Relative number of songs in a corpus, above 0."""

    def compose(self, index: int, seed: int) -> Song:
        """Compose song number ``index``."""


@dataclass(frozen=True, slots=True)
class StyleSource:
    """A built-in style."""

    style: Style
    soundfont: bool = True

    @property
    def name(self) -> str:
        return self.style.name

    @property
    def weight(self) -> float:
        return self.style.weight

    def compose(self, index: int, seed: int) -> Song:
        return compose(self.style, index, seed=seed, soundfont=self.soundfont)


@lru_cache(maxsize=4)
def _all(soundfont: bool) -> tuple[Source, ...]:
    own = [StyleSource(style, soundfont) for style in own_styles()]
    return (*own, *(groove_sources() if soundfont and mma_available() else ()))


def all_sources(soundfont: bool, names: Sequence[str] = ()) -> list[Source]:
    """All sources with installed instruments.

    Args:
        soundfont: whether a soundfont is available; MMA's grooves need one.
        names: names of styles; empty: all.

    Raises:
        ParameterError: an unknown name.
    """
    sources = list(_all(soundfont))
    known = {source.name for source in sources}
    for name in names:
        if name not in known:
            raise ParameterError("style", name, ", ".join(sorted(known)))
    return [source for source in sources if not names or source.name in names]
