"""Links to the player: what they show where they are pasted, however hostile they are."""

from __future__ import annotations

import asyncio
import io
import time
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import numpy as np
import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from riffstream.server.link_preview import read_link
from tests.server.conftest import Running, running
from tests.server.test_api import get


class Head(HTMLParser):
    """What a crawler reads from a page: tags in the head, and which elements there are at all."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.meta: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.elements: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        given = {key: value or "" for key, value in attrs}
        if tag == "meta" and (name := given.get("property") or given.get("name")):
            assert name not in self.meta, f"{name} twice"
            self.meta[name] = given["content"]
        elif tag == "link":
            self.links[given.get("type", given["rel"])] = given["href"]


async def head(served: Running, path: str, **headers: str) -> Head:
    async with ClientSession() as session, session.get(f"{served.url}{path}", headers=headers) as response:
        assert response.status == 200
        return Head(await response.text())


async def test_a_link_shows_the_music_that_it_holds(live: Running) -> None:
    query = urlencode([("station", "main"), ("p", "warm rain"), ("p", "jazz"), ("w", "1"), ("w", "0.3"), ("bpm", "96")])
    page = await head(live, f"/?{query}")
    assert page.meta["og:title"] == "warm rain + jazz · The Test Tone"
    assert page.meta["og:url"] == f"{live.url}/?{query.replace('&w=1&w=0.3', '').replace('&bpm', '&w=1&w=0.3&bpm')}"
    assert page.meta["og:image"] == f"{live.url}/card/main.png"
    assert page.meta["twitter:card"] == "summary_large_image"
    about = urlsplit(page.links["application/json+oembed"])
    answer = await get(f"{live.url}{about.path}?{about.query}")
    assert answer["title"] == page.meta["og:title"]
    shown = Head(answer["html"])
    assert shown.elements == ["iframe"]
    assert "/embed/main?p=warm+rain&amp;p=jazz&amp;w=1&amp;w=0.3&amp;bpm=96" in answer["html"]


async def test_a_plain_link_shows_the_station_and_what_plays(live: Running) -> None:
    for path in ("/", "/?station=main", "/?station=none", "/embed/main", "/index.html"):
        page = await head(live, path)
        assert page.meta["og:title"] == "The Test Tone"
        assert page.meta["og:description"].startswith("Now playing: a test tone. ")
        assert page.meta["description"] == page.meta["og:description"]


async def test_a_closed_station_tells_nothing() -> None:
    async with running(access={"listen_token": "secret"}, speed=10.0) as served:
        page = await head(served, "/")
        assert "a test tone" not in page.meta["og:description"]
        with Image.open(io.BytesIO(await picture(served))) as card:
            assert len(card.getcolors() or []) == 1


HOSTILE = [
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    "</title></head><body><h1>x",
    "--><svg onload=alert(1)>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "javascript:alert(1)",
    "a\r\nSet-Cookie: x=1\r\n\r\n<html>",
    "\0\u202e\ufeffx",
    "&quot;&#x27;&lt;",
    "日本 🎷" * 40,
    "%22%3E%3Cscript%3E",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_stays_text(live: Running, text: str) -> None:
    live.station.title = text[:60]
    clean = await head(live, "/")
    for query in (f"p={quote(text)}", f"p=x&seed_image={quote(text)}&bpm={quote(text)}", f"station={quote(text)}"):
        page = await head(live, f"/?{query}")
        assert page.elements == clean.elements
        assert page.links["application/json+oembed"].startswith(live.url)
        assert page.meta["og:url"].startswith(f"{live.url}/?station=main")
        assert len(page.meta["og:title"]) < 200
        address = quote(f"{live.url}/?{query}", safe="")
        async with ClientSession() as session, session.get(f"{live.url}/oembed?url={address}") as response:
            if response.status == 200:
                assert Head((await response.json())["html"]).elements == ["iframe"]
            else:
                assert response.status == 404


async def test_a_hostile_host_stays_text(live: Running) -> None:
    page = await head(live, "/", Host='x"><script>alert(1)</script>')
    clean = await head(live, "/")
    assert page.elements == clean.elements


async def test_a_link_of_thousands_of_fields_is_read_in_part(live: Running) -> None:
    page = await head(live, "/?" + "&".join(["p=a", "w=1", "seed=1"] * 400))
    assert page.meta["og:title"] == " + ".join("a" * 8) + " · The Test Tone"
    assert len(page.meta["og:url"]) < 300
    address = quote(f"{live.url}/?" + "&".join(["p=a"] * 1000), safe="")
    assert (await get(f"{live.url}/oembed?url={address}"))["title"] == "The Test Tone"


@given(st.lists(st.tuples(st.sampled_from(["p", "w", "seed", "bpm", "key", "seed_image", "x"]), st.text(max_size=50))))
def test_what_a_link_is_read_as_reads_the_same_again(pairs: list[tuple[str, str]]) -> None:
    link = read_link(pairs)
    assert read_link(parse_qsl(link.query)) == link
    assert set(parse_qs(link.query)) <= {"p", "w", "seed", "bpm", "key", "seed_image"}


async def picture(served: Running) -> bytes:
    async with ClientSession() as session, session.get(f"{served.url}/card/main.png") as response:
        assert (response.status, response.content_type) == (200, "image/png")
        return await response.read()


def test_a_link_of_riffusions_web_app_is_read() -> None:
    query = "&prompt=church+bells+to+beats&seed=51209&denoising=0.75&maskImageId=&seedImageId=og_beat&guidance=7"
    link = read_link(parse_qsl(query))
    assert link.prompts == ("church bells to beats",)
    assert dict(parse_qsl(link.query)) == {
        "p": "church bells to beats",
        "seed": "51209",
        "denoising": "0.75",
        "seed_image": "og_beat",
    }


async def test_the_picture_is_what_was_played_and_made_once_a_minute(live: Running) -> None:
    first = await picture(live)
    with Image.open(io.BytesIO(first)) as card:
        assert card.size == (1200, 630)
        bright = np.asarray(card.convert("L")).astype(float).mean(1)
    tone = np.geomspace(16_000, 40, 630)[int(bright.argmax())]
    assert tone == pytest.approx(300, rel=0.1)  # the test tone
    assert await picture(live) == first
    live.server.context.broadcasts["main"].card.fresh_s = -1.0
    live.station.title = "x"
    assert len(await picture(live)) > 1000
    async with ClientSession() as session, session.get(f"{live.url}/card/none.png") as response:
        assert response.status == 404


async def test_the_first_who_ask_for_a_picture_wait_for_one_drawing(live: Running, monkeypatch: Any) -> None:
    drawn: list[object] = []

    def slow(station: object) -> bytes:
        drawn.append(station)
        time.sleep(0.2)
        if len(drawn) == 1:
            raise OSError("disk full")
        return b"picture %d" % len(drawn)

    async def ask() -> tuple[int, bytes]:
        async with ClientSession() as session, session.get(f"{live.url}/card/main.png") as response:
            return response.status, await response.read()

    monkeypatch.setattr("riffstream.server.link_preview._draw", slow)
    failed = await asyncio.gather(*(ask() for _ in range(20)))
    assert {status for status, _ in failed} == {500}
    assert len(drawn) == 1
    first = asyncio.create_task(ask())
    await asyncio.sleep(0.05)
    first.cancel()  # its client hangs up; the others get what it began
    assert await asyncio.gather(*(ask() for _ in range(20))) == [(200, b"picture 2")] * 20
    assert len(drawn) == 2
