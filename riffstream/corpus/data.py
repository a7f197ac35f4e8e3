"""The reader of a corpus folder: its songs, and their clips by number with captions and neighbours."""

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

__all__ = ["Corpus", "CorpusClip", "SongFile", "find_songs"]

OPEN_FILES = 256  # memory-mapped songs; far below the usual limit of 1024 open files


@dataclass(frozen=True, slots=True)
class SongFile:
    """A song of a corpus folder. Lists have one entry for each window of the song.

    Attributes:
        path: the song's array, uint8 [windows, 2, 256, 64 * beats].
        name: ``<style>/<index>``.
        style: style label.
        bpm: tempo of the recording.
        beats: beats in a window, 8, or 6 in 3/4.
        minor: whether the key is A minor instead of C major.
        look: name of the production (``mixing.LOOKS``).
        held_out: whether the song is kept from training.
        sections: full, breakdown, drums alone, ...
        instruments: audible instruments, loudest first.
        captions: descriptions of the window.
        facts: contents of each bar (``bars.bar_facts``); empty in a corpus without them.
        stamp: modification time in nanoseconds. Another stamp under the same name means another song.
    """

    path: Path
    name: str
    style: str
    bpm: float
    beats: int
    minor: bool
    look: str
    held_out: bool
    sections: list[str]
    instruments: list[tuple[str, ...]]
    captions: list[list[str]]
    facts: list[list[dict[str, Any]]]
    stamp: int


def find_songs(corpus: Path) -> list[SongFile]:
    """All finished songs of a corpus folder, oldest first: new songs of a growing corpus come last.

    Raises:
        RiffstreamError: the folder has no songs, or a description that cannot be read.
    """
    found = sorted((path.stat().st_mtime_ns, path) for path in corpus.glob("songs/*/*.json"))
    if not found:
        raise RiffstreamError(f"{corpus} has no songs; make some with: riffstream train corpus --out {corpus}")
    return [_read(path, stamp) for stamp, path in found]


def _read(path: Path, stamp: int) -> SongFile:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        clips = record["clips"]
        return SongFile(
            path=path.with_suffix(".npy"),
            name=record["song"],
            style=record["style"],
            bpm=float(record["bpm"]),
            beats=int(record["beats"]),
            minor=record["minor"],
            look=record["look"],
            held_out=record["split"] == "held_out",
            sections=[clip["section"] for clip in clips],
            instruments=[tuple(clip["instruments"]) for clip in clips],
            captions=[list(clip["captions"]) for clip in clips],
            facts=[list(clip.get("bars", ())) for clip in clips],
            stamp=stamp,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RiffstreamError(
            f"{path} does not describe a song ({type(error).__name__}: {error}); delete it, and riffstream train "
            "corpus makes it again"
        ) from None


@dataclass(frozen=True, slots=True)
class CorpusClip:
    """A clip of a corpus: a window of a song.

    Attributes:
        song: ``<style>/<index>``.
        position: number of the window in the song.
        style: style label.
        bpm: tempo in beats per minute.
        beats: beats in the clip, 8, or 6 in 3/4.
        minor: whether the key is A minor instead of C major.
        held_out: whether the song is kept from training.
        section: full, breakdown, drums alone, ...
        look: name of the production (``mixing.LOOKS``).
        instruments: audible instruments, loudest first.
        captions: descriptions of the clip.
        path: the song's array.
        bars: contents of each bar (``bars.bar_facts``); empty in a corpus without them.
    """

    song: str
    position: int
    style: str
    bpm: float
    beats: int
    minor: bool
    held_out: bool
    section: str
    look: str
    instruments: tuple[str, ...]
    captions: tuple[str, ...]
    path: Path
    bars: tuple[dict[str, Any], ...]


class Corpus:
    """All finished clips of a corpus folder. The folder may still be growing.

    Songs are in the order of their names, so numbers are stable once the corpus is complete.

    Threading model
      One process makes every call: files are mapped at the first read. Fork or spawn before reading.
    """

    def __init__(self, path: str | Path) -> None:
        """
        Args:
            path: a folder written by ``riffstream train corpus --out``.

        Raises:
            RiffstreamError: see :func:`find_songs`.
        """
        self.path = Path(path)
        self.clips = [
            CorpusClip(
                song=song.name,
                position=position,
                style=song.style,
                bpm=song.bpm,
                beats=song.beats,
                minor=song.minor,
                held_out=song.held_out,
                section=song.sections[position],
                look=song.look,
                instruments=song.instruments[position],
                captions=tuple(captions),
                path=song.path,
                bars=tuple(song.facts[position]),
            )
            for song in sorted(find_songs(self.path), key=lambda song: song.path)
            for position, captions in enumerate(song.captions)
        ]
        self._open: OrderedDict[Path, np.ndarray] = OrderedDict()

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
        """Descriptions of a clip."""
        return self.clips[index].captions

    def style(self, index: int) -> str:
        """Style label of a clip."""
        return self.clips[index].style

    def bpm(self, index: int) -> float:
        """Tempo of a clip."""
        return self.clips[index].bpm

    def beats(self, index: int) -> int:
        """Number of beats in a clip: 8, or 6 in 3/4."""
        return self.clips[index].beats

    def previous(self, index: int) -> int | None:
        """Number of the preceding clip of the song; None for its first clip."""
        return index - 1 if self.clips[index].position else None

    def split(self, which: Literal["train", "held_out"]) -> list[int]:
        """Numbers of the clips of one split."""
        return [i for i, clip in enumerate(self.clips) if clip.held_out == (which == "held_out")]

    @property
    def styles(self) -> list[str]:
        """Sorted style labels of the corpus."""
        return sorted({clip.style for clip in self.clips})
