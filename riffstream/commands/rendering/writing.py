"""One rendering into its audio file, with progress, pictures and a summary."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riffstream.audio.writing import AudioFileWriter
from riffstream.commands.rendering.clip_pictures import ClipPictures
from riffstream.errors import RiffstreamError
from riffstream.generator.messages import Info, Pcm
from riffstream.generator.renderer import DrawingRenderer
from riffstream.protocol import SAMPLE_RATE

if TYPE_CHECKING:
    from riffstream.station.offline import Part

__all__ = ["part_blocks", "write_blocks"]


def part_blocks(args: argparse.Namespace, part: Part, renderer: DrawingRenderer) -> Iterator[Pcm]:
    """Audio of a part in blocks [n, 2]; with ``args.image`` its clips are drawn beside ``args.output``.

    Raises:
        RiffstreamError: a clip cannot be rendered.
    """
    from riffstream.station.offline import Finished, run_together

    pictures = ClipPictures(renderer, lambda _: Path(args.output).with_suffix("")) if args.image else None
    for _, made in run_together([part], renderer):
        if isinstance(made, RiffstreamError):
            raise made
        if isinstance(made, Finished):
            if pictures is not None:
                pictures.finish(part.name, made.clips)
        else:
            yield made


def write_blocks(
    args: argparse.Namespace,
    file: AudioFileWriter,
    blocks: Iterator[Pcm],
    n_samples: int | None,
    info: Info,
    began: float,
) -> None:
    """Write blocks to the file, with progress and a summary."""
    from tqdm import tqdm

    total = None if n_samples is None else round(n_samples / SAMPLE_RATE, 1)
    rendering = time.monotonic()
    written = 0
    form = "{l_bar}{bar}| {n:.1f}/{total:.1f} s [{elapsed} elapsed, {remaining} left]"
    with tqdm(total=total, disable=args.quiet or None, desc="rendering", bar_format=form if total else None) as bar:
        for block in blocks:
            file.write(block)
            written += len(block)
            bar.update(len(block) / SAMPLE_RATE)
    file.close()
    now = time.monotonic()
    seconds = written / SAMPLE_RATE
    report: dict[str, Any] = {
        "file": args.output,
        "seconds": round(seconds, 3),
        "model": info.model,
        "device": info.device,
        "load_s": round(rendering - began, 3),
        "render_s": round(now - rendering, 3),
        "real_time_factor": round(seconds / max(1e-9, now - rendering), 2),
    }
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        speed = report["real_time_factor"]
        print(f"{args.output}: {seconds:.1f} s, {speed:g} times as fast as it plays", file=sys.stderr)
