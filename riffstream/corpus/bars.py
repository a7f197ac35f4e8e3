"""Facts of each bar of a song: chords, parts, onsets, level, form. They are exact, because the song was composed.

A song's JSON stores them beside its windows. ``conditions.py`` converts them to the denoiser's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from riffstream.corpus.levels import brightness_octaves, loudness_db
from riffstream.corpus.mels import amplitudes
from riffstream.corpus.mixing import Stem, loudness_by_window
from riffstream.corpus.music import Chord, Note
from riffstream.corpus.songs import Song, Voice, borders
from riffstream.journey.conditions import PARTS

__all__ = ["bar_facts"]

QUIET_DB = -60.0  # quieter parts, relative to the bar's loudest part, are omitted
CARRIED = 0.6  # smallest share of the notes' time on chord tones in a bar that carries its chord
_TOGETHER = 0.06  # beats: notes of one voice this close are one onset (a strummed chord)
_FILL_DRUMS = {"snare", "clap", "tom", "low_tom"}
_FILL_PITCHES = {37, 38, 39, 40, 41, 43, 45, 47, 48, 50}  # General MIDI's snares, claps and toms


def bar_facts(song: Song, mix: np.ndarray, stems: Sequence[Stem], codes: np.ndarray) -> list[dict[str, Any]]:
    """The facts of each bar.

    Args:
        song: the song as played.
        mix: [2, N]; only its length is used.
        stems: one per voice of the song, balanced.
        codes: uint8 [windows, 2, mels, frames], from ``encode_song``.

    Returns:
        One dict for each bar inside a window:

        ``chords``: one or two symbols; None where the bar's notes do not carry the chord.
        ``parts``: level of each audible part in dB, relative to the loudest part.
        ``onsets``: onsets per beat.
        ``level_db``, ``brightness``: measures of the sound.
        ``starts``, ``ends``: whether the arrangement changes at the beginning or the end of the bar.
        ``fill``: whether a drum fill ends the bar.
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
    """Bars with a drum fill: at least three snares and toms on the last beat, and two more than usual."""
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
    """The bar's chords; None for a chord that its notes do not carry."""
    each = song.chords_per_bar
    span = song.style.beats / each
    chords = song.chords[bar * each : (bar + 1) * each]
    return [
        chord.symbol if _carried(song, chord, bar * song.style.beats + k * span, span) else None
        for k, chord in enumerate(chords)
    ]


def _carried(song: Song, chord: Chord, begin: float, span: float) -> bool:
    """Whether the pitched notes spend most of their time on the chord's tones."""
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
