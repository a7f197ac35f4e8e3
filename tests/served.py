"""``riffstream serve --model tone`` in a process of its own, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

__all__ = ["tone_server"]

SETTINGS = "[server]\nport = 0\ndrain_s = 0\n[limits]\nsteer_burst = 1000\n[generator]\nmodel = 'tone'\n"


@contextlib.contextmanager
def tone_server(folder: Path) -> Iterator[str]:
    """URL of a server with the tone; ``folder`` holds its configuration."""
    config = folder / "tone.toml"
    config.write_text(SETTINGS)
    command = [sys.executable, "-m", "riffstream", "serve", "--config", str(config), "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()
            process.communicate(timeout=30)
