"""``tempo.txt`` as people and spreadsheets write it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from riffstream.errors import ParameterError
from riffstream.training.tempo_file import read_tempos

SONGS = [
    "song.wav",
    "my song.mp3",
    "album 3.flac",
    "#1 hit.mp3",
    "Cafe\u0301.ogg",
    "Album/01.mp3",
    "same.wav",
    "same.mp3",
]


def read(folder: Path, data: str | bytes) -> tuple[dict[str, float], list[str]]:
    file = folder / "tempo.txt"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    tempos, remarks = read_tempos(file, [folder / name for name in SONGS])
    return {path.relative_to(folder).as_posix(): bpm for path, bpm in tempos.items()}, remarks


@pytest.mark.parametrize(
    ("line", "song", "bpm"),
    [
        ("song 120", "song.wav", 120),
        ("song\t120", "song.wav", 120),
        ("song.wav 87", "song.wav", 87),
        ("SONG.WAV 87", "song.wav", 87),
        ("song: 87", "song.wav", 87),
        ("song = 87", "song.wav", 87),
        ("song,87", "song.wav", 87),
        ("song,87,5", "song.wav", 87.5),
        ("song;87,5", "song.wav", 87.5),
        ("song 87.5 BPM", "song.wav", 87.5),
        ("song 87bpm # by ear", "song.wav", 87),
        ("  song   87  ", "song.wav", 87),
        ("song\u00a087", "song.wav", 87),
        ('"my song.mp3",120', "my song.mp3", 120),
        ("my song 120", "my song.mp3", 120),
        ("“my song” 120", "my song.mp3", 120),
        ("album 3,120", "album 3.flac", 120),
        ("album 3 99,5", "album 3.flac", 99.5),
        ("#1 hit 120", "#1 hit.mp3", 120),
        ("caf\u00e9 120", "Cafe\u0301.ogg", 120),
        (r"Album\01.mp3 90", "Album/01.mp3", 90),
        ("./Album/01 90", "Album/01.mp3", 90),
        ('"my song";"87,5";', "my song.mp3", 87.5),
        ("song;87;", "song.wav", 87),
        ("song - 87", "song.wav", 87),
        ("song – 87", "song.wav", 87),
    ],
)
def test_a_line_is_a_name_and_a_number_however_they_are_written(
    line: str, song: str, bpm: float, tmp_path: Path
) -> None:
    assert read(tmp_path, f"# by ear\n\n{line}\r\n") == ({song: bpm}, [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_first_song_of_a_file_from_windows_keeps_its_tempo(encoding: str, end: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"song 87{end}caf\u00e9 90{end}".encode(encoding)) == ({"song.wav": 87, SONGS[4]: 90}, [])


def test_a_header_is_no_song_and_an_ending_beats_the_bare_name(tmp_path: Path) -> None:
    tempos, remarks = read(tmp_path, "Name;BPM\nsame;100\nsame.mp3;120\n")
    assert (tempos, remarks) == ({"same.wav": 100, "same.mp3": 120}, [])


@pytest.mark.parametrize("names", ["Datei;BPM", '"Titel","Tempo (BPM)"', "Titel\tSchläge"])
def test_names_of_columns_in_any_language_are_no_song_and_said(names: str, tmp_path: Path) -> None:
    tempos, remarks = read(tmp_path, f"sep=;\n{names}\nsong;87\n")
    assert tempos == {"song.wav": 87}
    assert len(remarks) == 1
    assert remarks[0].startswith("tempo.txt, line 2 was read as column names")
    with pytest.raises(ParameterError, match="line 1"):
        read(tmp_path, "song;fast\n")


def test_lines_that_match_no_song_and_guessed_bytes_are_said(tmp_path: Path) -> None:
    tempos, remarks = read(tmp_path, "somg 87\nCaf\u00e9 90\n".encode("latin-1"))
    assert tempos == {SONGS[4]: 90}
    assert "read as Windows-1252" in remarks[0]
    assert remarks[1] == "tempo.txt, line 1: there is no song 'somg'; did you mean 'song'?"


@pytest.mark.parametrize("line", ["song", "87", "song fast", "song 500", "song -87", "song nan", "somg 12", "song 8o"])
def test_lines_without_a_tempo_are_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"tempo\.txt, line 2 is .*NAME BPM, 40 to 240"):
        read(tmp_path, f"my song 100\n{line}\n")


def test_two_tempos_of_one_song_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"line 2 .*one tempo for song.wav; another line says 87"):
        read(tmp_path, "song 87\nsong 90\n")
    assert read(tmp_path, "song 87\nsong 87.0\n")[0] == {"song.wav": 87}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no text")
def test_a_name_in_latin_1_is_met_by_its_letters(tmp_path: Path) -> None:
    song = tmp_path / os.fsdecode(b"caf\xe9.wav")
    (tmp_path / "tempo.txt").write_text("café 90\n", encoding="utf-8")
    assert read_tempos(tmp_path / "tempo.txt", [song]) == ({song: 90}, [])


def test_no_file_means_no_tempos(tmp_path: Path) -> None:
    assert read_tempos(tmp_path / "tempo.txt", []) == ({}, [])
