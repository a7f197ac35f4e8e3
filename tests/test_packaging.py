"""The wheel: it holds everything that `riffstream serve` needs, and runs from any folder."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_wheel_carries_the_player_the_presets_and_the_model(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "riffstream/py.typed" in names
    assert "riffstream/client_files/index.html" in names
    assert "riffstream/presets/mini.toml" in names
    model = ROOT / "riffstream" / "models" / "mini"
    wanted = [path.relative_to(ROOT).as_posix() for path in model.rglob("*") if path.is_file()]
    for file in ("sounds.safetensors", "reader.safetensors", "ear.safetensors"):
        assert f"{model.relative_to(ROOT).as_posix()}/{file}" in wanted
    assert not set(wanted) - set(names)
    assert not [n for n in names if n.startswith(("tests/", "data/"))]


@pytest.mark.slow
def test_wheel_serves_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    # The libraries are borrowed from this environment (a fresh torch would take minutes); riffstream itself is not,
    # since the borrowed folder's own .pth files are not followed.
    borrowed = sysconfig.get_path("purelib")
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(site, "borrowed.pth").write_text(borrowed + "\n")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = subprocess.run(
        [python, "-c", "import riffstream; print(riffstream.__file__)"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.startswith(str(home))
    log = (tmp_path / "log").open("w+")
    server = subprocess.Popen(
        [home / "bin" / "riffstream", "serve", "--port", "0", "--json"],
        cwd=elsewhere,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        url = _wait_for_url(tmp_path / "log", server)
        with urllib.request.urlopen(url + "/", timeout=10) as page:
            assert b"riffstream" in page.read()
        deadline = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(url + "/readyz", timeout=10) as ready:
                    assert ready.status == 200
                    break
            except OSError:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.5)
    finally:
        server.terminate()
        assert server.wait(20) == 0
        log.close()


def _wait_for_url(log: Path, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        for line in log.read_text().splitlines():
            if line.startswith("{") and "url" in (entry := json.loads(line)):
                return str(entry["url"]).rstrip("/")
        time.sleep(0.2)
    raise AssertionError("no address was printed: " + log.read_text())
