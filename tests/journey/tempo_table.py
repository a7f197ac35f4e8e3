"""The tempos of sixty prompts, beside what people expect: ``python -m tests.journey.tempo_table > docs/tempo.md``."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from riffstream.journey.pace import Pace, read_pace

PROMPTS = Path(__file__).with_name("tempo_prompts.toml")
TOLERANCE = 0.08  # of an edge of the span

HEAD = """# Tempo and metre from words

This page is for listeners who steer and for authors of prompts.

## Metre

A prompt sets the metre until a listener sets a number (`beats_per_bar` of a [steer](protocol.md#steer), 3 or 4;
`null` or `"auto"` returns to the words). The first of these rules decides:

1. A written metre: "in 3/4", "6/8" and "triple time" are three beats to the bar, "4/4", "2/4" and "12/8" are four.
   Other metres ("7/8") are not available, and the reason says so.
2. A dance in three ("string quartet waltz", "orchestral, minuet").
3. Any other genre has four beats to the bar.
4. The model's own metre.

A mix of prompts has the metre of its larger part by weight. Prompts without a metre ("rain") do not count. The
embedded model is trained in both metres: a clip in three has six beats. `beats_per_bar_reason` of the
[state](protocol.md#state) gives the reason.

A metre changes at the next bar line, whichever `at` a steer has, and along a journey between two clips. `bar` and
`bar_beat` of [now](protocol.md#now) count the bars. Every bar is whole: it has as many beats as `now` says, also
beside faults.

## Unknown words

`likeness` of the [state](protocol.md#state) says how near a prompt is to the nearest style that the embedded model was
trained with: `style` is its name, `score` the cosine similarity of the text encoder's sentence vectors, 0 to 1. Of a
mix it is the prompt that the model knows least. Below 0.38 the page says that the model does not know the words. Other
models have no named styles: null.

| texts | lowest | median | highest | below 0.38 |
| --- | --- | --- | --- | --- |
| 32 scenes from captions ("neon night drive") | 0.45 | 0.70 | 0.93 | 0 of 32 |
| 64 styles without a name in the corpus (the table below) | 0.29 | 0.58 | 0.98 | 3 of 64 |
| 20 texts that are not music ("tax return form", "asdfgh") | 0.16 | 0.29 | 0.55 | 14 of 20 |

So a low score is a reliable sign, and a score above the limit is none: "the quick brown fox" resembles "foxtrot". The
generator reports the likeness with the first audio of a clip, so it delays no answer. It is in `now` from then on, and
in `scheduled` if the prompts were played before.

## Tempo

A prompt sets the tempo until a listener sets a number (`bpm` of a steer; `null` or `"auto"` returns to the words).
The first of these rules decides:

1. A number in the text ("at 138 bpm").
2. The genre.
3. Scenes, uses and instruments.
4. The model's own tempo.

Words of pace ("slow", "very fast") move the tempo to an end of the genre's range. A mix of prompts has the weighted
geometric mean of their tempos. `bpm_reason` of the [state](protocol.md#state) gives the reason.

The table has prompts of styles without a name in the corpus. *Expected* is the usual range, written before the rules
saw the prompt. {right} of {all} tempos are within 8 % of it. `python -m tests.journey.tempo_table` prints this page.

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
