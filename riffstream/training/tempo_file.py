"""``tempo.txt``: the tempos of a folder of songs, in formats of people, spreadsheets and other programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from riffstream.errors import ParameterError
from riffstream.ranges import RANGES, check, nearest
from riffstream.text_files import read_notes, readable

__all__ = ["read_tempos"]

_NUMBER = r"[+-]?\d+(?:[.,]\d+)?"
_QUOTES = "\"'“”„‘’"
_SPLIT = re.compile(
    rf"(?=(?:\s+[-–—]\s+|[\s,;:=]+)[{_QUOTES}]?({_NUMBER})\s*(?:bpm)?[{_QUOTES}]?[\s,;]*$)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?i)\W*(name|file|filename|song|title|track)\W+(bpm|tempo)\W*")
_EXCEL = re.compile(r"(?i)sep=.?")  # the separator, in a spreadsheet's first line
_COLUMNS = re.compile(r"[^\d\s][^\d]*[;,\t][^\d]+")
_ALLOWED = "NAME BPM, 40 to 240 beats per minute"


def read_tempos(file: Path, songs: Sequence[Path]) -> tuple[dict[Path, float], list[str]]:
    """Tempos by song, and remarks about lines without a song and about a guessed encoding.

    A line is a name and a number, separated by a space, a tab, ``,``, ``;``, ``:``, ``=`` or a dash; ``#`` begins a
    comment. Both may have quotes. The name may include the file's extension, or be a path relative to ``file``. The
    first line may contain column names.

    Args:
        file: ``tempo.txt``; a missing file gives an empty result.
        songs: the audio files, in or below the folder of ``file``.

    Raises:
        ParameterError: a line is not such a pair, its tempo is out of range, or two lines contradict each other.
    """
    if not file.is_file():
        return {}, []
    text, remark = read_notes(file)
    remarks = [f"{file.name}: {remark}"] if remark else []
    named = _names(file.parent, songs)
    exact: dict[Path, float] = {}
    by_stem: dict[Path, float] = {}
    first = True
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{file.name}, line {number}"
        stripped = _uncommented(line, named)
        if not stripped or (first and _EXCEL.fullmatch(stripped)):
            continue
        if first:
            first = False
            if _HEADER.fullmatch(stripped):
                continue
            if _COLUMNS.fullmatch(stripped) and not any(_key(part) in named for part in re.split(r"[;,\t]", stripped)):
                remarks.append(f"{where} was read as column names: {stripped!r}")
                continue
        pairs = list(_pairs(stripped))
        try:
            # "album 3,120" and "song,87,5": an existing name decides, otherwise a valid tempo.
            known = [pair for pair in pairs if _key(pair[0]) in named]
            name, tempo = known[0] if known else next(pair for pair in reversed(pairs) if _possible(pair[1]))
            check("bpm", tempo)
        except (StopIteration, ParameterError):
            raise ParameterError(where, line, _ALLOWED) from None
        key = _key(name)
        if key not in named:
            remarks.append(f"{where}: there is no song {name!r}{nearest(key, named)}")
        for song in named.get(key, []):
            tempos = exact if key.endswith(song.suffix.lower()) else by_stem
            if tempos.setdefault(song, tempo) != tempo:
                other = f"one tempo for {readable(song.name)}; another line says {tempos[song]:g}"
                raise ParameterError(where, line, other)
    return by_stem | exact, remarks


def _names(folder: Path, songs: Sequence[Path]) -> dict[str, list[Path]]:
    """Possible names of each song in a line."""
    named: dict[str, list[Path]] = {}
    for song in songs:
        inside = song.relative_to(folder)
        keys = {_key(str(path)) for path in (inside, inside.with_suffix(""), Path(inside.name), Path(inside.stem))}
        for key in keys:
            named.setdefault(key, []).append(song)
    return named


def _key(name: str) -> str:
    name = readable(name).strip().strip(_QUOTES).strip()
    return " ".join(name.replace("\\", "/").removeprefix("./").casefold().split())


def _uncommented(line: str, named: dict[str, list[Path]]) -> str:
    """The line without its comment; a ``#`` in a song's name does not begin a comment."""
    stripped = line.strip()
    if any(_key(name) in named for name, _ in _pairs(stripped)):
        return stripped
    return re.split(r"(?:^|\s)#", stripped, maxsplit=1)[0].strip()


def _possible(bpm: float) -> bool:
    return RANGES["bpm"].low <= bpm <= RANGES["bpm"].high


def _pairs(line: str) -> Iterator[tuple[str, float]]:
    """All readings of a line as a name and a number, the shortest name first."""
    for match in _SPLIT.finditer(line):
        name = line[: match.start()].strip().strip(_QUOTES).strip()
        if name:
            yield name, float(match[1].replace(",", "."))
