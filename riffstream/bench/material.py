"""Test material: a synthetic piece, drum hits, and the same piece as MIDI through fluidsynth if installed."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["BPM", "drum_hits", "rendered_midi", "synthetic_piece"]

BPM = 120
SOUND_FONTS = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/sounds/sf3/default-GM.sf3",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
)
CHORDS = ((48, 60, 64, 67), (45, 57, 60, 64), (41, 57, 60, 65), (43, 59, 62, 67))  # C, a, F, G
SCALE = (60, 62, 64, 65, 67, 69, 71, 72, 74, 76)
KICK, SNARE, HAT = 36, 38, 42


def _score(bars: int) -> Iterator[tuple[float, float, str, int]]:
    """Notes as (beat, length in beats, part, MIDI note)."""
    rng = np.random.default_rng(0)
    for bar in range(bars):
        chord = CHORDS[bar % 4]
        for note in chord[1:]:
            yield 4.0 * bar, 3.9, "chord", note
        for eighth in range(8):
            beat = 4.0 * bar + eighth / 2
            yield beat, 0.48, "bass", chord[0] - 12 * (eighth % 2 == 0)
            if rng.random() < 0.8:
                yield beat, 0.7, "lead", SCALE[rng.integers(len(SCALE))]
            yield beat, 0.25, "drums", HAT
            if eighth % 2 == 0:
                yield beat, 0.25, "drums", KICK if eighth % 4 == 0 else SNARE


def synthetic_piece(rate: int, bars: int = 3) -> np.ndarray:
    """[2, N] float32: chords, bass, a melody and drums at 120 bpm, from decaying partials and noise."""
    rng = np.random.default_rng(1)
    beat = 60 / BPM * rate
    out = np.zeros((2, int((4 * bars + 2) * beat)))
    sounds = {"chord": (10, 1.6, 0.10, 0.16), "bass": (8, 4.0, 0.3, 0.3), "lead": (14, 5.0, 0.22, 0.12)}
    for start, length, part, note in _score(bars):
        if part == "drums":
            sound, left, right = _drum(rate, note, rng), 0.5, 0.5
        else:
            partials, decay, left, right = sounds[part]
            sound = _partials(rate, 440 * 2 ** ((note - 69) / 12), length * 60 / BPM, partials, decay)
        at = round(start * beat)
        out[0, at : at + len(sound)] += left * sound
        out[1, at : at + len(sound)] += right * sound
    out = out[:, : int(4 * bars * beat)]
    return np.asarray(0.7 * out / np.abs(out).max(), np.float32)


def _partials(rate: int, pitch: float, seconds: float, count: int, decay: float) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    out = np.zeros_like(t)
    for k in range(1, count + 1):
        if pitch * k < 0.45 * rate:
            out += np.sin(2 * np.pi * pitch * k * t + k) * np.exp(-decay * (1 + 0.2 * k) * t) / k
    return np.asarray(out * np.minimum(1, t / 0.005) * np.minimum(1, (seconds - t) / 0.02))


def _drum(rate: int, note: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(rate // 4) / rate
    noise = rng.standard_normal(t.size)
    if note == KICK:
        return np.asarray(np.sin(2 * np.pi * (50 * t + 3 * (1 - np.exp(-30 * t)))) * np.exp(-14 * t))
    if note == SNARE:
        return np.asarray(0.6 * noise * np.exp(-22 * t) + 0.6 * np.sin(2 * np.pi * 190 * t) * np.exp(-25 * t))
    return np.asarray(0.3 * np.diff(noise, prepend=0) * np.exp(-60 * t))


def drum_hits(rate: int, count: int = 8) -> tuple[np.ndarray, list[int]]:
    """Snare and kick hits out of silence, [N] float32, and their start positions in samples."""
    rng = np.random.default_rng(2)
    onsets = [int((0.3 + 0.4 * k) * rate) for k in range(count)]
    out = np.zeros(onsets[-1] + rate // 2, dtype=np.float32)
    for k, start in enumerate(onsets):
        sound = _drum(rate, (SNARE, KICK)[k % 2], rng)
        out[start : start + sound.size] += 0.5 * sound
    return out, onsets


def rendered_midi(rate: int, bars: int = 3) -> np.ndarray | None:
    """[2, N] float32: the piece, played by fluidsynth with a General MIDI soundfont; None if either is missing."""
    program = shutil.which("fluidsynth")
    font = next((path for path in SOUND_FONTS if Path(path).exists()), None)
    if program is None or font is None:
        return None
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        midi.write_bytes(_midi(bars))
        command = [program, "-ni", "-q", "-r", str(rate), "-g", "0.6", "-F", str(wav), font, str(midi)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        wave, _ = soundfile.read(wav, dtype="float32")
    return np.ascontiguousarray(wave[: int(4 * bars * 60 / BPM * rate)].T)


def _midi(bars: int) -> bytes:
    """The score as a standard MIDI file: strings, bass, piano, drums."""
    channels = {"chord": 0, "bass": 1, "lead": 2, "drums": 9}
    events = [(0, bytes((0xC0 | channel, program))) for channel, program in ((0, 48), (1, 33), (2, 0))]
    for start, length, part, note in _score(bars):
        channel = channels[part]
        events.append((round(480 * start), bytes((0x90 | channel, note, 96))))
        events.append((round(480 * (start + length)), bytes((0x80 | channel, note, 0))))
    track, now = b"", 0
    for tick, event in sorted(events):
        track += _variable(tick - now) + event
        now = tick
    track += b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.insert(0, value & 0x7F | 0x80)
    return bytes(out)
