"""Spans of an archive: what a download contains, at which times, with which chapters. Pure functions.

Threading model: no state.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from riffstream.protocol import SAMPLE_RATE
from riffstream.server.archive.store import Piece, Title

__all__ = ["Chapter", "Stretch", "chapter_text", "chapters", "clock_text", "cue_sheet", "stretches"]

TOGETHER_S: Final = 0.1
CUE_TRACKS: Final = 99
CUE_FRAMES: Final = 75  # a second


@dataclass(frozen=True, slots=True)
class Stretch:
    """Audio without a gap.

    Attributes:
        run: run of the station.
        begin, end: POSIX times.
        begin_s, end_s: station times (sample clock), seconds.
    """

    run: int
    begin: float
    end: float
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Chapter:
    """A prompt in a file.

    Attributes:
        at_s: its start in the file, seconds.
        title: the prompt.
    """

    at_s: float
    title: str


def stretches(pieces: Sequence[Piece]) -> list[Stretch]:
    """Join pieces, in order, to stretches without a gap."""
    found: list[Stretch] = []
    for piece in pieces:
        end_s = (piece.pos + piece.n) / SAMPLE_RATE
        last = found[-1] if found else None
        begin_s = piece.pos / SAMPLE_RATE
        if (
            last is not None
            and last.run == piece.run
            and abs(last.end_s - begin_s) < TOGETHER_S
            and abs(last.end - piece.wall) < TOGETHER_S
        ):
            found[-1] = Stretch(last.run, last.begin, piece.end, last.begin_s, end_s)
        else:
            found.append(Stretch(piece.run, piece.wall, piece.end, begin_s, end_s))
    return found


def chapters(pieces: Sequence[Piece], titles: Callable[[int], Sequence[Title]]) -> list[Chapter]:
    """Chapters of a file of these pieces. Repeated titles are one chapter.

    Args:
        pieces: in order.
        titles: titles of a run, in order.
    """
    found: list[Chapter] = []
    at = 0
    for run, group in itertools.groupby(pieces, key=lambda piece: piece.run):
        known = list(titles(run))
        for piece in group:
            end = piece.pos + piece.n
            while known and known[0].pos < end:
                title = known.pop(0)
                start = at + max(0, title.pos - piece.pos)
                if found and found[-1].at_s * SAMPLE_RATE == start:  # an older title of the same moment
                    found.pop()
                if not found or found[-1].title != title.text:
                    found.append(Chapter(start / SAMPLE_RATE, title.text))
            at += piece.n
    return found


def chapter_text(found: Sequence[Chapter]) -> str:
    """Lines such as ``0:04:10 deep house``, as video sites read them."""
    return "".join(f"{_hours(int(each.at_s))} {each.title}\n" for each in found)


def _hours(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def cue_sheet(found: Sequence[Chapter], *, file: str, kind: str, performer: str, title: str) -> str:
    """Cue sheet with a track for each chapter, at most 99.

    Args:
        found: the chapters.
        file: name of the audio file.
        kind: MP3 or WAVE, the type that players expect for every other format as well.
        performer: of the album and of each track.
        title: of the album.
    """
    lines = [f"PERFORMER {_quoted(performer)}", f"TITLE {_quoted(title)}", f"FILE {_quoted(file)} {kind}"]
    for number, each in enumerate(found[:CUE_TRACKS], 1):
        frames = round(each.at_s * CUE_FRAMES)
        minutes, rest = divmod(frames, 60 * CUE_FRAMES)
        lines += [
            f"  TRACK {number:02} AUDIO",
            f"    TITLE {_quoted(each.title)}",
            f"    PERFORMER {_quoted(performer)}",
            f"    INDEX 01 {minutes:02}:{rest // CUE_FRAMES:02}:{rest % CUE_FRAMES:02}",
        ]
    if len(found) > CUE_TRACKS:
        lines.insert(0, f"REM {len(found) - CUE_TRACKS} later prompts have no track: a cue sheet holds {CUE_TRACKS}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + " ".join(text.replace('"', "'").split()) + '"'


def clock_text(posix_s: float) -> str:
    """POSIX time as ISO 8601 in UTC, with milliseconds."""
    when = datetime.datetime.fromtimestamp(posix_s, datetime.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
