"""Files of docs/deploy, checked by the programs that read them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("riffstream.service", "riffstream.socket"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/riffstream/bin/riffstream", "/bin/true"))
    units = [str(tmp_path / name) for name in ("riffstream.service", "riffstream.socket")]
    checked = subprocess.run([tool, "verify", *units], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")
