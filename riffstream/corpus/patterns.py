"""Parts: an instrument's notes over a chord sequence. Each function returns notes; beat 0 is the first bar.

All take ``(chords, beats, rng, register)``: one chord per bar, beats in a bar, random number generator, central pitch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from riffstream.corpus.bass_lines import acid_line, bass_line, walking
from riffstream.corpus.melodies import Part, tune, velocity
from riffstream.corpus.music import Chord, Note, nearest, voicing

__all__ = ["PARTS"]


def _voicings(chords: Sequence[Chord], register: int, notes: int = 4) -> list[list[int]]:
    out: list[list[int]] = []
    for chord in chords:
        out.append(voicing(chord, register, out[-1] if out else None, notes=notes))
    return out


def sustain(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    notes: list[Note] = []
    bar = 0
    voiced = _voicings(chords, register, 4)
    while bar < len(chords):
        span = 2 if bar + 1 < len(chords) and chords[bar] == chords[bar + 1] and bar % 2 == 0 else 1
        notes += [Note(bar * beats, span * beats * 0.99, pitch, velocity(rng, 80, 5)) for pitch in voiced[bar]]
        bar += span
    return notes


def _rhythm(rows: Sequence[str], length: float, base: int = 86, notes: int = 4, strum: float = 0.0) -> Part:
    """Chords on a grid of sixteenths; ``x`` short, ``-`` holds the previous stroke, ``X`` accented."""

    def part(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
        row = str(rng.choice(list(rows)))
        other = str(rng.choice(list(rows))) if rng.random() < 0.3 else row
        out: list[Note] = []
        for bar, pitches in enumerate(_voicings(chords, register, notes)):
            steps = ((row if bar % 2 == 0 else other) * 2)[: beats * 4]
            for step, mark in enumerate(steps):
                if mark not in "xX":
                    continue
                hold = 1
                while step + hold < len(steps) and steps[step + hold] == "-":
                    hold += 1
                seconds = max(hold / 4 * 0.97, length if hold == 1 else 0)
                order = pitches if step % 8 != 6 or strum == 0 else pitches[::-1]
                hit = velocity(rng, base + (14 if mark == "X" else 0), 6)
                for i, pitch in enumerate(order):
                    out.append(Note(bar * beats + step / 4 + i * strum, seconds, pitch, max(25, hit - 2 * i)))
        return out

    return part


def _arpeggio(kind: str, per_beat: int, octaves: int, gate: float = 0.9) -> Part:
    def part(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
        out: list[Note] = []
        shape = rng.permutation(8)
        accent = int(rng.choice([2, 3, 4]))
        for bar, pitches in enumerate(_voicings(chords, register, 3 if rng.random() < 0.5 or octaves > 1 else 4)):
            ladder = [p + 12 * o for o in range(octaves) for p in pitches]
            if kind == "down":
                ladder = ladder[::-1]
            elif kind == "updown":
                ladder = ladder + ladder[-2:0:-1]
            elif kind == "shape":
                ladder = [ladder[i % len(ladder)] for i in shape]
            elif kind == "alberti":
                ladder = [pitches[0], pitches[-1], pitches[1], pitches[-1]]
            elif kind == "rolled":
                low = nearest(chords[bar].bass, register - 17)
                ladder = [
                    low,
                    low + 7 if (low + 7) % 12 in chords[bar].classes else low + 12,
                    *pitches,
                    pitches[1] + 12,
                    pitches[-1],
                    pitches[0],
                ]
            for step in range(beats * per_beat):
                hit = velocity(rng, 92 if step % accent == 0 else 76, 5)
                length = gate / per_beat if kind != "rolled" else min(2.0, beats - step / per_beat)
                out.append(Note(bar * beats + step / per_beat, length, ladder[step % len(ladder)], hit))
        return out

    return part


def fingerpick(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    """Travis picking: thumb on the beats, fingers between."""
    orders = ([0, 2, 1, 3], [3, 1, 2, 1], [2, 3, 1, 2], [1, 2, 3, 2])
    order = orders[rng.integers(len(orders))]
    pinch = rng.random() < 0.5
    out: list[Note] = []
    for bar, pitches in enumerate(_voicings(chords, register, 4)):
        low = nearest(chords[bar].bass, register - 17)
        fifth = nearest((chords[bar].root + chords[bar].tones[2 if len(chords[bar].tones) > 2 else 1]) % 12, low + 5)
        for beat in range(beats):
            out.append(Note(bar * beats + beat, 1.0, low if beat % 2 == 0 else fifth, velocity(rng, 88)))
            pick = pitches[order[beat % 4] % len(pitches)]
            out.append(Note(bar * beats + beat + 0.5, 1.2, pick, velocity(rng, 78)))
            if (pinch and beat == 0) or rng.random() < 0.15:
                out.append(Note(bar * beats + beat, 1.4, pitches[-1], velocity(rng, 84)))
    return out


def waltz_chords(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    out: list[Note] = []
    for bar, pitches in enumerate(_voicings(chords, register, 3)):
        out.append(Note(bar * beats, 0.9, nearest(chords[bar].bass, register - 19), velocity(rng, 92)))
        for beat in range(1, beats):
            out += [Note(bar * beats + beat, 0.45, pitch, velocity(rng, 74)) for pitch in pitches]
    return out


def stride(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    out: list[Note] = []
    for bar, pitches in enumerate(_voicings(chords, register, 3)):
        low = nearest(chords[bar].bass, register - 22)
        for beat in range(beats):
            if beat % 2 == 0:
                bass = low if beat == 0 else nearest((chords[bar].root + 7) % 12, low)
                out += [
                    Note(bar * beats + beat, 0.5, bass, velocity(rng, 92)),
                    Note(bar * beats + beat, 0.5, bass + 12, velocity(rng, 78)),
                ]
            else:
                out += [Note(bar * beats + beat, 0.35, pitch, velocity(rng, 78)) for pitch in pitches]
    return out


def power(rows: Sequence[str]) -> Part:
    """Power chords (root, fifth, octave) on a grid; ``c`` is a muted chug."""

    def part(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
        row = str(rng.choice(list(rows)))
        out: list[Note] = []
        for bar, chord in enumerate(chords):
            root = nearest(chord.root, register - 12)
            steps = (row * 2)[: beats * 4]
            for step, mark in enumerate(steps):
                if mark == "." or mark == "-":
                    continue
                hold = 1
                while step + hold < len(steps) and steps[step + hold] == "-":
                    hold += 1
                shape = (0, 7, 12) if mark != "c" else (0, 7)
                out += [
                    Note(
                        bar * beats + step / 4,
                        (0.12 if mark == "c" else hold / 4 * 0.97),
                        root + i,
                        velocity(rng, 100 if mark != "c" else 82),
                    )
                    for i in shape
                ]
        return out

    return part


def bells(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    """Change ringing: scale tones in a changing order, one per beat or one per two beats."""
    scale = [register + p for p in (0, 2, 4, 5, 7, 9, 11, 12)]
    scale = [p - (register % 12) for p in scale]
    order = list(range(len(scale)))[::-1][: int(rng.integers(4, 8))]
    every = float(rng.choice([1.0, 1.0, 2.0]))
    out: list[Note] = []
    beat, i = 0.0, 0
    while beat < len(chords) * beats:
        if i and i % len(order) == 0:
            place = int(rng.integers(len(order) - 1))
            order[place], order[place + 1] = order[place + 1], order[place]
        out.append(Note(beat, 4.0, scale[order[i % len(order)]], velocity(rng, 92)))
        beat += every
        i += 1
    return out


def toll(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    """One bell per bar, on the root or fifth."""
    return [
        Note(bar * beats, 6.0, nearest(chord.root, register), velocity(rng, 100))
        for bar, chord in enumerate(chords)
        if bar % 2 == 0 or rng.random() < 0.5
    ]


def drone_part(chords: Sequence[Chord], beats: int, rng: np.random.Generator, register: int) -> list[Note]:
    root = nearest(chords[0].root, register)
    bars = 4
    return [Note(bar * beats, min(bars, len(chords) - bar) * beats, root, 90) for bar in range(0, len(chords), bars)]


PARTS: dict[str, Part] = {
    "sustain": sustain,
    "whole": _rhythm(["x---------------"], 3.8),
    "halves": _rhythm(["x-------x-------"], 1.9),
    "quarters": _rhythm(["x---x---x---x---", "X--.x--.x--.x--."], 0.9),
    "eighths": _rhythm(["x-x-x-x-x-x-x-x-", "X-x-X-x-X-x-X-x-"], 0.45),
    "comp": _rhythm(
        ["..x-..x-...x-..x", "x-.x....x-.x....", "...x-.......x-..", "x.....x-..x.....", "..x-......x-..x."], 0.4
    ),
    "offbeat": _rhythm(["..x...x...x...x."], 0.25),
    "stabs": _rhythm(["x..x..x...x..x..", "X..x..x.........", "x.....x..x......", "..x..x....x..x.."], 0.22, 96),
    "skank": _rhythm(["..x...x...x...x.", "....X.......X..."], 0.18, 92, 3),
    "strum": _rhythm(
        ["x---x-x---x-x-x-", "x---x-x.x-x-x-x-", "x-x-x-x-x-x-x-x-", "x---x---x---x-x-"], 0.45, 84, 4, 0.012
    ),
    "slow_strum": _rhythm(["x---------------", "x-------x---x---"], 2.0, 82, 4, 0.03),
    "house_stab": _rhythm(["x..x..x..x..x...", "..x..x....x..x..", "x..x....x..x...."], 0.2, 98),
    "funk_chop": _rhythm(["..xx..x...xx..x.", "x.xx..x.x..x..xx", "..x...xx..x..x.."], 0.1, 92, 3, 0.004),
    "gallop": power(["x-ccxccxx-ccxccx", "cccccccccccccccc", "x-ccc-ccx-ccc-cc"]),
    "power_hold": power(["x---------------", "x-------x-----x-", "x---x-----x-----"]),
    "power_drive": power(["x-x-x-x-x-x-x-x-", "xcccxcccxcccxccc", "x--x--x-x-x-x---"]),
    "arp_up": _arpeggio("up", 2, 1),
    "arp_updown": _arpeggio("updown", 2, 2),
    "arp16": _arpeggio("up", 4, 2, 0.7),
    "arp16_shape": _arpeggio("shape", 4, 2, 0.7),
    "arp_down": _arpeggio("down", 4, 2, 0.8),
    "alberti": _arpeggio("alberti", 2, 1),
    "alberti16": _arpeggio("alberti", 4, 1),
    "rolled": _arpeggio("rolled", 2, 1),
    "fingerpick": fingerpick,
    "waltz": waltz_chords,
    "stride": stride,
    "bass_whole": bass_line(["r---------------", "r-------r-------"]),
    "bass_half": bass_line(["r-------f-------", "r-------r---f---"]),
    "bass_pop": bass_line(["r---..r-r---....", "r-----r-f---r-..", "r--r----r--f----"]),
    "bass_eighths": bass_line(["r-r-r-r-r-r-r-r-", "R-r-r-r-R-r-r-r-"], 0.85),
    "bass_offbeat": bass_line(["..r-..r-..r-..r-"], 0.8),
    "bass_roll": bass_line([".rrr.rrr.rrr.rrr", "rrrrrrrrrrrrrrrr", ".rro.rro.rro.rro"], 0.8),
    "bass_octave": bass_line(["r-o-r-o-r-o-r-o-", "r.o.r.o.r.o.r.oo"], 0.7),
    "bass_house": bass_line(["r..r..o..r..o.r.", "r.....r..or...s.", "..r-..r-..ro..s-"], 0.8),
    "bass_funk": bass_line(["R..r..o.s..ro...", "R...r.so..r.f.s.", "R.r...o..r..s.o."], 0.75),
    "bass_reggae": bass_line(["r---..t-f---....", "....r-r-t---f-..", "r-----f-r---...."], 0.9),
    "bass_latin": bass_line(["r-----f---o---r-", "......f---r-----", "r-----f-....o---"], 0.9),
    "bass_bossa": bass_line(["r-----f-f-----r-"], 0.95),
    "bass_march": bass_line(["r---f---r---f---"], 0.8),
    "bass_waltz": bass_line(["r-----------", "r-------f---"], 0.8),
    "bass_dnb": bass_line(["r---------r-----", "r-----r---------", "r-----------f-r-"]),
    "bass_trap": bass_line(["r------r--r-----", "r-----r---r--r--", "r-------------o-"], 1.1),
    "bass_hop": bass_line(["r------r--r-....", "r--r....r-f-....", "r.....r-..s-a-.."], 0.9),
    "walking": walking,
    "acid_line": acid_line,
    "bells": bells,
    "toll": toll,
    "drone": drone_part,
    "tune": tune(density=0.5),
    "tune_slow": tune(density=0.2, leap=0.1),
    "tune_busy": tune(density=0.9, leap=0.3),
    "tune_penta": tune(density=0.5, pentatonic=True),
    "tune_solo": tune(density=0.9, pentatonic=True, leap=0.3),
    "tune_dotted": tune(density=0.9, dotted=True),
    "tune_stab": tune(density=0.9, length=0.5, pentatonic=True),
}
