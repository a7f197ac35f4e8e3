from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.server.icy import METAINT, IcyInserter, icy_block


def strip(stream: bytes, metaint: int) -> tuple[bytes, list[str]]:
    """What a player does: audio, and the titles in the order they came."""
    audio, titles, at = b"", [], 0
    while at < len(stream):
        audio += stream[at : at + metaint]
        at += metaint
        if at >= len(stream):
            break
        size = stream[at] * 16
        if size:
            text = stream[at + 1 : at + 1 + size].rstrip(b"\0").decode()
            assert text.startswith("StreamTitle='")
            assert text.endswith("';")
            titles.append(text[13:-2])
        at += 1 + size
    return audio, titles


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.sampled_from(["", "jazz", "ambient piano"])), max_size=30),
    st.integers(1, 200),
)
def test_a_player_gets_the_audio_back_and_each_new_title_once(parts: list[tuple[bytes, str]], metaint: int) -> None:
    inserter = IcyInserter(metaint)
    stream = b""
    for audio, title in parts:
        inserter.set_title(title)
        stream += inserter.push(audio)
    audio, titles = strip(stream, metaint)
    assert audio == b"".join(audio for audio, _ in parts)
    assert all(a != b for a, b in itertools.pairwise(titles))
    assert set(titles) <= {title for _, title in parts}


def test_no_title_set_sends_empty_blocks() -> None:
    assert IcyInserter(4).push(b"abcdefgh") == b"abcd\0efgh\0"


@pytest.mark.parametrize(
    ("title", "shown"),
    [("rock 'n' roll", "rock ’n’ roll"), ("a';StreamUrl='x", "a’;StreamUrl=’x"), ("two\nlines", "two lines")],
)
def test_a_title_cannot_end_its_field(title: str, shown: str) -> None:
    assert strip(b"x" * 4 + icy_block(title), 4)[1] == [shown]


@given(st.text(min_size=1, max_size=6000))
def test_any_title_fits_one_block(title: str) -> None:
    if any("\ud800" <= c <= "\udfff" for c in title):
        return
    block = icy_block(title)
    assert len(block) == 1 + block[0] * 16
    assert len(block) <= 1 + 255 * 16


def test_the_interval_is_what_icecast_uses() -> None:
    assert METAINT == 16_000
