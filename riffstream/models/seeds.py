"""The seed library: named loops as starting points of img2img, chosen by name, or by words, parts and levels.

A library is a folder with ``seeds.json`` (names, descriptions, conditions) and ``seeds.safetensors`` (latents and
sentence embeddings, see ``seed_files.py``). Pictures are drawn from the latents. Names, descriptions and pictures need
no torch.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey.conditions import QUIET, Levels
from riffstream.journey.misfit import misfit
from riffstream.models.seed_files import read_all, read_loop, write_loops
from riffstream.models.seed_pictures import draw_loop, png
from riffstream.text_files import parse_json, read_text

if TYPE_CHECKING:
    from torch import Tensor

    from riffstream.diffusion.family import Family
    from riffstream.diffusion.mini.reader import ReadTexts
    from riffstream.diffusion.mini.text import MiniTextEncoder

__all__ = ["RIFFUSION_NAMES", "SEEDS_FOLDER", "SeedEntry", "SeedLibrary", "mentions", "plays"]

SEEDS_FOLDER = Path(__file__).parent / "mini" / "seeds"

ASKED = 4.0  # weight of parts and levels with a reader of words, whose fits lie further apart

# Riffusion's seed images, and loops of the library in their place, so that its clients and links find a beat.
RIFFUSION_NAMES = {
    "og_beat": "hip_hop",
    "agile": "breakbeat",
    "marim": "marimba",
    "motorway": "synthwave",
    "vibes": "vibraphone_jazz",
}


@dataclass(frozen=True, slots=True)
class SeedEntry:
    """One loop.

    Attributes:
        name: short name in lower case with underscores.
        style: style of its song in the corpus.
        tags: descriptive words.
        caption: descriptive phrase.
        bpm: tempo of its song in beats per minute. The loop has no tempo: the hop size follows the station's tempo.
        beats: beats in the loop, 8, or 6 in 3/4.
        captions: further descriptions.
        chords: chord symbols, one bar after the other, as in a steer's ``chords``; "": unknown.
        parts: known levels of parts, 0 (silent) to 1 (among the loudest).
        density, energy, brightness: quantiles of the corpus, 0 to 1; None: unknown.
    """

    name: str
    style: str
    tags: tuple[str, ...]
    caption: str
    bpm: float
    beats: int
    captions: tuple[str, ...] = ()
    chords: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    density: float | None = None
    energy: float | None = None
    brightness: float | None = None

    @property
    def levels(self) -> Levels:
        """Parts and levels, as far as they are known."""
        return Levels(self.parts, self.density, self.energy, self.brightness)

    def says(self, text: str) -> bool:
        """Whether each word of ``text`` is in the name, the style or a description."""
        return mentions((self.name, self.style, *self.tags, self.caption, *self.captions), text)

    def plays(self, parts: Mapping[str, float]) -> bool:
        """Whether each of ``parts`` rests or plays as asked (:func:`plays`)."""
        return plays(self.parts, parts)


def mentions(own: Iterable[str], text: str) -> bool:
    """Whether each word of ``text`` is in one of the texts of a seed, in any case."""
    found = " ".join(own).lower()
    return all(word in found for word in text.lower().split())


def plays(known: Mapping[str, float], asked: Mapping[str, float]) -> bool:
    """Whether each part of ``asked`` is in ``known``, and both rest (levels below 0.3) or both play."""
    return all(part in known and (known[part] >= QUIET) == (level >= QUIET) for part, level in asked.items())


class SeedLibrary:
    """Read a library folder, by default that of the embedded model.

    Raises:
        CheckpointError: the folder has no library, or ``seeds.json`` cannot be read.
    """

    def __init__(self, folder: Path = SEEDS_FOLDER) -> None:
        self.folder = folder
        try:
            listed = parse_json(read_text(folder / "seeds.json"))
            self.entries = [_entry(each) for each in listed]
        except FileNotFoundError:
            raise CheckpointError(f"{folder} holds no seeds.json") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"{folder}/seeds.json cannot be read: {error}") from None
        self._places = {entry.name: place for place, entry in enumerate(self.entries)}

    @classmethod
    def of(cls, model: str | Path) -> SeedLibrary:
        """The library in the folder ``seeds`` of a checkpoint; without one, that of the embedded model."""
        folder = Path(model) / "seeds"
        return cls(folder if (folder / "seeds.json").is_file() else SEEDS_FOLDER)

    @property
    def names(self) -> list[str]:
        """All names, in library order, without Riffusion's (:data:`RIFFUSION_NAMES`)."""
        return list(self._places)

    def __getitem__(self, name: str) -> SeedEntry:
        return self.entries[self._place(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._places or RIFFUSION_NAMES.get(str(name)) in self._places

    def _place(self, name: str) -> int:
        place = self._places.get(name, self._places.get(RIFFUSION_NAMES.get(name, name)))
        if place is None:
            near = difflib.get_close_matches(name, self._places, 3, 0.4)
            hint = f"a name from 'riffstream seeds list'{', such as ' + ', '.join(near) if near else ''}"
            raise ParameterError("seed_image", name, hint)
        return place

    @cached_property
    def _vectors(self) -> np.ndarray:
        return read_all(self.folder, "vectors", len(self.entries))

    @cached_property
    def _reader(self) -> ReadTexts | None:
        """What the model's reader of words reads in the loops' words; None for a model without one."""
        from riffstream.diffusion.mini.reader import READER, ReadTexts

        path = self.folder.parent / READER
        if not os.path.lexists(path):
            return None
        import torch

        return ReadTexts(path, torch.from_numpy(self._vectors))

    @cached_property
    def _levels(self) -> np.ndarray:
        return np.stack([entry.levels.row for entry in self.entries])

    def latents(self, name: str) -> Tensor:
        """The loop as latents [C, h, w] float32; in 3/4 w is cut to its beats."""
        import torch

        place = self._place(name)
        latents = torch.from_numpy(read_loop(self.folder, place, len(self.entries)))
        return latents[..., : latents.shape[-1] * self.entries[place].beats // 8]

    def stacked(self) -> tuple[Tensor, Tensor]:
        """All loops in library order: latents [N, C, h, w] and sentence embeddings [N, D], float32."""
        import torch

        latents = read_all(self.folder, "latents", len(self.entries))
        return torch.from_numpy(latents), torch.from_numpy(self._vectors.copy())

    def load(self, name: str, family: Family) -> Tensor | np.ndarray | None:
        """For the engine: latents for the embedded model, the picture for others; None for an unknown name."""
        if name not in self:
            return None
        latents = self.latents(name)
        if family.name == "mini" and family.latent_shape()[:2] == tuple(latents.shape[:2]):
            return latents
        return self.picture(name)

    def picture(self, name: str) -> np.ndarray:
        """The loop as a picture, uint8 [256, T, 3], with low notes at the bottom (``seed_pictures.draw_loop``)."""
        place = self._place(name)
        own = self.folder.parent / "codec"
        codec = own if own.is_dir() else SEEDS_FOLDER.parent / "codec"
        latents = read_loop(self.folder, place, len(self.entries))
        return draw_loop(latents[..., : latents.shape[-1] * self.entries[place].beats // 8], codec)

    def preview(self, name: str) -> bytes:
        """The picture as a PNG file. Any thread may call this."""
        return _preview(self, self[name].name)

    def nearest(
        self, prompt: str, encoder: MiniTextEncoder, count: int = 1, *, asked: Levels | None = None
    ) -> list[tuple[SeedEntry, float]]:
        """The ``count`` seeds that fit a prompt best, best first, each with its fit.

        Args:
            prompt: words.
            encoder: the text encoder of the library's vectors.
            count: 1 or more.
            asked: parts and levels (``journey.misfit``); None: words alone.

        Returns:
            Pairs of a loop and its fit: the cosine similarity of the words in [-1, 1], with what a reader of words adds
            (-0.46 to 0.3), less what is not as asked.
        """
        if count < 1:
            raise ParameterError("count", count, f"1 to {len(self.entries)}")
        return self._rank(encoder.sentences([prompt])[0], asked)[:count]

    def like(
        self, vector: Tensor, family: Family, *, beats: float, count: int, asked: Levels | None = None
    ) -> list[tuple[str, float]]:
        """For the engine: the ``count`` loops of ``beats`` beats that fit a sentence vector [D] of length 1 best, best
        first, as (name, fit). ``asked`` and the fit are those of :meth:`nearest`. Empty for other families than the
        embedded model."""
        if family.name != "mini" or len(vector) != self._vectors.shape[1]:
            return []
        return [(entry.name, fit) for entry, fit in self._rank(vector, asked) if entry.beats == beats][:count]

    def _rank(self, vector: Tensor, asked: Levels | None) -> list[tuple[SeedEntry, float]]:
        import torch

        # Not numpy's product: its threads spin on after it and slow down the network's evaluations.
        words = torch.mv(torch.from_numpy(self._vectors), vector.float().cpu())
        reader = self._reader
        fit = (words if reader is None else words + reader.likeness(vector)).numpy()
        if asked is not None:
            fit = fit - (1.0 if reader is None else ASKED) * misfit(asked, self._levels)
        return [(self.entries[place], float(fit[place])) for place in (-fit).argsort(kind="stable")]

    @staticmethod
    def write(folder: Path, entries: Sequence[SeedEntry], latents: Tensor, vectors: Tensor) -> None:
        """Write ``seeds.json`` and ``seeds.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_loops(folder, latents, vectors)
        lines = ",\n".join(json.dumps(_listed(entry)) for entry in entries)
        (folder / "seeds.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _entry(listed: dict[str, Any]) -> SeedEntry:
    """A loop of ``seeds.json``. Raises TypeError or KeyError."""
    texts: dict[str, Any] = {name: tuple(listed[name]) for name in ("tags", "captions") if name in listed}
    return SeedEntry(**{**listed, **texts})


def _listed(entry: SeedEntry) -> dict[str, Any]:
    """The JSON of a loop, without what it does not know."""
    values = asdict(entry)
    optional = {
        each.name for each in fields(entry) if each.default is not MISSING or each.default_factory is not MISSING
    }
    return {name: value for name, value in values.items() if name not in optional or value not in (None, "", (), {})}


@lru_cache(maxsize=256)  # 10 MB: the first loop of each style, which the page shows
def _preview(library: SeedLibrary, name: str) -> bytes:
    return png(library.picture(name))
