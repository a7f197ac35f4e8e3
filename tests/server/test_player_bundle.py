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

from riffstream.server.player_bundle import ENTRIES, PAGE, BundleError, bundled, on_demand, version_of, without_comments
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
        'import b, { c } from "./b.js";',
        'import { b } from "b";',
        'import { b } from "https://example.org/b.js";',
        'import { none } from "./b.js";',
        'import { "a name" as b } from "./b.js";',
        'import data from "./data.json" with { type: "json" };',
        'import { b } from "./b.js" with { type: "json" };',
        'start(); import { b } from "./b.js";',
        '{\n  import { b } from "./b.js";\n}',
        'import {b} from "./b.js"',
        "const later = (name) => import(name);",
        "const later = (name) => import(`./${name}.js`);",
        'const later = () => import("b");',
        "const where = import.meta;",
        'const where = import.meta.resolve("./b.js");',
        'export * from "./b.js";',
        'export * as all from "./b.js";',
        "const b = 1; export { b };",
        "export { b as c };",
        "export var b = 1;",
        "export const { b, c } = window;",
        "export const [b] = window;",
        "export const b = 1, c = 2;",
        "export const b = [1, 2],\n  c = 2;",
        "export default function b() {}",
        "export async () => {};",
        "await ready();",
        "const found = await ready();",
        "for await (const each of all()) use(each);",
        "if (late) {\n  await ready();\n}",
        "try {\n  await ready();\n} catch {}",
        "const $modules = 1;",
        'const name = "no end;',
        "const name = `no end;",
        "const name = `${a;",
        "/* no end",
        "const found = /no end;",
    ],
)
def test_an_unknown_form_is_refused_by_name(tmp_path: Path, line: str) -> None:
    folder = made(tmp_path, src__a=f"{line}\n", src__b="export const b = 1;\n")
    with pytest.raises(BundleError, match=r"^src/(a|gone)\.js"):
        bundled(folder, "src/a.js", line)


@pytest.mark.parametrize(
    "line",
    [
        "const f = async () => await g();",
        "const f = async () => {\n  await g();\n};",
        "async function f() {\n  if (a) await g();\n}",
        "class A {\n  async f() {\n    await g();\n  }\n}",
        "for (const name of names) addEventListener(name, async () => await g());",
        'const text = "import x from y; export default await";',
        "const text = `export default ${a ? `await ${b}` : '`'} import`;",
        "const quotes = /[\"'`/]/.test(a) ? a / b : c / d;",
        "const important = exported.reimport;",
        "const pairs = [1, 2].map((n) => ({ n, b: { n } }));",
    ],
)
def test_texts_and_functions_are_no_reason_to_refuse(tmp_path: Path, line: str) -> None:
    assert line in bundled(made(tmp_path, src__a=f"{line}\n"), "src/a.js", line)


def test_a_module_on_demand_shares_the_modules_of_the_page(tmp_path: Path, need_tool: Callable[[str], str]) -> None:
    count = 'globalThis.reads = (globalThis.reads ?? "") + NAME;\n'
    folder = made(
        tmp_path,
        src__ui__app="""import { Thing } from "../thing.js";
Promise.all([import("./panel.js"), import("./other.js")]).then(async ([panel, other]) => {
  const { deep } = await panel.open();
  console.log(JSON.stringify([panel.made() instanceof Thing, other.same(panel.Own), deep, globalThis.reads]));
});
""",
        src__thing=f"{count.replace('NAME', '1')}export class Thing {{}}\n",
        src__own=f"{count.replace('NAME', '2')}export class Own {{}}\n",
        src__ui__panel="""import { Thing } from "../thing.js";
import { Own as Mine } from "../own.js";
export const made = () => new Thing();
export const Own = Mine;
export const open = () => import("./deep/deep.js");
""",
        src__ui__other='import { Own } from "../own.js";\nexport const same = (one) => one === Own;\n',
        src__ui__deep__deep='import { Thing } from "../../thing.js";\nexport const deep = Thing.name;\n',
    )
    texts = {path: bundled(folder, path, "1", PAGE) for path in on_demand(folder, "1")}
    texts[PAGE] = bundled(folder, PAGE, "1")
    assert set(texts) == {"src/ui/app.js", "src/ui/panel.js", "src/ui/other.js", "src/ui/deep/deep.js"}
    for path, text in texts.items():
        (tmp_path / path).write_text(text)
    for rest in ("thing", "own"):  # nothing else is fetched
        (tmp_path / "src" / f"{rest}.js").unlink()
    (tmp_path / "package.json").write_text('{"type": "module"}')
    node = [need_tool("node"), str(tmp_path / "src/ui/app.js")]
    found = json.loads(subprocess.run(node, check=True, capture_output=True, text=True).stdout)
    assert found == [True, True, "Thing", "12"]


