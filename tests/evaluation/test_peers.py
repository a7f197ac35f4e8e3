"""Clips of other songs: their style, their songs, and where they come from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from riffstream.errors import RiffstreamError
from riffstream.evaluation.peers import Peer, draw_peers, keep_songs


class Songs:
    """A corpus of songs of four clips: a name and a style each."""

    def __init__(self, name: str, *styles: str) -> None:
        self.path = Path(name)
        self.clips = [
            SimpleNamespace(song=f"{style}/{number}", style=style, path=self.path / f"{number}")
            for number, style in enumerate(styles)
            for _ in range(4)
        ]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Any:
        return self.clips[index]

    def style(self, index: int) -> str:
        return str(self.clips[index].style)

    def split(self, which: str) -> list[int]:
        assert which == "train"
        return list(range(len(self)))


def _songs(peers: list[Peer]) -> set[Path]:
    return {peer.corpus[peer.index].path for peer in peers}


def _draw(source: Any, chosen: list[int], corpus: Any) -> Any:
    return draw_peers(source, range(len(source)), chosen, corpus, np.random.default_rng(0))


def test_unseen_songs_of_the_style_come_first() -> None:
    source, corpus = Songs("new", *("dub",) * 5, "folk"), Songs("old", "dub", "dub", "folk")
    peers = _draw(source, [0, 1, 4], corpus)
    assert (peers.unseen, peers.same_style) == (1, 1)
    assert len(peers.others) == len(peers.reference) == 3
    others, reference = _songs(peers.others), _songs(peers.reference)
    assert others.isdisjoint(reference)
    assert not (others | reference) & {source[i].path for i in (0, 1, 4)}


def test_training_songs_of_the_style_are_next() -> None:
    # One unseen song is left beside the prompt's own: too few for two lists.
    source, corpus = Songs("new", "dub", "dub"), Songs("old", "folk", "dub", "folk", "dub")
    peers = _draw(source, [0] * 20, corpus)
    assert (peers.unseen, peers.same_style) == (0, 1)
    assert _songs(peers.others) != _songs(peers.reference)


def test_songs_of_other_styles_come_last_and_are_counted() -> None:
    source, corpus = Songs("new", "dub"), Songs("old", "folk", "dub", "folk", "blues")
    peers = _draw(source, [0] * 40, corpus)
    assert peers.unseen == 0
    assert 0 < peers.same_style < 0.5
    assert _songs(peers.others).isdisjoint(_songs(peers.reference))


def test_no_song_is_in_both_lists_where_some_styles_have_songs_and_others_have_none() -> None:
    source, corpus = Songs("new", "dub", "folk"), Songs("old", "folk", "folk", "blues", "blues", "jazz")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        chosen = [0, 4] * 10
        peers = draw_peers(source, range(len(source)), chosen, corpus, rng)  # type: ignore[arg-type]
        assert _songs(peers.others).isdisjoint(_songs(peers.reference)), seed
        folk = [peer.corpus.style(peer.index) for peer in peers.others[1::2]]
        assert folk == ["folk"] * 10, "each peer is at the place of its prompt"


def test_songs_of_prompts_are_no_peers_of_a_corpus_that_is_its_own_source() -> None:
    corpus = Songs("one", "dub", "dub", "dub")
    assert not _songs(_draw(corpus, [0], corpus).others) & {Path("one/0")}
    with pytest.raises(RiffstreamError, match="one has fewer than two songs besides the prompts' own"):
        _draw(corpus, [0, 4], corpus)


def test_half_of_the_songs_of_a_style_are_kept_and_at_least_two() -> None:
    source: Any = Songs("new", "dub", "dub", "dub", "folk", "folk", *("blues",) * 6)
    asking, kept = keep_songs(source, range(len(source)), np.random.default_rng(0))
    assert sorted(asking + kept) == list(range(len(source)))
    songs = [sorted({source[i].song for i in rows}) for rows in (asking, kept)]
    assert not set(songs[0]) & set(songs[1])
    assert [name.split("/")[0] for name in songs[0]] == ["blues", "blues", "blues", "dub", "folk", "folk"]
    assert [name.split("/")[0] for name in songs[1]] == ["blues", "blues", "blues", "dub", "dub"]
