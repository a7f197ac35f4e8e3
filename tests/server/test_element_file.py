"""The element for other sites: one file, at an address that keeps its meaning, with its hash."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from urllib.parse import urljoin

from aiohttp import ClientSession

from tests.server.conftest import running


async def test_the_element_is_one_file_with_its_hash() -> None:
    async with running() as served, ClientSession() as session:
        async with session.get(f"{served.url}/api/element") as answer:
            shown = await answer.json()
        latest, pinned = (urljoin(f"{served.url}/api/element", shown[name]) for name in ("latest", "pinned"))
        assert latest == f"{served.url}/v1/riff-stream.js"
        assert re.fullmatch(rf"{served.url}/v1/[0-9a-f]{{16}}/riff-stream\.js", pinned)
        bodies = []
        for address, cache in ((latest, "max-age=86400"), (pinned, "max-age=31536000, immutable")):
            async with session.get(address) as answer:
                assert answer.content_type == "text/javascript"
                assert answer.headers["Cache-Control"] == f"public, {cache}"
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                bodies.append(await answer.read())
                etag = answer.headers["ETag"]
            async with session.get(address, headers={"If-None-Match": etag}) as answer:
                assert answer.status == 304
        assert bodies[0] == bodies[1]
        assert shown["integrity"] == "sha384-" + base64.b64encode(hashlib.sha384(bodies[0]).digest()).decode()
        assert not re.search(rb"^import ", bodies[0], re.M)  # all in one file
        assert b"customElements.define" in bodies[0]
        assert len(gzip.compress(bodies[0])) < 40_000


async def test_its_worker_and_older_pages_find_their_files() -> None:
    async with running() as served, ClientSession() as session:
        for path in ("v1/src/stream-worker.js", "v1/src/worklet.js", "v1/src/element.js"):
            async with session.get(f"{served.url}/{path}") as answer:
                assert answer.status == 200, path
        async with session.get(f"{served.url}/v1/0123456789abcdef/riff-stream.js") as answer:
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-cache"
        for path in ("v1/index.html", "v1/nothing.js", "v1/../pyproject.toml", "v1/src/%2e%2e/%2e%2e/setup.js"):
            async with session.get(f"{served.url}/{path}") as answer:
                assert answer.status == 404, path
