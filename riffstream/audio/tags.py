"""Tags in audio files: ID3 in MP3 and WAV, Vorbis comments in FLAC and Ogg."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, BinaryIO

from riffstream.text_files import readable

__all__ = ["write_tags"]

ID3_FRAMES = {
    "title": "TIT2",
    "artist": "TPE1",
    "album": "TALB",
    "date": "TDRC",
    "genre": "TCON",
    "bpm": "TBPM",
    "key": "TKEY",
    "copyright": "TCOP",
}


def write_tags(file: BinaryIO, format: str, tags: Mapping[str, str]) -> None:  # noqa: A002
    """Add tags to a complete file.

    Args:
        file: open for reading and writing, at its start.
        format: "wav", "flac", "ogg", "opus" or "mp3".
        tags: "title", "artist", "album", "date", "genre", "bpm", "key", "copyright", "comment", or any other name.

    Raises:
        mutagen.MutagenError: the file is not what ``format`` says.
    """
    tags = {key: readable(value) for key, value in tags.items()}  # a title may come from an undecodable file name
    if format in ("mp3", "wav"):
        _write_id3(file, format, tags)
        return
    module, kind = {"flac": ("flac", "FLAC"), "ogg": ("oggvorbis", "OggVorbis"), "opus": ("oggopus", "OggOpus")}[format]
    audio = getattr(_mutagen(module), kind)(file)
    for key, value in tags.items():
        audio[key] = value
    file.seek(0)
    audio.save(file)


def _write_id3(file: BinaryIO, format: str, tags: Mapping[str, str]) -> None:  # noqa: A002
    id3 = _mutagen("id3")
    frames = []
    for key, value in tags.items():
        if key in ID3_FRAMES:
            frames.append(getattr(id3, ID3_FRAMES[key])(encoding=3, text=value))
        elif key == "comment":
            frames.append(id3.COMM(encoding=3, lang="eng", desc="", text=value))
        else:
            frames.append(id3.TXXX(encoding=3, desc=key, text=value))
    holder = id3.ID3() if format == "mp3" else _mutagen("wave").WAVE(file)
    if format == "wav":
        holder.add_tags()
    for frame in frames:
        (holder if format == "mp3" else holder.tags).add(frame)
    file.seek(0)
    holder.save(file)


def _mutagen(module: str) -> Any:
    # Loaded on use, and untyped: mutagen ships annotations for some of its functions only.
    return importlib.import_module(f"mutagen.{module}")
