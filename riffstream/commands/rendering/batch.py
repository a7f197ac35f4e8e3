"""Run a batch: many renderings through one model's batches, resumable, with an index page.

The folder has an audio file for each rendering, ``NAME.json`` with its parameters, and ``index.html``. ``NAME.json`` is
written last: a rendering with it is complete, and the next run with the same parameters and the same model keeps it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from riffstream import __version__
from riffstream.audio.writing import file_format
from riffstream.commands._reports import make_folder
from riffstream.commands.rendering.batch_file import ParameterSet, read_batch
from riffstream.commands.rendering.music import Music
from riffstream.commands.rendering.page import index_page
from riffstream.commands.rendering.renderings import Again, Grown, Made, Rendering, Report, render_all
from riffstream.commands.rendering.workers import Workers
from riffstream.errors import MediaError, ParameterError
from riffstream.generator.messages import Info
from riffstream.generator.renderer import DrawingRenderer
from riffstream.journey.keyframe import AUTO, NONE
from riffstream.models.seeds import SeedLibrary
from riffstream.protocol import SAMPLE_RATE
from riffstream.threads import usable_cores

__all__ = ["run_batch"]

PAGE_EVERY_S: Final = 5.0
# Options of the command line that are parameters of every set without a value of its own.
SHARED: Final = (
    *("prompt", "journey", "negative", "seconds", "seed", "seed_image", "denoising", "guidance", "bpm", "key"),
    *("beats_per_bar", "chords", "form", "parts", "energy", "density", "brightness", "steps", "lufs", "mix"),
    *("sampler", "lora", "dtype"),
)
MOST_NAMED: Final = 20  # failures in the last line


def run_batch(args: argparse.Namespace, load: Callable[[], DrawingRenderer]) -> int:
    """Render the sets of ``args.batch`` into the folder ``args.output``.

    Args:
        args: the command's options; they are the defaults of each set.
        load: loads the model, after all sets were checked.

    Returns:
        The exit code: 0 if all succeeded, 1 if some failed.
    """
    if not 1 <= args.at_once <= 256:
        raise ParameterError("--at-once", args.at_once, "1 to 256")
    if args.processes is not None and not 1 <= args.processes <= 1024:
        raise ParameterError("--processes", args.processes, "1 to 1024")
    extension = file_format(f".{args.format.lower().removeprefix('.')}")
    folder = Path(args.output)
    if folder.is_file():
        raise ParameterError("--output", args.output, "a folder for the batch")
    renderings = [_checked(each, args, folder, extension) for each in read_batch(args.batch)]
    make_folder(folder)
    processes = min(_processes(args), len(renderings))
    if processes == 1:
        renderer = load()

        return _Batch(args, folder, renderings, renderer.info).run(
            lambda todo: render_all(todo, renderer, at_once=args.at_once, images=args.image)
        )
    began = time.time()
    workers = Workers(args, processes)
    try:
        with workers:
            batch = _Batch(args, folder, renderings, workers.load())
            return batch.run(lambda todo: workers.render(todo, args.at_once))
    finally:
        if workers.lost:
            _remove_halves(folder, began)


def _processes(args: argparse.Namespace) -> int:
    """Most processes of a batch; a test tone has no work for several."""
    if args.processes is not None:
        return int(args.processes)
    return 1 if args.model == "tone" else usable_cores()


def _checked(given: ParameterSet, args: argparse.Namespace, folder: Path, extension: str) -> Rendering:
    """Apply a set to the options, and check the result. Raises RiffstreamError with the set's name."""
    values = dict(given.values)
    own = argparse.Namespace(**vars(args))
    if values.keys() & {"prompt", "prompts", "journey"}:
        own.prompt, own.journey = [], None
    if "prompt" in values and "prompts" in values:
        raise ParameterError(f"{given.name}: prompts", values["prompts"], "either prompt or prompts")
    if "prompt" in values:
        values["prompt"] = [values["prompt"]]
    if "prompts" in values:
        values["prompt"] = values.pop("prompts")
    if "parts" in values:
        values["parts"] = [f"{part}={level}" for part, level in values["parts"].items()]
    if "mix" in values:
        values["mix"] = values["mix"].split()
    if "journey" in values:
        values["journey"] = str(args.batch.parent / values["journey"])
    image = values.get("seed_image")
    if image is not None and (args.batch.parent / image).is_file():
        values["seed_image"] = str(args.batch.parent / image)
    for name, value in values.items():
        setattr(own, name, value)
    try:
        music = Music.of(own)
        _check_seed_images(music, own.model)
    except ParameterError as error:
        raise ParameterError(f"{given.name}: {error.field}", error.value, error.allowed) from None
    shared = {name: getattr(own, name) for name in SHARED}
    parameters = {name: value for name, value in shared.items() if value not in (None, "", [])}
    return Rendering(given.name, folder, extension, parameters, music)


def _check_seed_images(music: Music, model: str) -> None:
    """Refuse names of seed images that the model's library does not have."""
    for name in music.seed_images:
        if name not in (AUTO, NONE) and model != "tone" and not Path(name).is_file():
            _library(model)[name]


