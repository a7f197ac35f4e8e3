"""Stations made over HTTP: the shape of the request's body, its check, and the start."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, get_type_hints

import msgspec
from aiohttp import web
from msgspec import Meta

from riffstream import protocol
from riffstream.config import STATION_NAME, StationConfig, check_station_name
from riffstream.config.sections import DESCRIPTION_CHARS, TITLE_CHARS
from riffstream.errors import ParameterError
from riffstream.protocol import ProtocolError
from riffstream.server.bodies import refused
from riffstream.server.context import Context, refuse
from riffstream.server.moderation import Texts
from riffstream.station.hub import TooManyStationsError, UnplayableError

__all__ = ["MUSIC_FIELDS", "OPEN_FIELDS", "new_station", "start_station"]

# Allowed fields of a station made over HTTP, without files of this machine (journey, save_log, song).
OPEN_FIELDS = sorted(set(StationConfig.__struct_fields__) - {"journey", "save_log", "song"})
# The fields that only say what it plays.
MUSIC_FIELDS = sorted(set(OPEN_FIELDS) - {"description", "model", "requests", "steer", "steps", "title"})


def new_station(name: str, about: str, fields: Collection[str], *, named: bool) -> type[msgspec.Struct]:
    """Shape of a body that makes a station.

    Args:
        name: name of the shape.
        about: its description.
        fields: keys of the configuration.
        named: the body has the station's name, ``id``.
    """
    kinds = get_type_hints(StationConfig, include_extras=True)
    closed = {"title": TITLE_CHARS, "description": DESCRIPTION_CHARS, "negative": protocol.PROMPT_CHARS}
    kinds |= {name: Annotated[str, Meta(max_length=most)] for name, most in closed.items()}
    kinds["prompts"] = tuple[Annotated[str, Meta(min_length=1, max_length=protocol.PROMPT_CHARS)], ...]
    defaults = {each.name: each.default for each in msgspec.structs.fields(StationConfig)}
    ident = Annotated[str, Meta(pattern=f"^{STATION_NAME.pattern}$", description="name of the station in addresses")]
    shapes: list[Any] = [("id", ident)] if named else []
    shapes += [(each, kinds[each], defaults[each]) for each in fields]
    made = msgspec.defstruct(name, shapes, kw_only=True)
    made.__doc__ = about
    return made


async def start_station(
    context: Context,
    name: str,
    body: Mapping[str, Any],
    allowed: Collection[str],
    *,
    where: str,
    title: str = "",
    first: bool = False,
) -> None:
    """Start a station with the texts that the rules for prompts allow.

    Args:
        context: state of the server.
        name: its name.
        body: keys of the configuration.
        allowed: the keys that the body may have.
        where: name of the table in errors.
        title: its title, if the body has none.
        first: if there are as many stations as allowed, the oldest private one of a visitor ends for it.

    Raises:
        400: a wrong key or value; a text that is not allowed; music that the model cannot play.
        409: the name is in use.
        503: there are too many stations.
    """
    try:
        check_station_name(name)
        for key in body:
            if key not in allowed:
                raise ParameterError(f"key {key!r}", body[key], ", ".join(allowed))
        config = StationConfig.from_table({"title": title, **body}, where)
        if name in context.hub.stations:
            raise refuse(web.HTTPConflict, "bad_request", f"there is a station {name!r} already")
        config = await _moderated(context, name, config)
        if first:
            await _make_room(context)
        await context.hub.create(name, config)
    except TooManyStationsError as error:
        raise refuse(web.HTTPServiceUnavailable, "busy", str(error), retry_after_s=60) from None
    except ProtocolError as error:
        raise refused(error) from None
    except (ParameterError, UnplayableError) as error:
        raise refuse(web.HTTPBadRequest, "bad_request", " ".join(str(error).split())) from None


async def _make_room(context: Context) -> None:
    """End a visitor's station if there are ``limits.stations``."""
    oldest = next((name for name in context.own if name in context.broadcasts), None)
    if oldest is not None and len(context.hub.stations) >= context.config.limits.stations:
        await context.broadcasts.end(oldest, "the server needs the place of this private station")


async def _moderated(context: Context, name: str, config: StationConfig) -> StationConfig:
    """A new station with the texts that the rules for prompts allow. Raises ProtocolError."""
    context.moderation.check(Texts((config.title, config.description)), field="title or description")
    texts = await context.moderation.decide(Texts(config.prompts, config.negative), station=name, way="station")
    return msgspec.structs.replace(config, prompts=texts.prompts, negative=texts.negative)
