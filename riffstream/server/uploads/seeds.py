"""``/api/seeds``: the seed library and uploaded seed images."""

from __future__ import annotations

import asyncio
import functools
import gzip
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import UNSET, Meta

from riffstream import protocol
from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey.conditions import parse_parts
from riffstream.models.seeds import SeedEntry, SeedLibrary, mentions
from riffstream.models.uploads import BEATS, Upload
from riffstream.ranges import RANGES
from riffstream.server import logs
from riffstream.server.answers import Seed, SeedList, UploadedSeed, json_answer
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.openapi import Answer, Body, described
from riffstream.server.queries import wrong_name
from riffstream.server.roles import Role
from riffstream.server.static_files import accepts_gzip
from riffstream.server.uploads.intake import UPLOADS, TooLargeError
from riffstream.server.whole_file import file_answer

__all__ = ["in_use", "library", "routes", "shown", "shown_entry"]

routes = web.RouteTableDef()

CHUNK = 256 * 1024
COMPRESSED = 16 * 1024  # bytes of a list from which it is compressed
MOST = 100_000
SEARCH = 200  # characters; each word is looked up in every description
FIELD_BYTES = 1024
FIELDS = 16
NAMED = ("name", "bpm", "key", "stereo")
SLOWEST_BYTES_S = 32 * 1024  # slowest allowed upload after the first ``body_timeout_s``
TITLE_CHARS = 80


def library(request: web.Request) -> SeedLibrary | None:
    """Seed library of the server's model, as its generator has it; None without one."""
    return _library_of(request.app[CONTEXT].config.generator.model)


@functools.cache
def _library_of(model: str) -> SeedLibrary | None:
    try:
        return SeedLibrary.of(model)
    except CheckpointError:
        return None


class SeedsQuery(msgspec.Struct, kw_only=True):
    """Parameters of the list of seeds."""

    tag: Annotated[str, Meta(description="only seeds with this tag or style; `upload`: only uploads")] = ""
    search: Annotated[
        str, Meta(max_length=SEARCH, description="only seeds with each of these words in a name or a description")
    ] = ""
    parts: Annotated[
        str, Meta(description="only loops in which these parts rest (0) or play (1), such as `drums=0,lead=1`")
    ] = ""
    beats: Annotated[Literal["6", "8"] | msgspec.UnsetType, Meta(description="only loops of this length")] = UNSET
    limit: Annotated[int, Meta(ge=1, le=MOST, description="largest number of seeds in the answer")] = MOST
    offset: Annotated[int, Meta(ge=0, le=MOST, description="number of seeds to skip")] = 0


@routes.get("/api/seeds")
@described("seeds", Answer(SeedList, "the seeds"), errors=(400,), query=SeedsQuery)
async def list_seeds(request: web.Request) -> web.Response:
    """List the seed library, and the uploads to clients that may listen, newest first."""
    found, uploads, asked = library(request), request.app[UPLOADS], request.query
    tag, search = asked.get("tag", "").lower(), asked.get("search", "")
    if len(search) > SEARCH:
        text = f"search has {len(search)} characters; allowed: up to {SEARCH}"
        raise refuse(web.HTTPBadRequest, "bad_request", text)
    beats = asked.get("beats", "")
    if beats not in ("", "6", "8"):
        raise refuse(web.HTTPBadRequest, "bad_request", f"beats is {beats[:20]!r}; allowed: 6 or 8")
    limit, offset = _whole(request, "limit", 1, MOST), _whole(request, "offset", 0, 0)
    try:
        parts = parse_parts([asked.get("parts", "")])
    except ParameterError as error:
        raise refuse(web.HTTPBadRequest, "bad_request", str(error)) from None
    seeds = [
        seed
        for entry, seed in zip(*((found.entries, _all_shown(found)) if found else ((), ())), strict=True)
        if (not tag or tag in entry.tags or tag == entry.style)
        and (not search or entry.says(search))
        and entry.plays(parts)
    ]
    if request.app[CONTEXT].grant(request) is not None and tag in ("", "upload") and not parts:
        titled = [entry for entry in uploads.entries.values() if mentions((entry.name, entry.title), search)]
        seeds = [shown(entry) for entry in reversed(titled)] + seeds
    seeds = [seed for seed in seeds if beats in ("", str(seed.beats))]
    info = request.app[CONTEXT].hub.info
    answer = SeedList(
        seeds=tuple(seeds[offset : offset + limit]),
        total=len(seeds),
        default=info.seed_image if info else None,
        uploads=uploads.open,
        limits=uploads.public_limits(),
    )
    body = msgspec.json.encode(answer)
    headers = {"Vary": "Accept-Encoding"}
    if accepts_gzip(request) and len(body) > COMPRESSED:
        body = await asyncio.to_thread(_compressed, body)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers, content_type="application/json")


