"""Rules of accessibility, checked by axe-core on a page as it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.conftest import ROOT

__all__ = ["SCRIPT", "violations"]

SCRIPT = Path(os.environ.get("AXE", ROOT / ".venv" / "axe")) / "node_modules" / "axe-core" / "axe.min.js"


def violations(page: Page) -> list[Any]:
    """Rules that the page breaks; nothing where axe-core is not installed (``test_accessibility.py`` says so)."""
    if not SCRIPT.is_file():
        return []
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(SCRIPT.read_text())
    found = page.evaluate("() => axe.run()")["violations"]
    return [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]
