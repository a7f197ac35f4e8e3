"""``/api/stations/{station}/archive``: what there is, and downloads of any span."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from riffstream.audio.ogg import one_line
from riffstream.protocol import SAMPLE_RATE
from riffstream.server.answers import ArchiveStretch, StationArchive, json_answer
from riffstream.server.archive.archive import Archive
from riffstream.server.archive.files import CONTENT_TYPES, ENDINGS, audio_of, decoded, file_parts, trimmed
from riffstream.server.archive.spans import Chapter, chapter_text, chapters, clock_text, cue_sheet, stretches
from riffstream.server.archive.store import Piece, Store, Title
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.openapi import Answer, described
from riffstream.server.spectrum_card import draw_spectrum

__all__ = ["routes"]

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

TIMES: Final = "station time in seconds (0 or more), or a date with a time zone such as 2026-11-28T19:00:00Z"
TEXTS: Final = ("cue", "chapters")
COVER_SIZE: Final = (600, 600)
COVER_ROWS: Final = 12  # rows of the span that the cover shows
BATCH: Final = 8  # rows in one read
WRITE_S: Final = 60.0  # longest wait for a client that reads nothing


class SpanQuery(Struct, frozen=True, kw_only=True, rename={"begin": "from", "end": "to"}):
    """Parameters of a download."""

    begin: Annotated[str, Meta(description=f"start: {TIMES}")]
    end: Annotated[str, Meta(description="end, in the same form; by default that of the archive")] = ""
    run: Annotated[str, Meta(description="run of the station times; by default the present one")] = ""
    format: Annotated[str, Meta(description="mp3, aac or ogg, as archived (the default); cue or chapters")] = ""


@routes.get("/api/stations/{station}/archive")
@described("stations", Answer(StationArchive, "its audio"), right="listen")
async def show_archive(request: web.Request) -> web.Response:
    """Show what the archive has of a station: stretches without a gap, in wall-clock and station time."""
    _, archive, name = _asked(request)
    try:
        pieces = await archive.read(lambda store: store.pieces(name, -math.inf, math.inf))
    except sqlite3.Error:
        pieces = []
    current = archive.run_of(name)
    found = tuple(
        ArchiveStretch(
            run=each.run,
            current=each.run == current,
            begin=clock_text(each.begin),
            end=clock_text(each.end),
            from_s=round(each.begin_s, 3),
            to_s=round(each.end_s, 3),
            seconds=round(each.end_s - each.begin_s, 3),
        )
        for each in stretches(pieces)
    )
    return json_answer(StationArchive(codec=archive.settings.codec, **archive.figures(), stretches=found))


@routes.get("/api/stations/{station}/archive/recording")
@described(
    "stations",
    Answer(
        (*CONTENT_TYPES.values(), "text/plain"),
        "the file",
        headers={"Content-Disposition": "file name with the date"},
    ),
    errors=(400, 503),
    query=SpanQuery,
    right="listen",
)
async def archive_download(request: web.Request) -> web.StreamResponse:
    """Send a span of the archive as a file with tags, chapters and a cover, or its prompts as text."""
    context, archive, name = _asked(request)
    try:
        pieces = await _pieces(request, archive, name)
    except sqlite3.Error as error:
        raise refuse(web.HTTPServiceUnavailable, "busy", f"the archive cannot be read: {error}") from None
    codec = pieces[0].codec
    kind = request.query.get("format", "") or codec
    native = {codec, ENDINGS[codec]}
    if kind not in native and kind not in TEXTS:
        allowed = ", ".join((*sorted(native), *TEXTS))
        raise refuse(web.HTTPBadRequest, "bad_request", f"format is {kind[:20]!r}; allowed: {allowed}")
    runs = {piece.run for piece in pieces}
    titles: dict[int, list[Title]] = await archive.read(lambda store: {run: store.titles(run) for run in runs})
    found = chapters(pieces, titles.__getitem__)
    station = context.broadcast(name).station
    artist = f"riffstream {station.title or station.name}"
    stamp = clock_text(pieces[0].wall).replace("-", "").replace(":", "")[:15].replace("T", "-")
    file = f"{name}-{stamp}Z.{ENDINGS[codec]}"
    if kind in TEXTS:
        text = chapter_text(found)
        if kind == "cue":
            sort = "MP3" if codec == "mp3" else "WAVE"
            text = cue_sheet(found, file=file, kind=sort, performer=artist, title=_album(station.title or name, pieces))
        named = file.rsplit(".", 1)[0] + (".cue" if kind == "cue" else ".txt")
        disposition = {"Content-Disposition": f'attachment; filename="{named}"', "Cache-Control": "no-store"}
        return web.Response(text=text, content_type="text/plain", charset="utf-8", headers=disposition)
    tags = {"title": _album(station.title or name, pieces), "artist": artist, "date": clock_text(pieces[0].wall)[:10]}
    with context.admitted(request):
        return await _send(request, archive, pieces, found, tags, file)


def _album(title: str, pieces: Sequence[Piece]) -> str:
    return one_line(f"{title} {clock_text(pieces[0].wall)[:16].replace('T', ' ')}")


def _asked(request: web.Request) -> tuple[Context, Archive, str]:
    context = request.app[CONTEXT]
    context.listening(request)
    name = context.broadcast(request.match_info["station"]).station.name
    archive = context.archive
    if archive is None or name not in archive.recorders:
        raise refuse(web.HTTPNotFound, "not_found", "there is no archive of this station (archive.dir)")
    return context, archive, name


async def _pieces(request: web.Request, archive: Archive, name: str) -> list[Piece]:
    """The pieces of the span; the first and the last one are cut to it. Raises 400 and 404."""
    begin, end = _time(request, "from"), _time(request, "to")
    if begin is None:
        raise refuse(web.HTTPBadRequest, "bad_request", f"from is missing; allowed: {TIMES}")
    if end is not None and type(begin) is not type(end):
        raise refuse(web.HTTPBadRequest, "bad_request", "from and to: both in station time, or both in wall-clock time")
    since, until = _seconds(begin), math.inf if end is None else _seconds(end)
    if until <= since:
        raise refuse(web.HTTPBadRequest, "bad_request", "to is not after from")
    run = _run(request)
    if isinstance(begin, float):
        run = archive.run_of(name) if run is None else run
        first, last = since * SAMPLE_RATE, min(until * SAMPLE_RATE, 2.0**53)
        pieces = [] if run is None else await archive.read(_of_run(name, run, round(first), round(last)))
        pieces = [trimmed(each, first - each.pos, last - each.pos) for each in pieces]
    else:
        pieces = await archive.read(lambda store: store.pieces(name, since, until))
        rate = SAMPLE_RATE
        pieces = [trimmed(each, (since - each.wall) * rate, (until - each.wall) * rate) for each in pieces]
    if not pieces:
        shown = f"/api/stations/{name}/archive"
        raise refuse(web.HTTPNotFound, "not_found", f"the archive has no audio of this span; {shown} lists its audio")
    codecs = sorted({piece.codec for piece in pieces})
    if len(codecs) > 1:
        text = f"the span has audio in {' and '.join(codecs)}; ask for its parts"
        raise refuse(web.HTTPBadRequest, "bad_request", text)
    return pieces


def _of_run(name: str, run: int, first: int, last: int) -> Callable[[Store], list[Piece]]:
    return lambda store: store.pieces_of_run(name, run, first, last)


def _time(request: web.Request, key: str) -> float | datetime.datetime | None:
    """A time of the query: station time in seconds, or a date with a time zone; None if it is absent. Raises 400."""
    text = request.query.get(key, "")
    if not text:
        return None
    try:
        return _station_time(text)
    except ValueError:
        pass
    try:
        when = datetime.datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign in a query means a space
        if when.tzinfo is not None:
            when.timestamp()
            return when
    except (ValueError, OverflowError):
        pass
    raise refuse(web.HTTPBadRequest, "bad_request", f"{key} is {text[:40]!r}; allowed: {TIMES}")


def _station_time(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e10:
        raise ValueError
    return seconds


def _seconds(time: float | datetime.datetime) -> float:
    return time if isinstance(time, float) else time.timestamp()


def _run(request: web.Request) -> int | None:
    text = request.query.get("run", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise refuse(web.HTTPBadRequest, "bad_request", f"run is {text[:20]!r}; allowed: a number of /archive")
    return int(text)


async def _send(
    request: web.Request,
    archive: Archive,
    pieces: Sequence[Piece],
    found: Sequence[Chapter],
    tags: Mapping[str, str],
    file: str,
) -> web.StreamResponse:
    """Send the audio of the pieces as one file, a few rows at a time."""
    codec = pieces[0].codec
    header = await archive.read(lambda store: store.header(pieces[0].run))
    cover = await archive.read(lambda store: _cover(store, header, pieces))
    seconds = sum(piece.n for piece in pieces) / SAMPLE_RATE
    rows = _rows(archive.folder, pieces)
    parts = file_parts(codec, header, rows, tags=tags, found=found, seconds=seconds, cover=cover)
    response = web.StreamResponse(
        headers={
            "Content-Type": CONTENT_TYPES[codec],
            "Content-Disposition": f'attachment; filename="{file}"',
            "Cache-Control": "no-store",
        }
    )
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        while (part := await archive.work(partial(next, parts, None))) is not None:
            async with asyncio.timeout(WRITE_S):
                await response.write(part)
    except (sqlite3.Error, TimeoutError, LookupError):  # the client sees an incomplete body, not a shorter file
        if request.transport is not None:
            request.transport.abort()
    finally:
        with contextlib.suppress(Exception):
            await archive.work(parts.close)
    return response


def _rows(folder: Path, pieces: Sequence[Piece]) -> Iterator[bytes]:
    """Audio of the pieces. Between batches nothing is open, so that the archive's log can be folded into its file.

    Raises:
        LookupError: a row has become too old in the meantime.
    """
    for first in range(0, len(pieces), BATCH):
        batch = pieces[first : first + BATCH]
        store = Store(folder, writing=False)
        try:
            found = [store.data(piece.ident) for piece in batch]
        finally:
            store.close()
        for piece, data in zip(batch, found, strict=True):
            if not data:
                raise LookupError
            yield audio_of(piece, data)


def _cover(store: Store, header: bytes, pieces: Sequence[Piece]) -> bytes:
    """Cover with the spectrum of parts of the whole span; empty if it cannot be drawn."""
    chosen = [pieces[at * len(pieces) // COVER_ROWS] for at in range(COVER_ROWS)]
    shown = list(dict.fromkeys(chosen))
    try:
        mono = decoded(pieces[0].codec, header, [audio_of(piece, store.data(piece.ident)) for piece in shown])
        return draw_spectrum(mono, COVER_SIZE, "JPEG")
    except Exception:  # of any library: a file without a cover is better than none
        log.warning("the cover of a download failed", exc_info=True)
        return b""
