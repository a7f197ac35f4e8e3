"""Rests from the words of a prompt: "no drums", "without bass or pads", "drums only", "solo piano", "drumless".

A small model hears such words less clearly than the condition that a part is silent (docs/evaluation.md). So they
become conditions (``ClipSpec.bars``). The rules read English by lists of words (``rests.toml``); no model is involved.
They are careful: a text that may mean something else lets nothing rest.

- **Named** parts never rest: "solo piano with soft drums" has drums. "Beats" yield to "no drums" alone, because a beat
  may be a whole piece ("lofi beat, no drums").
- **Asked to rest**: the name of a whole part behind "no", "without" and the like, also in lists; "drumless"; "drums:
  off". With other words between ("no heavy drums", "no distorted guitar or bass"), in a compound ("no bass drop"), with
  a word that limits the name ("no drums that sound cheap", "don't play the drums loud"), or with words of a place or of
  doubt ("no drums in the intro", "no drums, then the beat drops", "almost no drums") nothing rests. In a text with
  Portuguese words "no" means "in the".
- **Alone**: "drums only", "just piano", "cello alone", "nothing but drums", "unaccompanied violin". Not all other parts
  rest, because the model hears most of such words, and each rest costs the others some of their sound. Behind a list
  with drums or other parts the bass rests; behind instruments pad, arp, chords and lead that they do not play (a piano
  plays chords and lead, a violin the lead); and where a genre of bands is named, drums and bass. "Solo piano" and
  "violin solo" need a text without a band: no other instrument, no genre, no "with" before and no "over" ("jazz, bass
  solo" changes nothing).
- **A cappella**: drums and bass rest where a genre of bands is named ("a cappella gospel"), without "with", "over", a
  remix, drums or bass ("house with acapella vocals").
- **Negative prompts** let a part rest that stands alone between commas ("drums, vocals and bass"; not "distorted bass"
  nor "distorted drums and bass").
- **Mixes**: a part rests if prompts with more than half of the weight say so and none of weight names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from riffstream.journey.conditions import PARTS
from riffstream.journey.prompts import PromptPart
from riffstream.journey.rest_words import Token, kinds_of, solo_genres, tokens_of, words_of

__all__ = ["Reading", "read_negative", "read_rests", "said_rests"]

_Rests = tuple[tuple[str, str], ...]  # pairs of a part and the words that let it rest, in the order of PARTS

_LONGEST: Final = 150  # tokens of a text; no model hears more words than about a hundred
_ENDS: Final = "CB"  # ends of a part of a sentence
_RHYTHM: Final = frozenset({"drums", "bass"})
_ITEM: Final = r"D*(?:[GX]{0,2}I|[Pc])"
_LIST: Final = rf"{_ITEM}(?:(?:C{_ITEM})*C?A{_ITEM})*"
_OFF: Final = re.compile(r"(?:[Pb][AO])*[Pb](?:K?Y?F|K[n0])(?=[CBPb]|$)")
_ONLY: Final = (
    re.compile(rf"(?<![MNn])[Uu](?P<list>{_LIST})(?=[CBZL]|$)"),
    re.compile(rf"(?P<list>{_LIST})(?:U(?=[CB]|$)|C?L)"),
)
_SOLO: Final = (
    re.compile(r"S[GXD]{0,3}(?P<list>I|[Pc])"),
    re.compile(r"(?P<list>I|[Pc])S(?=[CBZ]|$)"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says about parts.

    Attributes:
        rests: pairs of a part that rests and the words that say so, in the order of ``PARTS``.
        named: parts that the text names without negation.
    """

    rests: _Rests = ()
    named: frozenset[str] = frozenset()


@lru_cache(maxsize=512)
def read_rests(text: str) -> Reading:
    """Read the rests that a prompt asks for, by the rules above.

    Args:
        text: any text. With more than 150 words and marks nothing rests.
    """
    tokens = tokens_of(text)
    if len(tokens) > _LONGEST or all(token.kind not in "PbcRILQ" for token in tokens):
        return Reading()
    scan = _Scan(tokens)
    strong = {part for k in scan.open("Pc") for part in tokens[k].parts}
    named = frozenset(strong.union(*(tokens[k].parts for k in scan.open("b")), *scan.elsewhere))
    implied = {part: words for part, words in scan.alone(named).items() if part not in named}
    asked = {part: words for part, words in scan.asked.items() if part not in strong}
    return Reading(_ordered({**implied, **asked}), named)


