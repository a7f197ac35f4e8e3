"""Renderings of a batch, and the work on them: parameter sets become audio files and pictures, with reports.

Threading model
  One thread, the caller's. Renderings and reports can be sent to other processes.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riffstream.audio.writing import AudioFileWriter
from riffstream.commands.rendering.clip_pictures import ClipPictures
from riffstream.commands.rendering.music import Music
from riffstream.errors import MediaError, RiffstreamError
from riffstream.generator.isolation import Isolation
from riffstream.generator.messages import Info
from riffstream.generator.renderer import DrawingRenderer
from riffstream.protocol import SAMPLE_RATE
from riffstream.text_files import parse_json, read_text

if TYPE_CHECKING:
    from riffstream.station.offline import Part

__all__ = ["Again", "Broken", "Grown", "Made", "Rendering", "Report", "render_all"]


@dataclass(frozen=True, slots=True)
class Rendering:
    """One rendering of a batch: its place and its checked music."""

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

    def part(self, info: Info) -> Part:
        """The rendering for a model. Raises RiffstreamError for conditions that the model does not support."""
        from riffstream.station.offline import Part

        music = self.music
        return Part(
            name=self.name,
            score=music.score(info),
            n_samples=music.n_samples,
            settings=music.settings,
            steps=music.steps,
            mix=music.mix,
        )


@dataclass(frozen=True, slots=True)
class Grown:
    """``samples`` more of a rendering are written."""

    name: str
    samples: int


@dataclass(frozen=True, slots=True)
class Made:
    """A rendering is complete, with the names of its pictures."""

    name: str
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A rendering has failed; nothing of it is kept."""

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class Again:
    """A rendering is lost, and will be rendered from its beginning."""

    name: str


Report = Grown | Made | Broken | Again


def render_all(
    renderings: Iterable[Rendering], renderer: DrawingRenderer, *, at_once: int, images: bool
) -> Generator[Report]:
    """Render into files through the renderer's batches. What is unfinished at the end of the iteration is discarded.

    Args:
        renderings: begun in this order; each is taken when its turn comes.
        renderer: the renderer.
        at_once: number of renderings in progress, 1 or more.
        images: also write the pictures of the clips.
    """
    from riffstream.station.offline import Finished, run_together

    begun: dict[str, Rendering] = {}
    refused: deque[Broken] = deque()

    def parts() -> Iterator[Part]:
        for each in renderings:
            each.record.unlink(missing_ok=True)
            try:
                part = each.part(renderer.info)
            except RiffstreamError as error:
                refused.append(Broken(each.name, str(error)))
                continue
            begun[each.name] = each
            yield part

    def stem(name: str) -> Path:
        return begun[name].folder / name

    pictures = ClipPictures(renderer, stem) if images else None
    writers: dict[str, AudioFileWriter] = {}
    try:
        for part, made in run_together(parts(), Isolation(renderer), at_once=at_once):
            while refused:
                yield refused.popleft()
            if isinstance(made, RiffstreamError):
                if part.name in writers:
                    writers.pop(part.name).discard()
                yield Broken(part.name, str(made))
            elif isinstance(made, Finished):
                drawn = pictures.finish(part.name, made.clips) if pictures is not None else []
                writers.pop(part.name).close()
                yield Made(part.name, tuple(path.name for path in drawn))
            else:
                if part.name not in writers:
                    each = begun[part.name]
                    writers[part.name] = AudioFileWriter(each.audio, SAMPLE_RATE, 2, each.music.tags)
                writers[part.name].write(made)
                yield Grown(part.name, len(made))
        yield from refused
    finally:
        for writer in writers.values():
            writer.discard()
