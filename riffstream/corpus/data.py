"""Reading a corpus: clips by number, as bytes or as amplitudes, with captions and what came before."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from riffstream.corpus.mels import amplitudes
from riffstream.errors import RiffstreamError

__all__ = ["Corpus", "CorpusClip"]

OPEN_FILES = 256  # songs kept mapped; far under the usual limit of 1024 files


@dataclass(frozen=True, slots=True)
class CorpusClip:
    """One clip: where its bytes are and what is known of it.

    Attributes:
        song: ``<style>/<index>``; position: which window of it.
        style: label; bpm: tempo; beats: 8, or 6 in 3/4; minor: A minor rather than C major.
        split: "train" or "held_out", the same for all clips of a song.
        section: full, breakdown, drums alone, ...; look: the production (``mixing.LOOKS``).
        instruments: sounding ones, loudest first.
        captions: several ways of asking for it.
        bars: what each of its bars plays (``bars.bar_facts``); empty in corpora that do not say.
        path: the song's array.
    """

    song: str
    position: int
    style: str
    bpm: float
    beats: int
    minor: bool
    split: str
    section: str
    look: str
    instruments: tuple[str, ...]
    captions: tuple[str, ...]
    path: Path
    bars: tuple[dict[str, Any], ...] = ()


class Corpus:
    """All finished clips of a corpus folder, also of one that is still being made.

    Songs come in the order of their names, so numbers are stable once the corpus is complete.

    Threading model
      One process each: files are mapped when first read. Fork or spawn, then read.
    """

    def __init__(self, path: str | Path) -> None:
        """
        Args:
            path: the folder that ``riffstream train corpus --out`` wrote.

        Raises:
            RiffstreamError: no songs in it.
        """
        self.path = Path(path)
        self.clips: list[CorpusClip] = []
        for file in sorted(self.path.glob("songs/*/*.json")):
            self._add(json.loads(file.read_text(encoding="utf-8")), file.with_suffix(".npy"))
        if not self.clips:
            raise RiffstreamError(f"no songs in {self.path}; make some with: riffstream train corpus --out {self.path}")
        self._open: OrderedDict[Path, np.ndarray] = OrderedDict()

    def _add(self, record: dict[str, Any], array: Path) -> None:
        for position, clip in enumerate(record["clips"]):
            self.clips.append(
                CorpusClip(
                    record["song"],
                    position,
                    record["style"],
                    record["bpm"],
                    record["beats"],
                    record["minor"],
                    record["split"],
                    clip["section"],
                    record["look"],
                    tuple(clip["instruments"]),
                    tuple(clip["captions"]),
                    array,
                    tuple(clip.get("bars", ())),
                )
            )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> CorpusClip:
        return self.clips[index]

    def codes(self, index: int) -> np.ndarray:
        """The stored bytes of a clip, uint8 [2, 256, 64 * beats], mapped from the file (see ``mels.quantise``)."""
        clip = self.clips[index]
        song = self._open.get(clip.path)
        if song is None:
            song = np.load(clip.path, mmap_mode="r")
            self._open[clip.path] = song
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return np.asarray(song[clip.position])

    def batch(self, indices: Sequence[int]) -> np.ndarray:
        """Bytes of several clips of one meter, uint8 [B, 2, 256, T], copied into memory."""
        return np.stack([self.codes(index) for index in indices])

    def mel(self, index: int) -> np.ndarray:
        """Mel amplitudes of a clip, float32 [2, 256, 64 * beats], at the scale of ``SpectrogramParams.mini()``."""
        return amplitudes(self.codes(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """Ways of asking for a clip."""
        return self.clips[index].captions

    def style(self, index: int) -> str:
        """The clip's style label."""
        return self.clips[index].style

    def bpm(self, index: int) -> float:
        """The tempo at which it was played."""
        return self.clips[index].bpm

    def beats(self, index: int) -> int:
        """Beats in the clip: 8, or 6 in 3/4."""
        return self.clips[index].beats

    def previous(self, index: int) -> int | None:
        """The clip that comes right before in the same song; None for a song's first."""
        return index - 1 if self.clips[index].position else None

    def split(self, which: Literal["train", "held_out"]) -> list[int]:
        """Numbers of the clips of one split."""
        return [i for i, clip in enumerate(self.clips) if clip.split == which]

    @property
    def styles(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted({clip.style for clip in self.clips})
