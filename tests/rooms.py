"""The rooms of the package: what each is for, and which it imports, read from the code.

``python -m tests.rooms`` prints the table of ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ROOT", "imports", "modules", "purpose", "room", "rooms", "subrooms", "table"]

ROOT = Path(__file__).resolve().parent.parent / "riffstream"


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package is its ``__init__``."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ["riffstream", *path.relative_to(ROOT).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    """The folder right below the package that holds a module ("diffusion"), or the module itself ("protocol")."""
    inside = modules()[module].relative_to(ROOT)
    return inside.parts[0].removesuffix(".py")


def subrooms(own: str) -> list[str]:
    """Folders inside a room that hold code ("diffusion/mini")."""
    return sorted(str(path.parent.relative_to(ROOT)) for path in (ROOT / own).glob("*/__init__.py"))


def imports(path: Path, *, late: bool = True) -> Iterator[str]:
    """Our own modules that a file imports, without those that only the type checker reads.

    Args:
        late: also imports inside functions.
    """
    known = modules()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not late
        if typing or function:
            skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in known:
                name = name.rpartition(".")[0]
            if name and name != "riffstream":
                yield name


def rooms(*, late: bool = True) -> dict[str, set[str]]:
    """Each room and the rooms that it imports."""
    graph: dict[str, set[str]] = {}
    for module, path in modules().items():
        own = room(module)
        graph.setdefault(own, set()).update(room(name) for name in imports(path, late=late))
    for own, needed in graph.items():
        needed.discard(own)
    return graph


def purpose(own: str) -> str:
    """The first sentence of the room's docstring."""
    path = ROOT / own / "__init__.py" if (ROOT / own).is_dir() else ROOT / f"{own}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def table() -> str:
    """The rooms as Markdown: purpose and imports, lowest floor first."""
    graph = rooms()
    floors: dict[str, int] = {}

    def floor(own: str, above: tuple[str, ...] = ()) -> int:
        if own in above:
            raise ValueError(f"import circle: {' -> '.join([*above, own])}")
        if own not in floors:
            floors[own] = 1 + max((floor(name, (*above, own)) for name in graph[own]), default=-1)
        return floors[own]

    lines = ["| floor | room | purpose | imports |", "| --- | --- | --- | --- |"]
    for own in sorted((name for name in graph if name != "__init__"), key=lambda name: (floor(name), name)):
        name = f"`{own}/`" if (ROOT / own).is_dir() else f"`{own}.py`"
        lines.append(f"| {floor(own)} | {name} | {purpose(own)} | {', '.join(sorted(graph[own])) or 'nothing'} |")
        lines += [f"| | &nbsp;&nbsp;`{inner}/` | {purpose(inner)} | |" for inner in subrooms(own)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
