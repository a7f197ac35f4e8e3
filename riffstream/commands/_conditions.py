"""Options for parts and levels, the same for each command that has them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from riffstream.errors import ParameterError
from riffstream.journey.conditions import PARTS, QUIET
from riffstream.ranges import RANGES, check

__all__ = ["LEVELS", "add_levels", "add_parts"]

LEVELS: Final = {"energy": "soft to loud", "density": "few notes to many", "brightness": "dark to bright"}


def add_parts(group: argparse._ActionsContainer, use: str = "") -> None:
    """Declare ``--parts``, for ``conditions.parse_parts``. ``use``: what it is for, before the help's text."""
    group.add_argument(
        "--parts",
        nargs="+",
        action="extend",  # a second --parts adds to the first
        default=[],
        metavar="PART=LEVEL",
        help=f"{use}level of {', '.join(PARTS)}: {RANGES['part'].words}; a part below {QUIET:g} rests",
    )


def add_levels(group: argparse._ActionsContainer, use: str = "") -> None:
    """Declare ``--energy``, ``--density`` and ``--brightness``. ``use``: as for :func:`add_parts`."""
    for name, words in LEVELS.items():
        group.add_argument(f"--{name}", type=_level(name), metavar="X", help=f"{use}{words}: {RANGES[name].words}")


def _level(name: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            return float(check(name, float(text)))
        except ParameterError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            raise argparse.ArgumentTypeError(str(ParameterError(name, text, RANGES[name].words))) from None

    return parse
