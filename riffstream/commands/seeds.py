"""List, search and export the seed library: named loops as the start of a station's music."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from riffstream.errors import ParameterError
from riffstream.text_files import readable

EXAMPLES = """examples:
  riffstream seeds list
  riffstream seeds search "slow piano for a rainy evening" --count 3
  riffstream seeds export lofi_hip_hop --out lofi.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("action", choices=("list", "search", "export"), help="what to do")
    parser.add_argument(
        "text", type=readable, nargs="?", default="", help="search: a prompt; export: a seed's name; list: a filter"
    )
    parser.add_argument("--folder", type=Path, default=None, help="library (default: the embedded model's)")
    parser.add_argument("--count", type=int, default=5, help="search: number of results (default 5)")
    parser.add_argument("--out", "-o", type=Path, default=None, help="export: .png (default NAME.png) or .safetensors")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """List or export loops."""
    from riffstream.models.seeds import SEEDS_FOLDER, SeedEntry, SeedLibrary

    library = SeedLibrary(args.folder or SEEDS_FOLDER)
    found: list[tuple[SeedEntry, float | None]]
    if args.action == "export":
        if not args.text:
            raise ParameterError("text", args.text, "the name of a seed, as 'riffstream seeds list' shows it")
        path = args.out or Path(f"{args.text}.png")
        _export(library, args.text, path)
        if args.json:
            print(json.dumps({**asdict(library[args.text]), "file": str(path)}))
        elif not args.quiet:
            print(path)
        return 0
    if args.action == "search":
        from riffstream.diffusion.mini.text import MiniTextEncoder

        if not args.text:
            raise ParameterError("text", args.text, "a prompt to search for")
        model = library.folder.parent
        encoder = MiniTextEncoder.load(model / "text_encoder", model / "tokenizer")
        found = [(entry, likeness) for entry, likeness in library.nearest(args.text, encoder, args.count)]
    else:
        wanted = args.text.lower()
        found = [(e, None) for e in library.entries if wanted in " ".join((e.name, e.caption, *e.tags)).lower()]
    if args.json:
        rows = [asdict(entry) | ({} if likeness is None else {"likeness": likeness}) for entry, likeness in found]
        print(json.dumps(rows))
    elif not args.quiet:
        for entry, likeness in found:
            score = "" if likeness is None else f"{likeness:6.3f}  "
            print(f"{score}{entry.name:<28} {entry.bpm:5.0f} bpm  {entry.caption}")
    return 0


def _export(library: object, name: str, path: Path) -> None:
    from riffstream.models.seeds import SeedLibrary

    assert isinstance(library, SeedLibrary)
    if path.suffix == ".png":
        shutil.copyfile(library.preview(name), path)
    elif path.suffix == ".safetensors":
        from riffstream.diffusion.mini.files import write_tensors

        write_tensors(path, {"latents": library.latents(name)})
    else:
        raise ParameterError("out", str(path), "a .png or a .safetensors file")
