"""``/api/seeds/{name}``: description, audio and removal of one seed image.

Threading model
  Event loop   every handler.
  Threads      encode audio (the executor of recordings), read files.
"""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from aiohttp import web

from riffstream import protocol
from riffstream.audio.checks import Pcm
from riffstream.audio.files import read_audio
from riffstream.audio.writing import write_audio
from riffstream.errors import RiffstreamError
from riffstream.models.uploads import AUDIO
from riffstream.server import logs
from riffstream.server.answers import Seed, SeedDetail, json_answer
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.openapi import Answer, described
from riffstream.server.roles import Role
from riffstream.server.uploads.intake import UPLOADS, Uploads
from riffstream.server.uploads.seeds import in_use, library, shown, shown_entry
from riffstream.server.whole_file import file_answer
from riffstream.station.audition import AuditionError

__all__ = ["SEED_AUDIO", "SeedAudio", "routes"]

routes = web.RouteTableDef()

FORMATS = {"flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg", "wav": "audio/wav"}
REMOVE_KEY = "Riffstream-Remove-Key"
CACHE_BYTES = 16 * 1024 * 1024
WAITING = 8  # requests that wait for the generator or an encoder


class SeedAudio:
    """Encoded audio of seed images, rendered once for each format and kept in a bounded cache.

    Args:
        most: size of the cache in bytes.
    """

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._making: dict[tuple[str, str], asyncio.Task[bytes]] = {}

    async def get(self, context: Context, uploads: Uploads, seed: Seed, kind: str) -> bytes:
        """Audio file of a seed.

        Args:
            context: state of the server.
            uploads: the uploads.
            seed: description of the seed, as in ``/api/seeds``.
            kind: format, one of :data:`FORMATS`.

        Raises:
            503: the generator is not ready or too busy.
        """
        key = (seed.name, kind)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        making = self._making.get(key)
        if making is None:
            if len(self._making) >= WAITING:
                raise refuse(web.HTTPServiceUnavailable, "busy", "other seeds are being rendered", retry_after_s=5)
            making = self._making[key] = asyncio.create_task(_make(context, uploads, seed, kind), name="seed-audio")
            making.add_done_callback(partial(self._made, key))
        try:
            return await asyncio.shield(making)  # a listener who leaves must not cancel it for the others
        except AuditionError as error:
            raise refuse(web.HTTPServiceUnavailable, "busy", str(error), retry_after_s=5) from None

    def forget(self, name: str) -> None:
        """Drop the audio of a removed seed."""
        for key in [key for key in self._kept if key[0] == name]:
            del self._kept[key]

    def _made(self, key: tuple[str, str], task: asyncio.Task[bytes]) -> None:
        del self._making[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._kept[key] = task.result()
        while len(self._kept) > 1 and sum(map(len, self._kept.values())) > self._most:
            self._kept.popitem(last=False)


SEED_AUDIO = web.AppKey("riffstream-seed-audio", SeedAudio)


async def _make(context: Context, uploads: Uploads, seed: Seed, kind: str) -> bytes:
    """Read an uploaded loop, or let the generator render the seed; then encode it."""
    name, bpm, beats = seed.name, seed.bpm, seed.beats
    entry = uploads.entries.get(name)
    pcm: Pcm | None = None
    if entry is not None and entry.kind == "audio":
        pcm = await asyncio.to_thread(_read, uploads.file(name, AUDIO))
    if pcm is None:
        pcm = await context.hub.audition(name, bpm=bpm, key=seed.key, beats=beats)
    encode = partial(_encode, pcm, {"title": seed.title}, kind)
    return await asyncio.get_running_loop().run_in_executor(context.jobs, encode)


def _read(path: Path) -> Pcm | None:
    """Samples of a file; None if it was removed meanwhile."""
    try:
        return read_audio(path, sample_rate=protocol.SAMPLE_RATE, channels=protocol.CHANNELS).samples
    except (OSError, RiffstreamError):
        return None


def _encode(pcm: Pcm, tags: dict[str, str], kind: str) -> bytes:
    target = io.BytesIO()
    write_audio(target, pcm, protocol.SAMPLE_RATE, tags, format=kind)
    return target.getvalue()


def _known(request: web.Request, *, listening: bool = False) -> Seed:
    """Description of the request's seed. Raises 404; 401 if it needs the right to listen."""
    context, uploads, name = request.app[CONTEXT], request.app[UPLOADS], request.match_info["name"]
    found = library(request)
    is_upload = name in uploads.entries
    if listening or is_upload:
        context.listening(request)
    if is_upload:
        return shown(uploads.entries[name])
    if found is None or name not in found:
        raise refuse(web.HTTPNotFound, "not_found", f"no seed {name[:40]!r}; /api/seeds lists them")
    return shown_entry(found[name])


@routes.get("/api/seeds/{name}")
@described("seeds", Answer(SeedDetail, "the seed"), errors=(401, 429))
async def show_seed(request: web.Request) -> web.Response:
    """Describe one seed. An upload needs the right to listen."""
    seed = msgspec.structs.asdict(_known(request))
    # Addresses are relative to this answer's own.
    links = {part: seed[part].removeprefix("seeds/") for part in ("preview", "audio")}
    played_by = in_use(request.app[CONTEXT]).get(seed["name"])
    return json_answer(SeedDetail(**{**seed, **links}, played_by=played_by))


class SeedAudioQuery(msgspec.Struct):
    """Parameters of a seed's audio."""

    format: Annotated[Literal["flac", "mp3", "ogg", "wav"], msgspec.Meta(description="file format")] = "mp3"


@routes.get("/api/seeds/{name}/audio")
@described(
    "seeds",
    Answer(tuple(FORMATS.values()), "the file"),
    Answer(tuple(FORMATS.values()), "the range of it that `Range` asks for", 206, {"Content-Range": "the range"}),
    Answer(None, "the client has it already (`If-None-Match`)", 304),
    Answer(None, "the range is behind its end", 416, {"Content-Range": "its length"}),
    errors=(400, 503),
    query=SeedAudioQuery,
    right="listen",
)
async def seed_audio(request: web.Request) -> web.Response:
    """Send a seed as audio: an uploaded loop, or rendered by the generator."""
    context, uploads = request.app[CONTEXT], request.app[UPLOADS]
    seed = _known(request, listening=True)
    kind = request.query.get("format", "mp3")
    if kind not in FORMATS:
        raise refuse(web.HTTPBadRequest, "bad_request", f"format is {kind[:20]!r}; allowed: {', '.join(FORMATS)}")
    with context.admitted(request):
        data = await request.app[SEED_AUDIO].get(context, uploads, seed, kind)
    headers = {
        "Cache-Control": "private, max-age=86400",
        "Content-Disposition": f'inline; filename="{_file(seed)}.{kind}"',
    }
    return file_answer(request, data, FORMATS[kind], headers)


def _file(seed: Seed) -> str:
    return "".join(c for c in seed.name if c.isascii() and (c.isalnum() or c in "-_"))


@routes.delete("/api/seeds/{name}")
@described("seeds", Answer(None, "the seed is removed", 204), errors=(401, 403, 409, 429))
async def remove_seed(request: web.Request) -> web.Response:
    """Remove an upload: its uploader with ``remove_key`` in the header `Riffstream-Remove-Key`, or the owner any."""
    context, uploads, name = request.app[CONTEXT], request.app[UPLOADS], request.match_info["name"]
    _known(request)
    if name not in uploads.entries:
        raise refuse(web.HTTPForbidden, "forbidden", f"seed {name!r} belongs to the model's library; it stays")
    key = request.headers.get(REMOVE_KEY, "")
    if context.grant(request, server=True) is not Role.OWNER and not uploads.may_remove(name, key):
        allowed = f"its uploader, with the upload's remove_key in the header {REMOVE_KEY}, or the server's owner"
        raise refuse(web.HTTPForbidden, "forbidden", f"only {allowed} may remove {name}")
    if (station := in_use(context).get(name)) is not None:
        why = f"station {station} plays {name}; steer it to another seed image first"
        raise refuse(web.HTTPConflict, "busy", why)
    await uploads.remove(name)
    request.app[SEED_AUDIO].forget(name)
    logs.event("seed image removed", seed=name)
    return web.Response(status=204)
