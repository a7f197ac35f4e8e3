"""docs/security.md names tests; each must exist."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text())))


def test_the_page_names_tests() -> None:
    assert len(NAMED) >= 20


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_each_test_of_the_page_exists(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.M)
