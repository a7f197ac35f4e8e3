"""Prompts as text: mixes of prompts, and weights inside a prompt. No torch here, so that the server can check them.

Syntax of weights, as in Riffusion (and the AUTOMATIC1111 web interface before it):

- ``(warm bass)`` weighs 1.1, ``((warm bass))`` 1.21, and so on;
- ``(warm bass:1.4)`` weighs 1.4;
- ``[vinyl noise]`` weighs 1/1.1;
- ``\\(``, ``\\)``, ``\\[``, ``\\]`` and ``\\\\`` are the characters themselves.

Round and square brackets pair independently; a bracket that is never closed reaches to the end of the prompt, and a
closing bracket without an opening one is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from riffstream.errors import ParameterError

__all__ = ["PromptPart", "WeightedText", "blend_mixes", "normalise_mix", "parse_weights"]

MAX_PARTS = 16  # a mix of more prompts than this is a mistake, and each one costs a pass of the text encoder
_EMPHASIS = 1.1
_NUMBER = re.compile(r":([+-]?[.\d]+)\)")


@dataclass(frozen=True, slots=True)
class PromptPart:
    """One prompt of a mix.

    Attributes:
        text: the prompt, with or without weights inside.
        weight: its share of the mix, finite and >= 0; shares are relative: (2, 2) is the same mix as (1, 1).
    """

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A part of a prompt and the factor on its tokens: 1 is neutral, a negative factor inverts them."""

    text: str
    weight: float = 1.0


@dataclass(slots=True)
class _Run:
    """A run of text with one weight, while the prompt is parsed."""

    text: str
    weight: float = 1.0


def parse_weights(prompt: str) -> list[WeightedText]:
    """Split a prompt at its weights.

    Args:
        prompt: any text; no text is an error.

    Returns:
        Parts in order, with adjacent parts of equal weight joined; ``[WeightedText("", 1.0)]`` for an empty prompt.

    >>> [(run.text, run.weight) for run in parse_weights("a (loud:2) [drum]")]
    [('a ', 1.0), ('loud', 2.0), (' ', 1.0), ('drum', 0.9090909090909091)]
    """
    runs: list[_Run] = []
    open_round: list[int] = []  # index of the first run inside each open bracket
    open_square: list[int] = []

    def scale_from(start: int, factor: float) -> None:
        for run in runs[start:]:
            run.weight *= factor

    at = 0
    while at < len(prompt):
        character = prompt[at]
        number = _NUMBER.match(prompt, at) if character == ":" and open_round else None
        factor = _float(number.group(1)) if number else None
        if character == "\\":
            runs.append(_Run(prompt[at + 1] if prompt[at + 1 : at + 2] in tuple("()[]\\") else ""))
            at += 1 + len(runs[-1].text)
            continue
        if number and factor is not None:
            scale_from(open_round.pop(), factor)
            at = number.end()
            continue
        if character == "(":
            open_round.append(len(runs))
        elif character == "[":
            open_square.append(len(runs))
        elif character == ")" and open_round:
            scale_from(open_round.pop(), _EMPHASIS)
        elif character == "]" and open_square:
            scale_from(open_square.pop(), 1 / _EMPHASIS)
        else:
            end = at + 1
            while end < len(prompt) and prompt[end] not in "\\()[]:":
                end += 1
            runs.append(_Run(prompt[at:end]))
            at = end
            continue
        at += 1
    for start in open_round:
        scale_from(start, _EMPHASIS)
    for start in open_square:
        scale_from(start, 1 / _EMPHASIS)
    return _join(runs)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "1.2.3" is text, not a weight
        return None


def _join(runs: Sequence[_Run]) -> list[WeightedText]:
    joined: list[WeightedText] = []
    for run in runs:
        if joined and joined[-1].weight == run.weight:
            joined[-1] = WeightedText(joined[-1].text + run.text, run.weight)
        else:
            joined.append(WeightedText(run.text, run.weight))
    return joined or [WeightedText("")]


def normalise_mix(mix: str | Iterable[PromptPart]) -> tuple[PromptPart, ...]:
    """Check a mix and scale its weights to a sum of 1.

    Parts with equal text are added and parts of weight 0 are dropped, so that equivalent mixes compare equal.

    Args:
        mix: one prompt, or 1 to 16 parts.

    Raises:
        ParameterError: no part, too many parts, a weight that is negative or not finite, or all weights 0. Use the
            negative prompt in place of negative weights.
    """
    parts = [PromptPart(mix)] if isinstance(mix, str) else list(mix)
    if not 1 <= len(parts) <= MAX_PARTS:
        raise ParameterError("prompts", len(parts), f"1 to {MAX_PARTS} prompts")
    weights: dict[str, float] = {}
    for index, part in enumerate(parts):
        if not isinstance(part.text, str):
            raise ParameterError(f"prompts[{index}].text", part.text, "text")
        if not (isinstance(part.weight, int | float) and math.isfinite(part.weight) and part.weight >= 0):
            raise ParameterError(
                f"prompts[{index}].weight", part.weight, "a number >= 0 (use the negative prompt for what to avoid)"
            )
        weights[part.text] = weights.get(part.text, 0.0) + part.weight
    total = sum(weights.values())
    if not total > 0 or not math.isfinite(total):
        raise ParameterError(
            "prompts", [part.weight for part in parts], "at least one weight above 0, with a finite sum"
        )
    return tuple(PromptPart(text, weight / total) for text, weight in weights.items() if weight > 0)


def blend_mixes(
    start: str | Iterable[PromptPart], end: str | Iterable[PromptPart], alpha: float
) -> tuple[PromptPart, ...]:
    """Interpolate two mixes at ``alpha`` in [0, 1]: each part's share is linear in alpha.

    >>> blend_mixes("jazz", "techno", 0.25)
    (PromptPart(text='jazz', weight=0.75), PromptPart(text='techno', weight=0.25))
    """
    if not 0 <= alpha <= 1:
        raise ParameterError("alpha", alpha, "0 to 1")
    shares: dict[str, float] = {}
    for mix, share in ((start, 1 - alpha), (end, alpha)):
        for part in normalise_mix(mix):
            shares[part.text] = shares.get(part.text, 0.0) + share * part.weight
    return tuple(PromptPart(text, share) for text, share in shares.items() if share > 0)
