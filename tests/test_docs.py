"""The pages of the documentation: links, paths and names exist, each page says what it is for, lines are short."""

from __future__ import annotations

import csv
import json
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from riffstream.config import load_config
from tests.conftest import ROOT

COLUMNS = 130

PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# File names in the text that belong to the reader, not to the repository.
EXAMPLES = {"/v1/riff-stream.js", "evening.toml", "riffstream.toml", "/etc/riffstream.toml"}
# Places that a path may be relative to, besides the page's own folder.
BASES = [ROOT, ROOT / "riffstream", ROOT / "client", ROOT / "client" / "src"]


def prose(page: Path) -> str:
    """The page without fenced code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower() for title in titles]
    return {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in plain}


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def broken_links(page: Path) -> Iterator[str]:
    for target in links(page):
        place, _, anchor = target.partition("#")
        found = (page.parent / place) if place else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            yield target


def missing_paths(page: Path, known: set[str]) -> Iterator[str]:
    """Paths in code spans that no file or folder of the repository has. A bare file name may be anywhere."""
    for span in spans(page):
        is_file = re.fullmatch(r"[\w./-]+\.(?:py|js|md|toml|html|csv)", span)
        is_folder = re.fullmatch(r"(?:riffstream|client|tests|docs|examples|configs)/[\w/.-]*", span)
        if not (is_file or is_folder) or span in EXAMPLES:
            continue
        if "/" not in span and span in known:
            continue
        if not any((base / span).exists() for base in [page.parent, *BASES]):
            yield span


def names(page: Path) -> set[str]:
    """Dotted names of the package: in code spans, and imported in fenced Python."""
    text = page.read_text(encoding="utf-8")
    found = {match for span in spans(page) for match in re.findall(r"^riffstream(?:\.[A-Za-z_]\w*)+", span)}
    for module, imported in re.findall(r"^from (riffstream[\w.]*) import ([\w, ]+)", text, re.M):
        found |= {f"{module}:{name.strip()}" for name in imported.split(",")}
    files = {"riffstream.v1", "riffstream.toml"}  # the protocol and a file
    return {name for name in found if name not in files}


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {Path(line).name for line in listed.splitlines()} or {
        path.name for path in ROOT.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def known() -> set[str]:
    return tracked()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page: Path, known: set[str]) -> None:
    assert list(missing_paths(page, known)) == []


def test_names_of_the_package_exist() -> None:
    found = {name for page in PAGES for name in names(page)}
    assert len(found) > 15
    for name in sorted(found):
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_its_purpose(page: Path) -> None:
    title, blank, first, *_ = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert blank == ""
    assert re.match(r"[A-Za-z`]", first), f"a paragraph follows the title, not {first!r}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_lines_are_short(page: Path) -> None:
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if not line.startswith("|")]
    long = [line for line in lines if len(line) > COLUMNS and not re.search(r"\S{100}", line)]
    assert long == []


def test_the_readme_lists_every_page() -> None:
    listed = set(links(ROOT / "README.md"))
    assert {f"docs/{page.name}" for page in PAGES if page.parent == ROOT / "docs"} <= listed


def test_what_is_broken_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n[a](gone.md) [b](#a-page) [c](#no) `server/gone.py` `gone.py` `server/app.py` `app.py`\n"
    )
    assert list(broken_links(page)) == ["gone.md", "#no"]
    assert list(missing_paths(page, {"app.py"})) == ["server/gone.py", "gone.py"]


def test_the_figures_of_older_models_are_those_of_the_data() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8").partition("## Models before it")[2]
    rows = [
        [cell.split("(")[0].strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    with (ROOT / "docs" / "data" / "evaluation.csv").open(encoding="utf-8") as file:
        data = [row for row in csv.DictReader(file) if row["material"].startswith("generated")]
    columns = ["frechet_distance", "style_first", "style_first_five", "instruments"]
    known = {(row["model"], *(float(row[column]) for column in columns)) for row in data}
    shown = [(row[0].split(",")[0], *map(float, row[3:])) for row in rows[2:]]
    assert [row[0] for row in shown] == list("7654321")
    assert set(shown) <= known


def test_each_line_of_the_training_log_says_what_it_belongs_to() -> None:
    lines = (ROOT / "docs" / "data" / "training-log.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 200
    for line in lines:
        row = json.loads(line)
        assert row["stage"] in ("codec", "denoiser", "distil", "refine"), line
        assert row["model"] in ("1-3", "4", "5", "6", "7", "8", "9", "10"), line
        assert re.match("2026-11-(2[0-9]|30)T", row["time"]), line


def test_the_configuration_in_the_readme_loads(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (tmp_path / "radio.toml").write_text(shown)
    config = load_config(tmp_path / "radio.toml", environment={})
    assert config.server.port == 9000
    assert list(config.stations["main"].prompts) == ["deep house", "ambient pads"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rows_of_a_table_have_its_columns(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", lambda span: span[0].replace("|", "/"), prose(page)).replace("\\|", "/")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        header, *rows = table.splitlines()
        assert [row for row in rows if row.count("|") != header.count("|")] == [], header


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_conflict_is_left(page: Path) -> None:
    assert re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", page.read_text(encoding="utf-8"), re.M) == []
