"""What each bar of a song holds, exact because the song was composed: chords, parts, onsets, level, form.

These facts lie in a song's JSON beside its windows; ``conditions.py`` makes them the numbers that a denoiser takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from riffstream.corpus.measures import brightness_octaves, loudness_db
from riffstream.corpus.mels import amplitudes
from riffstream.corpus.mixing import Stem, loudness_by_window
from riffstream.corpus.music import Chord, Note
from riffstream.corpus.songs import Song, Voice, borders
from riffstream.journey.conditions import PARTS

__all__ = ["bar_facts"]

QUIET_DB = -60.0  # parts this far under the loudest one of the bar are left out
CARRIED = 0.6  # share of the notes' time that must lie on the chord, where the bar is said to have it
_TOGETHER = 0.06  # beats: notes of one voice this close are one onset (a strummed chord)
_FILL_DRUMS = {"snare", "clap", "tom", "low_tom"}
_FILL_PITCHES = {37, 38, 39, 40, 41, 43, 45, 47, 48, 50}  # General MIDI's snares, claps and toms


def bar_facts(song: Song, mix: np.ndarray, stems: Sequence[Stem], codes: np.ndarray) -> list[dict[str, Any]]:
    """The facts of each bar.

    Args:
        song: as it was played.
        mix: [2, N]; only its length is used.
        stems: one for each of the song's voices, after balancing.
        codes: uint8 [windows, 2, mels, frames], as ``encode_song`` made it.

    Returns:
        For each bar that lies in a window: ``chords``, one or two symbols, None where the notes played there do not
        carry the chord; ``parts``, the level of each part in dB under the loudest one, silent ones left out;
        ``onsets`` a beat; ``level_db`` and ``brightness`` of the sound; ``starts`` and ``ends``, whether the
        arrangement changes at the beginning or the end of the bar; ``fill``, whether the drums lead over its end.
    """
    beats = song.style.beats
    bars = codes.shape[0] * (codes.shape[-1] // (64 * beats))
    levels = _part_levels(song, stems, mix.shape[1] / song.bars)
    changes = borders(song.sections)
    onsets = [_onset_beats(voice) for voice in song.voices]
    fills = _fills(song.voices, beats, song.bars)
    frames = 64 * beats
    facts = []
    for bar in range(bars):
        begin, end = bar * beats, (bar + 1) * beats
        inside = codes.shape[-1] // frames
        sound = amplitudes(codes[bar // inside][..., bar % inside * frames : (bar % inside + 1) * frames])
        loudest = max(levels[part][bar] for part in PARTS)
        parts = {part: round(float(levels[part][bar] - loudest), 1) for part in PARTS}
        count = sum(int(((beat >= begin - _TOGETHER) & (beat < end - _TOGETHER)).sum()) for beat in onsets)
        facts.append(
            {
                "chords": _chords(song, bar),
                "parts": {part: db for part, db in parts.items() if db > QUIET_DB and loudest > -70},
                "onsets": round(count / beats, 3),
                "level_db": round(loudness_db(sound), 2),
                "brightness": round(brightness_octaves(sound), 3),
                "starts": bar in changes,
                "ends": bar + 1 in changes or bar + 1 == song.bars,
                "fill": fills[bar],
            }
        )
    return facts


def _notes(voice: Voice) -> list[Note]:
    return voice.notes if voice.track is None else voice.track.notes


def _part_levels(song: Song, stems: Sequence[Stem], samples: float) -> dict[str, np.ndarray]:
    """Level of each part in each bar, dB, [bars]; -120 where silent."""
    levels = loudness_by_window(stems, samples, song.bars)
    power = {part: np.full(song.bars, 1e-12) for part in PARTS}
    for voice, level in zip(song.voices, levels, strict=True):
        power[voice.part or voice.role] += 10 ** (level / 10)
    return {part: 10 * np.log10(value) for part, value in power.items()}


def _onset_beats(voice: Voice) -> np.ndarray:
    starts = np.array(sorted([note.start for note in _notes(voice)] + [beat for beat, *_ in voice.hits]))
    if not len(starts):
        return starts
    apart = np.concatenate([[True], np.diff(starts) > _TOGETHER])
    return np.asarray(starts[apart])


def _fills(voices: Sequence[Voice], beats: int, bars: int) -> list[bool]:
    """Bars on whose last beat the drums play three or more snares and toms, and two more than they usually do."""
    counts, playing = np.zeros(bars, int), np.zeros(bars, bool)
    for voice in voices:
        if voice.role != "drums":
            continue
        for beat in [beat for beat, *_ in voice.hits] + [note.start for note in _notes(voice)]:
            playing[min(int(max(beat, 0.0) // beats), bars - 1)] = True
        struck = [beat for beat, drum, _ in voice.hits if drum in _FILL_DRUMS]
        struck += [note.start for note in _notes(voice) if note.pitch in _FILL_PITCHES]
        for beat in struck:
            bar, inside = divmod(beat + _TOGETHER, beats)
            if inside >= beats - 1 and int(bar) < bars:
                counts[int(bar)] += 1
    usual = np.median(counts[playing]) if playing.any() else 0
    return [bool(count >= 3 and count >= usual + 2) for count in counts]


def _chords(song: Song, bar: int) -> list[str | None]:
    """The bar's chords, None where the notes do not carry them."""
    each = song.chords_per_bar
    span = song.style.beats / each
    chords = song.chords[bar * each : (bar + 1) * each]
    return [
        chord.symbol if _carried(song, chord, bar * song.style.beats + k * span, span) else None
        for k, chord in enumerate(chords)
    ]


def _carried(song: Song, chord: Chord, begin: float, span: float) -> bool:
    """Whether most of the time of the notes that are no drums lies on the chord's tones."""
    on = total = 0.0
    for voice in song.voices:
        if voice.role == "drums":
            continue
        for note in _notes(voice):
            shared = min(note.start + note.length, begin + span) - max(note.start, begin)
            if shared > 0:
                total += shared
                on += shared if note.pitch % 12 in chord.classes else 0.0
    return total >= 0.25 * span and on >= CARRIED * total
