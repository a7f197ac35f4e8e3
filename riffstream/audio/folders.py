"""The sound files of a folder and its subfolders, as people keep music: albums, covers, playlists, hidden files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from riffstream.audio.joined import begins_as_sound
from riffstream.text_files import readable

__all__ = ["BESIDE", "SOUND", "Music", "find_music", "is_hidden", "natural"]

# Extensions of audio files. Other files are recognised by their first bytes.
SOUND: Final = frozenset(
    (
        ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".ape", ".au", ".caf", ".dsf", ".flac", ".m4a", ".m4b", ".mka",
        ".mp2", ".mp3", ".mp4", ".mpc", ".oga", ".ogg", ".opus", ".ra", ".rf64", ".snd", ".spx", ".tak", ".tta",
        ".voc", ".w64", ".wav", ".wave", ".webm", ".wma", ".wv",
    )
)  # fmt: skip
# Extensions of files that usually accompany music. They are skipped without a remark.
BESIDE: Final = frozenset(
    (
        ".accurip", ".asd", ".bak", ".bmp", ".cue", ".csv", ".db", ".doc", ".docx", ".gif", ".htm", ".html", ".ini",
        ".jpeg", ".jpg", ".json", ".lnk", ".log", ".lrc", ".m3u", ".m3u8", ".md", ".md5", ".mid", ".midi", ".nfo",
        ".part", ".pdf", ".pkf", ".pls", ".png", ".rtf", ".sfk", ".sfv", ".sha1", ".svg", ".tif", ".tiff", ".toml",
        ".torrent", ".txt", ".url", ".webp", ".xml", ".xspf", ".yaml", ".yml", ".zip",
    )
)  # fmt: skip
SYSTEM_FOLDERS: Final = frozenset(("@eadir", "__macosx", "$recycle.bin", "system volume information"))
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Music:
    """Result of a search for audio files.

    Attributes:
        files: audio files in natural order (2 before 10), found by extension, or by their first bytes if the extension
            is unknown.
        remarks: sentences about skipped files and folders, for the user.
    """

    files: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def find_music(folder: Path, *, without: Collection[Path] = ()) -> Music:
    """Find the audio files in a folder and its subfolders.

    Links to folders are followed; each folder is visited once. Hidden files and folders are skipped, and so are files
    that usually accompany music (:data:`BESIDE`).

    Args:
        folder: an existing folder.
        without: folders to skip, such as the output folder.
    """
    files: list[Path] = []
    unknown: list[Path] = []
    closed: list[str] = []
    seen = {identity for path in without if (identity := _identity(path)) and not path.samefile(folder)}

    def refused(error: OSError) -> None:
        closed.append(
            f"{readable(str(error.filename))} cannot be looked into ({(error.strerror or str(error)).lower()})"
        )

    for place, folders, names in os.walk(folder, followlinks=True, onerror=refused):
        here = Path(place)
        identity = _identity(here)
        if identity is None or identity in seen:  # deleted, or a link back to a visited folder
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted((name for name in folders if not is_hidden(name)), key=natural)
        for name in names:
            path = here / name
            ending = path.suffix.lower()
            if is_hidden(name) or ending in BESIDE or not path.is_file():
                continue
            (files if ending in SOUND or begins_as_sound(_start(path)) else unknown).append(path)
    if unknown:
        named = ", ".join(readable(path.name) for path in unknown[:MOST_NAMED])
        more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
        closed.append(f"not known as sound, left out: {named}{more}")
    return Music(sorted(files, key=lambda path: natural(str(path.relative_to(folder)))), closed)


def is_hidden(name: str) -> bool:
    """Whether this name is hidden on some system, such as ``._song.mp3`` of macOS or a system folder."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that compares numbers by value: ``2 b`` before ``10 a``."""
    parts = re.split(r"(\d+)", readable(name).casefold().replace(os.sep, "\0"))
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except OSError:
        return b""
