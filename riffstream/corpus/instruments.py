"""The instruments: names in captions, sound, register and level."""

from __future__ import annotations

from dataclasses import dataclass

from riffstream.corpus.styles import read_table

__all__ = ["GM_NAMES", "INSTRUMENTS", "Instrument", "gm_name"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument.

    Attributes:
        words: names in captions, the plainest first.
        program: General MIDI program; None for an instrument that ``patch`` plays.
        patch: name in ``synths.PATCHES``; also the replacement without a soundfont.
        register: MIDI pitch at the centre of its parts.
        gain_db: level in dB relative to the other instruments.
    """

    words: tuple[str, ...]
    program: int | None
    patch: str
    register: int = 60
    gain_db: float = 0.0


INSTRUMENTS: dict[str, Instrument] = {
    name: Instrument(tuple(row["words"]), row.get("program"), row["patch"], row["register"], float(row["gain_db"]))
    for name, row in read_table("instruments.toml").items()
}

# General MIDI programs in plain words, for tracks that MMA chooses.
GM_NAMES = [
    "piano",
    "bright piano",
    "electric grand piano",
    "honky-tonk piano",
    "electric piano",
    "electric piano",
    "harpsichord",
    "clavinet",
    "celesta",
    "glockenspiel",
    "music box",
    "vibraphone",
    "marimba",
    "xylophone",
    "tubular bells",
    "dulcimer",
    "organ",
    "percussive organ",
    "rock organ",
    "church organ",
    "reed organ",
    "accordion",
    "harmonica",
    "bandoneon",
    "nylon guitar",
    "acoustic guitar",
    "jazz guitar",
    "electric guitar",
    "muted guitar",
    "overdriven guitar",
    "distorted guitar",
    "guitar harmonics",
    "upright bass",
    "bass guitar",
    "picked bass",
    "fretless bass",
    "slap bass",
    "slap bass",
    "synth bass",
    "synth bass",
    "violin",
    "viola",
    "cello",
    "double bass",
    "tremolo strings",
    "pizzicato strings",
    "harp",
    "timpani",
    "strings",
    "slow strings",
    "synth strings",
    "synth strings",
    "choir",
    "voices",
    "synth voice",
    "orchestra hit",
    "trumpet",
    "trombone",
    "tuba",
    "muted trumpet",
    "french horn",
    "brass section",
    "synth brass",
    "synth brass",
    "soprano sax",
    "alto sax",
    "tenor sax",
    "baritone sax",
    "oboe",
    "english horn",
    "bassoon",
    "clarinet",
    "piccolo",
    "flute",
    "recorder",
    "pan flute",
    "blown bottle",
    "shakuhachi",
    "whistle",
    "ocarina",
    "square lead",
    "saw lead",
    "calliope",
    "chiff lead",
    "charang",
    "voice lead",
    "fifths lead",
    "bass and lead",
    "new age pad",
    "warm pad",
    "polysynth pad",
    "choir pad",
    "bowed pad",
    "metallic pad",
    "halo pad",
    "sweep pad",
    "rain pad",
    "soundtrack pad",
    "crystal synth",
    "atmosphere pad",
    "bright pad",
    "goblin pad",
    "echo pad",
    "sci-fi pad",
    "sitar",
    "banjo",
    "shamisen",
    "koto",
    "kalimba",
    "bagpipes",
    "fiddle",
    "shanai",
    "tinkle bell",
    "agogo",
    "steel drums",
    "woodblock",
    "taiko drum",
    "melodic tom",
    "synth drum",
    "reverse cymbal",
    "fret noise",
    "breath noise",
    "seashore",
    "bird tweet",
    "telephone",
    "helicopter",
    "applause",
    "gunshot",
]


def gm_name(program: int) -> str:
    """A General MIDI program in words."""
    return GM_NAMES[program % 128]
