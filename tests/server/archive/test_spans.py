"""Stretches, chapters and cue sheets, without a server."""

from __future__ import annotations

from riffstream.server.archive.spans import Chapter, chapter_text, chapters, clock_text, cue_sheet, stretches
from riffstream.server.archive.store import Piece, Title

SECOND = 48_000


def piece(number: int, run: int = 1, later_s: float = 0) -> Piece:
    """Two seconds; ``later_s``: the wall clock went on while the sample clock stood still."""
    return Piece(number, run, number * 2 * SECOND, 2 * SECOND, 1000 + number * 2 + later_s, 10, "mp3", 128)


def test_a_gap_in_either_clock_or_another_run_ends_a_stretch() -> None:
    rows = [piece(0), piece(1), piece(3), piece(4, later_s=60), piece(0, run=2, later_s=100)]
    found = stretches(rows)
    assert [(each.run, each.begin_s, each.end_s) for each in found] == [(1, 0, 4), (1, 6, 8), (1, 8, 10), (2, 0, 2)]
    assert (found[2].begin, found[2].end) == (1068, 1070)
    assert stretches([]) == []


def test_chapters_follow_the_file_not_the_clock() -> None:
    titles = {
        1: [Title(0, "older"), Title(3 * SECOND, "a"), Title(5 * SECOND, "in the gap"), Title(7 * SECOND, "b")],
        2: [Title(0, "b"), Title(SECOND, "c")],
    }
    rows = [piece(1), piece(3), piece(0, run=2)]
    found = chapters(rows, titles.__getitem__)
    assert found == [Chapter(0, "older"), Chapter(1, "a"), Chapter(2, "in the gap"), Chapter(3, "b"), Chapter(5, "c")]


def test_the_cue_sheet_counts_frames_and_stops_at_99_tracks() -> None:
    many = [Chapter(60 * number + 0.5, f'prompt "{number}"') for number in range(101)]
    lines = cue_sheet(many, file="a.mp3", kind="MP3", performer="p", title="t").splitlines()
    assert lines[0] == "REM 2 later prompts have no track: a cue sheet holds 99"
    assert [line for line in lines if "INDEX" in line][:2] == ["    INDEX 01 00:00:38", "    INDEX 01 01:00:38"]
    assert sum("TRACK" in line for line in lines) == 99
    assert "    TITLE \"prompt '98'\"" in lines


def test_chapter_text_and_times() -> None:
    assert chapter_text([Chapter(0, "a"), Chapter(3661.9, "b")]) == "0:00:00 a\n1:01:01 b\n"
    assert clock_text(0.0625) == "1970-01-01T00:00:00.062Z"