@functools.lru_cache(maxsize=8)  # the whole list, and some pages
def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def _whole(request: web.Request, name: str, low: int, usual: int) -> int:
    """A whole number of the query, ``low`` to :data:`MOST`. Raises 400."""
    given = request.query.get(name, "")
    if not given:
        return usual
    if not (given.isascii() and given.isdigit() and len(given) < 10 and low <= int(given) <= MOST):
        text = f"{name} is {given[:20]!r}; allowed: {low} to {MOST}"
        raise refuse(web.HTTPBadRequest, "bad_request", text)
    return int(given)


def in_use(context: Context) -> dict[str, str]:
    """Seed images that stations play: name -> station."""
    return {seed: name for name, each in context.hub.stations.items() if (seed := each.state.seed_image) is not None}


@functools.lru_cache(maxsize=2)
def _all_shown(found: SeedLibrary) -> tuple[Seed, ...]:
    return tuple(map(shown_entry, found.entries))


def shown_entry(entry: SeedEntry) -> Seed:
    """A loop of the library in the list of seeds."""
    return Seed(
        **asdict(entry),
        title=entry.caption,
        key=0.0,  # all of them are in C major or A minor
        seconds=round(entry.beats * 60 / entry.bpm, 3),
        preview=f"seeds/{entry.name}.png",
        audio=f"seeds/{entry.name}/audio",
    )


def shown(entry: Upload) -> Seed:
    """An upload in the list of seeds."""
    return Seed(
        name=entry.name,
        title=entry.title,
        style="upload",
        tags=("upload", entry.title),
        caption=entry.title,
        bpm=entry.bpm,
        key=entry.key,
        beats=BEATS,
        seconds=entry.seconds,
        preview=f"seeds/{entry.name}/preview.png",
        audio=f"seeds/{entry.name}/audio",
    )


@routes.get("/api/seeds/{name}.png")
@routes.get("/api/seeds/{name}/preview.png")
@described("seeds", Answer(("image/png",), "the picture"))
async def preview(request: web.Request) -> web.StreamResponse:
    """Send the spectrogram of a seed."""
    found, uploads, name = library(request), request.app[UPLOADS], request.match_info["name"]
    headers = {"Cache-Control": "public, max-age=86400"}
    if name in uploads.entries and (file := uploads.file(name, "preview.png")).is_file():
        return web.FileResponse(file, headers=headers)
    if name in uploads.entries or found is None or name not in found:
        raise refuse(web.HTTPNotFound, "not_found", f"no seed {name[:40]!r}; /api/seeds lists them")
    drawn = await asyncio.get_running_loop().run_in_executor(_artist(), found.preview, name)
    return file_answer(request, drawn, "image/png", headers)


@functools.cache
def _artist() -> ThreadPoolExecutor:
    """One thread: somebody who asks for every picture keeps one core busy at most."""
    return ThreadPoolExecutor(1, "seed-picture")


Switch = Literal["0", "1", "false", "true"]


