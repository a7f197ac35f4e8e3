"""Run a batch: many renderings through one model's batches, resumable, with an index page.

The folder has an audio file for each rendering, ``NAME.json`` with its parameters, and ``index.html``. ``NAME.json`` is
written last: a rendering with it is complete, and the next run with the same parameters and the same model keeps it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from riffstream import __version__
from riffstream.audio.writing import AudioFileWriter, file_format
from riffstream.commands._reports import make_folder
from riffstream.commands.rendering.batch_file import ParameterSet, read_batch
from riffstream.commands.rendering.clip_pictures import ClipPictures
from riffstream.commands.rendering.music import Music
from riffstream.commands.rendering.page import index_page
from riffstream.errors import MediaError, ParameterError, RiffstreamError
from riffstream.generator.isolation import Isolation
from riffstream.generator.messages import Info
from riffstream.generator.renderer import DrawingRenderer
from riffstream.protocol import SAMPLE_RATE
from riffstream.text_files import parse_json, read_text

__all__ = ["run_batch"]

PAGE_EVERY_S: Final = 5.0
# Options of the command line that are parameters of every set without a value of its own.
SHARED: Final = (
    *("prompt", "journey", "negative", "seconds", "seed", "seed_image", "denoising", "guidance", "bpm", "key"),
    *("beats_per_bar", "chords", "form", "parts", "energy", "density", "brightness", "steps", "lufs", "mix"),
    *("sampler", "lora", "dtype"),
)
MOST_NAMED: Final = 20  # failures in the last line


@dataclass(frozen=True, slots=True)
class _Rendering:
    """One rendering of the batch: its place and its checked music."""

    name: str
    folder: Path
    extension: str
    parameters: dict[str, Any]
    music: Music

    @property
    def audio(self) -> Path:
        return self.folder / f"{self.name}.{self.extension}"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.json"

    def finished(self, info: Info, *, images: bool) -> dict[str, Any] | None:
        """The record of an earlier run with the same result; None if it has to be rendered."""
        try:
            record = parse_json(read_text(self.record))
            same = (
                record["parameters"] == json.loads(json.dumps(self.parameters))
                and (record["model"], record["weights"]) == (info.model, info.weights)
                and record["audio"] == self.audio.name
                and (record["pictures"] or not images)
            )
            files = [record["audio"], *record["pictures"]]
        except (OSError, MediaError, KeyError, TypeError):
            return None
        return record if same and all((self.folder / file).is_file() for file in files) else None


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
    extension = file_format(f".{args.format.lower().removeprefix('.')}")
    folder = Path(args.output)
    if folder.is_file():
        raise ParameterError("--output", args.output, "a folder for the batch")
    renderings = [_checked(each, args, folder, extension) for each in read_batch(args.batch)]
    make_folder(folder)
    return _Batch(args, folder, renderings, load()).run()


def _checked(given: ParameterSet, args: argparse.Namespace, folder: Path, extension: str) -> _Rendering:
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
    except ParameterError as error:
        raise ParameterError(f"{given.name}: {error.field}", error.value, error.allowed) from None
    shared = {name: getattr(own, name) for name in SHARED}
    parameters = {name: value for name, value in shared.items() if value not in (None, "", [])}
    return _Rendering(given.name, folder, extension, parameters, music)


class _Batch:
    """A batch in progress."""

    def __init__(
        self, args: argparse.Namespace, folder: Path, renderings: list[_Rendering], renderer: DrawingRenderer
    ) -> None:
        self.args, self.folder, self.renderings, self.renderer = args, folder, renderings, renderer
        self.records: dict[str, dict[str, Any]] = {}
        self.page_at = 0.0
        for each in renderings:
            if (record := each.finished(renderer.info, images=args.image)) is not None:
                self.records[each.name] = record
        self.kept = len(self.records)

    def run(self) -> int:
        """Render what is missing, and report."""
        todo = [each for each in self.renderings if each.name not in self.records]
        began = time.monotonic()
        try:
            self._render(todo)
        except KeyboardInterrupt:
            print("stopped; the same command continues", file=sys.stderr)
            raise
        finally:
            self._write_page()
        failed = {name: record["error"] for name, record in self.records.items() if "error" in record}
        self._report(todo, failed, time.monotonic() - began)
        return 1 if failed else 0

    def _render(self, todo: list[_Rendering]) -> None:
        from riffstream.station.offline import Finished, run_together

        byname = {each.name: each for each in todo}
        pictures = ClipPictures(self.renderer, lambda name: self.folder / name) if self.args.image else None
        writers: dict[str, AudioFileWriter] = {}
        total = round(sum(each.music.n_samples for each in todo) / SAMPLE_RATE, 1)
        form = "{l_bar}{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed} elapsed, {remaining} left]{postfix}"
        quiet = self.args.quiet or not todo or None
        with tqdm(total=total, disable=quiet, desc="rendering", bar_format=form, file=sys.stderr) as bar:
            try:
                for part, made in run_together(self._parts(todo), Isolation(self.renderer), at_once=self.args.at_once):
                    each = byname[part.name]
                    if isinstance(made, RiffstreamError):
                        self._fail(each, str(made), writers.pop(part.name, None))
                    elif isinstance(made, Finished):
                        drawn = pictures.finish(part.name, made.clips) if pictures is not None else []
                        writers.pop(part.name).close()
                        self._keep(each, drawn)
                    else:
                        if part.name not in writers:
                            writers[part.name] = AudioFileWriter(each.audio, SAMPLE_RATE, 2, each.music.tags)
                        writers[part.name].write(made)
                        bar.update(len(made) / SAMPLE_RATE)
                        continue
                    bar.set_postfix_str(f"{len(self.records)} of {len(self.renderings)}", refresh=False)
            finally:
                for writer in writers.values():
                    writer.discard()

    def _parts(self, todo: list[_Rendering]) -> Iterator[Any]:
        """The parts in order; one whose conditions the model does not support fails."""
        from riffstream.station.offline import Part

        for each in todo:
            each.record.unlink(missing_ok=True)
            music = each.music
            try:
                score = music.score(self.renderer.info)
            except RiffstreamError as error:
                self._fail(each, str(error), None)
                continue
            yield Part(
                name=each.name,
                score=score,
                n_samples=music.n_samples,
                settings=music.settings,
                steps=music.steps,
                mix=music.mix,
            )

    def _fail(self, each: _Rendering, error: str, writer: AudioFileWriter | None) -> None:
        if writer is not None:
            writer.discard()
        self.records[each.name] = {"name": each.name, "error": error}
        tqdm.write(f"riffstream render: {each.name}: {error}", file=sys.stderr)

    def _keep(self, each: _Rendering, pictures: list[Path]) -> None:
        record = {
            "name": each.name,
            "audio": each.audio.name,
            "pictures": [path.name for path in pictures],
            "seconds": round(each.music.n_samples / SAMPLE_RATE, 3),
            "parameters": each.parameters,
            "model": self.renderer.info.model,
            "weights": self.renderer.info.weights,
            "version": __version__,
        }
        _write_text(each.record, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        self.records[each.name] = record
        if time.monotonic() - self.page_at > PAGE_EVERY_S:
            self._write_page()

    def _write_page(self) -> None:
        found = [self.records[each.name] for each in self.renderings if each.name in self.records]
        title = f"{self.args.batch.stem}: {self.renderer.info.model}"
        _write_text(self.folder / "index.html", index_page(title, found, len(self.renderings) - len(found)))
        self.page_at = time.monotonic()

    def _report(self, todo: list[_Rendering], failed: dict[str, str], elapsed_s: float) -> None:
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
