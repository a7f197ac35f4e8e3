"""Build the seed library: loops of each style, of different line-ups, encoded by the model's codec."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from riffstream.corpus.data import SongFile, find_songs
from riffstream.corpus.styles import groove_styles
from riffstream.diffusion.mini.codec import features_to_mel
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.mini.text import MiniTextEncoder
from riffstream.models.seeds import SeedEntry, SeedLibrary
from riffstream.training.latents import song_features
from riffstream.training.loop_choice import Window, choose_loops
from riffstream.training.loop_levels import with_levels
from riffstream.training.loop_names import loop_name

__all__ = ["add_arguments", "build_seeds", "run"]

STYLE_CAPTIONS = 48
OWN_CAPTIONS = 3  # further descriptions of a loop


def build_seeds(
    corpus: Path, model: Path, *, count: int = 1000, each: int = 4, add: bool = False, captions: Path | None = None
) -> list[SeedEntry]:
    """Write ``seeds/`` into checkpoint folder ``model``: at most ``count`` loops, and ``each`` of a style.

    Styles take turns, so all have one loop before any has two. ``loop_choice.py`` chooses a style's loops.

    Args:
        add: keep the existing loops, and add up to ``count`` to styles with fewer than ``each``.
        captions: corpus with the captions for the search by prompt (see ``_vectors``); by default ``corpus``.
    """
    family = MiniFamily.load(model, dtype=torch.float32)
    folder = model / "seeds"
    entries: list[SeedEntry] = []
    latents: list[Tensor] = []
    vectors: list[Tensor] = []
    if add:
        old = SeedLibrary(folder)
        old_latents, old_vectors = old.stacked()
        entries += [_measured(entry, loop, family) for entry, loop in zip(old.entries, old_latents, strict=True)]
        latents += list(old_latents)
        vectors += list(old_vectors)
    for window in _choose(corpus, entries, count, each):
        song, number = window.song, window.number
        features = song_features(song, family.codec.config, [number])
        with torch.no_grad():
            coded = family.encode_mel(features_to_mel(features, family.codec.config))
        latents.append(torch.nn.functional.pad(coded[0], (0, family.latent_shape()[2] - coded.shape[-1])))
        entry = _measured(_describe(window, entries), latents[-1], family)
        entries.append(entry)
    vectors = _vectors(entries, vectors, captions or corpus, family.text_encoder)
    first = {style: turn for turn, style in enumerate(dict.fromkeys(entry.style for entry in entries))}
    order = sorted(range(len(entries)), key=lambda place: first[entries[place].style])
    entries = [entries[place] for place in order]
    rows = [torch.stack([tensors[place] for place in order]) for tensors in (latents, vectors)]
    SeedLibrary.write(folder, entries, *rows)
    return entries


def _measured(entry: SeedEntry, latents: Tensor, family: MiniFamily) -> SeedEntry:
    """The entry with the levels of its sound, where it has none from the corpus."""
    if entry.energy is not None:
        return entry
    with torch.no_grad():
        mel = family.decode_mel(latents[None, ..., : latents.shape[-1] * entry.beats // 8])[0]
    return with_levels(entry, mel.numpy())


def _describe(window: Window, entries: Sequence[SeedEntry]) -> SeedEntry:
    """The entry of a new loop beside those of ``entries``."""
    song, number, levels = window.song, window.number, window.levels
    words = _words(song.style)
    texts = sorted(dict.fromkeys(song.captions[number]), key=len, reverse=True)
    # The longest one lists the instruments. Short ones name moods, places and uses.
    further = texts[1:] if len(texts) <= OWN_CAPTIONS else texts[-OWN_CAPTIONS:]
    return SeedEntry(
        name=loop_name(words, window, entries),
        style=song.style,
        tags=tuple(dict.fromkeys((words, *window.instruments))),
        caption=texts[0],
        bpm=song.bpm,
        beats=song.beats,
        captions=tuple(further),
        chords=window.chords,
        parts={part: round(level, 2) for part, level in levels.parts.items()},
        density=_rounded(levels.density),
        energy=_rounded(levels.energy),
        brightness=_rounded(levels.brightness),
    )


def _rounded(level: float | None) -> float | None:
    return None if level is None else round(level, 2)


def _words(style: str) -> str:
    """The usual name of a style of the corpus. Files of MMA's library have names like ``bvfunk``."""
    groove = groove_styles().get(style.removeprefix("mma_")) if style.startswith("mma_") else None
    return groove.tags[0] if groove else style.replace("_", " ").replace("-", " ")


def _direction(encoder: MiniTextEncoder, texts: Sequence[str]) -> Tensor:
    return torch.nn.functional.normalize(encoder.sentences(texts).mean(0), dim=-1)


def _vectors(
    entries: Sequence[SeedEntry], known: Sequence[Tensor], corpus: Path, encoder: MiniTextEncoder
) -> list[Tensor]:
    """Vectors for comparison with prompts: a loop's captions and, with twice the weight, its style's in ``corpus``.

    The captions of one window name all its instruments. By these alone, a loop of another style is often nearer. For
    styles that the corpus lacks, the first entries keep their ``known`` vectors, and the others have these alone.
    """
    by_style: dict[str, list[str]] = {}
    for song in find_songs(corpus):
        if not song.held_out:
            by_style.setdefault(song.style, []).extend(chain.from_iterable(song.captions))
    styles = {
        style: _direction(encoder, random.Random(0).sample(texts, min(STYLE_CAPTIONS, len(texts))))
        for style in dict.fromkeys(entry.style for entry in entries)
        if (texts := by_style.get(style))
    }
    vectors = list(known)
    for place, entry in enumerate(entries):
        own = _direction(encoder, [entry.caption, ", ".join(entry.tags), *entry.captions])
        if entry.style in styles:
            own = torch.nn.functional.normalize(own + 2 * styles[entry.style], dim=-1)
        if place == len(vectors):
            vectors.append(own)
        elif entry.style in styles:
            vectors[place] = own
    return vectors


def _choose(corpus: Path, entries: Collection[SeedEntry], count: int, each: int) -> list[Window]:
    """New loops: one of each style, then a second of each, ..."""
    by_style: dict[str, list[SongFile]] = {}
    for song in find_songs(corpus):
        by_style.setdefault(song.style, []).append(song)
    # Built-in styles before those of MMA's library, which have less descriptive names.
    styles = sorted(by_style, key=lambda style: (style.startswith("mma_"), style))
    known = {style: [entry for entry in entries if entry.style == style] for style in styles}
    found = {style: choose_loops(by_style[style], known[style], each - len(known[style])) for style in styles}
    turns = [
        found[style][turn - len(known[style])]
        for turn in range(each)
        for style in styles
        if 0 <= turn - len(known[style]) < len(found[style])
    ]
    return turns[:count]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train seeds``."""
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="corpus folder")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder; seeds/ is written into it")
    parser.add_argument("--count", type=int, default=1000, help="most loops; with --add, new loops (default 1000)")
    parser.add_argument("--each", type=int, default=4, help="most loops of a style (default 4)")
    parser.add_argument("--add", action="store_true", help="keep the existing loops, and add to styles with fewer")
    parser.add_argument("--captions", type=Path, default=None, help="corpus of the captions; default: --corpus")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train seeds``."""
    entries = build_seeds(
        args.corpus, args.model, count=args.count, each=args.each, add=args.add, captions=args.captions
    )
    if args.json:
        print(json.dumps({"seeds": len(entries), "styles": len({entry.style for entry in entries})}))
    elif not args.quiet:
        print(f"{len(entries)} seeds of {len({entry.style for entry in entries})} styles")
    return 0