class UploadQuery(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Values beside a bare file. Without them the server measures the file."""

    name: Annotated[str, Meta(description="display name")] = ""
    bpm: Annotated[float, RANGES["bpm"].meta, Meta(description="tempo of the file")] | msgspec.UnsetType = UNSET
    key: Annotated[float, RANGES["key"].meta, Meta(description="semitones above C major")] | msgspec.UnsetType = UNSET
    stereo: Annotated[Switch, Meta(description="whether an image is stereo")] | msgspec.UnsetType = UNSET


class UploadForm(UploadQuery, kw_only=True, omit_defaults=True):
    """A file, and the values beside it."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]


@routes.post("/api/seeds")
@described(
    "seeds",
    Answer(UploadedSeed, "the seed", 201, {"Location": "its picture, relative to the request's address"}),
    errors=(400, 403, 408, 413, 415, 429, 503),
    query=UploadQuery,
    body=Body(
        {"multipart/form-data": UploadForm, "application/octet-stream": None},
        "a form with `file`, or the bare file: audio or a spectrogram image",
    ),
    right="steer",
)
async def upload(request: web.Request) -> web.Response:
    """Upload audio or a spectrogram image as a seed.

    ``remove_key`` in the answer lets the uploader remove it later.
    """
    context, uploads = request.app[CONTEXT], request.app[UPLOADS]
    context.steering(request, "uploading")
    if (closed := uploads.closed_because) is not None:
        raise refuse(web.HTTPForbidden, "forbidden", closed)
    most = uploads.public_limits().bytes
    if request.content_length is not None and request.content_length > most + FIELDS * FIELD_BYTES:
        given = request.content_length / 1e6
        raise refuse(TooLargeError, "bad_request", f"file is {given:.1f} MB; allowed: up to {most / 1e6:g} MB")
    with context.admitted(request):
        uploads.take_turn(context.asked(request).address)
        with uploads.workplace() as place:
            source = place / "source"
            fields = await _receive(request, source, most)
            entry, notes, remove_key = await uploads.make(
                source,
                place,
                _title(fields),
                functools.partial(in_use, context),
                bpm=_number(fields, "bpm"),
                key=_number(fields, "key"),
                stereo=_switch(fields, "stereo"),
                address=None if context.grant(request, server=True) is Role.OWNER else context.asked(request).address,
            )
    context.counters["uploads"] += 1
    logs.event("seed image uploaded", seed=entry.name, kind=entry.kind, bpm=entry.bpm, key=entry.key)
    where = f"seeds/{entry.name}/preview.png"
    answer = UploadedSeed(
        **msgspec.structs.asdict(shown(uploads.entries.get(entry.name, entry))),
        notes=tuple(notes) or UNSET,
        remove_key=UNSET if remove_key is None else remove_key,
    )
    return json_answer(answer, status=201, headers={"Location": where})


async def _receive(request: web.Request, target: Path, most: float) -> dict[str, str]:
    """Write the file to ``target`` and return the other fields (:data:`NAMED`)."""
    context = request.app[CONTEXT]
    body = _Body(context.config.limits.body_timeout_s, most)
    fields = {key: value[:FIELD_BYTES] for key, value in request.query.items()}
    try:
        if not request.content_type.startswith("multipart/"):
            await _save(body.chunks(request.content.readany), target)
        else:
            await _parts(request, body, target, fields)
    except TimeoutError:
        slow = f"file took too long to arrive; allowed: {SLOWEST_BYTES_S // 1024} kB/s"
        raise refuse(web.HTTPRequestTimeout, "bad_request", slow) from None
    except (ValueError, RuntimeError, AssertionError, HttpProcessingError, web.RequestPayloadError):  # aiohttp's parser
        raise refuse(web.HTTPBadRequest, "bad_request", "the body is not multipart/form-data") from None
    if not target.exists() or not target.stat().st_size:
        raise refuse(web.HTTPBadRequest, "bad_request", f"file is missing or empty; allowed: 1 to {most:.0f} bytes")
    return fields


async def _parts(request: web.Request, body: _Body, target: Path, fields: dict[str, str]) -> None:
    reader = await request.multipart()
    given = set(request.query)
    for _ in range(FIELDS):
        async with asyncio.timeout(body.patience_s):
            part = await reader.next()
        if part is None:
            return
        if not isinstance(part, BodyPartReader):
            raise ValueError("multipart within multipart")
        chunks = body.chunks(functools.partial(_piece, part))
        if part.name == "file":
            fields.setdefault("name", Path(part.filename or "").stem)
            await _save(chunks, target)
            continue
        if part.name not in NAMED and not (part.name or "").startswith("_"):  # such as _charset_, of browsers
            raise wrong_name("form", part.name or "", ("file", *NAMED))
        if part.name in given:
            raise refuse(web.HTTPBadRequest, "bad_request", f"form has {part.name} again; allowed: once")
        given.add(part.name or "")
        value = b""
        async for chunk in chunks:
            value = (value + chunk)[:FIELD_BYTES]
        fields[part.name or ""] = value.decode("utf-8", "replace")
    raise ValueError("too many fields")


async def _piece(part: BodyPartReader) -> bytes:
    """Read bytes of a part; empty only at its end."""
    while not part.at_eof():
        if chunk := await part.read_chunk(64 * 1024):
            return chunk
    return b""


class _Body:
    """Reader of a request's body with limits on size and time.

    Args:
        patience_s: longest time for one piece, and extra time for the whole body, seconds.
        most: largest size in bytes.
    """

    def __init__(self, patience_s: float, most: float) -> None:
        self.patience_s, self.most = patience_s, most
        self.received = 0
        self.began = time.monotonic()

    async def chunks(self, read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
        """Yield the results of ``read`` until it returns nothing. Raises TimeoutError, 413."""
        while True:
            async with asyncio.timeout(self.patience_s):
                chunk = await read()
            if not chunk:
                return
            self.received += len(chunk)
            if self.received > self.most:
                raise refuse(TooLargeError, "bad_request", f"file is too large; allowed: 1 to {self.most:.0f} bytes")
            if time.monotonic() - self.began > self.patience_s + self.received / SLOWEST_BYTES_S:
                raise TimeoutError
            yield chunk


async def _save(chunks: AsyncIterator[bytes], target: Path) -> None:
    """Write to disk in a thread, some hundred kilobytes at a time."""
    held = bytearray()
    with target.open("wb") as file:
        async for chunk in chunks:
            held += chunk
            if len(held) >= CHUNK:
                await asyncio.to_thread(file.write, bytes(held))
                held.clear()
        await asyncio.to_thread(file.write, bytes(held))


def _title(fields: dict[str, str]) -> str:
    try:
        return protocol.clean_text(fields.get("name", "")[: 4 * TITLE_CHARS])[:TITLE_CHARS].strip() or "upload"
    except protocol.ProtocolError:
        return "upload"


def _number(fields: dict[str, str], name: str) -> float | None:
    """Parse a numeric field and check its range; None if it is absent."""
    given = fields.get(name, "").strip()
    if not given:
        return None
    rule = RANGES[name]
    try:
        number = float(given)
    except ValueError:
        number = math.inf
    if not rule.low <= number <= rule.high:
        raise refuse(web.HTTPBadRequest, "bad_request", f"{name} is {given[:20]!r}; allowed: {rule.words}")
    return number


def _switch(fields: dict[str, str], name: str) -> bool | None:
    """Parse a field with 1 or 0, true or false; None if it is absent."""
    given = fields.get(name, "").strip().lower()
    if given not in ("", "0", "1", "true", "false"):
        raise refuse(web.HTTPBadRequest, "bad_request", f"{name} is {given[:20]!r}; allowed: 1 or 0")
    return None if not given else given in ("1", "true")
