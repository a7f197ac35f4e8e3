"""The description of the HTTP interface: complete, valid, and what the running server does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from aiohttp import ClientSession, web

from riffstream.config import Config
from riffstream.server import openapi
from riffstream.server.app import make_app
from riffstream.server.openapi import UndescribedRouteError, described, document
from riffstream.server.uploads.intake import Uploads
from tests.api_page import described_api, page
from tests.conftest import ROOT
from tests.server.conftest import Running, running
from tests.server.fakes import FakeHub

EXAMPLES = 4
SETTINGS = """
[checks]
# A value may be valid by itself and yet not be available here, such as the name of a seed image.
positive_data_acceptance.enabled = false
# Two routes may match one address: /api/seeds/NAME.png is also a seed with that name, whose DELETE is 404.
allow_header_conformance.enabled = false
# 501 is oEmbed's answer to another format.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]
"""
# Names that a client could know, and one that no server has.
KNOWN = {"station": ["main", "no-station"], "kbps": ["64", "128", "9999"], "kind": ["m3u", "pls"]}


def app(**sections: dict[str, Any]) -> web.Application:
    config = Config.from_dict(sections)
    return make_app(config, FakeHub("main"), Uploads(config))


def test_every_route_of_the_server_is_described() -> None:
    """The message of the error says what to add."""
    assert len(document(app())["paths"]) > 15


def test_the_page_is_made_from_the_description() -> None:
    made = page(described_api())
    written = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert written == made, "run python -m tests.api_page > docs/api.md"


def test_the_description_is_valid_openapi() -> None:
    schemathesis.openapi.from_dict(document(app())).validate()


def test_a_route_without_a_description_is_an_error() -> None:
    served = app()

    async def forgotten(request: web.Request) -> web.Response:
        return web.Response()

    served.router.add_get("/api/forgotten", forgotten)
    with pytest.raises(UndescribedRouteError, match=r"GET /api/forgotten .*forgotten\) has no description: write"):
        document(served)


def test_a_description_needs_words() -> None:
    served = app()

    @described("server")
    async def wordless(request: web.Request) -> web.Response:
        return web.Response()

    served.router.add_get("/api/wordless", wordless)
    with pytest.raises(UndescribedRouteError, match=r"GET /api/wordless .* has no docstring"):
        document(served)


def test_a_path_parameter_needs_words() -> None:
    served = app()

    @described("server")
    async def strange(request: web.Request) -> web.Response:
        """Do something."""
        return web.Response()

    served.router.add_get("/api/things/{thing}", strange)
    with pytest.raises(UndescribedRouteError, match="path parameter thing has no words"):
        document(served)


def test_a_server_below_a_path_describes_each_route_once() -> None:
    made = document(app(server={"public_url": "https://radio.example/radio"}))
    assert made["paths"].keys() == document(app())["paths"].keys()
    assert made["servers"][0]["url"] == ".."


def test_the_longest_recording_is_that_of_the_configuration() -> None:
    made = document(app(limits={"recording_s": 7.0}))
    found = made["paths"]["/api/stations/{station}/recording"]["get"]["parameters"]
    assert next(each for each in found if each["name"] == "seconds")["schema"]["maximum"] == 7.0


def test_parameters_have_the_patterns_of_their_routes() -> None:
    assert dict(openapi._groups("/(?P<a>[a-z](x|y)?)/(?P<b>p|q)\\.z")) == {"a": "[a-z](x|y)?", "b": "p|q"}


async def test_the_server_sends_its_description(live: Running) -> None:
    async with ClientSession() as session, session.get(f"{live.url}/api/openapi.json") as response:
        assert response.status == 200
        assert (await response.json())["openapi"] == "3.1.0"
        assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.slow
async def test_the_running_server_does_what_its_description_says(tmp_path: Path) -> None:
    """schemathesis makes valid and invalid requests from the description; the description must cover the answers."""
    limits = {
        "upload_burst": 1000,
        "connections_per_address": 1000,
        "body_timeout_s": 5.0,
        "recording_s": 1.0,
        "clips": 0,
    }
    sessions = {"per_address": 1, "interval_s": 0}
    async with running("main", "spare", speed=1.0, limits=limits, sessions=sessions) as served:
        async with ClientSession() as session, session.get(f"{served.url}/api/openapi.json") as response:
            api = await response.json()
        for method, operation in [pair for methods in api["paths"].values() for pair in methods.items()]:
            for each in operation.get("parameters", ()):
                if each["name"] in KNOWN:
                    each["schema"] = {"enum": KNOWN[each["name"]]}
                    if method == "delete":  # the other requests need the main station
                        each["schema"] = {"enum": ["spare", "no-station"]}
        del api["servers"]  # relative to the description's address
        (tmp_path / "api.json").write_text(json.dumps(api))
        (tmp_path / "schemathesis.toml").write_text(SETTINGS)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", "api.json", "--url", served.url),
            *("--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-shrink"),
            *(
                "--exclude-by",
                "/x-endless == true",
            ),
            *("--suppress-health-check", "all", "--continue-on-failure", "--request-timeout", "20"),
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "160"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        assert served.server.context.counters["errors"] == 0