@functools.cache
def _library(model: str) -> SeedLibrary:
    """The seed library of a model, read once for all sets."""
    return SeedLibrary.of(model)


class _Batch:
    """A batch in progress."""

    def __init__(self, args: argparse.Namespace, folder: Path, renderings: list[Rendering], info: Info) -> None:
        self.args, self.folder, self.renderings, self.info = args, folder, renderings, info
        self.records: dict[str, dict[str, Any]] = {}
        self.page_at = 0.0
        for each in renderings:
            if (record := each.finished(info, images=args.image)) is not None:
                self.records[each.name] = record
        self.kept = len(self.records)

    def run(self, render: Callable[[Sequence[Rendering]], Generator[Report]]) -> int:
        """Render what is missing with ``render``, and report."""
        todo = [each for each in self.renderings if each.name not in self.records]
        began = time.monotonic()
        try:
            if todo:
                self._render(todo, render(todo))
        except KeyboardInterrupt:
            print("stopped; the same command continues", file=sys.stderr)
            raise
        finally:
            self._write_page()
        failed = {name: record["error"] for name, record in self.records.items() if "error" in record}
        self._report(todo, failed, time.monotonic() - began)
        return 1 if failed else 0

    def _render(self, todo: list[Rendering], reports: Generator[Report]) -> None:
        byname = {each.name: each for each in todo}
        grown = dict.fromkeys(byname, 0)
        total = sum(each.music.n_samples for each in todo) / SAMPLE_RATE
        form = "{l_bar}{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed} elapsed, {remaining} left]{postfix}"
        quiet = self.args.quiet or None
        with (
            contextlib.closing(reports),
            tqdm(total=total, disable=quiet, desc="rendering", bar_format=form, file=sys.stderr) as bar,
        ):
            for report in reports:
                each = byname[report.name]
                if isinstance(report, Grown):
                    grown[each.name] += report.samples
                    bar.update(report.samples / SAMPLE_RATE)
                    continue
                if isinstance(report, Again):
                    bar.update(-grown[each.name] / SAMPLE_RATE)
                    grown[each.name] = 0
                    continue
                if isinstance(report, Made):
                    self._keep(each, report.pictures)
                    if note := each.music.note(self.info):
                        tqdm.write(f"riffstream render: {each.name}: {note}", file=sys.stderr)
                else:
                    bar.total -= (each.music.n_samples - grown[each.name]) / SAMPLE_RATE
                    self.records[each.name] = {"name": each.name, "error": report.error}
                    tqdm.write(f"riffstream render: {each.name}: {report.error}", file=sys.stderr)
                bar.set_postfix_str(f"{len(self.records)} of {len(self.renderings)}", refresh=False)

    def _keep(self, each: Rendering, pictures: Sequence[str]) -> None:
        record = {
            "name": each.name,
            "audio": each.audio.name,
            "pictures": list(pictures),
            "seconds": round(each.music.n_samples / SAMPLE_RATE, 3),
            "parameters": each.parameters,
            "model": self.info.model,
            "weights": self.info.weights,
            "version": __version__,
        }
        _write_text(each.record, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        self.records[each.name] = record
        if time.monotonic() - self.page_at > PAGE_EVERY_S:
            self._write_page()

    def _write_page(self) -> None:
        found = [self.records[each.name] for each in self.renderings if each.name in self.records]
        title = f"{self.args.batch.stem}: {self.info.model}"
        _write_text(self.folder / "index.html", index_page(title, found, len(self.renderings) - len(found)))
        self.page_at = time.monotonic()

    def _report(self, todo: list[Rendering], failed: dict[str, str], elapsed_s: float) -> None:
        seconds = sum(each.music.n_samples for each in todo if each.name not in failed) / SAMPLE_RATE
        speed = round(seconds / max(1e-9, elapsed_s), 2)
        if failed:
            names = ", ".join(list(failed)[:MOST_NAMED]) + (", ..." if len(failed) > MOST_NAMED else "")
            print(f"riffstream render: {len(failed)} of {len(self.renderings)} failed: {names}", file=sys.stderr)
        if self.args.json:
            report = {
                "folder": str(self.folder),
                "rendered": len(todo) - len(failed),
                "kept": self.kept,
                "failed": failed,
                "seconds": round(seconds, 3),
                "render_s": round(elapsed_s, 3),
                "real_time_factor": speed,
            }
            print(json.dumps(report))
        elif not self.args.quiet:
            kept = f", {self.kept} kept from before" if self.kept else ""
            made = len(todo) - len(failed)
            how = f"{seconds:.0f} s of audio, {speed:g} times as fast as it plays"
            print(f"{self.folder / 'index.html'}: {made} rendered ({how}){kept}", file=sys.stderr)


def _write_text(path: Path, text: str) -> None:
    """Write a file at once: others see the old one or the new one."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _remove_halves(folder: Path, since: float) -> None:
    """Remove the unfinished files of processes that were killed. ``since``: time of the batch's start."""
    for path in folder.glob(f".{'[0-9a-f]' * 16}.part"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime >= since - 1:
                path.unlink()
