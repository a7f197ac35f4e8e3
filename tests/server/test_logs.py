"""Log lines for people and machines."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator

import pytest

from riffstream.server import logs


@pytest.fixture
def logger() -> Iterator[None]:
    """Puts the package's logger back as it was."""
    logger = logging.getLogger("riffstream")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.mark.usefixtures("logger")
@pytest.mark.parametrize("json_lines", [True, False])
def test_a_line_holds_any_text_on_any_console(json_lines: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, "ascii", errors="backslashreplace", write_through=True)
    monkeypatch.setattr(sys, "stderr", narrow)
    logs.configure("info", json_lines=json_lines)
    name = os.fsdecode(b"caf\xe9")
    logs.event("seed image uploaded", title="Café 🎷", file=name)
    (line,) = raw.getvalue().splitlines()
    if json_lines:
        entry = json.loads(line)
        assert (entry["title"], entry["file"]) == ("Café 🎷", name)
    else:
        assert b"title=Caf\\xe9 \\U0001f3b7" in line
