"""Real clips of other songs: what music of the same styles scores, and the reference of the Fréchet distances.

Clips of one song are alike. A reference with other clips of the prompts' own songs gives the real clips a distance that
no model can reach, because a prompt names a style and not a song.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from riffstream.corpus.data import Corpus
from riffstream.errors import RiffstreamError

__all__ = ["Peer", "Peers", "draw_peers", "keep_songs"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A clip of a corpus by its number."""

    corpus: Corpus
    index: int

    @property
    def mel(self) -> np.ndarray:
        """Mel amplitudes, float32 [2, 256, 64 * beats]."""
        return self.corpus.mel(self.index)

    @property
    def bpm(self) -> float:
        """Tempo in beats per minute."""
        return self.corpus.bpm(self.index)


_Halves = tuple[list[list[Peer]], list[list[Peer]]]  # the clips of each song, for the two lists


@dataclass(frozen=True, slots=True)
class Peers:
    """Two clips for each prompt, of songs that give no prompt. No song gives clips to both lists.

    Attributes:
        others: clips for the row "another song".
        reference: clips of the reference.
        unseen: share of the clips of both lists whose songs no model has seen.
        same_style: share of the clips of both lists with the style of the prompt's clip.
    """

    others: list[Peer]
    reference: list[Peer]
    unseen: float
    same_style: float


def keep_songs(source: Corpus, unseen: Sequence[int], rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Keep songs for :func:`draw_peers`: of each style with three songs or more half of them, at least two.

    Args:
        source: corpus of the prompts' clips.
        unseen: numbers of its clips that no model has seen.
        rng: source of the choice.

    Returns:
        Clips that may give prompts, and clips of the songs that are kept, as numbers.
    """
    kept: set[int] = set()
    for _, songs in sorted(_by_style(source, unseen, set()).items()):
        if len(songs) > 2:
            order = rng.permutation(len(songs))[: max(2, len(songs) // 2)]
            kept.update(peer.index for place in order for peer in songs[int(place)])
    return [i for i in unseen if i not in kept], [i for i in unseen if i in kept]


def draw_peers(
    source: Corpus, unseen: Sequence[int], chosen: Sequence[int], corpus: Corpus, rng: np.random.Generator
) -> Peers:
    """Draw two clips of other songs for each prompt.

    They come from unseen songs of the style, if there are two, else from training songs of the style, else from any
    training songs.

    Args:
        source: corpus of the prompts' clips.
        unseen: numbers of its clips that no model has seen. Songs of ``chosen`` are left out.
        chosen: numbers of the prompts' clips.
        corpus: training corpus.
        rng: source of the draws.

    Raises:
        RiffstreamError: there are fewer than two other songs.
    """
    taken = {source[i].path for i in chosen}
    ways = (_by_style(source, unseen, taken), _by_style(corpus, corpus.split("train"), taken))
    everything = _halves([song for songs in ways[1].values() for song in songs], rng)
    styles = [source.style(i) for i in chosen]
    found = {style: next((way[style] for way in ways if len(way.get(style, ())) > 1), None) for style in styles}
    halves: dict[str, _Halves] = {}
    pairs: dict[int, list[Peer]] = {}
    # Prompts that take any songs come last, when it is known which of these songs are in a list already.
    for place in sorted(range(len(chosen)), key=lambda place: found[styles[place]] is None):
        style, songs = styles[place], found[styles[place]]
        if style not in halves:
            halves[style] = _beside(halves.values(), everything) if songs is None else _halves(songs, rng)
        pairs[place] = []
        for half in halves[style]:
            if not half:
                raise RiffstreamError(f"{corpus.path} has fewer than two songs besides the prompts' own; render more")
            song = half[int(rng.integers(len(half)))]
            pairs[place].append(song[int(rng.integers(len(song)))])
    others, reference = ([pairs[place][side] for place in range(len(chosen))] for side in (0, 1))
    both = [*zip(chosen, others, strict=True), *zip(chosen, reference, strict=True)]
    new = {source[i].path for i in unseen}
    return Peers(
        others,
        reference,
        float(np.mean([peer.corpus[peer.index].path in new for _, peer in both])),
        float(np.mean([peer.corpus.style(peer.index) == source.style(i) for i, peer in both])),
    )


def _by_style(corpus: Corpus, indices: Iterable[int], taken: Set[Path]) -> dict[str, list[list[Peer]]]:
    """The clips of each song, by style, without the songs ``taken``."""
    songs: dict[str, list[Peer]] = defaultdict(list)
    for i in indices:
        if corpus[i].path not in taken:
            songs[corpus[i].song].append(Peer(corpus, i))
    styles: dict[str, list[list[Peer]]] = defaultdict(list)
    for clips in songs.values():
        styles[clips[0].corpus.style(clips[0].index)].append(clips)
    return styles


def _halves(songs: list[list[Peer]], rng: np.random.Generator) -> _Halves:
    order = [songs[int(i)] for i in rng.permutation(len(songs))]
    return order[::2], order[1::2]


def _beside(known: Iterable[_Halves], halves: _Halves) -> _Halves:
    """The halves with each song on its side of the known ones."""
    sides = {_path(song): side for pair in known for side in (0, 1) for song in pair[side]}
    moved: _Halves = ([], [])
    for side in (0, 1):
        for song in halves[side]:
            moved[sides.get(_path(song), side)].append(song)
    return moved


def _path(song: list[Peer]) -> Path:
    return song[0].corpus[song[0].index].path
