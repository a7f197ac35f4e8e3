"""Parser of chord symbols and of chord progressions. No torch here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from riffstream.errors import ParameterError
from riffstream.ranges import nearest

__all__ = ["MAX_BARS", "QUALITIES", "Chord", "parse_bars", "transposed"]

MAX_BARS = 64  # of one row of chords
MAX_IN_BAR = 4

_ROOTS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
# Semitones above the root, by the symbol as this program writes it.
QUALITIES: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "M7": (0, 4, 7, 11), "m7": (0, 3, 7, 10), "6": (0, 4, 7, 9),
    "m6": (0, 3, 7, 9), "sus2": (0, 2, 7), "sus4": (0, 5, 7), "dim": (0, 3, 6), "m7b5": (0, 3, 6, 10),
    "add9": (0, 4, 7, 14), "9": (0, 4, 7, 10, 14), "M9": (0, 4, 7, 11, 14), "m9": (0, 3, 7, 10, 14), "5": (0, 7),
    "13": (0, 4, 7, 10, 14, 21), "dim7": (0, 3, 6, 9), "aug": (0, 4, 8), "7sus4": (0, 5, 7, 10),
    "mM7": (0, 3, 7, 11), "m11": (0, 3, 7, 10, 17), "11": (0, 4, 7, 10, 17), "6/9": (0, 4, 7, 9, 14),
    "madd9": (0, 3, 7, 14), "7b9": (0, 4, 7, 10, 13), "7#9": (0, 4, 7, 10, 15), "7#5": (0, 4, 8, 10),
    "7b5": (0, 4, 6, 10), "m13": (0, 3, 7, 10, 14, 21), "M13": (0, 4, 7, 11, 14, 21),
}  # fmt: skip
# Other ways of writing them.
_SPELLINGS = {
    "maj": "", "major": "", "min": "m", "minor": "m", "-": "m", "maj7": "M7", "ma7": "M7", "Δ": "M7", "Δ7": "M7",
    "min7": "m7", "mi7": "m7", "-7": "m7", "min6": "m6", "maj9": "M9", "min9": "m9", "-9": "m9", "sus": "sus4",
    "°": "dim", "o": "dim", "°7": "dim7", "o7": "dim7", "ø": "m7b5", "ø7": "m7b5", "-7b5": "m7b5", "min7b5": "m7b5",
    "+": "aug", "7sus": "7sus4", "maj6": "6", "mmaj7": "mM7", "minmaj7": "mM7", "69": "6/9", "2": "add9",
    "add2": "add9", "maj13": "M13", "min11": "m11", "dom7": "7", "7+": "7#5", "7alt": "7#9", "min13": "m13",
}  # fmt: skip
_SYMBOL = re.compile(r"([A-G][b#]?)(.*?)(?:/([A-G][b#]?))?")
_FIFTHS = "FCGDAEB"
# Steps on the circle of fifths to the major key this many semitones above C: the one with fewer signs.
_FIFTHS_OF_KEY = (0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5)
_NONE = ("N.C.", "NC", "n.c.", "-", "_")


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord symbol such as ``Am7`` or ``F/C``, with its pitch classes (0 is C)."""

    symbol: str
    root: int
    bass: int
    tones: tuple[int, ...]  # semitones above the root

    @classmethod
    def parse(cls, symbol: str) -> Chord:
        """Parse a chord symbol.

        >>> Chord.parse("Am7").classes
        (9, 0, 4, 7)
        >>> Chord.parse("Bbmaj7/D").bass
        2

        Raises:
            ParameterError: not a chord symbol.
        """
        plain = symbol.replace("♭", "b").replace("♯", "#").replace("(", "").replace(")", "")
        match = _SYMBOL.fullmatch(plain)
        quality = None if match is None else _SPELLINGS.get(match[2], match[2])
        if match is None or quality not in QUALITIES:
            known = [name + text for name in "CDEFGAB" for text in QUALITIES]
            example = "a chord symbol such as C, Am7, F#m7b5, Bbmaj7 or G/B"
            raise ParameterError("chord", symbol, example + nearest(plain, known))
        root = _pitch_class(match[1])
        return cls(symbol, root, _pitch_class(match[3]) if match[3] else root, QUALITIES[quality])

    @property
    def classes(self) -> tuple[int, ...]:
        """Pitch classes 0-11, root first."""
        return tuple((self.root + tone) % 12 for tone in self.tones)

    @property
    def minor(self) -> bool:
        """Whether the third is minor."""
        return 3 in self.tones

    def moved(self, semitones: int) -> Chord:
        """The chord transposed up by ``semitones``; ``symbol`` stays as written."""
        return replace(self, root=(self.root + semitones) % 12, bass=(self.bass + semitones) % 12)


