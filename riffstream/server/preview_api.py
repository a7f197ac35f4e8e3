"""``POST /api/stations/{station}/preview``: a change for one listener, before everybody gets it."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from riffstream import protocol
from riffstream.protocol import ProtocolError
from riffstream.server.answers import ClipPreview, json_answer
from riffstream.server.bodies import json_object, message_of, refused, without_id
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.making_clips import check_rate, data_url, made, mp3_file, turn
from riffstream.server.moderation import Texts
from riffstream.server.openapi import Answer, Body, described

__all__ = ["routes"]

routes = web.RouteTableDef()

CHANGE = without_id(
    protocol.Steer, "Change", "A change of the music, with the fields of the protocol's message `steer`."
)


@routes.post("/api/stations/{station}/preview")
@described(
    "clips",
    Answer(ClipPreview, "the clip"),
    errors=(400, 401, 403, 408, 413, 429, 503),
    body=Body({"application/json": CHANGE}, "the fields of the protocol's message `steer`, without `id`"),
    right="steer",
)
async def preview(request: web.Request) -> web.Response:
    """Make the clip with which a change would begin, at the station's tempo and key. The station does not change."""
    context = request.app[CONTEXT]
    station = context.broadcast(request.match_info["station"]).station
    context.steering(request, "making clips", station)
    if context.config.limits.clips == 0:
        raise refuse(web.HTTPForbidden, "forbidden", "this server makes no single clips (limits.clips is 0)")
    with context.admitted(request):
        body = await json_object(request)
        try:
            steer = await _allowed(context, station.name, message_of(request, body, protocol.Steer))
            clip = station.preview(steer)
        except ProtocolError as error:
            raise refused(error) from None
        check_rate(context, context.asked(request).address)
        with turn(context):
            single = await made(
                context,
                clip.spec,
                steps=clip.steps,
                guided=clip.guided,
                bpm=clip.bpm,
                key=clip.key,
                meter=clip.meter,
                model=clip.model,
            )
            audio, duration_s = await asyncio.to_thread(mp3_file, single.pcm, context.config.timeline)
    context.counters["clips"] += 1
    found = ClipPreview(
        audio=data_url("audio/mpeg", audio), duration_s=duration_s, seed=clip.spec.start.seed, bpm=clip.bpm
    )
    return json_answer(found)


async def _allowed(context: Context, station: str, steer: protocol.Steer) -> protocol.Steer:
    """A change with the texts that the rules for prompts allow. Raises ProtocolError."""
    prompts = steer.prompts if isinstance(steer.prompts, tuple) else ()
    negative = steer.negative if isinstance(steer.negative, str) else ""
    texts = Texts(tuple(prompt.text for prompt in prompts), negative)
    allowed = await context.moderation.decide(texts, station=station, way="clip")
    if prompts:
        pairs = zip(prompts, allowed.prompts, strict=True)
        renamed = tuple(protocol.Prompt(text=text, weight=prompt.weight) for prompt, text in pairs)
        steer = msgspec.structs.replace(steer, prompts=renamed)
    return steer if not negative else msgspec.structs.replace(steer, negative=allowed.negative)
