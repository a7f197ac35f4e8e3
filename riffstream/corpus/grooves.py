"""Songs from the grooves of MMA (Musical MIDI Accompaniment, mellowood.ca/mma), if it is installed.

MMA renders chords and a groove as MIDI for a band. Melodies, sections, sound and production are riffstream's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from riffstream.corpus.instruments import INSTRUMENTS, gm_name
from riffstream.corpus.midi import MidiChannel, read_midi
from riffstream.corpus.music import Chord, Track, progression
from riffstream.corpus.patterns import PARTS
from riffstream.corpus.songs import (
    Song,
    Voice,
    active_bars,
    chords_per_bar,
    cut_to_sections,
    lay_out,
    without_gaps,
)
from riffstream.corpus.styles import Style, groove_styles
from riffstream.errors import RiffstreamError

__all__ = ["Groove", "GrooveSource", "find_grooves", "mma_available"]

LIBRARIES = (Path("/usr/share/mma/lib/stdlib"), Path("/usr/local/share/mma/lib/stdlib"))
_PASSING = re.compile(r"(Intro|End|Fill|Ending|Tag|Metronome)\d*$")  # grooves for one passage only
_ROLES = {"Bass": "bass", "Walk": "bass", "Drum": "drums", "Arpeggio": "arp", "Scale": "arp", "Plectrum": "chords"}
_BASS_PROGRAMS = range(32, 40)


@dataclass(frozen=True, slots=True)
class Groove:
    """One groove of MMA's library."""

    file: str
    name: str
    description: str
    beats: int


def mma_available() -> bool:
    """Whether the ``mma`` program and its library are installed."""
    return shutil.which("mma") is not None and any(path.is_dir() for path in LIBRARIES)


@lru_cache(maxsize=1)
def find_grooves() -> dict[str, tuple[Groove, ...]]:
    """The usable grooves by file: in 4/4 or 3/4, without intros, fills and endings."""
    found: dict[str, list[Groove]] = {}
    library = next((path for path in LIBRARIES if path.is_dir()), None)
    for path in sorted(library.glob("*.mma")) if library else []:
        if path.stem not in groove_styles():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        time = re.search(r"(?mi)^\s*Time\s+(\d+)", text)
        signature = re.search(r"(?mi)^\s*TimeSig\s+(\d+)[ /]+(\d+)", text)
        beats = int(time[1]) if time else 4
        if beats not in (3, 4) or (signature and signature[2] != "4"):
            continue
        for match in re.finditer(r"(?mi)^\s*DefGroove\s+(\S+)[ \t]*(.*(?:\\\n.*)*)$", text):
            if not _PASSING.search(match[1]):
                found.setdefault(path.stem, []).append(Groove(path.stem, match[1], _tidy(match[2]), beats))
    return {name: tuple(grooves) for name, grooves in found.items()}


def _tidy(text: str) -> str:
    """A groove's description as a caption: one short sentence in lower case, without the groove's code name."""
    sentence = " ".join(text.replace("\\\n", " ").replace("``", "").replace("''", "").replace('"', "").split())
    sentence = re.split(r"[.;(]", sentence)[0].strip().lower()
    if re.search(r"\b\w+\d+\w*\b|ignore|tempo|beats? \d|bars? \d", sentence) or not 10 <= len(sentence) <= 80:
        return ""
    return re.sub(r"^(our|the|adds?( in)?|add( in)?|with|a|an) ", "", sentence)


