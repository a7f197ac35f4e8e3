"""Stages of training without the packages of the extra ``train``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
sys.modules["scipy"] = None
from riffstream.cli import main
sys.argv[0] = "riffstream"
sys.exit(main())
"""


def riffstream(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, timeout=120)


def test_a_stage_that_needs_scipy_names_the_extra(tmp_path: Path) -> None:
    done = riffstream("train", "corpus", "--out", str(tmp_path / "corpus"), "--synths-only", "--songs", "1")
    assert done.returncode == 2
    assert done.stderr == (
        "riffstream train: train corpus needs scipy; install it with: pip install 'riffstream[train]'\n"
    )


@pytest.mark.parametrize("stage", ["codec", "denoiser", "distil", "export", "seeds", "finetune"])
def test_other_stages_start_without_scipy(stage: str) -> None:
    done = riffstream("train", stage, "--help")
    assert done.returncode == 0, done.stderr
