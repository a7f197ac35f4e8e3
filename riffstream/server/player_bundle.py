"""The player's files under an address of their content: one file for each thread of the browser, cached for long.

A page of forty modules needs many round trips before it can play: browsers open six connections to a server without
HTTP/2. ``/static/VERSION/src/ui/app.js`` is the module with all that it imports, and so are the worker's and the audio
thread's. A module that the page imports on demand comes with what it imports and the page does not have yet. Files at
their plain addresses are sent as they are.

The transformation knows the forms of import and export that the player uses, and refuses all others.

Threading model: no state but caches; calls read files and belong in a thread.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from riffstream.server.javascript import BundleError, awaits_at_top, put_together, taken_apart

__all__ = ["ENTRIES", "PAGE", "BundleError", "bundled", "on_demand", "version_of", "without_comments"]

PAGE: Final = "src/ui/app.js"
"""First module of the page."""

ENTRIES: Final = (PAGE, "src/stream-worker.js", "src/worklet.js")
"""First module of each thread: page, worker, audio thread."""

_SUFFIXES: Final = frozenset({".js", ".css", ".html", ".svg", ".webmanifest"})
_LITERAL: Final = "\ue000(\\d+)\ue000"
_IMPORT = re.compile(rf"^import \{{([^{{}}]*)\}} from {_LITERAL};", re.M)
_NAMES = re.compile(r"\s*(?:[\w$]+(?: as [\w$]+)?\s*,\s*)*(?:[\w$]+(?: as [\w$]+)?\s*)?")
_EXPORT = re.compile(r"^export (?=(?:async function|function\*?|class|const) ([\w$]+))", re.M)
_DYNAMIC = re.compile(rf"(?<![\w$.])import\({_LITERAL}\)")
_META = re.compile(r"(?<![\w$.])import\.meta\.url(?![\w$])")
_OTHER = re.compile(r"^.*(?<![\w$])(?:import|export|\$modules|\$url)(?![\w$]).*", re.M)
_STYLE = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|[ \t]*/\*.*?\*/""", re.S)


def without_comments(text: str, style: bool = False) -> str:
    """JavaScript, or with ``style`` CSS, without comments and empty lines.

    Raises:
        BundleError: a literal or a comment of JavaScript has no end.
    """
    if style:
        return re.sub(r"\n\s*\n+", "\n", _STYLE.sub(lambda match: match[1] or "", text)).strip() + "\n"
    return put_together(*taken_apart(text))


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


@dataclass(frozen=True)
class _Module:
    """A module of the player, read and checked."""

    name: str
    code: str  # literals are replaced by marks
    literals: list[str]
    exports: tuple[str, ...]

    def path(self, number: str) -> str:
        """Path of a module in the player's folder, from the literal of an import."""
        given = self.literals[int(number)][1:-1]
        if not given.startswith("."):
            raise BundleError(f"{self.name}: the import of {given!r} cannot be bundled")
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.name), given))

    def imports(self) -> list[tuple[tuple[str, ...], str]]:
        """Imported names and path of each module that this one needs."""
        return [
            (tuple(each.split(" as ")[0].strip() for each in names.split(",") if each.strip()), self.path(number))
            for names, number in _IMPORT.findall(self.code)
        ]


@lru_cache(maxsize=64)
def bundled(folder: Path, entry: str, version: str, page: str = "") -> str:
    """A module with all that it imports, as one module.

    Args:
        folder: of the player.
        entry: path of the module in it.
        version: of the files; a new one reads them again.
        page: path of the module that imports this one while it runs. What both need is taken from the bundle of that
            module, so that each module exists once. "": none.

    Raises:
        BundleError: a module is missing, imports itself in a circle or a name that is not exported, or has an unknown
            form of import or export.
    """
    there = _closure(folder, page, version) if page else {}
    modules = _closure(folder, entry, version)
    text = "".join(_wrapped(module, entry) for name, module in modules.items() if name not in there)
    if not page:
        return f"export const $modules = {{}};\n{text}"
    path = posixpath.relpath(page, posixpath.dirname(entry))
    path = path if path.startswith(".") else f"./{path}"
    exports = ", ".join(modules[entry].exports)
    return f'import {{ $modules }} from "{path}";\n{text}export const {{ {exports} }} = $modules["{entry}"];\n'


