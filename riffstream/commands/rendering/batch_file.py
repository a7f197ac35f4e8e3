"""Batch files: parameter sets as TOML, JSON or CSV.

A set has the names of ``riffstream render``'s options. TOML and JSON: ``defaults`` (one set) and ``render`` (a list of
sets); JSON may also be the list alone. A list as a value gives one rendering for each of its values. CSV: a header with
the names, and one set a line; empty cells are omitted. JSON files of Riffusion's playground (``params``, ``entries``)
are read as well.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from riffstream.errors import MediaError, MediaWarning, ParameterError
from riffstream.ranges import nearest
from riffstream.text_files import parse_json, parse_toml, read_text

__all__ = ["FIELDS", "MOST", "ParameterSet", "read_batch"]

MOST: Final = 10_000  # renderings in one file
NAME: Final = re.compile(r"[\w][\w .+-]{0,99}")
SLUG_CHARS: Final = 40

# name -> types of a value; None is never given, an omitted field has the command line's value
FIELDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "prompt": (str,),
    "prompts": (list,),
    "journey": (str,),
    "negative": (str,),
    "seconds": (int, float),
    "seed": (int,),
    "seed_image": (str,),
    "denoising": (int, float),
    "guidance": (int, float),
    "bpm": (int, float),
    "key": (int, float),
    "beats_per_bar": (int,),
    "chords": (str,),
    "form": (str,),
    "parts": (dict,),
    "energy": (int, float),
    "density": (int, float),
    "brightness": (int, float),
    "steps": (int,),
    "lufs": (int, float),
    "mix": (str,),
}
# Keys of Riffusion's files -> ours. A column of its pictures is 10 ms.
_RIFFUSION_PARAMS: Mapping[str, str] = {
    "num_inference_steps": "steps",
    "guidance": "guidance",
    "width": "seconds",
    "seed": "seed",
}
_RIFFUSION_ENTRY: Mapping[str, str] = {"prompt": "prompt", "negative_prompt": "negative", "seed": "seed"}
_RIFFUSION_OPTIONS: Mapping[str, str] = {"checkpoint": "--model", "scheduler": "--sampler"}
_RIFFUSION_SEED: Final = 42  # of an entry without one
_COLUMN_S: Final = 0.01
_WORDS: Mapping[type, str] = {
    str: "a string",
    int: "a whole number",
    list: "a list of prompts",
    dict: "a table of levels",
}


@dataclass(frozen=True, slots=True)
class ParameterSet:
    """One rendering. ``name``: of its files, unique without regard to case. ``values``: by :data:`FIELDS`."""

    name: str
    values: Mapping[str, Any]


def read_batch(path: Path) -> list[ParameterSet]:
    """Read a batch file; the extension (toml, json, csv) decides its form.

    Raises:
        MediaError: the file cannot be read or has another form.
        ParameterError: an unknown name, a wrong type, or two equal names. Ranges are not checked here.
    """
    kind = path.suffix.lower()
    if kind not in (".toml", ".json", ".csv"):
        raise ParameterError("--batch", str(path), "a file that ends in .toml, .json or .csv")
    try:
        text = read_text(path)
        rows = list(
            _csv(text) if kind == ".csv" else _tables(parse_toml(text) if kind == ".toml" else parse_json(text))
        )
    except (OSError, MediaError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise MediaError(f"batch {path}: {reason or error}") from None
    if not rows:
        raise MediaError(f"batch {path}: it has no parameter sets")
    if len(rows) > MOST:
        raise MediaError(f"batch {path}: it has more than {MOST} renderings")
    return _named(rows)


def _tables(given: Any) -> Iterator[dict[str, Any]]:
    """Sets of a TOML or JSON file."""
    if isinstance(given, list):
        given = {"render": given}
    if isinstance(given, Mapping) and "entries" in given:
        yield from _riffusion(given)
        return
    if not isinstance(given, Mapping):
        raise MediaError("the top level must be a table or a list")
    for key in given:
        if key not in ("defaults", "render"):
            raise ParameterError("batch", key, "the keys defaults and render")
    defaults, sets = given.get("defaults", {}), given.get("render", [])
    if not isinstance(defaults, Mapping):
        raise ParameterError("defaults", defaults, "a table of parameters")
    if not isinstance(sets, Sequence) or isinstance(sets, str):
        raise ParameterError("render", sets, "a list of parameter sets")
    for number, own in enumerate(sets):
        where = f"render[{number}]"
        if not isinstance(own, Mapping):
            raise ParameterError(where, own, "a table of parameters")
        music = {"prompt", "prompts", "journey"}
        inherited = {key: value for key, value in defaults.items() if not (key in music and music & set(own))}
        yield from _variants({**inherited, **own}, where)


def _riffusion(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Sets of a file of Riffusion's playground: every entry with every set of params."""
    for key in given:
        if key not in ("params", "entries"):
            raise ParameterError("batch", key, "the keys params and entries")
    params, entries = given.get("params", {}), given["entries"]
    if not isinstance(entries, list):
        raise ParameterError("entries", entries, "a list of entries with prompt, negative_prompt and seed")
    left_out: dict[str, str] = {}
    all_params = params if isinstance(params, list) else [params]
    for number, entry in enumerate(entries):
        own = _renamed(entry, _RIFFUSION_ENTRY, f"entries[{number}]", left_out)
        for place, shared in enumerate(all_params):
            where = f"params[{place}]" if isinstance(params, list) else "params"
            row = {"seed": _RIFFUSION_SEED, **_renamed(shared, _RIFFUSION_PARAMS, where, left_out), **own}
            if isinstance(row.get("seconds"), int | float):
                row["seconds"] *= _COLUMN_S
            yield row
    if left_out:
        options = " and ".join(left_out.values())
        warnings.warn(MediaWarning(f"batch: {', '.join(left_out)} of the file: not used, see {options}"), stacklevel=2)


