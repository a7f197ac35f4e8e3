"""Unknown and repeated parameters of a query, and unknown fields of a form, are refused by name."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession, FormData

from tests.server.conftest import Running

ARCHIVE = "/api/stations/main/archive/recording"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "/api/stations/main/recording?second=5",
            "query has 'second'; allowed: seconds, format",
        ),
        ("/api/stations/main/recording?seconds=5&seconds=6", "query has seconds twice; allowed: once"),
        (f"{ARCHIVE}?from=0&until=5", "query has 'until'; allowed: from, to, run, format"),
        ("/api/seeds?bpm=120", "query has 'bpm'; allowed: tag, search, parts, beats, limit, offset"),
        ("/api/seeds/piano/audio?codec=flac", "query has 'codec'; allowed: format"),
        ("/ws/main/plain?format=mp3", "query has 'format'; allowed: codec"),
    ],
)
async def test_a_wrong_parameter_is_named(live: Running, path: str, words: str) -> None:
    async with ClientSession() as session, session.get(live.url + path) as answer:
        assert answer.status == 400
        message = (await answer.json())["message"]
        assert message == words


@pytest.mark.parametrize(
    "path", ["/api/stations/main/recording?seconds=1&_=1732867200", "/api/stations?x=1", "/?utm_source=a&utm_source=b"]
)
async def test_what_pages_add_against_caches_and_links_is_free(live: Running, path: str) -> None:
    async with ClientSession() as session, session.get(live.url + path) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("given", "words"), [({"title": "x"}, "form has 'title'"), ({"tempo": "90"}, "form has 'tempo'")]
)
async def test_a_wrong_field_of_an_upload_is_named(live: Running, given: dict[str, str], words: str) -> None:
    form = FormData()
    for name, value in given.items():
        form.add_field(name, value)
    form.add_field("file", b"RIFF", filename="a.wav")
    async with ClientSession() as session, session.post(f"{live.url}/api/seeds", data=form) as answer:
        assert answer.status == 400
        assert (await answer.json())["message"] == f"{words}; allowed: file, name, bpm, key, stereo"
    async with ClientSession() as session, session.post(f"{live.url}/api/seeds?tempo=90", data=b"RIFF") as answer:
        assert (await answer.json())["message"].startswith("query has 'tempo'; allowed: name, bpm, key, stereo")


@pytest.mark.parametrize(("query", "fields"), [("?bpm=90", ["bpm"]), ("", ["bpm", "bpm"])])
async def test_a_field_given_twice_is_named(live: Running, query: str, fields: list[str]) -> None:
    form = FormData()
    for name in fields:
        form.add_field(name, "100")
    form.add_field("file", b"RIFF", filename="a.wav")
    async with ClientSession() as session, session.post(f"{live.url}/api/seeds{query}", data=form) as answer:
        assert answer.status == 400
        assert (await answer.json())["message"] == "form has bpm again; allowed: once"
