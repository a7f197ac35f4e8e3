"""Songs from styles: choose instruments, write the parts, lay out the sections, play and mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from riffstream.corpus import production as fx
from riffstream.corpus.drums import KITS, drum_hits, drum_track, render_drums
from riffstream.corpus.instruments import INSTRUMENTS
from riffstream.corpus.melodies import swung
from riffstream.corpus.mixing import Stem, balance, loudness_by_window, master
from riffstream.corpus.music import Chord, Note, Track, progression
from riffstream.corpus.patterns import PARTS
from riffstream.corpus.soundfont import SoundFont
from riffstream.corpus.styles import Style
from riffstream.corpus.synths import render_patch

__all__ = ["Section", "Song", "Voice", "borders", "compose", "lay_out", "perform", "without_gaps"]

BARS_IN_WINDOW = 2
HALF_BARS = 0.12  # share of songs in 4/4 with two chords per bar
_EARLY = 0.06  # beats
AMPLIFIED = ("amp_guitar", "lead_guitar")


@dataclass(frozen=True, slots=True)
class Section:
    """A sequence of bars and its active roles; ``name`` is a key of the captions."""

    bars: int
    roles: frozenset[str]
    name: str = "full"


@dataclass(slots=True)
class Voice:
    """One part of a song, ready to play."""

    words: str
    role: str
    instrument: str  # a name in INSTRUMENTS, "drums" (hits on a kit) or "midi" (the track below, unchanged)
    notes: list[Note] = field(default_factory=list)
    hits: list[tuple[float, str, int]] = field(default_factory=list)
    pan: float = 0.0
    kit: str = "gm"
    track: Track | None = None
    part: str = ""  # the audible function, if it differs from the role: chords, pad, arp, lead or bass


@dataclass(slots=True)
class Song:
    """A composed song, without its sound."""

    name: str
    style: Style
    seed: int
    bpm: float
    bars: int
    chords: list[Chord]
    sections: list[Section]
    voices: list[Voice]
    look: str
    opening: float = 0.0
    descriptions: list[str] = field(default_factory=list)  # of the groove, by section
    chords_per_bar: int = 1  # 2: a chord for each half of a bar

    @property
    def beats(self) -> int:
        """Beats in the whole song."""
        return self.bars * self.style.beats

    @property
    def minor(self) -> bool:
        """Whether the key is A minor instead of C major."""
        roots = [chord.root for chord in self.chords]
        return roots[0] == 9 or roots.count(9) > roots.count(0)


def lay_out(roles: set[str], bars: int, rng: np.random.Generator) -> list[Section]:
    """Sections of 2 to 8 bars: mostly full arrangements, also intros, breakdowns, drums alone and no lead."""
    rhythm, colour = roles & {"drums", "bass"}, roles - {"drums", "bass", "lead"}
    choices: list[tuple[str, set[str], float]] = [("full", roles, 6.0)]
    if "lead" in roles and len(roles) > 2:
        choices.append(("no lead", roles - {"lead"}, 2.0))
    if "drums" in roles and roles - {"drums"}:
        if len(roles) > 2:
            choices.append(("breakdown", roles - {"drums"}, 1.0))
            choices.append(("breakdown", (colour or roles) - {"drums", "bass"}, 0.6))
        choices.append(("drums alone", {"drums"}, 0.45))
    if rhythm == {"drums", "bass"} and len(roles) > 2:
        choices.append(("groove", rhythm, 0.5))
    if len(colour) > 1:
        choices.append(("thin", rhythm | {sorted(colour)[int(rng.integers(len(colour)))]}, 1.0))
    if "lead" in roles and "bass" in roles and len(roles) > 3:
        choices.append(("duo", {"lead", "bass"} | ({"drums"} & roles), 0.4))
    choices = [(name, chosen, weight) for name, chosen, weight in choices if chosen]
    weights = np.array([weight for *_, weight in choices])
    sections: list[Section] = []
    left = bars
    while left > 0:
        length = min(left, int(rng.choice([2, 4, 4, 4, 8])))
        pick = choices[int(rng.choice(len(choices), p=weights / weights.sum()))]
        if not sections and rng.random() < 0.35 and len(roles) > 2:
            pick = choices[int(rng.integers(1, len(choices)))] if len(choices) > 1 else pick
        sections.append(Section(length, frozenset(pick[1]), pick[0]))
        left -= length
    if all(section.name != "full" for section in sections):
        sections[-1] = Section(sections[-1].bars, frozenset(roles), "full")
    return sections


def active_bars(sections: Sequence[Section], role: str) -> list[bool]:
    """Whether a role plays in each bar."""
    return [role in section.roles for section in sections for _ in range(section.bars)]


def borders(sections: Sequence[Section]) -> set[int]:
    """First bars of a new set of roles, bar 0 included."""
    found: set[int] = set()
    bar, before = 0, None
    for section in sections:
        if section.roles != before:
            found.add(bar)
        before = section.roles
        bar += section.bars
    return found


def cut_to_sections(notes: Sequence[Note], active: Sequence[bool], beats: int) -> list[Note]:
    """Keep notes in active bars, cut to their run of active bars."""
    stretches: list[tuple[float, float]] = []
    for bar, plays in enumerate(active):
        if plays and stretches and stretches[-1][1] == bar * beats:
            stretches[-1] = (stretches[-1][0], float((bar + 1) * beats))
        elif plays:
            stretches.append((float(bar * beats), float((bar + 1) * beats)))
    out = []
    for note in notes:
        for begin, end in stretches:
            late = begin - note.start  # above zero: the note began before the run
            # MMA plays notes up to a twentieth of a beat early: those notes belong to the following bar.
            if note.start < end - _EARLY and (late <= _EARLY or note.length - late >= 1):
                start = max(note.start, begin)
                length = min(note.start + note.length, end) - start
                out.append(Note(start, max(length, 0.05), note.pitch, note.velocity))
                break
    return out


def without_gaps(sections: Sequence[Section], voices: Sequence[Voice], beats: int) -> list[Section]:
    """Replace sections with a silent window, caused by resting voices, by the full arrangement."""
    everyone = frozenset(voice.role for voice in voices)
    spans = [
        (voice.role, note.start, note.start + note.length)
        for voice in voices
        for note in (voice.track.notes if voice.track else voice.notes)
    ]
    spans += [(voice.role, beat, beat + 0.5) for voice in voices for beat, *_ in voice.hits]
    out, bar = [], 0
    for section in sections:
        windows = range(bar, bar + section.bars, BARS_IN_WINDOW)
        heard = all(
            any(
                role in section.roles and start < (window + BARS_IN_WINDOW) * beats and end > window * beats + 0.5
                for role, start, end in spans
            )
            for window in windows
        )
        out.append(section if heard else Section(section.bars, everyone, "full"))
        bar += section.bars
    return out


def compose(style: Style, index: int, *, seed: int = 0, soundfont: bool = True) -> Song:
    """Compose a song.

    Args:
        style: style of the song.
        index: number of the song in the style; equal (style, index, seed) give equal songs.
        seed: seed of the corpus.
        soundfont: whether a soundfont plays General MIDI instruments; otherwise synthesisers replace them.
    """
    digest = [ord(letter) for letter in style.name]
    rng = np.random.default_rng([seed, index, *digest])
    bars = int(rng.choice([12, 16, 16, 20]))
    bpm = round(float(rng.uniform(*style.bpm)), 1)
    per_bar = chords_per_bar(style.beats, rng)
    chords = progression(str(rng.choice(style.harmony)), bars * per_bar, rng)
    voices: list[Voice] = []
    for part in style.parts:
        if rng.random() >= part.chance:
            continue
        name = str(rng.choice(part.instruments))
        instrument = INSTRUMENTS[name]
        words = instrument.words[0] if rng.random() < 0.6 else str(rng.choice(instrument.words))
        pattern = str(rng.choice(part.patterns))
        notes = PARTS[pattern](chords, style.beats // per_bar, rng, instrument.register + part.shift)
        pan = {"bass": 0.0, "pad": 0.0, "lead": 0.12}.get(part.role, 0.35) * float(rng.uniform(-1, 1))
        voices.append(Voice(words, part.role, name, notes, pan=pan, part=part_of(part.role, pattern)))
    drums = bool(style.drums) and (style.drum_chance >= 1 or rng.random() < style.drum_chance)
    roles = {voice.role for voice in voices} | ({"drums"} if drums else set())
    sections = lay_out(roles, bars, rng)
    if drums:
        kit = str(rng.choice(style.kits))
        if kit not in KITS and not soundfont:
            kit = "break"
        hits = drum_hits(str(rng.choice(style.drums)), bars, rng, beats=style.beats, borders=borders(sections))
        words = _KIT_WORDS.get(kit, ("drums", "drums", "drum kit"))[int(rng.integers(3))]
        voices.append(Voice(words, "drums", "drums", hits=hits, kit=kit))
    sections = without_gaps(sections, voices, style.beats)
    for voice in voices:
        active = active_bars(sections, voice.role)
        voice.notes = [
            Note(swung(n.start, style.swing), n.length, n.pitch, n.velocity)
            for n in cut_to_sections(voice.notes, active, style.beats)
        ]
        voice.hits = [
            (swung(beat, style.swing), hit, velocity)
            for beat, hit, velocity in voice.hits
            if active[min(int(beat // style.beats), bars - 1)]
        ]
    look = str(rng.choice(style.production))
    opening = float(2 * BARS_IN_WINDOW * style.beats) if style.pump > 0.25 and rng.random() < 0.25 else 0.0
    return Song(
        f"{style.name}/{index}", style, int(rng.integers(2**31)), bpm, bars, chords, sections, voices, look, opening,
        chords_per_bar=per_bar,
    )  # fmt: skip


def chords_per_bar(beats: int, rng: np.random.Generator) -> int:
    """Chords per bar: 1, or 2 in some songs in 4/4."""
    return 2 if beats == 4 and rng.random() < HALF_BARS else 1


def part_of(role: str, pattern: str) -> str:
    """The part of a voice: its role, or for extra voices the part of their pattern."""
    if role != "extra":
        return role
    if pattern.startswith(("sustain", "whole", "halves", "drone")):
        return "pad"
    if pattern.startswith(("arp", "fingerpick", "rolled", "alberti")):
        return "arp"
    if pattern.startswith(("bass", "walking", "acid")):
        return "bass"
    return "lead" if pattern.startswith(("tune", "bells", "toll")) else "chords"


_KIT_WORDS = {
    "gm40": ("brushed drums", "brushes", "drums"),
    "gm32": ("jazz drums", "drums", "drum kit"),
    "909": ("drum machine", "909 drums", "electronic drums"),
    "808": ("808 drums", "drum machine", "electronic drums"),
    "hard": ("hard distorted drums", "electronic drums", "heavy drums"),
    "dusty": ("dusty drums", "lo-fi drums", "drums"),
    "break": ("breakbeat drums", "drums", "chopped drums"),
    "chip": ("8-bit drums", "noise drums", "chip drums"),
}


def perform(song: Song, soundfont: SoundFont | None) -> tuple[np.ndarray, list[Stem], np.ndarray]:
    """Play and mix a song.

    Args:
        song: result of ``compose``.
        soundfont: None: synthesisers play all instruments.

    Returns:
        The mix [2, N] float32 at 48 kHz (beat 0 at sample 0), the stems, and their levels in dB [stems, windows].
    """
    rng = np.random.default_rng(song.seed)
    samples = round(song.beats * 60 / song.bpm * fx.RATE)
    stems: list[Stem] = []
    gains: list[float] = []
    sampled: list[tuple[int, Track]] = []
    for voice in song.voices:
        if voice.instrument == "drums":
            if voice.kit in KITS or soundfont is None:
                kit = voice.kit if voice.kit in KITS else "break"
                wave = render_drums(kit, voice.hits, bpm=song.bpm, samples=samples, tune=float(rng.uniform(0.92, 1.1)))
                if rng.random() < 0.5:
                    wave = fx.compress(wave, -14, 3)
            else:
                wave = np.zeros((2, 0), np.float32)
                sampled.append((len(stems), drum_track(voice.hits, kit=int(voice.kit[2:] or 0))))
            stems.append(Stem(voice.words, "drums", wave))
            gains.append(0.0)
            continue
        if voice.track is not None:
            sampled.append((len(stems), voice.track))
            stems.append(Stem(voice.words, voice.role, np.zeros((2, 0), np.float32)))
            gains.append(0.0)
            continue
        instrument = INSTRUMENTS[voice.instrument]
        if instrument.program is not None and soundfont is not None:
            sampled.append((len(stems), Track(voice.words, instrument.program, False, voice.notes, 110, voice.pan)))
            wave = np.zeros((2, 0), np.float32)
        else:
            wave = render_patch(instrument.patch, voice.notes, bpm=song.bpm, samples=samples, rng=rng)
            if voice.pan:
                wave = wave * np.array([[1 - 0.6 * voice.pan], [1 + 0.6 * voice.pan]], np.float32)
        stems.append(Stem(voice.words, voice.role, wave))
        gains.append(instrument.gain_db)
    if sampled and soundfont is not None:
        waves = soundfont.render([track for _, track in sampled], bpm=song.bpm, samples=samples)
        for (place, _), wave in zip(sampled, waves, strict=True):
            stems[place].wave = wave
    for stem, voice in zip(stems, song.voices, strict=True):
        if voice.instrument in AMPLIFIED and song.style.drive > 0:
            stem.wave = _double_tracked(
                stem.wave, song.style.drive * float(rng.uniform(0.7, 1.3)), voice.role == "lead"
            )
    balance(stems, rng, gains)
    windows = song.bars // BARS_IN_WINDOW
    levels = loudness_by_window(stems, samples / windows, windows)
    mix = master(
        stems, song.look, bpm=song.bpm, seed=song.seed, room=song.style.room, pump=song.style.pump, opening=song.opening
    )
    return mix, stems, levels


def _double_tracked(wave: np.ndarray, drive: float, lead: bool) -> np.ndarray:
    mono = fx.amplifier(wave.mean(0), drive)
    if lead:
        return np.stack([mono, mono])
    return np.stack([mono, np.roll(mono, 620)]).astype(np.float32)  # 13 ms apart: two guitarists, left and right
