"""Words of a prompt as tokens for ``rests.py``: names of parts and instruments, negations, joints. No torch here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Final

from riffstream.journey.pace import genres
from riffstream.journey.words import flat_text

__all__ = ["Token", "kinds_of", "solo_genres", "tokens_of", "words_of"]

# Letters of the kinds of tokens, so that rules are regular expressions over a text's letters.
_GRAMMAR: Final = {
    "without": "N", "no": "n", "not": "M", "articles": "D", "and": "A", "or": "O", "with": "W", "off": "F", "is": "Y",
    "only": "U", "just": "u", "alone": "L", "solo": "S", "unaccompanied": "V", "a_cappella": "Q", "bands": "E",
    "partly": "T", "plain": "Z",
}  # fmt: skip
_TOKEN: Final = re.compile(r"\d*[a-z][a-z0-9]*|\d+(?:[.,]\d+)?|[,:=/+]|[.;!?|()\[\]{}\n•–—]|(?<=\s)-(?=\s)")
_MARKS: Final = {",": "C", ":": "K", "=": "K", "/": "O", "+": "A"}
_LONGEST: Final = 4  # words of a name


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a name of several words.

    Attributes:
        kind: ``P`` a part, ``b`` beats, ``c`` a kind of a part, ``R`` a word for a rest ("drumless"), ``I`` an
            instrument, ``i`` one of unknown parts, ``G`` a genre, ``C`` comma, ``B`` end of a clause, ``K`` colon,
            ``0`` zero, ``Z`` another number, ``X`` any other word, or a letter of the grammar.
        words: the words.
        parts: the named parts; of an instrument the parts of a piece for it alone.
        strict: True for a singular name, which may be the first word of a compound ("bass drop").
        band: True for an instrument whose solos are usually inside a band.
    """

    kind: str
    words: str
    parts: frozenset[str] = frozenset()
    strict: bool = False
    band: bool = False


def tokens_of(text: str) -> list[Token]:
    """Tokens of any text, preferring longer names."""
    flat = re.sub(r"\bw\s?/\s?o(?:ut)?\b", " without ", flat_text(text))
    flat = re.sub(r"\bw/", " with ", flat)
    flat = re.sub(r"(?<=\w)['’`](?=\w)", "", flat)
    flat = re.sub(r"(?<=\w)-(?=(?:less|free)\b)", "", flat)
    words = _TOKEN.findall(flat)
    lexicon = _lexicon()
    found: list[Token] = []
    at = 0
    while at < len(words):
        if not words[at][0].isalnum():
            found.append(Token(_MARKS.get(words[at], "B"), words[at]))
            at += 1
            continue
        for size in range(min(_LONGEST, len(words) - at), 0, -1):
            name = " ".join(words[at : at + size])
            token = lexicon.get(name) or _plural(lexicon, name)
            if token is not None:
                found.append(token)
                at += size
                break
        else:
            zero = re.fullmatch(r"0+(?:[.,]0+)?", words[at])
            found.append(Token("0" if zero else "Z" if words[at][0].isdigit() else "X", words[at]))
            at += 1
    return found


def kinds_of(tokens: Sequence[Token]) -> str:
    """The letters of tokens, one for each."""
    return "".join(token.kind for token in tokens)


def _plural(lexicon: Mapping[str, Token], name: str) -> Token | None:
    """ "pianos" is a piano, and "solos" is no solo."""
    token = lexicon.get(name[:-1]) if name.endswith("s") else None
    return token if token is not None and token.kind in "Ii" else None


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("rests.toml").read_text("utf-8"))


@lru_cache(maxsize=1)
def _lexicon() -> dict[str, Token]:
    """Token of each name. Later groups replace earlier ones."""
    data = _data()
    grammar: dict[str, list[str]] = data["grammar"]
    instruments = {name for names in data["instruments"].values() for name in names}
    # "solo piano ballad" is a piano and a ballad.
    lexicon = {name: Token("G", name) for name in genres() if instruments.isdisjoint(name.split())}
    for group, kind in _GRAMMAR.items():
        lexicon |= {name: Token(kind, name) for name in grammar[group]}
    lexicon |= {name: Token("N", name) for name in _joined(grammar["dont"], grammar["do"])}
    for keeps, names in data["instruments"].items():
        parts = frozenset(keeps.split())
        for name in names:
            lexicon[name] = Token("I" if parts else "i", name, parts, band=name in data["solo"]["band"])
    for table, kind in (("beats", "b"), ("kinds", "c"), ("less", "R"), ("parts", "P")):
        for group, names in data[table].items():
            parts = frozenset(group.split())
            for name in names:
                strict = (kind in "Pb" and not name.endswith("s")) or name == "bass"
                lexicon[name] = Token(kind, name, parts, strict)
                if kind in "Pb" and " " not in name:
                    lexicon |= {each: Token("P", each, parts) for each in _joined([name], grammar["whole"])}
    return lexicon | {name: Token("X", name) for name in data["other"]["names"]}


def _joined(first: Sequence[str], second: Sequence[str]) -> Iterator[str]:
    return (f"{one} {two}" for one in first for two in second)


@lru_cache(maxsize=8)
def words_of(group: str) -> frozenset[str]:
    """Words of a group of the grammar without a letter: ``compounds``, ``clauses``, ``purposes``, ``changes`` or
    ``portuguese``."""
    return frozenset(_data()["grammar"][group])


@lru_cache(maxsize=1)
def solo_genres() -> frozenset[str]:
    """Genres of pieces for one player."""
    return frozenset(_data()["solo"]["genres"])
