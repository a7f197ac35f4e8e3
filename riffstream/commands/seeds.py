"""Seed images: list, search, show and export the library's loops; add and remove your own.

Your own are on a running server (--to) or in the state_dir of a stopped one (--state-dir)."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riffstream.commands._conditions import LEVELS, add_levels, add_parts
from riffstream.errors import ParameterError
from riffstream.journey.conditions import Levels, parse_parts
from riffstream.text_files import readable

if TYPE_CHECKING:
    from riffstream.models.seeds import SeedEntry, SeedLibrary

EXAMPLES = """examples:
  riffstream seeds list
  riffstream seeds list techno --parts drums=0
  riffstream seeds search "slow piano for a rainy evening" --count 3
  riffstream seeds search "deep house" --parts drums=0 pad=1 --energy 0.2
  riffstream seeds show lofi_hip_hop
  riffstream seeds export lofi_hip_hop --out lofi.png
  riffstream seeds export lofi_hip_hop --out lofi.wav               (as audio)
  riffstream seeds add loop.flac --name "my loop" --to http://localhost:8080
  riffstream seeds remove upload-0123456789ab --to http://localhost:8080
  riffstream seeds add loop.flac --state-dir /var/lib/riffstream    (while its server does not run)

RIFFSTREAM_TOKEN may hold the token, hidden from other users of this machine."""

ACTIONS = ("list", "search", "show", "export", "add", "remove")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg")
COUNT = 5
# Actions that have each option. The others refuse it.
USED_BY = {
    "parts": ("list", "search"),
    **dict.fromkeys(("count", *LEVELS), ("search",)),
    "out": ("export",),
    **dict.fromkeys(("name", "bpm", "key"), ("add",)),
    "remove_key": ("remove",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument(
        "text",
        type=readable,
        nargs="?",
        default="",
        help="search: a prompt; show, export, remove: a seed's name; add: a file; list: a filter",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--folder", type=Path, default=None, help="library (default: the embedded model's)")
    place.add_argument("--to", metavar="URL", help="a running server, any address of it")
    place.add_argument("--state-dir", metavar="DIR", help="server.state_dir of a server that does not run")
    parser.add_argument("--count", type=int, default=None, help=f"search: number of results (default {COUNT})")
    add_parts(parser, "list, search: ")
    add_levels(parser, "search: ")
    parser.add_argument(
        "--out", "-o", type=Path, default=None, help="export: .png (default NAME.png), .safetensors or an audio file"
    )
    parser.add_argument("--name", type=readable, default=None, help="add: title of the seed (default: the file's name)")
    parser.add_argument("--bpm", type=float, default=None, help="add: tempo (default: measured)")
    parser.add_argument("--key", type=float, default=None, help="add: semitones above C major (default: measured)")
    parser.add_argument("--token", type=readable, default=None, metavar="T", help="access token of the server")
    parser.add_argument("--remove-key", default=None, metavar="K", help="remove: the key that 'add' printed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """Carry out the action. Raises RiffstreamError."""
    if args.action not in ("list", "search") and not args.text:
        wanted = (
            "the path of a file" if args.action == "add" else "the name of a seed, as 'riffstream seeds list' shows it"
        )
        raise ParameterError("text", args.text, wanted)
    for name, actions in USED_BY.items():
        if args.action not in actions and (given := getattr(args, name)) not in (None, []):
            option = f"--{name.replace('_', '-')}"
            raise ParameterError(option, given, f"with {' or '.join(actions)} only, not with {args.action}")
    if args.to is not None or args.state_dir is not None:
        return _own(args)
    if args.action in ("add", "remove"):
        raise ParameterError("--to", None, "the address of a running server, or --state-dir DIR of a stopped one")
    return _library(args)


def _print(args: argparse.Namespace, shown: Any, *lines: str) -> None:
    if args.json:
        print(json.dumps(shown))
    elif not args.quiet:
        for line in lines:
            print(line)


def _line(seed: dict[str, Any]) -> str:
    return f"{seed['name']:<28} {seed['bpm']:5.0f} bpm  {seed['caption']}"


def _texts(seed: dict[str, Any]) -> list[str]:
    """What a filter searches, as ``SeedEntry.says``."""
    return [seed["name"], seed["style"], *seed["tags"], seed["caption"], *seed.get("captions", ())]


def _facts(seed: dict[str, Any]) -> list[str]:
    """One line for each property with a value, without addresses."""
    words = {key: _in_words(value) for key, value in seed.items()}
    hidden = ("preview", "audio")
    return [f"{key:<10} {value}" for key, value in words.items() if key not in hidden and value not in (None, "")]


def _in_words(value: Any) -> Any:
    if isinstance(value, dict):
        value = [f"{name}={level:g}" for name, level in value.items()]
    return ", ".join(value) if isinstance(value, list | tuple) else value


# -- the library ------------------------------------------------------------------------------------------------------


def _library(args: argparse.Namespace) -> int:
    from riffstream.models.seeds import SEEDS_FOLDER, SeedLibrary

    library = SeedLibrary(args.folder or SEEDS_FOLDER)
    if args.action == "show":
        shown = asdict(library[args.text])
        _print(args, shown, *_facts(shown))
    elif args.action == "export":
        path = args.out or Path(f"{args.text}.png")
        _export(library, args.text, path)
        _print(args, {**asdict(library[args.text]), "file": str(path)}, str(path))
    else:
        found = _found(library, args)
        rows = [asdict(entry) | ({} if likeness is None else {"likeness": likeness}) for entry, likeness in found]
        scores = ["" if likeness is None else f"{likeness:6.3f}  " for _, likeness in found]
        _print(args, rows, *(score + _line(row) for score, row in zip(scores, rows, strict=True)))
    return 0


def _found(library: SeedLibrary, args: argparse.Namespace) -> list[tuple[SeedEntry, float | None]]:
    """Loops of a filter, or of a search with their likeness."""
    parts = parse_parts(args.parts)
    if args.action == "list":
        return [(each, None) for each in library.entries if each.says(args.text) and each.plays(parts)]
    from riffstream.diffusion.mini.text import MiniTextEncoder

    if not args.text.strip():
        raise ParameterError("text", args.text, "a prompt to search for")
    model = library.folder.parent
    encoder = MiniTextEncoder.load(model / "text_encoder", model / "tokenizer")
    asked = Levels(parts, **{name: getattr(args, name) for name in LEVELS})
    count = COUNT if args.count is None else args.count
    return [(entry, likeness) for entry, likeness in library.nearest(args.text, encoder, count, asked=asked)]


def _export(library: SeedLibrary, name: str, path: Path) -> None:
    if path.suffix == ".png":
        path.write_bytes(library.preview(name))
    elif path.suffix == ".safetensors":
        from riffstream.diffusion.mini.files import write_tensors

        write_tensors(path, {"latents": library.latents(name)})
    elif path.suffix in SOUNDS:
        _render(library, name, path)
    else:
        raise ParameterError("out", str(path), f"a .png or a .safetensors file, or audio ({', '.join(SOUNDS)})")


def _render(library: SeedLibrary, name: str, path: Path) -> None:
    """Write a loop as audio, rendered by the model without denoising."""
    import numpy as np

    from riffstream.audio.writing import write_audio
    from riffstream.generator.messages import Piece
    from riffstream.generator.model_renderer import make_renderer
    from riffstream.models.seeds import SEEDS_FOLDER
    from riffstream.protocol import SAMPLE_RATE
    from riffstream.station.audition import seed_job

    entry = library[name]
    model = "mini" if library.folder == SEEDS_FOLDER else str(library.folder.parent)
    renderer = make_renderer({"model": model}, lambda what: None)
    renderer.submit(seed_job(renderer.info, name, bpm=entry.bpm, beats=entry.beats))
    pieces = []
    while renderer.pending:
        pieces += [pcm for message, pcm in renderer.step() if isinstance(message, Piece) and pcm is not None]
    write_audio(path, np.concatenate(pieces), SAMPLE_RATE, {"title": entry.caption})


# -- seeds of a server ------------------------------------------------------------------------------------------------


def _own(args: argparse.Namespace) -> int:
    from riffstream.commands._own_seeds import Stopped, Store
    from riffstream.commands._remote_seeds import Remote

    token = args.token or os.environ.get("RIFFSTREAM_TOKEN")
    store: Store = Stopped(args.state_dir) if args.to is None else Remote(args.to, token)
    if args.action == "search":
        raise ParameterError("search", args.text, "the library only, without --to and --state-dir")
    if args.action == "list":
        from riffstream.models.seeds import mentions, plays

        parts = parse_parts(args.parts)
        listed = [each for each in store.all() if plays(each.get("parts", {}), parts)]
        rows = [each for each in listed if mentions(_texts(each), args.text)]
        _print(args, rows, *map(_line, rows))
    elif args.action == "show":
        shown = store.one(args.text)
        _print(args, shown, *_facts(shown))
    elif args.action == "export":
        path = args.out or Path(f"{args.text}.png")
        if path.suffix not in (".png", *SOUNDS):
            raise ParameterError("out", str(path), f"a .png file, or audio ({', '.join(SOUNDS)})")
        path.write_bytes(store.data(args.text, path.suffix[1:]))
        _print(args, {"name": args.text, "file": str(path)}, str(path))
    elif args.action == "add":
        made = store.add(Path(args.text), {"name": args.name, "bpm": args.bpm, "key": args.key})
        lines = [_line(made), *(f"note: {note}" for note in made.get("notes", ()))]
        if key := made.get("remove_key"):
            lines.append(f"to remove it: riffstream seeds remove {made['name']} --to {args.to} --remove-key {key}")
        _print(args, made, *lines)
    else:
        store.remove(args.text, args.remove_key)
        _print(args, {"removed": args.text}, f"{args.text} is removed")
    return 0