def transposed(text: str, semitones: int) -> str:
    """A progression as it sounds ``semitones`` higher, with the spelling that suits the new key.

    >>> transposed("Am F / G C/E", 3)
    'Cm Ab / Bb Eb/G'
    >>> transposed("Am F C G", -1)
    'G#m E B F#'

    Raises:
        ParameterError: as :func:`parse_bars`.
    """
    bars = parse_bars(text)
    if semitones % 12 == 0:
        return text
    return " ".join(" / ".join(_respelled(chord, semitones) for chord in bar) for bar in bars)


def _respelled(chord: Chord | None, semitones: int) -> str:
    if chord is None:
        return "N.C."
    match = _SYMBOL.fullmatch(chord.symbol.replace("♭", "b").replace("♯", "#").replace("(", "").replace(")", ""))
    assert match is not None
    fifths = _FIFTHS_OF_KEY[semitones % 12]
    bass = "" if match[3] is None else "/" + _on_fifths(match[3], fifths)
    return _on_fifths(match[1], fifths) + match[2] + bass


def _on_fifths(name: str, fifths: int) -> str:
    """Move a note name along the circle of fifths: equal steps keep the spelling of every interval."""
    place = _FIFTHS.index(name[0]) + 7 * (name.count("#") - name.count("b")) + fifths
    while not -7 <= place < 14:  # no double sharps or flats
        place += 12 if place < 0 else -12
    return _FIFTHS[place % 7] + {-1: "b", 0: "", 1: "#"}[place // 7]


def _pitch_class(name: str) -> int:
    return (_ROOTS[name[0]] + name.count("#") - name.count("b")) % 12


def parse_bars(text: str) -> tuple[tuple[Chord | None, ...], ...]:
    """Parse a chord progression: one chord a bar, or two or four in a bar separated by ``/``.

    A note name directly after a slash is the bass note: ``F/C`` is F over C, one bar. ``F / C`` and ``Am/Dm7`` are two
    chords in one bar. ``N.C.`` means no chord. Bar lines ``|`` are optional.

    >>> [[chord.symbol for chord in bar] for bar in parse_bars("Am F / G C/E")]
    [['Am'], ['F', 'G'], ['C/E']]

    Raises:
        ParameterError: field ``chords``, with the part that cannot be parsed.
    """
    if not isinstance(text, str):
        raise ParameterError("chords", text, "chord symbols, one a bar: 'Am F C G'")
    bars: list[list[Chord | None]] = []
    joined = False
    for word in text.replace("|", " ").replace(",", " ").split():
        if word == "/":
            if not bars or joined:
                raise ParameterError("chords", text, "a chord on both sides of '/'")
            joined = True
            continue
        found = _bar(word)
        if joined:
            bars[-1] += found
        else:
            bars.append(found)
        joined = False
    if joined:
        raise ParameterError("chords", text, "a chord on both sides of '/'")
    if not 1 <= len(bars) <= MAX_BARS:
        raise ParameterError("chords", text, f"1 to {MAX_BARS} bars")
    for bar in bars:
        if len(bar) not in (1, 2, MAX_IN_BAR):
            raise ParameterError("chords", text, f"1, 2 or {MAX_IN_BAR} chords in a bar")
    return tuple(tuple(bar) for bar in bars)


def _bar(word: str) -> list[Chord | None]:
    """Chords of one word: one, or several separated by slashes."""
    if word in _NONE:
        return [None]
    try:
        return [Chord.parse(word)]
    except ParameterError as error:
        parts = word.split("/")
        if len(parts) == 1:
            raise ParameterError("chords", error.value, error.allowed) from None
    try:
        return [None if part in _NONE else Chord.parse(part) for part in parts]
    except ParameterError as error:
        raise ParameterError("chords", error.value or word, error.allowed) from None