def _play(groove: Groove, chords: list[Chord], per_bar: int, seed: int) -> list[MidiChannel]:
    lines = [f"RndSeed {seed}", "Tempo 120", f"Time {groove.beats}", f"Groove {groove.name}"]
    # "1 Am / F /": a symbol or a slash for each beat.
    names = [" / ".join(map(_for_mma, chords[k : k + per_bar])) for k in range(0, len(chords), per_bar)]
    lines += [f"{bar + 1} {name}" for bar, name in enumerate(names)]
    with tempfile.TemporaryDirectory(prefix="riffstream-") as folder:
        source, target = Path(folder) / "song.mma", Path(folder) / "song.mid"
        source.write_text("\n".join(lines) + "\n")
        command = ["mma", "-w", "-xNOCREDIT", "-f", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HOME": folder})
        if done.returncode or not target.is_file():
            raise RiffstreamError(f"mma could not play {groove.name}: {done.stdout.strip()[-200:]}")
        return read_midi(target.read_bytes())


def _for_mma(chord: Chord) -> str:
    return chord.symbol.replace("add9", "(add9)")


def _words(channel: MidiChannel, role: str) -> str:
    if channel.channel == 9:
        return "drums"
    name = gm_name(channel.program)
    if role == "bass" and channel.program not in _BASS_PROGRAMS and "bass" not in name:
        return "bass" if channel.program in range(24, 32) else name
    return name


@dataclass(frozen=True, slots=True)
class GrooveSource:
    """Songs over the grooves of one file of MMA's library."""

    file: str

    @property
    def name(self) -> str:
        return f"mma_{self.file}"

    @property
    def weight(self) -> float:
        return groove_styles()[self.file].weight

    def compose(self, index: int, seed: int) -> Song:
        """Compose song number ``index``: one or two grooves, with a melody in some songs.

        Raises:
            RiffstreamError: MMA failed.
        """
        rng = np.random.default_rng([seed, index, *map(ord, self.name)])
        grooves = find_grooves()[self.file]
        first = grooves[int(rng.integers(len(grooves)))]
        style = replace(groove_styles()[self.file], beats=first.beats)
        bars = int(rng.choice([12, 16, 16, 20]))
        bpm = round(float(rng.uniform(*style.bpm)), 1)
        per_bar = chords_per_bar(style.beats, rng)
        chords = progression(str(rng.choice(style.harmony)), bars * per_bar, rng)
        voices = [self._voice(channel) for channel in _play(first, chords, per_bar, int(rng.integers(2**31)))]
        if rng.random() < 0.6:
            voices.append(_tune(style, chords, style.beats // per_bar, rng))
        sections = without_gaps(lay_out({voice.role for voice in voices}, bars, rng), voices, style.beats)
        for voice in voices:
            if voice.track is not None:
                active = active_bars(sections, voice.role)
                voice.track.notes = cut_to_sections(voice.track.notes, active, style.beats)
        look = str(rng.choice(style.production))
        return Song(
            f"{self.name}/{index}",
            style,
            int(rng.integers(2**31)),
            bpm,
            bars,
            chords,
            sections,
            voices,
            look,
            descriptions=[first.description] * len(sections),
            chords_per_bar=per_bar,
        )

    @staticmethod
    def _voice(channel: MidiChannel) -> Voice:
        kind = channel.name.split("-")[0]
        role = "drums" if channel.channel == 9 else _ROLES.get(kind, "chords")
        if role == "chords" and channel.program in (48, 49, 50, 51, 52, 53, 54, *range(88, 96)):
            role = "pad"
        words = _words(channel, role)
        track = Track(words, channel.program, channel.channel == 9, channel.notes, 100, 0.0, channel.controls)
        return Voice(words, role, "midi", track=track)


# Instruments for the melody, by words in the style's name.
_SOLOISTS = (
    (
        ("jazz", "swing", "dixie", "bebop", "charleston", "foxtrot", "broadway"),
        "alto_sax|tenor_sax|trumpet|clarinet|vibraphone|muted_trumpet|piano|trombone",
    ),
    (("country", "bluegrass", "hill", "western", "zydeco"), "fiddle|harmonica|clean_guitar|banjo|accordion|mandolin"),
    (("blues", "boogie", "rhythm"), "harmonica|clean_guitar|piano|tenor_sax|hammond"),
    (
        ("latin", "salsa", "mambo", "cuban", "bossa", "samba", "rumba", "cha", "calypso", "merengue", "bolero"),
        "flute|trumpet|nylon|piano|steel_drums|trombone",
    ),
    (("waltz", "tango", "musette", "polka"), "violin|accordion|clarinet|flute"),
    (("rock", "ska", "twist", "pop", "disco"), "clean_guitar|saw_lead|tenor_sax|hammond|trumpet|rock_organ"),
    (("march",), "trumpet|piccolo|flute|clarinet"),
    (("",), "flute|oboe|violin|nylon|piano|cello|clarinet|vibraphone|voice_oohs|pan_flute"),
)


def _tune(style: Style, chords: list[Chord], beats: int, rng: np.random.Generator) -> Voice:
    text = " ".join(style.tags)
    choices = next(names for keys, names in _SOLOISTS if any(key in text for key in keys)).split("|")
    name = str(rng.choice(choices))
    instrument = INSTRUMENTS[name]
    kind = (
        "tune_slow"
        if style.bpm[1] < 96 and rng.random() < 0.5
        else str(rng.choice(["tune", "tune_penta", "tune_busy", "tune_solo"]))
    )
    notes = PARTS[kind](chords, beats, rng, instrument.register)
    words = str(rng.choice(instrument.words))
    track = Track(
        words,
        instrument.program if instrument.program is not None else 80,
        False,
        notes,
        100,
        float(rng.uniform(-0.2, 0.2)),
    )
    return Voice(words, "lead", "midi", track=track)


def groove_sources() -> Iterator[GrooveSource]:
    """One source for each usable file."""
    for file in find_grooves():
        yield GrooveSource(file)
