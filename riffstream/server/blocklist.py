"""The block-list: words and phrases that no prompt may contain.

Texts are compared as words without case, accents and invisible characters, so the time is linear in the length of the
text, whatever the list. Scripts without spaces between words (Chinese, Japanese, Thai ...) are compared as text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["BlockList"]

_WORD = re.compile(r"[^\W_]+")


class BlockList:
    """A list of blocked words and phrases.

    Args:
        entries: words and phrases, each with a letter or a digit. ``word*`` also blocks longer words.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._words: set[str] = set()
        self._prefixes: dict[int, set[str]] = {}  # by length
        self._phrases: dict[str, list[tuple[str, ...]]] = {}  # by their first word
        self._texts: list[str] = []
        for entry in entries:
            words = tuple(_WORD.findall(_plain(entry)))
            if any(map(_has_no_spaces, words)):
                self._texts.append("".join(words))
            elif len(words) > 1:
                self._phrases.setdefault(words[0], []).append(words)
            elif entry.rstrip().endswith("*"):
                self._prefixes.setdefault(len(words[0]), set()).add(words[0])
            elif words:
                self._words.add(words[0])

    def __bool__(self) -> bool:
        return bool(self._words or self._prefixes or self._phrases or self._texts)

    def blocks(self, text: str) -> bool:
        """Whether a text contains an entry."""
        if not self:
            return False
        words = _WORD.findall(_plain(text))
        for at, word in enumerate(words):
            if word in self._words or any(word[:size] in known for size, known in self._prefixes.items()):
                return True
            if any(tuple(words[at : at + len(phrase)]) == phrase for phrase in self._phrases.get(word, ())):
                return True
        whole = "".join(words)
        return any(each in whole for each in self._texts)


def _plain(text: str) -> str:
    """A text without case, accents and invisible characters."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(char for char in folded if unicodedata.category(char) not in ("Mn", "Me", "Cf"))


def _has_no_spaces(word: str) -> bool:
    return any(
        unicodedata.east_asian_width(char) == "W" or "\u0e00" <= char <= "\u0eff" or "\u1000" <= char <= "\u109f"
        for char in word
    )
