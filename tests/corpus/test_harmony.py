"""The planner's table of harmony agrees with the corpus: the same styles, families and chords."""

from __future__ import annotations

from riffstream.corpus import music
from riffstream.corpus.styles import groove_styles, own_styles
from riffstream.journey.harmony import families, read_harmony


def test_every_style_of_the_corpus_has_its_families() -> None:
    seen: set[str] = set()
    for style in (*own_styles(), *groove_styles().values()):
        for tag in style.tags:
            if tag not in seen:
                seen.add(tag)
                assert read_harmony(tag) == style.harmony, (style.name, tag)
    assert len(seen) > 400


def test_the_planner_uses_chords_that_the_model_has_learned() -> None:
    learned = {chord for rows in music._PROGRESSIONS.values() for row in rows for chord in row.split()}
    for name, family in families().items():
        for kind in ("verse", "chorus", "bridge", "turn", "close"):
            used = {chord for row in getattr(family, kind) for bar in row for chord in bar.split(" / ")}
            assert used <= learned, (name, kind, used - learned)