@lru_cache(maxsize=8)
def on_demand(folder: Path, version: str) -> frozenset[str]:
    """Paths of the modules that the page imports while it runs. Arguments and errors as those of :func:`bundled`."""
    page = _closure(folder, PAGE, version)
    found: set[str] = set()
    waiting = list(page.values())
    while waiting:
        module = waiting.pop()
        for number in _DYNAMIC.findall(module.code):
            if (path := module.path(number)) not in found and path not in page:
                found.add(path)
                waiting.extend(_closure(folder, path, version).values())
    return frozenset(found)


@lru_cache(maxsize=64)
def _closure(folder: Path, entry: str, version: str) -> dict[str, _Module]:
    """A module and all that it imports; each stands behind those that it imports itself."""
    del version  # it is the cache's key
    found: dict[str, _Module] = {}

    def collect(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise BundleError(f"{name} imports itself: {' > '.join(above)}")
        if name in found:
            return
        module = _read(folder, name)
        for names, path in module.imports():
            collect(path, (*above, name))
            if missing := set(names) - set(found[path].exports):
                raise BundleError(f"{name}: {path} does not export {', '.join(sorted(missing))}")
        found[name] = module

    collect(entry, ())
    return found


def _read(folder: Path, name: str) -> _Module:
    """Read a module. Raises BundleError for all that the transformation does not know."""
    try:
        code, literals = taken_apart((folder / name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{name} cannot be read: {error}") from None
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from None
    rest = code
    for known in (_IMPORT, _EXPORT, _DYNAMIC, _META):
        rest = known.sub("", rest)
    if other := _OTHER.search(rest):
        raise BundleError(f"{name}: {put_together(other[0], literals).strip()[:80]!r} cannot be bundled")
    for names, _ in _IMPORT.findall(code):
        if not _NAMES.fullmatch(names):
            raise BundleError(f"{name}: an import of {names.strip()!r} cannot be bundled")
    if awaits_at_top(code):
        raise BundleError(f"{name}: 'await' outside of functions cannot be bundled")
    for match in _EXPORT.finditer(code):
        if code.startswith("const", match.end()) and "," in _statement(code[match.end() :]):
            raise BundleError(f"{name}: the export of several constants with {match[1]} cannot be bundled")
    module = _Module(name, code, literals, tuple(_EXPORT.findall(code)))
    for number in _DYNAMIC.findall(code):
        module.path(number)  # it raises
    return module


def _statement(code: str) -> str:
    """The outermost level of the first statement: without what stands in brackets."""
    depth, kept = 0, ""
    for character in code:
        if character in ")]}":
            depth -= 1
        if depth == 0:
            if character == ";":
                break
            kept += character
        if character in "([{":
            depth += 1
    return kept


def _wrapped(module: _Module, entry: str) -> str:
    """A module as a function that is called at once and returns what the module exports."""
    address = posixpath.relpath(module.name, posixpath.dirname(entry))

    def imported(match: re.Match[str]) -> str:
        names = re.sub(r"([\w$]+) as ([\w$]+)", r"\1: \2", " ".join(match[1].split()))
        return f'const {{ {names} }} = $modules["{module.path(match[2])}"];'

    code = _EXPORT.sub("", _IMPORT.sub(imported, module.code))
    asks = _META.search(code) or _DYNAMIC.search(code)
    code = _DYNAMIC.sub("import(new URL(\ue000\\1\ue000, $url).href)", _META.sub("$url", code))
    where = f'const $url = new URL("{address}", import.meta.url).href;\n' if asks else ""
    text = put_together(code, module.literals)
    returned = f"return {{ {', '.join(module.exports)} }};\n"
    return f'$modules["{module.name}"] ??= (() => {{\n{where}{text}{returned}}})();\n'
