"""The JSON API under ``/api``: stations, events, recordings, seeds, prompts and the protocol's schema."""

from __future__ import annotations

import asyncio
import io
import json
import random
import time
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta

from riffstream import protocol
from riffstream.audio.writing import write_audio
from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.journey.wander import MOODS
from riffstream.server import answers
from riffstream.server.answers import json_answer
from riffstream.server.bodies import json_object
from riffstream.server.broadcast import Broadcast, Member
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.interfaces import Station
from riffstream.server.new_stations import OPEN_FIELDS, new_station, start_station
from riffstream.server.openapi import Answer, Body, described
from riffstream.server.roles import Role
from riffstream.server.titles import title_of

__all__ = ["routes", "summary"]

routes = web.RouteTableDef()

TOLD = protocol.Now | protocol.Event | protocol.QueueState | protocol.RequestsState | protocol.Bye
RECORDING_FORMATS = {"flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg", "wav": "audio/wav"}
RECORDINGS_WAITING = 4
SHORTEST_S = 0.1  # of a recording; every format can hold it


NEW_STATION = new_station("NewStation", "A station to start.", OPEN_FIELDS, named=True)


def summary(broadcast: Broadcast, root: str = "../") -> answers.Station:
    """Answer about a station.

    Args:
        broadcast: the station's.
        root: relative path from the answer's address to the server's root; relative links work behind a path prefix.
    """
    station = broadcast.station
    return answers.Station(
        id=station.name,
        title=station.title,
        description=station.description,
        listeners=broadcast.listeners,
        rev=station.rev,
        sample_pos=station.sample_pos,
        playing=title_of(station.state),
        state=station.state,
        links=answers.StationLinks(
            socket=f"{root}ws/{station.name}",
            mp3=f"{root}stream/{station.name}.mp3",
            hls=f"{root}hls/{station.name}/master.m3u8" if broadcast.config.server.hls else UNSET,
            events=f"{root}api/stations/{station.name}/events",
            embed=f"{root}embed/{station.name}",
        ),
    )


def _owner(request: web.Request) -> Context:
    context = request.app[CONTEXT]
    role = context.grant(request, server="station" not in request.match_info)
    if role is not Role.OWNER:
        why = context.access.steering_is_open and context.refusal(request, role or Role.LISTENER)
        raise refuse(web.HTTPForbidden, "forbidden", why or "managing stations needs the owner's token")
    return context


def _listener(request: web.Request) -> Context:
    context = request.app[CONTEXT]
    context.listening(request)
    return context


@routes.get("/api/stations")
@described("stations", Answer(answers.StationList, "the stations"), right="listen")
async def list_stations(request: web.Request) -> web.Response:
    """List all stations except private ones."""
    context = _listener(request)
    listed = tuple(summary(context.broadcast(name)) for name in context.listed_stations())
    return json_answer(answers.StationList(stations=listed))


@routes.get("/api/stations/{station}")
@described("stations", Answer(answers.StationDetail, "the station"), right="listen")
async def show_station(request: web.Request) -> web.Response:
    """Show one station and its current music."""
    broadcast = _listener(request).broadcast(request.match_info["station"])
    shown = msgspec.structs.asdict(summary(broadcast, "../../"))
    station = broadcast.station
    return json_answer(answers.StationDetail(**shown, now=station.now(), caps=station.caps()))


@routes.post("/api/stations")
@described(
    "stations",
    Answer(answers.Station, "the new station", 201, {"Location": "its address, relative to the request's"}),
    errors=(400, 403, 408, 409, 413, 503),
    body=Body({"application/json": NEW_STATION}, "the keys of `[stations.NAME]` in the configuration, except files"),
    right="own",
)
async def create_station(request: web.Request) -> web.Response:
    """Start a station: ``{id, title?, prompts?, seed?, bpm?, ...}``."""
    context = _owner(request)
    body = await json_object(request)
    if not isinstance(body.get("id"), str):
        error = ParameterError("id", body.get("id"), "the station's name as a string")
        raise refuse(web.HTTPBadRequest, "bad_request", str(error))
    name = body.pop("id")
    await start_station(context, name, body, OPEN_FIELDS, where=f"stations.{name}", first=True)
    return json_answer(summary(context.broadcast(name)), status=201, headers={"Location": f"stations/{name}"})


@routes.delete("/api/stations/{station}")
@described("stations", Answer(None, "the station has ended", 204), errors=(403, 409), right="own")
async def delete_station(request: web.Request) -> web.Response:
    """End a station and notify its listeners."""
    context = _owner(request)
    name = request.match_info["station"]
    context.broadcast(name)
    if len(context.broadcasts) == 1:
        raise refuse(web.HTTPConflict, "bad_request", "the last station cannot be deleted")
    await context.broadcasts.end(name, "this station has ended")
    return web.Response(status=204)


