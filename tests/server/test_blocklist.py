"""The block-list: words with borders, in any writing, in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.server.blocklist import BlockList


@pytest.mark.parametrize(
    ("entry", "text", "blocked"),
    [
        ("ass", "a bad ass groove", True),
        ("ass", "double bass and brass", False),
        ("BAD", "bad", True),
        ("bad", "B\u0410D", False),  # a Cyrillic letter is another word; the hook can know such tricks
        ("bad", "ＢＡＤ", True),
        ("bad", "b\u200da\u00add", True),
        ("naïve", "NAIVE", True),
        ("naive", "nai\u0308ve", True),
        ("strasse", "Straße", True),
        ("bad word", "a BAD,\n word!", True),
        ("bad word", "bad words", False),
        ("nazi*", "nazis on parade", True),
        ("nazi*", "denazified", False),
        ("nazi", "nazis", False),
        ("bad", "bad_word", True),
        ("坏话", "这是坏话吗", True),
        ("坏话", "坏 话", True),
        ("คำหยาบ", "นี่คือคำหยาบนะ", True),
    ],
)
def test_words_are_found_with_their_borders(entry: str, text: str, blocked: bool) -> None:
    assert BlockList([entry]).blocks(text) is blocked


@given(st.text(max_size=300), st.lists(st.text(min_size=1, max_size=20).filter(lambda t: any(map(str.isalnum, t)))))
def test_any_text_and_any_list_have_an_answer(text: str, entries: list[str]) -> None:
    found = BlockList(entries)
    assert found.blocks(text) in (True, False)
    assert not BlockList([]).blocks(text)


@pytest.mark.parametrize("text", ["a" * 300, "a " * 150, "aaaa!" * 60, "\u0300" * 300, "ab" * 150])
def test_no_text_makes_a_long_list_slow(text: str) -> None:
    entries = (
        [f"{'a' * n}b*" for n in range(1, 99)] + [f"a a {n} a" for n in range(4900)] + [f"w{n}" for n in range(5000)]
    )
    found = BlockList(entries)
    began = time.process_time()
    assert not found.blocks(text.replace("ab" * 150, "ba" * 150))
    assert time.process_time() - began < 5  # 150 words x 4,900 phrases; a backtracking search would take years
