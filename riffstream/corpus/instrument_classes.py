"""Classes of instruments that a listener can tell apart, by the names of the corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["INSTRUMENT_CLASSES", "instrument_class", "instrument_targets"]

# Class -> substrings of its names. The first match counts, so specific classes precede general ones.
INSTRUMENT_CLASSES: dict[str, tuple[str, ...]] = {
    "electronic drums": (
        "electronic drums",
        "drum machine",
        "808 drums",
        "909",
        "distorted drums",
        "8-bit drums",
        "noise drums",
        "chip drums",
        "breakbeat drums",
        "chopped drums",
        "dusty drums",
        "lo-fi drums",
    ),
    "drums": ("drum", "brushes"),
    "electric piano": ("electric piano", "rhodes", "fm keys", "clavinet"),
    "acid": ("acid",),
    "chiptune": ("8-bit", "chiptune", "square wave", "pulse wave", "triangle wave"),
    "music box": ("music box", "celesta", "glockenspiel", "tinkle"),
    "bells": ("bell",),
    "harpsichord": ("harpsichord",),
    "piano": ("piano",),
    "organ": ("organ",),
    "accordion": ("accordion", "bandoneon"),
    "harmonica": ("harmonica",),
    "distorted guitar": (
        "distorted guitar",
        "heavy guitar",
        "driven electric",
        "overdriven",
        "lead guitar",
        "electric guitar solo",
    ),
    "electric guitar": (
        "electric guitar",
        "muted guitar",
        "jazz guitar",
        "hollow-body",
        "guitar harmonics",
        "palm-muted",
    ),
    "plucked folk": ("banjo", "mandolin", "ukulele"),
    "acoustic guitar": ("guitar",),
    "plucked world": ("sitar", "koto", "shamisen", "dulcimer"),
    "kalimba": ("kalimba", "thumb piano"),
    "harp": ("harp", "plucked strings"),
    "sub bass": ("808", "sub bass", "deep bass"),
    "synth bass": ("synth bass", "analog bass", "reese", "growling", "wobble", "dubstep bass", "bass and lead"),
    "pizzicato": ("pizzicato",),
    "low strings": ("cello", "double bass, orch", "orchestral basses"),
    "bass": ("bass",),
    "violin": ("violin", "fiddle", "viola"),
    "synth strings": ("synth strings", "string machine"),
    "strings": ("string",),
    "choir": ("choir", "choral", "voice", "vocal", "oohs"),
    "saxophone": ("sax",),
    "trumpet": ("trumpet",),
    "brass": ("brass", "trombone", "tuba", "horn"),
    "reeds": ("clarinet", "oboe", "bassoon", "english", "bagpipe", "shanai"),
    "flute": ("flute", "whistle", "recorder", "ocarina", "piccolo", "shakuhachi", "theremin", "bottle"),
    "mallets": ("marimba", "vibraphone", "vibes", "xylophone", "steel drums", "steelpan"),
    "supersaw": ("supersaw", "trance synth"),
    "pluck": ("pluck",),
    "drone": ("drone",),
    "pad": ("pad", "atmosphere"),
    "lead": ("lead", "synth"),
}


def instrument_class(name: str) -> str | None:
    """The class of an instrument, given its name in the corpus.

    >>> instrument_class("upright bass")
    'bass'
    """
    if name == "steel drums":
        return "mallets"
    return next((kind for kind, keys in INSTRUMENT_CLASSES.items() if any(key in name for key in keys)), None)


def instrument_targets(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Whether each class is among the first five names, float32 [classes]."""
    heard = {instrument_class(name) for name in names[:5]}
    return np.array([kind in heard for kind in classes], np.float32)
