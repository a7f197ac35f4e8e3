"""Uploaded seeds in the folder of a stopped server, for ``riffstream seeds``."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from riffstream.audio.files import read_audio
from riffstream.audio.writing import write_audio
from riffstream.config import Config
from riffstream.errors import MediaError, ParameterError
from riffstream.models.uploads import AUDIO, PREVIEW, RATE, Upload
from riffstream.ranges import RANGES
from riffstream.server.uploads.intake import Uploads
from riffstream.server.uploads.seeds import shown

__all__ = ["Stopped", "Store"]

T = TypeVar("T")


class Store(Protocol):
    """Seeds of a server. Methods raise RiffstreamError."""

    def all(self) -> list[dict[str, Any]]:
        """Descriptions of all seeds, as in ``/api/seeds``."""

    def one(self, name: str) -> dict[str, Any]:
        """Description of a seed."""

    def data(self, name: str, kind: str) -> bytes:
        """A seed as a file: png, wav, flac, mp3 or ogg."""

    def add(self, file: Path, fields: dict[str, Any]) -> dict[str, Any]:
        """Add a file; ``fields``: name, bpm and key, None if not set. Returns its description."""

    def remove(self, name: str, key: str | None) -> None:
        """Remove an added seed."""


class Stopped:
    """Uploads in the ``state_dir`` of a server that does not run.

    Args:
        state_dir: the folder; a missing one is created by :meth:`add` and is empty otherwise.
    """

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir

    def _with(self, act: Callable[[Uploads], Awaitable[T]]) -> T:
        async def run() -> T:
            uploads = Uploads(Config.from_dict({"server": {"state_dir": self._state_dir}}))
            try:
                return await act(uploads)
            finally:
                await uploads.close()

        return asyncio.run(run())

    def all(self) -> list[dict[str, Any]]:
        async def act(uploads: Uploads) -> list[dict[str, Any]]:
            return [_described(entry) for entry in reversed(uploads.entries.values())]

        return self._with(act)

    def one(self, name: str) -> dict[str, Any]:
        async def act(uploads: Uploads) -> dict[str, Any]:
            return _described(uploads.entries[_known(uploads, name)])

        return self._with(act)

    def data(self, name: str, kind: str) -> bytes:
        async def act(uploads: Uploads) -> bytes:
            entry = uploads.entries[_known(uploads, name)]
            if kind == "png":
                return uploads.file(name, PREVIEW).read_bytes()
            if entry.kind != "audio":
                raise ParameterError("out", f".{kind}", "a .png file; this seed was uploaded as a picture")
            target = io.BytesIO()
            samples = read_audio(uploads.file(name, AUDIO), sample_rate=RATE, channels=2).samples
            write_audio(target, samples, RATE, {"title": entry.title}, format=kind)
            return target.getvalue()

        return self._with(act)

    def add(self, file: Path, fields: dict[str, Any]) -> dict[str, Any]:
        for name in ("bpm", "key"):
            rule = RANGES[name]
            if fields[name] is not None and not rule.low <= fields[name] <= rule.high:
                raise ParameterError(name, fields[name], rule.words)

        async def act(uploads: Uploads) -> dict[str, Any]:
            with uploads.workplace() as place:
                source = place / "source"
                await asyncio.to_thread(shutil.copyfile, file, source)
                try:
                    entry, notes, _ = await uploads.make(
                        source, place, fields["name"] or file.stem, lambda: (), bpm=fields["bpm"], key=fields["key"]
                    )
                except web.HTTPException as error:
                    reason = json.loads(error.text or "{}").get("message", error.reason)
                    raise MediaError(f"{file}: {reason}") from None
            return _described(entry) | ({"notes": notes} if notes else {})

        return self._with(act)

    def remove(self, name: str, key: str | None) -> None:
        async def act(uploads: Uploads) -> None:
            await uploads.remove(_known(uploads, name))

        self._with(act)


def _described(entry: Upload) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(shown(entry))
    return found


def _known(uploads: Uploads, name: str) -> str:
    if name not in uploads.entries:
        raise ParameterError("name", name, f"an uploaded seed: {', '.join(uploads.entries) or 'there is none'}")
    return name