def _renamed(given: Any, names: Mapping[str, str], where: str, left_out: dict[str, str]) -> dict[str, Any]:
    """The values under our names. Names of options of the whole batch are collected in ``left_out``."""
    if not isinstance(given, Mapping):
        raise ParameterError(where, given, "a table of parameters")
    row = {}
    for key, value in given.items():
        if key in _RIFFUSION_OPTIONS:
            left_out[key] = _RIFFUSION_OPTIONS[key]
        elif key in names:
            if value is not None:
                kinds = FIELDS[names[key]]
                if isinstance(value, bool) or not isinstance(value, kinds):
                    raise ParameterError(f"{where}.{key}", value, _kind(kinds))
                row[names[key]] = value
        elif key != "name":
            known = (*names, *_RIFFUSION_OPTIONS, "name")
            raise ParameterError(where, key, f"the keys {', '.join(known)}{nearest(key, known)}")
    return row


def _variants(given: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """One set for each combination of the values in lists."""
    lists: dict[str, list[Any]] = {
        key: value for key, value in given.items() if isinstance(value, list) and key != "prompts"
    }
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        row = {**given, **chosen}
        if lists and "name" in given and "name" not in lists:
            row["name"] = "-".join([str(given["name"]), *(f"{key}-{value}" for key, value in chosen.items())])
        for key, value in row.items():
            _check(key, value, where)
        yield row


def _kind(kinds: tuple[type, ...]) -> str:
    return "a number" if float in kinds else _WORDS[kinds[0]]


def _check(key: str, value: Any, where: str) -> None:
    if key not in FIELDS:
        raise ParameterError(where, key, f"the keys {', '.join(FIELDS)}{nearest(key, FIELDS)}")
    kinds = FIELDS[key]
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ParameterError(f"{where}.{key}", value, _kind(kinds))
    if isinstance(value, list) and not all(isinstance(prompt, str) for prompt in value):
        raise ParameterError(f"{where}.prompts", value, "a list of strings")


def _csv(text: str) -> Iterator[dict[str, Any]]:
    """Sets of a CSV file; separated by commas, semicolons or tabs, whichever the header has most of."""
    header = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    names = [name.strip() for name in next(reader, [])]
    for name in names:
        if name not in FIELDS:
            raise ParameterError("column", name, f"{', '.join(FIELDS)}{nearest(name, FIELDS)}")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"line {reader.line_num}"
        if len(cells) > len(names):
            raise ParameterError(where, cells[len(names)], f"{len(names)} cells, as the header has")
        filled = {name: cell.strip() for name, cell in zip(names, cells, strict=False) if cell.strip()}
        yield {name: _parsed(name, cell, where) for name, cell in filled.items()}


def _parsed(name: str, cell: str, where: str) -> Any:
    """A cell's value. Several prompts are separated by ``|``, levels of parts are written ``drums=0 pad=0.5``."""
    kinds = FIELDS[name]
    if kinds == (str,):
        return cell
    try:
        if name == "prompts":
            return [prompt.strip() for prompt in cell.split("|")]
        if name == "parts":
            return {part: float(level) for part, level in (pair.split("=") for pair in cell.split())}
        return int(cell) if kinds == (int,) else float(cell.replace(",", "."))
    except ValueError:
        allowed = (
            "PART=LEVEL, separated by spaces" if name == "parts" else _WORDS[int] if kinds == (int,) else "a number"
        )
        raise ParameterError(f"{where}, {name}", cell, allowed) from None


def _named(rows: Sequence[dict[str, Any]]) -> list[ParameterSet]:
    sets: list[ParameterSet] = []
    taken: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        values = {key: value for key, value in row.items() if key != "name"}
        name = row.get("name") or f"{number:03}-{_slug(values)}"
        if not NAME.fullmatch(name) or name.endswith((" ", ".")) or name.lower() == "index":
            raise ParameterError("name", name, "1 to 100 letters, digits, spaces and . _ + -, not index")
        if name.lower() in taken:
            raise ParameterError("name", name, f"a name of its own; rendering {taken[name.lower()]} has it already")
        taken[name.lower()] = number
        sets.append(ParameterSet(name, values))
    return sets


def _slug(values: Mapping[str, Any]) -> str:
    text = values.get("prompt") or " ".join(values.get("prompts", ())) or Path(values.get("journey", "")).stem
    plain = re.sub(r"[^\w]+", "-", text.lower()).strip("-_")[:SLUG_CHARS].strip("-_")
    return plain or "render"
