"""Plain text of prompts for the readers of their words: tempo (``pace.py``) and rests (``rests.py``)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["WORD", "flat_text", "plain_name"]

WORD: Final = re.compile(r"[a-z0-9]+")  # of flat text


def flat_text(text: str) -> str:
    """Lower case without accents and with plain joints: "Drum'n'Bass" and "drum & bass" become "drum n bass"."""
    decomposed = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    bare = "".join(char for char in decomposed if not unicodedata.combining(char)).lower()
    bare = re.sub(r"\s*['’`]\s*n\s*['’`]\s*", " n ", bare)
    return bare.replace("&", " n ").replace("_", " ").replace("r'n'b", "rnb")


def plain_name(name: str) -> str:
    """The words of a name, separated by single spaces."""
    return " ".join(WORD.findall(flat_text(name)))
