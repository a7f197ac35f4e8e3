"""Folders as people keep music."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from riffstream.audio.folders import find_music, natural

SOUND = b"RIFF\x24\0\0\0WAVEfmt " + bytes(60)


def fill(folder: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def names(folder: Path, **options: list[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_music(folder, **options).files]


def test_albums_are_found_in_natural_order(tmp_path: Path) -> None:
    fill(
        tmp_path, "Album 10/1.mp3", "Album 2/10.mp3", "Album 2/2.FLAC", "album 2/b.ogg", "song.M4A", "Album 2/CD1/3.wav"
    )
    assert names(tmp_path) == [
        "Album 2/2.FLAC", "Album 2/10.mp3", "album 2/b.ogg", "Album 2/CD1/3.wav", "Album 10/1.mp3", "song.M4A"
    ]  # fmt: skip


def test_what_lies_beside_music_makes_no_noise(tmp_path: Path) -> None:
    fill(
        tmp_path, "a.mp3", "a.txt", "cover.JPG", "Thumbs.db", ".DS_Store", "._a.mp3", "a.cue", "list.m3u8",
        "desktop.ini", ".trash/b.mp3", "__MACOSX/._a.mp3", "@eaDir/a.mp3/x.mp3", "booklet.pdf", "folder.webp",
    )  # fmt: skip
    music = find_music(tmp_path)
    assert ([path.name for path in music.files], music.remarks) == (["a.mp3"], [])


def test_an_unknown_ending_is_judged_by_content_and_said(tmp_path: Path) -> None:
    fill(tmp_path, "recording", "song.bin", content=SOUND)
    fill(tmp_path, "secret.xyz", "other")
    music = find_music(tmp_path)
    assert [path.name for path in music.files] == ["recording", "song.bin"]
    assert sorted(music.remarks[0].removeprefix("not known as sound, left out: ").split(", ")) == [
        "other",
        "secret.xyz",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_are_followed_once(tmp_path: Path) -> None:
    fill(tmp_path, "music/album/1.mp3", "elsewhere/2.mp3")
    (tmp_path / "music" / "album" / "loop").symlink_to(tmp_path / "music")
    (tmp_path / "music" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "music" / "gone.mp3").symlink_to(tmp_path / "nothing")
    (tmp_path / "music" / "itself").symlink_to(tmp_path / "music" / "itself")
    assert names(tmp_path / "music") == ["album/1.mp3", "more/2.mp3"]


def test_results_are_not_looked_into_unless_they_are_the_folder(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp3", "clips/b.mp3")
    assert names(tmp_path, without=[tmp_path / "clips"]) == ["a.mp3"]
    assert names(tmp_path, without=[tmp_path]) == ["a.mp3", "clips/b.mp3"]
    assert names(tmp_path, without=[tmp_path / "missing"]) == ["a.mp3", "clips/b.mp3"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the root user may read everything")
def test_a_closed_folder_is_said(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp3", "closed/b.mp3")
    (tmp_path / "closed").chmod(0)
    try:
        assert "closed cannot be looked into (permission denied)" in find_music(tmp_path).remarks[0]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_numbers_sort_by_value() -> None:
    assert sorted(["b10", "b9", "a", "10", "9", "B1", "b\u00b2"], key=natural) == [
        "9",
        "10",
        "a",
        "B1",
        "b9",
        "b10",
        "b\u00b2",
    ]
