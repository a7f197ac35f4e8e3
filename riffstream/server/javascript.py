"""JavaScript source apart from its literals and without its comments, so that patterns are applied to code alone."""

from __future__ import annotations

import re
from typing import Final

from riffstream.errors import RiffstreamError

__all__ = ["BundleError", "awaits_at_top", "put_together", "taken_apart"]

_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/[ \t]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[\w$]+)
    |(?P<space>\s+)
    |(?P<mark>[^\w$\s"'])""",
    re.X | re.S,
)
_TEMPLATE = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.S)
_REGEX = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
_BEFORE_REGEX = re.compile(
    r"[-(,=:\[!&|?{};+*%~^<>]|return|typeof|case|in|of|delete|void|throw|new|else|do|await|yield|instanceof"
)
"""What stands before a regular expression; behind anything else a slash divides."""

_MARK: Final = "\ue000"  # of a literal; of the private use area
_LITERAL = re.compile(rf"{_MARK}(\d+){_MARK}")
_LEVELS = re.compile(r"[(\[{]|[)\]}]|=>|;|\b(?:await|function|if|for|while|do|try|switch)\b")


class BundleError(RiffstreamError):
    """A module has a form that cannot be bundled."""


def taken_apart(text: str) -> tuple[str, list[str]]:
    """Split source into code and literals.

    Returns:
        the code without comments and empty lines, each literal (string, part of a template, regular expression)
        replaced by a mark with its number; and the literals.

    Raises:
        BundleError: a string, template, comment or regular expression has no end.
    """
    if _MARK in text:
        raise BundleError(f"the character {_MARK!a} cannot be bundled")
    parts: list[str] = []
    literals: list[str] = []
    braces: list[int] = []  # open braces in each template around this place
    at, last = 0, ";"

    def literal(end: int) -> int:
        literals.append(text[at:end])
        parts.append(f"{_MARK}{len(literals) - 1}{_MARK}")
        return end

    while at < len(text):
        if text[at] == "`" or (text[at] == "}" and braces and braces[-1] == 0):
            if text[at] == "}":
                braces.pop()
            found = _TEMPLATE.match(text, at + 1)
            if found is None:
                raise BundleError(f"the template at {_line(text, at)} has no end")
            at, last = literal(found.end()), "`"
            if found[0].endswith("${"):
                braces.append(0)
                last = "{"
            continue
        token = _TOKEN.match(text, at)
        kind = token.lastgroup if token else None
        if token is None or (kind == "mark" and text.startswith("/*", at)):
            raise BundleError(f"the string or comment at {_line(text, at)} has no end")
        if kind == "mark" and token[0] == "/" and _BEFORE_REGEX.fullmatch(last):
            found = _REGEX.match(text, at)
            if found is None:
                raise BundleError(f"the regular expression at {_line(text, at)} has no end")
            at, last = literal(found.end()), "/"
            continue
        if kind == "string":
            at, last = literal(token.end()), '"'
            continue
        if kind == "comment":
            parts.append("\n" if "\n" in token[0] else "" if parts and parts[-1][-1].isspace() else " ")
            at = token.end()
            continue
        parts.append(token[0])
        last = token[0] if kind in ("word", "mark") else last
        if braces and token[0] in "{}":
            braces[-1] += 1 if token[0] == "{" else -1
        at = token.end()
    if braces:
        raise BundleError("a template has no end")
    code = re.sub(r"\n\s*\n", "\n", re.sub(r"[ \t]+$", "", "".join(parts), flags=re.M))
    return f"{code.strip()}\n", literals


def put_together(code: str, literals: list[str]) -> str:
    """The source of code and its literals."""
    return _LITERAL.sub(lambda match: literals[int(match[1])], code)


def _line(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}"


def awaits_at_top(code: str) -> bool:
    """Whether code awaits outside every function. Rather True than False: a function in a top-level block counts if it
    begins behind the ``await``."""
    depth, deferred, block = 0, False, False
    for token in _LEVELS.finditer(code):
        what = token[0]
        if what in "([{":
            depth += 1
        elif what in ")]}":
            depth -= 1
            if depth == 0 and what == "}":
                deferred = block = False
        elif what == ";":
            if depth == 0:
                deferred = block = False
        elif what in ("=>", "function"):
            deferred = deferred or depth == 0 or block
        elif what == "await":
            if not deferred and (depth == 0 or block):
                return True
        elif depth == 0 and not deferred:
            block = True
    return False