def test_comments_go_and_code_and_texts_stay() -> None:
    code = "a();\n/* one */\n// two\n  /** three\n   * four\n   */\n/** @type {x} */ (b).c(); // five\n\n\nd(1);\n"
    assert without_comments(code) == "a();\n(b).c();\nd(1);\n"
    template = "const text = `\n// kept\n\n\n/* kept */ ${a + `//${b}`} // kept\n`;\n"
    assert without_comments(template.replace("a +", "a/* gone */+")) == template
    words = "const a = \"// kept\", b = '/* kept */', c = /\\/\\/ [/*]/, d = e / 2 / f;\n"
    assert without_comments(words) == words


def test_comments_of_a_style_sheet_go() -> None:
    rules = ['a { content: "/* kept */"; background: url(http://x//y); }\n', "b { grid-row: 1 / -1; }\n"]
    assert without_comments("/* one */\n" + "\n  /* two\n */\n".join(rules), style=True) == "".join(rules)


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
    sizes["style.css"] = len(gzip.compress(without_comments((folder / "style.css").read_text(), style=True).encode()))
    for entry in ENTRIES:
        text = bundled(folder, entry, version)
        (tmp_path / "bundle.mjs").write_text(text)
        subprocess.run([need_tool("node"), "--check", str(tmp_path / "bundle.mjs")], check=True)
        sizes[entry] = len(gzip.compress(text.encode()))
        for later in ("class Relief", "mountDebug =", "function mountShare", "function mountSeeds"):
            assert later not in text, f"{later} is to be fetched on demand"
    assert sum(sizes.values()) <= START_BYTES, sizes
    for entry in on_demand(folder, version):
        (tmp_path / "late.mjs").write_text(bundled(folder, entry, version, PAGE))
        subprocess.run([need_tool("node"), "--check", str(tmp_path / "late.mjs")], check=True)


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
        for kept in (version, "0" * 16):  # on demand: in one file for the page of this version
            async with http.get(f"{served.url}/static/{kept}/src/ui/seeds.js") as answer:
                assert answer.status == 200
                imports = re.findall(r'^import .* from (".*");', gzip.decompress(await answer.read()).decode(), re.M)
            assert imports == ['"./app.js"'] if kept == version else len(imports) > 2
        for bad in ("../pyproject.toml", "tests/player.test.js", "none.js"):
            async with http.get(f"{served.url}/static/{version}/{bad}") as answer:
                assert answer.status == 404
        async with http.get(f"{served.url}/?modules", headers={"Accept-Encoding": "identity"}) as answer:
            assert "static/" not in await answer.text()


@pytest.mark.parametrize("name", ["worklet.js", "ui/pad.js"])
async def test_a_page_that_cannot_be_bundled_is_sent_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = client_folder()
    assert folder is not None
    copy = tmp_path / "client"
    shutil.copytree(folder, copy)
    with (copy / "src" / name).open("a") as file:
        file.write("export default 1;\n")
    monkeypatch.setattr("riffstream.server.static_files.client_folder", lambda: copy)
    async with running() as served, ClientSession() as http, http.get(f"{served.url}/") as answer:
        text = await answer.text()
    assert './src/ui/app.js"' in text
    assert "static/" not in text
