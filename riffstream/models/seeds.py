"""The seed library: named loops as starting points of img2img, chosen by name or by similarity to a prompt.

A library is a folder with ``seeds.json`` (names, tags, captions, tempo), ``seeds.safetensors`` (``latents``
[N, C, h, w] float16 of the embedded model, ``vectors`` [N, D] float16 sentence embeddings). Pictures are drawn from the
latents. Names, tags and pictures need no torch.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riffstream.errors import CheckpointError, ParameterError
from riffstream.models.seed_pictures import draw_loop, png
from riffstream.text_files import parse_json, read_text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from riffstream.diffusion.family import Family
    from riffstream.diffusion.mini.text import MiniTextEncoder

__all__ = ["RIFFUSION_NAMES", "SEEDS_FOLDER", "SeedEntry", "SeedLibrary"]

SEEDS_FOLDER = Path(__file__).parent / "mini" / "seeds"

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
    """

    name: str
    style: str
    tags: tuple[str, ...]
    caption: str
    bpm: float
    beats: int


class SeedLibrary:
    """Read a library folder, by default that of the embedded model.

    Raises:
        CheckpointError: the folder has no library, or ``seeds.json`` cannot be read.
    """

    def __init__(self, folder: Path = SEEDS_FOLDER) -> None:
        self.folder = folder
        try:
            listed = parse_json(read_text(folder / "seeds.json"))
            self.entries = [SeedEntry(**{**entry, "tags": tuple(entry["tags"])}) for entry in listed]
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
    def _tensors(self) -> dict[str, Tensor]:
        from riffstream.diffusion.mini.files import read_tensors

        tensors = read_tensors(self.folder / "seeds.safetensors")
        for key in ("latents", "vectors"):
            if key not in tensors or len(tensors[key]) != len(self.entries):
                raise CheckpointError(f"{self.folder}/seeds.safetensors has no {key} for {len(self.entries)} seeds")
        return tensors

    def latents(self, name: str) -> Tensor:
        """The loop as latents [C, h, w] float32; in 3/4 w is cut to its beats."""
        place = self._place(name)
        latents = self._tensors["latents"][place].float()
        return latents[..., : latents.shape[-1] * self.entries[place].beats // 8]

    def stacked(self) -> tuple[Tensor, Tensor]:
        """All loops in library order: latents [N, C, h, w] and sentence embeddings [N, D], float32."""
        return self._tensors["latents"].float(), self._tensors["vectors"].float()

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
        return draw_loop(self.folder, codec, place, self.entries[place].beats)

    def preview(self, name: str) -> bytes:
        """The picture as a PNG file. Any thread may call this."""
        return _preview(self, self[name].name)

    def nearest(self, prompt: str, encoder: MiniTextEncoder, count: int = 1) -> list[tuple[SeedEntry, float]]:
        """The ``count`` seeds most similar to a prompt, best first, each with its cosine similarity in [-1, 1]."""
        if count < 1:
            raise ParameterError("count", count, f"1 to {len(self.entries)}")
        return self._rank(encoder.sentences([prompt])[0])[:count]

    def like(self, vector: Tensor, family: Family, *, beats: float, count: int) -> list[tuple[str, float]]:
        """For the engine: the ``count`` loops of ``beats`` beats most similar to a sentence vector [D] of length 1,
        best first, as (name, cosine similarity). Empty for other families than the embedded model."""
        if family.name != "mini" or len(vector) != self._tensors["vectors"].shape[1]:
            return []
        return [(entry.name, likeness) for entry, likeness in self._rank(vector) if entry.beats == beats][:count]

    def _rank(self, vector: Tensor) -> list[tuple[SeedEntry, float]]:
        likeness = self._tensors["vectors"].float() @ vector.float().cpu()
        return [(self.entries[place], float(likeness[place])) for place in likeness.argsort(descending=True).tolist()]

    @staticmethod
    def write(folder: Path, entries: Sequence[SeedEntry], latents: Tensor, vectors: Tensor) -> None:
        """Write ``seeds.json`` and ``seeds.safetensors``."""
        from riffstream.diffusion.mini.files import write_tensors

        folder.mkdir(parents=True, exist_ok=True)
        listed: list[dict[str, Any]] = [asdict(entry) for entry in entries]
        write_tensors(folder / "seeds.safetensors", {"latents": latents.half(), "vectors": vectors.half()})
        lines = ",\n".join(json.dumps(entry) for entry in listed)
        (folder / "seeds.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


@lru_cache(maxsize=256)  # 10 MB: all pictures of the page's list
def _preview(library: SeedLibrary, name: str) -> bytes:
    return png(library.picture(name))
