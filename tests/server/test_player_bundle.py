"""The player as one file for each thread of the browser: what node makes of it, what is refused, and its caching."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession

from riffstream.server.player_bundle import ENTRIES, BundleError, bundled, version_of, without_comments
from riffstream.server.static_files import client_folder
from tests.server.conftest import running

START_BYTES = 60_000
"""Compressed files that a browser needs before sound can start."""


def made(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_bundle_does_what_its_modules_do(tmp_path: Path, need_tool: Callable[[str], str]) -> None:
    folder = made(
        tmp_path,
        src__ui__app="""// @ts-check
/** The start. */
import { add, COUNT as many } from "../numbers.js";
import {
  Thing,
} from "./thing.js";
/** @type {any} */
const found = [];
/** @type {any} */ (found).push(add(many, 2), new Thing().name, `// kept`, new URL("./x", import.meta.url).pathname);
import("../late.js").then(({ late }) => console.log(JSON.stringify([...found, late])));
""",
        src__numbers="export const COUNT = 40;\nexport function add(a, b) {\n  return a + b;\n}\n",
        src__ui__thing='import { COUNT } from "../numbers.js";\nexport class Thing {\n  name = `thing ${COUNT}`;\n}\n',
        src__late="export const late = 'late';\n",
    )
    text = bundled(folder, "src/ui/app.js", "1")
    assert "The start" not in text
    assert text.count("COUNT = 40") == 1  # a module that two others import is there once
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "src" / "ui" / "bundle.js").write_text(text)
    node = [need_tool("node"), str(tmp_path / "src" / "ui" / "bundle.js")]
    found = json.loads(subprocess.run(node, check=True, capture_output=True, text=True).stdout)
    assert found[:3] == [42, "thing 40", "// kept"]
    assert found[3].endswith("/src/ui/x")
    assert found[4] == "late"


@pytest.mark.parametrize(
    "line",
    [
        'import * as all from "./b.js";',
        'import b from "./b.js";',
        'import "./b.js";',
        "export default 1;",
        'export { b } from "./b.js";',
        "export let changes = 1;",
        'import { gone } from "./gone.js";',
        'import { a } from "./a.js";',
    ],
)
def test_an_unknown_form_is_refused_by_name(tmp_path: Path, line: str) -> None:
    folder = made(tmp_path, src__a=f"{line}\n", src__b="export const b = 1;\n")
    with pytest.raises(BundleError, match=r"^src/(a|gone)\.js"):
        bundled(folder, "src/a.js", line)


def test_comments_go_and_code_stays() -> None:
    code = "a();\n/* one */\n// two\n  /** three\n   * four\n   */\n/** @type {x} */ (b).c(); // five\n\n\nd(1);\n"
    assert without_comments(code) == "a();\n(b).c(); // five\nd(1);\n"


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    folder = made(tmp_path, src__a="1", src__b="2")
    before = version_of(folder)
    assert re.fullmatch(r"[0-9a-f]{16}", before)
    (folder / "src" / "b.js").write_text("33")
    assert version_of(folder) != before


def test_the_player_is_bundled_and_light(need_tool: Callable[[str], str], tmp_path: Path) -> None:
    folder = client_folder()
    assert folder is not None
    version = version_of(folder)
    sizes = {"index.html": len(gzip.compress((folder / "index.html").read_bytes()))}
    sizes["style.css"] = len(gzip.compress(without_comments((folder / "style.css").read_text()).encode()))
    for entry in ENTRIES:
        text = bundled(folder, entry, version)
        (tmp_path / "bundle.mjs").write_text(text)
        subprocess.run([need_tool("node"), "--check", str(tmp_path / "bundle.mjs")], check=True)
        sizes[entry] = len(gzip.compress(text.encode()))
        for later in ("class Relief", "mountDebug =", "function mountShare", "function mountSeeds"):
            assert later not in text, f"{later} is to be fetched on demand"
    assert sum(sizes.values()) <= START_BYTES, sizes


async def test_the_page_needs_two_round_trips_and_keeps_its_files() -> None:
    async with running() as served, ClientSession(auto_decompress=False) as http:
        async with http.get(f"{served.url}/", headers={"Accept-Encoding": "identity"}) as answer:
            page = await answer.text()
        asked = re.findall(r'(?:src|href)="\./(static/[0-9a-f]{16}/[^"]+)"', page)
        # All that the start needs is named by the page itself: nothing is found out later.
        assert {path.split("/", 2)[2] for path in asked} == {*ENTRIES, "style.css"}
        for path in asked:
            async with http.get(f"{served.url}/{path}", headers={"Accept-Encoding": "gzip"}) as answer:
                assert answer.status == 200
                assert "immutable" in answer.headers["Cache-Control"]
                text = gzip.decompress(await answer.read()).decode()
            assert not re.search(r"^import ", text, re.M), path
            old = path.replace(path.split("/")[1], "0" * 16)
            async with http.get(f"{served.url}/{old}") as answer:
                assert answer.headers["Cache-Control"] == "no-cache"
        version = asked[0].split("/")[1]
        async with http.get(f"{served.url}/static/{version}/src/relief.js") as answer:  # on demand
            assert answer.status == 200
        for bad in ("../pyproject.toml", "tests/player.test.js", "none.js"):
            async with http.get(f"{served.url}/static/{version}/{bad}") as answer:
                assert answer.status == 404
        async with http.get(f"{served.url}/?modules", headers={"Accept-Encoding": "identity"}) as answer:
            assert "static/" not in await answer.text()


async def test_a_page_that_cannot_be_bundled_is_sent_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = client_folder()
    assert folder is not None
    copy = tmp_path / "client"
    shutil.copytree(folder, copy)
    with (copy / "src" / "worklet.js").open("a") as file:
        file.write("export default 1;\n")
    monkeypatch.setattr("riffstream.server.static_files.client_folder", lambda: copy)
    async with running() as served, ClientSession() as http, http.get(f"{served.url}/") as answer:
        text = await answer.text()
    assert './src/ui/app.js"' in text
    assert "static/" not in text
