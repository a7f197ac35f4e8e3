"""The player's files under an address of their content: one file for each thread of the browser, cached for long.

A page of forty modules needs many round trips before it can play: browsers open six connections to a server without
HTTP/2. ``/static/VERSION/src/ui/app.js`` is the module with all that it imports, and so are the worker's and the audio
thread's. Modules that are imported on demand, and all files at their plain addresses, are sent as they are.

The transformation knows the forms of import and export that the player uses, and refuses all others.

Threading model: no state but caches; calls read files and belong in a thread.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from riffstream.errors import RiffstreamError

__all__ = ["ENTRIES", "BundleError", "bundled", "version_of", "without_comments"]

ENTRIES: Final = ("src/ui/app.js", "src/stream-worker.js", "src/worklet.js")
"""First module of each thread: page, worker, audio thread."""

_SUFFIXES: Final = frozenset({".js", ".css", ".html", ".svg", ".webmanifest"})
_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.[^"]+)";', re.M)
_EXPORT = re.compile(r"^export (?=(?:async function|function\*?|class|const) (\w+))", re.M)
_OTHER = re.compile(r"^(?:import\b(?! ?\()|export\b|const \{[^}]*\} = await).*", re.M)
_DYNAMIC = re.compile(r'\bimport\("(\.[^"]+)"\)')
_BLOCK = re.compile(r"^[ \t]*/\*(?:(?!\*/).)*\*/[ \t]*$", re.M | re.S)
_LINE = re.compile(r"^[ \t]*//.*$", re.M)
_TYPE = re.compile(r"/\*\* @type [^\n]*?\*/ ?")
_EMPTY = re.compile(r"\n\s*\n+")


class BundleError(RiffstreamError):
    """A module has a form that cannot be bundled."""


def without_comments(text: str) -> str:
    """JavaScript or CSS without the comments that have lines of their own, and without empty lines."""
    return _EMPTY.sub("\n", _TYPE.sub("", _LINE.sub("", _BLOCK.sub("", text)))).strip() + "\n"


def version_of(folder: Path) -> str:
    """Hash of the player's files; it changes with any of them."""
    files = tuple(
        (str(file.relative_to(folder)), file.stat().st_mtime_ns, file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.suffix in _SUFFIXES and file.is_file() and "node_modules" not in file.parts
    )
    return _hashed(folder, files)


@lru_cache(maxsize=8)
def _hashed(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    found = hashlib.sha256()
    for name, _, _ in files:
        found.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return found.hexdigest()[:16]


@lru_cache(maxsize=32)
def bundled(folder: Path, entry: str, version: str) -> str:
    """A module with all that it imports, as one module.

    Args:
        folder: of the player.
        entry: path of the module in it.
        version: of the files; a new one reads them again.

    Raises:
        BundleError: a module is missing, imports itself in a circle, or has an unknown form of import or export.
    """
    del version  # it is the cache's key
    order: list[str] = []
    texts: dict[str, str] = {}
    _collect(folder, entry, order, texts, ())
    numbers = {name: number for number, name in enumerate(order)}
    parts = [_module(name, texts[name], numbers, entry) for name in order]
    return "const M = [];\n" + "".join(parts)


def _collect(folder: Path, name: str, order: list[str], texts: dict[str, str], above: tuple[str, ...]) -> None:
    """Add a module behind those that it imports."""
    if name in above:
        raise BundleError(f"{name} imports itself: {' > '.join(above)}")
    if name in texts:
        return
    try:
        texts[name] = without_comments((folder / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{name} cannot be read: {error}") from None
    for _, path in _IMPORT.findall(texts[name]):
        _collect(folder, _resolved(name, path), order, texts, (*above, name))
    order.append(name)


def _resolved(name: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def _module(name: str, text: str, numbers: dict[str, int], entry: str) -> str:
    """A module as a function that is called at once and returns what the module exports."""
    address = f'new URL("{posixpath.relpath(name, posixpath.dirname(entry))}", import.meta.url).href'

    def imported(match: re.Match[str]) -> str:
        names = re.sub(r"(\w+) as (\w+)", r"\1: \2", " ".join(match[1].split()))
        return f"const {{ {names} }} = M[{numbers[_resolved(name, match[2])]}];"

    exported = _EXPORT.findall(text)
    text = _EXPORT.sub("", _IMPORT.sub(imported, text))
    if other := _OTHER.search(text):
        raise BundleError(f"{name}: {other[0][:60]!r} cannot be bundled")
    uses = "import.meta.url" in text or _DYNAMIC.search(text)
    text = _DYNAMIC.sub(r'import(new URL("\1", U).href)', text.replace("import.meta.url", "U"))
    where = f"const U = {address};\n" if uses else ""
    return f"M[{numbers[name]}] = (() => {{\n{where}{text}return {{ {', '.join(exported)} }};\n}})();\n"
