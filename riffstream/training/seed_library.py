"""Build the seed library: one full-arrangement loop of each style, encoded by the model's codec."""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
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

__all__ = ["add_arguments", "build_seeds", "run"]

STYLE_CAPTIONS = 48


def build_seeds(
    corpus: Path, model: Path, *, count: int = 96, add: bool = False, captions: Path | None = None
) -> list[SeedEntry]:
    """Write ``seeds/`` into checkpoint folder ``model``, at most ``count`` loops, of different styles first.

    Each loop is the window of its song with the most instruments.

    Args:
        add: keep the existing loops, and only add loops of missing styles.
        captions: corpus with the captions for the search by prompt (see ``_vectors``); by default ``corpus``.
    """
    family = MiniFamily.load(model, dtype=torch.float32)
    folder = model / "seeds"
    entries: list[SeedEntry] = []
    latents, vectors = [], []
    if add:
        old = SeedLibrary(folder)
        entries += old.entries
        old_latents, old_vectors = old.stacked()
        latents += list(old_latents)
        vectors += list(old_vectors)
    for song, window in _choose(corpus, {entry.style for entry in entries}, count):
        words = _words(song.style)
        plain = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") or "loop"
        taken = sum(entry.name.rstrip("_0123456789") == plain.rstrip("_0123456789") for entry in entries)
        name = plain if taken == 0 else f"{plain}_{taken + 1}"
        caption = max(song.captions[window], key=len)
        tags = tuple(dict.fromkeys((words, *song.instruments[window])))
        entries.append(SeedEntry(name, song.style, tags, caption, song.bpm, song.beats))
        features = song_features(song, family.codec.config, [window])
        with torch.no_grad():
            coded = family.encode_mel(features_to_mel(features, family.codec.config))
        latents.append(torch.nn.functional.pad(coded[0], (0, family.latent_shape()[2] - coded.shape[-1])))
        vectors.append(_direction(family.text_encoder, [*song.captions[window], ", ".join(tags)]))
    vectors = _vectors(entries, vectors, captions or corpus, family.text_encoder)
    SeedLibrary.write(folder, entries, torch.stack(latents), torch.stack(vectors))
    return entries


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

    The captions of one window name all its instruments. By these alone (``known``), a loop of another style is often
    nearer. ``known`` remains for styles that the corpus lacks.
    """
    by_style: dict[str, list[str]] = {}
    for song in find_songs(corpus):
        if not song.held_out:
            by_style.setdefault(song.style, []).extend(chain.from_iterable(song.captions))
    vectors = list(known)
    for place, entry in enumerate(entries):
        if texts := by_style.get(entry.style):
            own = _direction(encoder, [entry.caption, ", ".join(entry.tags)])
            style = _direction(encoder, random.Random(0).sample(texts, min(STYLE_CAPTIONS, len(texts))))
            vectors[place] = torch.nn.functional.normalize(own + 2 * style, dim=-1)
    return vectors


def _choose(corpus: Path, known: set[str], count: int) -> list[tuple[SongFile, int]]:
    """Songs of styles outside ``known``, and their windows with the most instruments."""
    by_style: dict[str, list[SongFile]] = {}
    for song in find_songs(corpus):
        if song.style not in known:
            by_style.setdefault(song.style, []).append(song)
    for songs in by_style.values():  # plain productions first: a loop with a filter sweep is a poor start
        songs.sort(key=lambda song: song.look != "plain")
    # Built-in styles before those of MMA's library, which have less descriptive names.
    styles = sorted(by_style, key=lambda style: (style.startswith("mma_"), style))
    chosen = [by_style[style][turn] for turn in range(4) for style in styles if turn < len(by_style[style])][:count]

    def fullest(song: SongFile) -> int:
        windows = range(len(song.captions))
        return max(windows, key=lambda k: (song.sections[k] == "full", len(song.instruments[k]), k))

    return [(song, fullest(song)) for song in chosen]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train seeds``."""
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="corpus folder")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder; seeds/ is written into it")
    parser.add_argument("--count", type=int, default=96, help="number of loops; with --add, of new loops")
    parser.add_argument("--add", action="store_true", help="keep the existing loops; add missing styles only")
    parser.add_argument("--captions", type=Path, default=None, help="corpus of the captions; default: --corpus")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train seeds``."""
    entries = build_seeds(args.corpus, args.model, count=args.count, add=args.add, captions=args.captions)
    if args.json:
        print(json.dumps({"seeds": len(entries), "styles": len({entry.style for entry in entries})}))
    elif not args.quiet:
        print(f"{len(entries)} seeds of {len({entry.style for entry in entries})} styles")
    return 0
