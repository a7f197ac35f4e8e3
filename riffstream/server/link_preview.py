"""Previews of links to the player: Open Graph tags, a picture, and oEmbed.

The address of a page contains its music (docs/player.md). Crawlers run no scripts, so the server writes the music into
the head of the page.
"""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from aiohttp import web
from msgspec import Meta

from riffstream import protocol
from riffstream.server.answers import OEmbed, json_answer
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.interfaces import Station
from riffstream.server.openapi import Answer, described
from riffstream.server.spectrum_card import draw_spectrum
from riffstream.server.streams import base_url
from riffstream.server.titles import title_of

__all__ = ["Link", "read_link", "routes", "with_link_tags"]

routes = web.RouteTableDef()

TITLE_CHARS, PROMPTS = 120, 8
NUMBERS = ("seed", "denoising", "guidance", "bpm", "beats_per_bar", "key")
ABOUT = "An endless, steerable music stream. Type a prompt, and the music follows."
OURS = re.compile(r'[ \t]*<(?:meta (?:property="og:|name="twitter:|name="description")|link rel="alternate")[^>]*>\n?')
SEED_NAME = re.compile(r"[\w-]{1,200}", re.ASCII)
DESK = re.compile(r"[a-z]+:[a-z0-9.-]{1,9}(,[a-z]+:[a-z0-9.-]{1,9}){0,19}", re.ASCII)
TEXTS = {"seed_image": SEED_NAME, "mix": DESK}
RIFFUSION = {"prompt": "p", "seedImageId": "seed_image"}  # its guidance has another scale
CARD_SIZE = (1200, 630)
CARD_S = 8.0


@dataclass(frozen=True, slots=True)
class Link:
    """The music in an address of the player.

    Attributes:
        prompts: cleaned texts, at most 8.
        query: the valid parameters in canonical order, encoded, without the station.
    """

    prompts: tuple[str, ...]
    query: str

    @property
    def title(self) -> str:
        """Prompts in one line."""
        line = " + ".join(self.prompts)
        return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rstrip() + "…"


def read_link(pairs: list[tuple[str, str]]) -> Link:
    """Parse the pairs of a query, also of a link of Riffusion's web app; invalid parameters are ignored, as in the
    player."""
    given = {key for key, _ in pairs}
    if "p" not in given and given & set(RIFFUSION):
        pairs = [(RIFFUSION.get(key, key), value) for key, value in pairs if key != "guidance"]
    prompts: list[str] = []
    weights: list[str] = []
    rest: dict[str, str] = {}
    for key, value in pairs:
        if key == "p" and len(prompts) < PROMPTS:
            try:
                text = protocol.clean_text(value[: 4 * protocol.PROMPT_CHARS])
            except protocol.ProtocolError:
                continue
            prompts += [text] if text else []
        elif key == "w" and len(weights) < PROMPTS and _is_number(value):
            weights.append(value)
        elif _is_number(value) if key in NUMBERS else key in TEXTS and TEXTS[key].fullmatch(value):
            rest.setdefault(key, value)
    mix = [("p", text) for text in prompts] + [("w", weight) for weight in weights]
    return Link(tuple(prompts), urlencode([*mix, *rest.items()]))


def _is_number(text: str) -> bool:
    try:
        return len(text) <= 24 and math.isfinite(float(text))
    except ValueError:
        return False


def with_link_tags(page: str, request: web.Request, name: str | None) -> str:
    """Replace the preview tags of the player's page by tags for the music in the request's address."""
    head, end, rest = page.partition("</head>")
    context = request.app[CONTEXT]
    station = _station(context, name)
    if not end or station is None:
        return page
    own, link = base_url(context, request), read_link(list(request.query.items()))
    open_to_all = context.access.listening_is_open
    query = "&".join(part for part in (urlencode({"station": station.name}), link.query) if part)
    address = f"{own}/?{query}"
    shown = station.title or station.name
    title = f"{link.title} · {shown}" if link.prompts else shown
    playing = f"Now playing: {title_of(station.state)}. {ABOUT}" if open_to_all and not link.prompts else ABOUT
    tags = {
        "og:type": "music.radio_station",
        "og:site_name": "riffstream",
        "og:title": title,
        "og:description": playing,
        "og:url": address,
        "og:image": f"{own}/card/{station.name}.png",
        "og:image:width": str(CARD_SIZE[0]),
        "og:image:height": str(CARD_SIZE[1]),
        "og:image:alt": "spectrogram of the last seconds",
        "og:audio": f"{own}/stream/{station.name}.mp3",
        "og:audio:type": "audio/mpeg",
    }
    lines = [f'  <meta name="description" content="{_quoted(playing)}">']
    lines += [f'  <meta property="{key}" content="{_quoted(value)}">' for key, value in tags.items()]
    lines.append('  <meta name="twitter:card" content="summary_large_image">')
    about = f"{own}/oembed?{urlencode({'url': address})}"
    lines.append(
        f'  <link rel="alternate" type="application/json+oembed" href="{_quoted(about)}" title="{_quoted(title)}">'
    )
    return "\n".join([OURS.sub("", head).rstrip(), *lines, end]) + rest


