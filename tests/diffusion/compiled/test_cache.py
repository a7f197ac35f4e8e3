"""The cache of converted networks: whole files only, the newest few, one conversion at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from riffstream.diffusion.compiled.cache import KEPT, SUFFIX, NetworkCache, cache_folder


def test_data_is_kept_by_key(tmp_path: Path) -> None:
    cache = NetworkCache(tmp_path / "new" / "folder")
    assert cache.load("a") is None
    cache.store("a", b"first")
    cache.store("b", b"second")
    cache.store("a", b"third")
    assert (cache.load("a"), cache.load("b"), cache.load("c")) == (b"third", b"second", None)
    assert len(os.listdir(cache.folder)) == 2, "no partial files stay"


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:3], lambda data: b"",
                                    lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:]])  # fmt: skip
def test_a_damaged_file_counts_as_missing_and_is_removed(tmp_path: Path, damage: object) -> None:
    cache = NetworkCache(tmp_path)
    cache.store("a", bytes(range(100)))
    path = tmp_path / f"a{SUFFIX}"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.load("a") is None
    assert not path.exists()
    cache.store("a", b"again")
    assert cache.load("a") == b"again"


def test_the_files_that_were_not_used_for_longest_are_removed(tmp_path: Path) -> None:
    cache = NetworkCache(tmp_path)
    for number in range(KEPT):
        cache.store(str(number), b"x")
        os.utime(tmp_path / f"{number}{SUFFIX}", (1000 + number, 1000 + number))
    assert cache.load("0") == b"x"  # used now, so 1 is the oldest
    cache.store("new", b"y")
    assert {path.stem for path in tmp_path.glob(f"*{SUFFIX}")} == {"0", "new", *map(str, range(2, KEPT))}


def test_a_failed_write_keeps_the_earlier_data_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = NetworkCache(tmp_path)
    cache.store("a", b"earlier")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        cache.store("a", b"later")
    assert cache.load("a") == b"earlier"
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="locks of files are of POSIX systems")
def test_another_process_waits_for_the_lock(tmp_path: Path) -> None:
    cache = NetworkCache(tmp_path)
    program = (
        "import sys, pathlib; from riffstream.diffusion.compiled.cache import NetworkCache\n"
        "print('asks', flush=True)\n"
        "with NetworkCache(pathlib.Path(sys.argv[1])).lock(): print('holds', flush=True)"
    )
    with cache.lock():
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "asks\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
    assert process.communicate(timeout=60)[0] == "holds\n"


def test_the_lock_is_no_hindrance_without_a_writable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with NetworkCache(tmp_path / "file" / "below").lock():
        pass


def test_the_folder_is_below_xdg_cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "riffstream" / "openvino"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard: relative paths are ignored
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "home" / ".cache" / "riffstream" / "openvino"
