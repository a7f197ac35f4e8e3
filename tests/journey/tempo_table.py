"""The tempos of sixty prompts, beside what people expect: ``python -m tests.journey.tempo_table > docs/tempo.md``."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from riffstream.journey.pace import Pace, read_pace

PROMPTS = Path(__file__).with_name("tempo_prompts.toml")
TOLERANCE = 0.08  # of an edge of the span

HEAD = """# Tempo from words

For listeners who steer and authors of prompts. A prompt chooses its tempo until somebody sets a number (`bpm` of a
[steer](protocol.md); `null` or `"auto"` returns to the words). A number in the text wins ("at 138 bpm"). Without one
the genre decides, then scenes, uses and instruments. Words of pace ("slow", "very fast") move the tempo to an end of
the genre's span. A mix of prompts has the weighted geometric mean of their tempos. A text without any of these
words plays at the model's own tempo. `bpm_reason` of the [state](protocol.md) says what decided.

The table has prompts of styles that the corpus does not name. *Expected* is what people count, written before the rules
saw the prompt. {right} of {all} tempos lie within 8 % of that span. Made by `python -m tests.journey.tempo_table`.

| prompt | expected | chosen | reason |
| --- | --- | --- | --- |
"""


def rows() -> list[tuple[str, tuple[float, float], Pace]]:
    """Prompt, expected span and what the words give."""
    spans = tomllib.loads(PROMPTS.read_text("utf-8"))
    return [(text, (low, high), read_pace(text)) for text, (low, high) in spans.items()]


def near(bpm: float | None, span: Sequence[float]) -> bool:
    """Whether a tempo lies within 8 % of a span."""
    return bpm is not None and span[0] * (1 - TOLERANCE) <= bpm <= span[1] * (1 + TOLERANCE)


def page() -> str:
    """docs/tempo.md."""
    table = rows()
    right = sum(near(pace.bpm, span) for _, span, pace in table)
    lines = [
        f"| {text} | {low:g} to {high:g} | {'model' if pace.bpm is None else format(pace.bpm, 'g')}"
        f"{'' if near(pace.bpm, (low, high)) else ' (off)'} | {pace.because} |"
        for text, (low, high), pace in table
    ]
    return HEAD.format(right=right, all=len(table)) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