@lru_cache(maxsize=128)
def read_negative(text: str) -> _Rests:
    """Parts that a negative prompt names alone between commas or joints, with their words.

    Args:
        text: any text of any length.
    """
    tokens = tokens_of(text)
    kinds = kinds_of(tokens)
    found: dict[str, str] = {}
    # Whole items: in "distorted drums and bass" the first word may mean both.
    for match in re.finditer(r"(?:(?<=[CB])|^)D*[PbcIi](?:[AO]D*[PbcIi])*(?=[CB]|$)", kinds):
        for token in tokens[match.start() : match.end()]:
            if token.kind in "Pb":
                found |= dict.fromkeys(token.parts, f"negative prompt: {token.words}")
    return _ordered(found)


@lru_cache(maxsize=512)
def said_rests(prompts: tuple[PromptPart, ...], negative: str = "") -> _Rests:
    """Parts that rest by the words of a mix of prompts, with the words that say so.

    Args:
        prompts: the mix. A part rests if prompts with more than half of the weight say so, and no prompt with a weight
            above 0 names it.
        negative: negative prompt. Its parts rest, too, unless a prompt names them.
    """
    readings = [(read_rests(part.text), part.weight) for part in prompts if part.weight > 0]
    refused = dict(read_negative(negative)) if negative else {}
    if not refused and not any(reading.rests for reading, _ in readings):
        return ()
    half = sum(weight for _, weight in readings) / 2
    found: dict[str, str] = {}
    for part in PARTS:
        # A reading with a rest of its own has weighed its own names already.
        if any(part in reading.named and part not in dict(reading.rests) for reading, _ in readings):
            continue
        saying = [(dict(reading.rests)[part], weight) for reading, weight in readings if part in dict(reading.rests)]
        if saying and sum(weight for _, weight in saying) > half:
            found[part] = "; ".join(dict.fromkeys(words for words, _ in saying))
        elif part in refused:
            found[part] = refused[part]
    return _ordered(found)


def _ordered(found: dict[str, str]) -> _Rests:
    """The pairs in the order of the parts. Silence is what nobody means: all parts at once are none."""
    return tuple((part, found[part]) for part in PARTS if part in found) if len(found) < len(PARTS) else ()