def _quoted(text: str) -> str:
    return html.escape(text, quote=True)


def _station(context: Context, name: str | None) -> Station | None:
    """Station by name, or the first station; None without stations."""
    stations = context.hub.stations
    first = next(iter(context.listed_stations()), "")
    found: Station | None = stations.get(name or "") or stations.get(first)
    return found


class OEmbedQuery(msgspec.Struct, kw_only=True):
    """Parameters of an oEmbed request."""

    url: Annotated[str, Meta(description="address of a page of this server")]
    format: Literal["json"] = "json"
    maxwidth: Annotated[int, Meta(description="width of the frame in pixels, 120 to 640")] = 640
    maxheight: Annotated[int, Meta(description="height of the frame in pixels, 120 to 360")] = 360


@routes.get("/oembed")
@described("pages", Answer(OEmbed, "the player in a frame"), errors=(400, 404, 501), query=OEmbedQuery)
async def oembed(request: web.Request) -> web.Response:
    """Answer an oEmbed request (oembed.com): the data for embedding the player at a pasted link."""
    context = request.app[CONTEXT]
    if request.query.get("format", "json") != "json":
        raise refuse(web.HTTPNotImplemented, "bad_request", "format: only json is supported")
    try:
        asked = urlsplit(request.query.get("url", ""))
    except ValueError:
        raise refuse(web.HTTPBadRequest, "bad_request", "url is not an address") from None
    own = base_url(context, request)
    path, pairs = (
        asked.path.removeprefix(urlsplit(own).path).rstrip("/"),
        parse_qsl(asked.query, max_num_fields=100) if asked.query.count("&") < 100 else [],
    )
    name = path.removeprefix("/embed/") if path.startswith("/embed/") else dict(pairs).get("station")
    if asked.netloc.lower() != urlsplit(own).netloc.lower():
        raise refuse(web.HTTPNotFound, "not_found", "url is not an address of this server")
    station = context.broadcast(name or next(iter(context.listed_stations()), "main")).station
    link = read_link(pairs)
    width, height = (_size(request.query.get(f"max{side}"), most) for side, most in (("width", 640), ("height", 360)))
    shown = station.title or station.name
    title = f"{link.title} · {shown}" if link.prompts else shown
    source = f"{own}/embed/{station.name}" + (f"?{link.query}" if link.query else "")
    frame = (
        f'<iframe src="{_quoted(source)}" width="{width}" height="{height}" title="{_quoted(title)}" '
        f'style="border:0" allow="autoplay; fullscreen"></iframe>'
    )
    return json_answer(
        OEmbed(
            provider_url=own,
            title=title,
            thumbnail_url=f"{own}/card/{station.name}.png",
            thumbnail_width=CARD_SIZE[0],
            thumbnail_height=CARD_SIZE[1],
            width=width,
            height=height,
            html=frame,
        )
    )


def _size(given: str | None, most: int) -> int:
    return min(most, max(120, int(given))) if given is not None and given.isascii() and given[:9].isdigit() else most


@routes.get("/card/{station}.png")
@described("pages", Answer(("image/png",), "1200 x 630 pixels"))
async def card(request: web.Request) -> web.Response:
    """Send the spectrogram of a station's last seconds as a preview picture, updated at most once a minute."""
    context = request.app[CONTEXT]
    broadcast = context.broadcast(request.match_info["station"])
    heard = context.access.listening_is_open
    made = await broadcast.card.get(partial(_draw, broadcast.station if heard else None))
    return web.Response(body=made, content_type="image/png", headers={"Cache-Control": "public, max-age=60"})


def _draw(station: Station | None) -> bytes:
    """Draw the preview picture. Runs in a thread."""
    pcm = None if station is None else station.recording(CARD_S)[1]
    return draw_spectrum(None if pcm is None else pcm.mean(1), CARD_SIZE, "PNG")
