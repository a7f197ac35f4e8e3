"""A reader of standard MIDI files, limited to the files that MMA writes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from riffstream.corpus.music import Note
from riffstream.errors import MediaError

__all__ = ["MidiChannel", "read_midi"]


@dataclass(slots=True)
class MidiChannel:
    """The notes of one track on one channel; channel 9 is percussion."""

    name: str
    channel: int
    program: int = 0
    notes: list[Note] = field(default_factory=list)
    controls: list[tuple[float, int, int]] = field(default_factory=list)  # (beat, controller, value); 128: pitch bend


def _number(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    while True:
        byte = data[position]
        position += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position


def read_midi(data: bytes) -> list[MidiChannel]:
    """Read a file of format 0 or 1. Times are in quarter notes; tempo events are ignored.

    Args:
        data: content of the file.

    Returns:
        One entry for each track and channel with notes, in file order.

    Raises:
        MediaError: not a MIDI file, or a truncated one.
    """
    if data[:4] != b"MThd" or len(data) < 14:
        raise MediaError("not a MIDI file: no MThd header")
    ticks = struct.unpack(">H", data[12:14])[0]
    out: list[MidiChannel] = []
    position = 8 + struct.unpack(">I", data[4:8])[0]
    try:
        while position + 8 <= len(data):
            length = struct.unpack(">I", data[position + 4 : position + 8])[0]
            if data[position : position + 4] == b"MTrk":
                out += _read_track(data[position + 8 : position + 8 + length], ticks)
            position += 8 + length
    except IndexError:
        raise MediaError("the MIDI file ends in the middle of an event") from None
    return [channel for channel in out if channel.notes]


def _read_track(data: bytes, ticks: int) -> list[MidiChannel]:
    channels: dict[int, MidiChannel] = {}
    sounding: dict[tuple[int, int], list[tuple[float, int]]] = {}
    name, time, position, status = "", 0, 0, 0
    while position < len(data):
        delta, position = _number(data, position)
        time += delta
        if data[position] >= 0x80:
            status = data[position]
            position += 1
        if status == 0xFF:
            kind = data[position]
            length, position = _number(data, position + 1)
            if kind == 3:
                name = data[position : position + length].decode("latin-1").strip()
            position += length
            continue
        if status in (0xF0, 0xF7):
            length, position = _number(data, position)
            position += length
            continue
        number = status & 15
        channel = channels.setdefault(number, MidiChannel(name, number))
        beat = time / ticks
        kind = status >> 4
        first = data[position]
        second = data[position + 1] if kind not in (12, 13) else 0
        position += 2 if kind not in (12, 13) else 1
        if kind == 9 and second:
            sounding.setdefault((number, first), []).append((beat, second))
        elif kind in (8, 9):
            started = sounding.get((number, first))
            if started:
                start, velocity = started.pop(0)
                channel.notes.append(Note(start, max(beat - start, 0.02), first, velocity))
        elif kind == 12:
            if not channel.notes:  # the first program counts: MMA also resets instruments at the end
                channel.program = first
        elif kind == 11 and first in (7, 10, 11, 64):
            channel.controls.append((beat, first, second))
        elif kind == 14:
            channel.controls.append((beat, 128, first | second << 7))
    for channel in channels.values():
        channel.notes.sort(key=lambda note: (note.start, note.pitch))
        channel.name = name
    return list(channels.values())