@routes.get("/api/stations/{station}/events")
@described(
    "stations",
    Answer(
        ("text/event-stream",),
        "`event: now`, `event: event`, `event: queue` or `event: requests`, with the protocol's message as `data`",
    ),
    errors=(503,),
    right="listen",
    endless=True,
)
async def station_events(request: web.Request) -> web.StreamResponse:
    """Stream ``now``, ``event``, ``queue`` and ``requests`` messages as server-sent events."""
    context = _listener(request)
    broadcast = context.broadcast(request.match_info["station"])
    queue: asyncio.Queue[protocol.ServerMessage | None] = asyncio.Queue(256)

    def told(message: protocol.ServerMessage) -> None:
        if isinstance(message, TOLD):
            if queue.full():  # a slow reader gets the newest messages
                queue.get_nowait()
            queue.put_nowait(message)

    async def leave(reason: str) -> None:
        while queue.qsize() > queue.maxsize - 2:  # room for both
            queue.get_nowait()
        told(protocol.Bye(reason=reason))
        queue.put_nowait(None)

    member = Member(leave, told=told)
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )

    def give_way() -> None:
        if request.transport is not None:
            request.transport.abort()

    if request.method == "HEAD":
        return response
    with context.admitted(request, give_way), broadcast.joined(member):
        await response.prepare(request)
        told(broadcast.station.now())
        while True:
            try:
                async with asyncio.timeout(15):
                    message = await queue.get()
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            if message is None:
                break
            data = protocol.encode(message)
            await response.write(f"event: {json.loads(data)['type']}\ndata: {data}\n\n".encode())
    return response


def recording_query(config: Config) -> type[msgspec.Struct]:
    """Parameters of a recording; the longest one depends on the configuration."""
    most = config.recording_s
    about = "length of the recording, up to the length that the server keeps"
    seconds = Meta(ge=min(SHORTEST_S, most), le=most, description=about)
    return msgspec.defstruct(
        "RecordingQuery",
        [
            ("seconds", Annotated[float, seconds], min(60.0, most)),
            ("format", Annotated[Literal["flac", "mp3", "ogg", "wav"], Meta(description="file format")], "flac"),
        ],
    )


@routes.get("/api/stations/{station}/recording")
@described(
    "stations",
    Answer(
        tuple(sorted(RECORDING_FORMATS.values())),
        "the file",
        headers={"Content-Disposition": "file name with the prompt"},
    ),
    errors=(400, 503),
    query=recording_query,
    right="listen",
)
async def recording(request: web.Request) -> web.Response:
    """Send the last seconds of a station as a file, named and tagged by its prompt."""
    context = _listener(request)
    broadcast = context.broadcast(request.match_info["station"])
    kind = request.query.get("format", "flac")
    most = context.config.recording_s
    asked = request.query.get("seconds", f"{min(60.0, most):g}")
    try:
        seconds = float(asked)
    except ValueError:
        seconds = -1.0
    if kind not in RECORDING_FORMATS:
        allowed = ", ".join(RECORDING_FORMATS)
        raise refuse(web.HTTPBadRequest, "bad_request", f"format is {kind[:20]!r}; allowed: {allowed}")
    if not min(SHORTEST_S, most) <= seconds <= most:
        allowed = f"{SHORTEST_S:g} up to {most:g} (the length that the server keeps)"
        raise refuse(web.HTTPBadRequest, "bad_request", f"seconds is {asked[:20]!r}; allowed: {allowed}")
    if context.recordings >= RECORDINGS_WAITING:
        raise refuse(web.HTTPServiceUnavailable, "busy", "too many recordings at once", retry_after_s=10)
    context.recordings += 1
    try:
        title = title_of(broadcast.station.state)
        tags = {"title": title, "artist": f"riffstream {broadcast.station.title or broadcast.station.name}"}
        record = partial(_record, broadcast.station, seconds, tags, kind)
        data = await asyncio.get_running_loop().run_in_executor(context.jobs, record)
    finally:
        context.recordings -= 1
    if not data:
        raise refuse(web.HTTPServiceUnavailable, "busy", "nothing has been played yet", retry_after_s=2)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in title.replace(" ", "-"))[:60]
    name = f"{broadcast.station.name}-{plain.strip('-') or 'recording'}-{stamp}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return web.Response(body=data, content_type=RECORDING_FORMATS[kind], headers=headers)


def _record(station: Station, seconds: float, tags: Mapping[str, str], kind: str) -> bytes:
    """Encode the newest audio as a file. Runs in a thread."""
    _, pcm = station.recording(seconds)
    target = io.BytesIO()
    if len(pcm):
        write_audio(target, pcm, protocol.SAMPLE_RATE, tags, format=kind)
    return target.getvalue()


@routes.get("/api/prompts/random")
@described("server", Answer(answers.RandomPrompt, "a prompt"))
async def random_prompt(request: web.Request) -> web.Response:
    """Suggest a prompt and a tempo."""
    mood = random.choice(list(MOODS.values()))
    prompt = random.choice(mood.styles)
    if random.random() < 0.5:
        prompt += f" with {random.choice(mood.colours)}"
    return json_answer(answers.RandomPrompt(prompt=prompt, bpm=random.randint(*mood.bpm)))


@routes.get("/api/schema")
@described("server", Answer(("application/json",), "JSON Schema 2020-12"))
async def schema(request: web.Request) -> web.Response:
    """Send the JSON Schema of the protocol's messages."""
    return web.json_response(protocol.json_schema())