class _Scan:
    """One reading of a text.

    Attributes:
        asked: parts that are asked to rest by name, with the words.
        elsewhere: names of parts that rest in a place only, so they play in others.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.kinds = kinds_of(tokens)
        self.asked: dict[str, str] = {}
        self.elsewhere: list[frozenset[str]] = []
        self._used: set[int] = set()  # tokens that a negation has taken
        for match in _OFF.finditer(self.kinds):
            self._rest([k for k in range(match.start(), match.end()) if self.kinds[k] in "Pb"], match.end())
        portuguese = any(token.words in words_of("portuguese") for token in tokens)
        for at, kind in enumerate(self.kinds):
            if kind == "n" and portuguese and tokens[at].words == "no":
                continue
            if kind in "Nn":
                self._negation(at)
            elif kind == "R":
                self._rest([at], at + 1, doubtful=at > 0 and self.kinds[at - 1] in "MNn")

    def open(self, kinds: str) -> Iterator[int]:
        """Places of tokens of some kinds that no negation has taken."""
        return (k for k, kind in enumerate(self.kinds) if kind in kinds and k not in self._used)

    def _segment(self, first: int, last: int) -> tuple[int, int]:
        """Bounds of the parts of a sentence, between commas, with the tokens from ``first`` to ``last``."""
        while first > 0 and self.kinds[first - 1] not in _ENDS:
            first -= 1
        while last < len(self.kinds) and self.kinds[last] not in _ENDS:
            last += 1
        return first, last

    def _partly(self, start: int, end: int) -> bool:
        """Whether the tokens from ``start`` to ``end`` are about a part of the piece: by words beside them between
        commas, by a place before ("in the intro, ..."), or by a change behind ("..., then a beat")."""
        first, last = self._segment(start, end)
        before = re.search(r"(?:^|[CB])[ZD]*T+[CB]$", self.kinds[:first])
        behind = {token.words for token in self.tokens[last + 1 : last + 3]}
        return "T" in self.kinds[first:last] or before is not None or not behind.isdisjoint(words_of("changes"))

    def _rest(self, places: Sequence[int], end: int, *, start: int | None = None, doubtful: bool = False) -> None:
        """Let the parts at some places rest: the words are the tokens from ``start`` to ``end``."""
        if not places:
            return
        start = places[0] if start is None else start
        elsewhere = doubtful or self._partly(start, end)
        words = " ".join(token.words for token in self.tokens[start:end]).replace(" ,", ",").replace(" :", ":")
        for place in places:
            self._used.add(place)
            if elsewhere:
                self.elsewhere.append(self.tokens[place].parts)
            else:
                self.asked |= dict.fromkeys(self.tokens[place].parts, words)

    def _negation(self, at: int) -> None:
        """Read the list behind a negation."""
        wide = self.kinds[at] == "N"
        first, _ = self._segment(at, at)
        before = self.kinds[first:at]
        doubtful = before.rstrip("DZ").endswith("M") or (wide and re.search(r"[Mn][^AOWNU]*$", before) is not None)
        # "don't want the drums to stop", "don't play the drums loud"
        verb = self.tokens[at].words.startswith(("dont", "do ", "doesnt", "does "))
        resting: list[int] = []
        place, end, bare_list, described = at + 1, at + 1, True, False
        while True:
            items_end, name = self._item(place)
            if name is None and place == items_end:
                break
            # "no distorted guitar or bass": the first word may mean both
            if described or (verb and name is not None and self._limited(name + 1)):
                name = None
            described = described or len(self.kinds[place:items_end].strip("D")) > 1
            bare_list = bare_list and name is not None
            if name is not None:
                resting.append(name)
                end = name + 1
                if items_end != end:  # "no drums ambient": the list ends
                    break
            else:  # "no heavy drums" says nothing about the drums, and "no strings" leaves no strings to play
                self._used |= {k for k in range(place, items_end) if self.kinds[k] in "PbcIi"}
                if self.kinds[items_end - 1] == "S" or self.tokens[items_end - 1].words in words_of("compounds"):
                    self._used |= {k for k in resting if self.tokens[k].strict}  # "no bass or drum solos"
                    resting = [k for k in resting if not self.tokens[k].strict]
            following = self._next(items_end, bare_list=bare_list, wide=wide)
            if following is None:
                break
            place = following
        self._rest(resting, end, start=at, doubtful=doubtful)

    def _item(self, place: int) -> tuple[int, int | None]:
        """End of an item of a list, and the place of the name of a whole part that is the item; None: it is another."""
        while self.kinds[place : place + 1] == "D":
            place += 1
        end = place
        while end < len(self.kinds) and self.kinds[end] not in "AOCBKNnWUuLZTFM":
            end += 1
        if end == place or self.kinds[place] not in "Pb":
            return end, None
        token, compound = self.tokens[place], self.tokens[place + 1 : end]
        if compound and (token.strict or compound[0].kind in "Sc" or compound[0].words in words_of("compounds")):
            return end, None
        if self.tokens[end : end + 1] and self.tokens[end].words in words_of("clauses"):  # "no drums that sound cheap"
            return end, None
        if self.kinds[end : end + 1] in ("U", "L"):  # "no drums and bass only"
            return place, None
        return end, place

    def _limited(self, place: int) -> bool:
        """Whether the word at ``place`` limits a verb, as "to" in "don't want drums to stop"."""
        return self.kinds[place : place + 1] == "X" or (
            place < len(self.tokens) and self.tokens[place].words in words_of("purposes")
        )

    def _next(self, place: int, *, bare_list: bool, wide: bool) -> int | None:
        """First token of the next item behind one that ends at ``place``; None: the list ends."""
        joint = self.kinds[place : place + 2]
        if joint.startswith("O") or joint == "CO":
            return place + joint.index("O") + 1
        if joint.startswith("A"):
            if self.tokens[place].words in ("+", "plus"):  # "no drums + pads" can mean that pads are added
                return None
            bare = self._joined(place + 1)
            if bare and not bare_list:  # "no vocals and drums" can mean both
                self._used.add(self._item(place + 1)[1] or place)
            return place + 1 if bare and bare_list else None
        if not joint.startswith("C"):
            return None
        run = re.match(r"(?:C[DXIGPb]{1,4})+C?(?P<joint>[AO])", self.kinds[place:])
        if run is None:
            return None
        if run["joint"] == "O":
            return place + 1
        bare_run = re.match(r"(?:CD?[Pb])+C?AD?[Pb](?=[CB]|$)", self.kinds[place:])
        return place + 1 if wide and bare_list and bare_run else None

    def _joined(self, place: int) -> bool:
        """Whether the name of a whole part follows "and", as in "no drums and bass", not as in "and a bass"."""
        if self.tokens[place : place + 1] and self.tokens[place].words in ("a", "an"):
            return False
        end, name = self._item(place)
        return name is not None and end == name + 1

    def alone(self, named: frozenset[str]) -> dict[str, str]:
        """Parts that rest because the text names all that plays, with the words.

        Args:
            named: parts that the text names without negation.
        """
        if "E" in self.kinds:
            return {}
        if "Q" in self.kinds and self._genre and "W" not in self.kinds and not named & _RHYTHM:
            return dict.fromkeys(_RHYTHM, "a cappella")
        kinds = "".join("_" if k in self._used else kind for k, kind in enumerate(self.kinds))
        for pattern in _ONLY:
            for match in pattern.finditer(kinds):
                if found := self._without_others(match, named):
                    return found
        if "V" in kinds:
            players = list(self.open("IPc"))
            if players and next(self.open("i"), None) is None:
                return self._others(players, self.tokens[kinds.index("V")].words)
        for pattern in _SOLO:
            for match in pattern.finditer(kinds):
                if self._is_solo(match, kinds) and (found := self._without_others(match, named, solo=True)):
                    return found
        return {}

    @property
    def _genre(self) -> bool:
        """Whether a genre of bands is named."""
        return any(token.kind == "G" and token.words not in solo_genres() for token in self.tokens)

    def _is_solo(self, match: re.Match[str], kinds: str) -> bool:
        """Whether a solo is the whole piece, not one inside a band's."""
        first, _ = self._segment(match.start(), match.end())
        place = match.start("list")
        if any(kind in "WA" for kind in kinds[first : match.start()]) or any(t.words == "over" for t in self.tokens):
            return False
        if kinds[match.start()] != "S" and self.tokens[place].band:
            return False
        if kinds[place] != "I" and "lead" in self.tokens[place].parts:  # over a band, as a guitar's solo
            return False
        outside = [k for k, kind in enumerate(kinds) if kind == "G" and not match.start() <= k < match.end()]
        return all(self.tokens[k].words in solo_genres() for k in outside)

    def _without_others(self, match: re.Match[str], named: frozenset[str], *, solo: bool = False) -> dict[str, str]:
        """The parts beside those of a list that names all players; none if the text names others, or a place."""
        first, _ = self._segment(match.start(), match.end())
        players = [k for k in range(match.start("list"), match.end("list")) if self.kinds[k] in "IPc"]
        names = {self.tokens[k].words.rsplit(" ", 1)[-1] for k in players}
        others = [k for k in self.open("Ii") if self.tokens[k].words.rsplit(" ", 1)[-1] not in names]
        if others or "M" in self.kinds[first : match.start()] or self._partly(match.start(), match.end()):
            return {}
        if named - self._kept(players):
            return {}
        words = " ".join(token.words for token in self.tokens[match.start() : match.end()]).replace(" ,", ",")
        return self._others(players, words, solo=solo)

    def _kept(self, players: Sequence[int]) -> frozenset[str]:
        return frozenset[str]().union(*(self.tokens[k].parts for k in players))

    def _others(self, players: Sequence[int], words: str, *, solo: bool = False) -> dict[str, str]:
        """The parts that the words alone would leave audible beside the players."""
        instruments = all(self.kinds[k] == "I" for k in players)
        found = frozenset(PARTS) - _RHYTHM if instruments else frozenset({"bass"})
        if self._genre and not solo:
            found |= _RHYTHM
        return dict.fromkeys(found - self._kept(players), words)
