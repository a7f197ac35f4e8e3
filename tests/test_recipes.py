"""The blocks of docs/recipes.md run as they stand, against a server with the tone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.served import tone_server

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|js|sh)\n(.*?)^```$", PAGE, re.S | re.M)
PROGRAMS = {"python": sys.executable, "js": "node", "sh": "sh"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tone_server(tmp_path_factory.mktemp("server")) as served:
        yield served


def output(language: str, code: str, url: str, folder: Path) -> str:
    """Output of a block; its address is replaced by the server's."""
    if shutil.which(PROGRAMS[language]) is None:
        pytest.skip(f"{PROGRAMS[language]} is not installed")
    for program in ("ffmpeg", "curl"):
        if language == "sh" and code.startswith(program) and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    modules = folder / "node_modules"
    modules.mkdir()
    (modules / "riffstream").symlink_to(ROOT / "client")
    file = folder / f"block.{'mjs' if language == 'js' else language}"
    file.write_text(
        code.replace("http://localhost:8080", url).replace("ws://localhost:8080", url.replace("http", "ws"))
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [PROGRAMS[language], str(file)], cwd=folder, env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_blocks_in_each_language() -> None:
    assert {language for language, _ in BLOCKS} == set(PROGRAMS)


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=lambda number: f"{BLOCKS[number][0]}-{number}")
def test_a_block_runs(number: int, url: str, tmp_path: Path) -> None:
    language, code = BLOCKS[number]
    printed = output(language, code, url, tmp_path)
    if "steer(" in code:
        assert "audible_at" in printed
    elif "/plain" in code:
        assert "applied" in printed
    elif code.startswith("ffmpeg"):
        assert int(printed) == 2 * 48_000 * 4
    elif code.startswith("curl"):
        assert int(printed) == 40_000
    else:
        assert re.match(r"\((\d+), 2\) 0\.\d", printed), printed


def test_pages_of_any_site_may_import_the_kit(url: str) -> None:
    for path in ("riffstream.js", "src/radio.js", "src/connection.js"):
        with urllib.request.urlopen(f"{url}/{path}", timeout=20) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["Content-Type"].startswith("text/javascript")
