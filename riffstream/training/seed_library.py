"""Make the seed library: one full-arrangement loop of each style, encoded by the model's own codec."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from riffstream.diffusion.mini import MiniFamily
from riffstream.diffusion.mini_codec import features_to_mel
from riffstream.models.seeds import SeedEntry, SeedLibrary
from riffstream.training.latents import SongFile, find_songs, song_features

__all__ = ["add_arguments", "build_seeds", "run"]


def build_seeds(corpus: Path, model: Path, *, count: int = 96, add: bool = False) -> list[SeedEntry]:
    """Write ``seeds/`` into checkpoint folder ``model``, at most ``count`` loops, of different styles first.

    Of a song that window is taken which most instruments play; its vector is the mean of its captions' embeddings.

    Args:
        add: keep the loops that are there, and take none of a style that has one.
    """
    family = MiniFamily.load(model, dtype=torch.float32)
    folder = model / "seeds"
    (folder / "previews").mkdir(parents=True, exist_ok=True)
    entries: list[SeedEntry] = []
    latents, vectors = [], []
    if add:
        old = SeedLibrary(folder)
        entries += old.entries
        old_latents, old_vectors = old.stacked()
        latents += list(old_latents)
        vectors += list(old_vectors)
    for song, window in _choose(corpus, {entry.style for entry in entries}, count):
        record = _record(song)
        clip = record["clips"][window]
        plain = song.style.removeprefix("mma_").replace("-", "_")
        taken = sum(entry.name.rstrip("_0123456789") == plain.rstrip("_0123456789") for entry in entries)
        name = plain if taken == 0 else f"{plain}_{taken + 1}"
        caption = max(clip["captions"], key=len)
        tags = tuple(dict.fromkeys((plain.replace("_", " "), *clip["instruments"])))
        entries.append(SeedEntry(name, song.style, tags, caption, float(record["bpm"]), song.beats))
        features = song_features(song, family.codec.config, [window])
        with torch.no_grad():
            coded = family.encode_mel(features_to_mel(features, family.codec.config))
        latents.append(torch.nn.functional.pad(coded[0], (0, family.latent_shape()[2] - coded.shape[-1])))
        means = family.text_encoder.sentences([*clip["captions"], ", ".join(tags)]).mean(0)
        vectors.append(torch.nn.functional.normalize(means, dim=-1))
        picture = Image.fromarray(family.decode_image(coded)[0]).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
        picture.save(folder / "previews" / f"{name}.png", optimize=True)
    SeedLibrary.write(folder, entries, torch.stack(latents), torch.stack(vectors))
    return entries


def _record(song: SongFile) -> dict[str, Any]:
    return dict(json.loads(song.path.with_suffix(".json").read_text()))


def _choose(corpus: Path, known: set[str], count: int) -> list[tuple[SongFile, int]]:
    """Songs of styles that are not ``known``, and their fullest windows."""
    by_style: dict[str, list[SongFile]] = {}
    for song in find_songs(corpus):
        if song.style not in known:
            by_style.setdefault(song.style, []).append(song)
    for songs in by_style.values():  # plain productions first: a loop under a filter sweep is an odd place to start
        songs.sort(key=lambda song: _record(song)["look"] != "plain")
    # Our own styles before those of MMA's library, whose names say less.
    styles = sorted(by_style, key=lambda style: (style.startswith("mma_"), style))
    chosen = [by_style[style][turn] for turn in range(4) for style in styles if turn < len(by_style[style])][:count]

    def fullest(song: SongFile) -> int:
        clips = _record(song)["clips"]
        return max(range(len(clips)), key=lambda k: (clips[k]["section"] == "full", len(clips[k]["instruments"]), k))

    return [(song, fullest(song)) for song in chosen]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train seeds``."""
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="corpus folder")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder, where seeds/ is written")
    parser.add_argument("--count", type=int, default=96, help="how many loops, with --add: how many more")
    parser.add_argument("--add", action="store_true", help="keep the library's loops; only styles that it lacks")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """``riffstream train seeds``."""
    entries = build_seeds(args.corpus, args.model, count=args.count, add=args.add)
    if args.json:
        print(json.dumps({"seeds": len(entries), "styles": len({entry.style for entry in entries})}))
    elif not args.quiet:
        print(f"{len(entries)} seeds of {len({entry.style for entry in entries})} styles")
    return 0
