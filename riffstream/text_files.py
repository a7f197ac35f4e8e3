"""Reading of text files from any system, editor or spreadsheet program.

Settings and free text differ in one point. In settings a byte that is not UTF-8 is an error, because a wrong guess
would change their meaning. Free text (captions, tempos) is then read as Windows-1252, with a note.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import tomllib
import unicodedata
from pathlib import Path
from typing import Any, Final

from riffstream.errors import MediaError

__all__ = ["decode_text", "parse_json", "parse_toml", "read_notes", "read_text", "readable"]

_MARKS: Final = (  # the longer ones first: UTF-32's little-endian mark begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_QUOTES: Final = "“”„‟‘’‚‛«»‹›`´″′"
_SPACES: Final = re.compile("[\u00a0\u1680\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff]")


def read_text(path: str | Path) -> str:
    """Read a settings file: lines end with ``\\n``, without a byte order mark.

    UTF-8, UTF-16 and UTF-32 are supported; a ``Ctrl-Z`` or NUL bytes at the end are dropped.

    Raises:
        OSError: the file cannot be read.
        MediaError: not such a text; the message names the line and the remedy, but not the file.
    """
    return decode_text(Path(path).read_bytes())


def read_notes(path: str | Path) -> tuple[str, str | None]:
    """Read free text; the second value is a remark if the encoding was guessed, else None. Raises OSError.

    Text that is not UTF-8 is read as Windows-1252, a superset of Latin-1. NUL bytes are dropped.
    """
    data = Path(path).read_bytes()
    try:
        return decode_text(data), None
    except MediaError as error:
        reason = str(error)
    encoding = _encoding(data)
    if encoding != "utf-8":
        return _tidy(data.decode(encoding, "replace").replace("\0", "")), reason
    try:
        text, guess = data.decode(), "NUL bytes were left out"
    except UnicodeDecodeError:
        text, guess = _windows(data), "it was read as Windows-1252"
    return _tidy(text.replace("\0", "")), f"{reason}; {guess}"


def _encoding(data: bytes) -> str:
    return next((name for mark, name in _MARKS if data.startswith(mark)), None) or _unmarked(data)


def decode_text(data: bytes) -> str:
    """Decode the bytes of a settings file as :func:`read_text` does. Raises MediaError."""
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise MediaError(f"damaged {encoding[:6].upper()} text; save it as UTF-8") from None
        line = _line(data[: error.start].decode())
        meant = _windows(data[error.start : error.start + 1])
        raise MediaError(
            f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8 (it would be {meant!r} in Windows-1252); "
            "save the file as UTF-8"
        ) from None
    text = _tidy(text)
    if "\0" in text:
        raise MediaError(
            f"line {_line(text[: text.index(chr(0))])}: a NUL byte; this is not a text file, or it is damaged"
        )
    return text


def _unmarked(data: bytes) -> str:
    """Encoding of text without a byte order mark, by its NUL bytes, because settings are mostly ASCII.

    In UTF-16 nearly every second byte is NUL; in UTF-32 one of four bytes always is, and a second one nearly always.
    """
    for highest, second, name in ((3, 2, "utf-32-le"), (0, 1, "utf-32-be")):
        upper = data[second : 2**16 : 4]
        if len(upper) >= 4 and not any(data[highest : 2**16 : 4]) and upper.count(0) > 0.8 * len(upper):
            return name
    even, odd = data[: 2**16 : 2], data[1 : 2**16 : 2]
    for full, empty, name in ((even, odd, "utf-16-le"), (odd, even, "utf-16-be")):
        if len(empty) >= 4 and empty.count(0) > 0.8 * len(empty) and full.count(0) < 0.1 * len(full):
            return name
    return "utf-8"


def _windows(data: bytes) -> str:
    """Decode Windows-1252; its five undefined bytes are read as Latin-1."""
    return data.decode("cp1252", errors="riffstream-latin-1")


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("riffstream-latin-1", _as_latin_1)


def _tidy(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\0\x1a")
    return re.sub(r"^\ufeff+", "", text, flags=re.MULTILINE)  # joined files have a mark at each beginning


def _line(before: str) -> int:
    return before.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML. Raises MediaError with the line, and with the remedy for common mistakes."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        line = text.split("\n")[int(place[1]) - 1] if place else text.rstrip().rpartition("\n")[2]
        raise MediaError(f"{error}{_hint(line, str(error))}") from None
    except RecursionError:
        raise MediaError("too many levels of brackets") from None


def parse_json(text: str) -> Any:
    """Parse JSON. Raises MediaError with the line, and with the remedy for common mistakes."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise MediaError("a text holds half of a character (\\ud800 to \\udfff without its other half)") from None
    except json.JSONDecodeError as error:
        raise MediaError(f"{error}{_odd(text.split(chr(10))[error.lineno - 1])}") from None
    except RecursionError:
        raise MediaError("too many levels of brackets") from None
    except ValueError as error:  # a number of thousands of digits
        raise MediaError(str(error)) from None


def _odd(line: str) -> str:
    """Hint about characters that look like those of the grammar but are others."""
    quote = next((char for char in line if char in _QUOTES), None)
    if quote is not None:
        return f'; {quote} is a typographic quote: write a straight one (")'
    space = _SPACES.search(line)
    if space is not None:
        name = unicodedata.name(space[0], "SPACE").lower()
        return f"; column {space.start() + 1} holds a {name} (U+{ord(space[0]):04X}): write an ordinary blank"
    return ""


def _hint(line: str, error: str) -> str:
    odd = _odd(line)
    if odd:
        return odd
    key, equals, value = line.partition("=")
    value = value.strip()
    if match := re.fullmatch(r"([+-]?\d+),(\d+)\s*(#.*)?", value):
        return f"; decimals have a point: write {match[1]}.{match[2]}"
    if "\\" in value:
        return "; a backslash begins an escape in double quotes: write / or \\\\, or put the text in single quotes"
    if value.partition("#")[0].strip().lower() in ("true", "false", "yes", "no", "on", "off"):
        return "; write true or false, in small letters"
    if re.match(r"\s*[\w-]+\s*:", key) or (not equals and line.strip() and "[" not in line):
        return "; write key = value"
    if re.match(r"[^\W\d]", value):
        return "; write a text in straight double quotes"
    return ""


def readable(name: str) -> str:
    """Convert a file name to text that can be encoded.

    Bytes that are not UTF-8 (lone surrogates in ``name``) are read as Windows-1252. Letters are composed (NFC), because
    macOS decomposes them.
    """
    if any("\ud800" <= char <= "\udfff" for char in name):
        try:
            name = _windows(os.fsencode(name))
        except UnicodeEncodeError:  # surrogates of another origin
            name = name.encode("utf-8", "replace").decode()
    return unicodedata.normalize("NFC", name)
