"""Songs as seed images: each clip of a station starts from the next part of a recording, in its own tempo and key.

:func:`read_song` measures a file without torch. :class:`Songs` is the generator's source of the parts.

Threading model
  Server or command   measures songs once, before the generator starts.
  Generator           reads the recordings and encodes each part on request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from riffstream.errors import MediaError
from riffstream.journey.keyframe import SONG
from riffstream.ranges import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riffstream.diffusion.family import Family
    from riffstream.diffusion.seed_clip import SeedClip

__all__ = ["LONGEST_S", "Song", "SongParts", "Songs", "read_song"]

LONGEST_S: Final = 900.0
SHORTEST_S: Final = 1.0
RATE: Final = 48_000
BEATS_IN_BAR: Final = 4
LEVEL: Final = 0.1  # root mean square, as in the material that the model learned
QUIET: Final = 0.02  # of the song's level: a beginning below it is no upbeat


class Song(msgspec.Struct, frozen=True, kw_only=True):
    """A measured recording.

    Attributes:
        path: the file.
        bpm: tempo in beats per minute.
        key: semitones of its notes above C major and A minor, -6 to 6; 0 if unknown.
        start_s: position of the first bar in seconds; negative: silence precedes the recording.
        seconds: duration of the music from the first bar on, seconds.
        rms: root mean square of the whole recording.
        beats: positions of its beats in seconds, from the first bar (0) to the end, if they are not evenly spaced.
        remarks: sentences on an unclear key, and on an unclear or a drifting tempo.
    """

    path: str
    bpm: float
    key: float
    start_s: float
    seconds: float
    rms: float
    beats: list[float] = []
    remarks: list[str] = []


def read_song(path: str | Path, *, bpm: float | None = None, key: float | None = None) -> Song:
    """Measure tempo, first bar, key and level of a recording.

    Args:
        path: an audio file of 1 to 900 s.
        bpm: its tempo; None: it is measured.
        key: its key as in :class:`Song`; None: it is measured.

    Raises:
        MediaError: the file cannot be read, is silent, too short or too long.
        ParameterError: a tempo or a key out of its range.
    """
    from riffstream.audio.beats import find_beats
    from riffstream.audio.files import read_audio
    from riffstream.audio.key import NO_NOTES, find_key
    from riffstream.audio.mono import centred

    if bpm is not None:
        check("bpm", bpm)
    if key is not None:
        check("key", key)
    wave = centred(read_audio(path, sample_rate=RATE, channels=2, max_seconds=LONGEST_S).samples.T)
    seconds = wave.shape[1] / RATE
    if seconds < SHORTEST_S:
        raise MediaError(f"{path} has {seconds:.2f} s of sound; a song has {SHORTEST_S:g} to {LONGEST_S:g} s")
    rms = float(np.sqrt(np.square(wave, dtype=np.float64).mean()))
    if rms < 1e-4:
        raise MediaError(f"{path} is silent")
    found = find_beats(wave, RATE, bpm=bpm)
    tempo, first, beats = found.bpm, round(float(found.at[0])), found.at
    if first and np.sqrt(np.square(wave[:, :first], dtype=np.float64).mean()) > QUIET * rms:
        beat = float(beats[1] - beats[0])
        before = math.ceil(first / (BEATS_IN_BAR * beat)) * BEATS_IN_BAR
        beats = np.concatenate([beats[0] + beat * np.arange(-before, 0), beats])
        first = round(float(beats[0]))  # an upbeat: its bar begins before the recording
    remarks = [words for words in (found.doubt, found.words(RATE)) if words]
    if key is None:
        heard = find_key(np.ascontiguousarray(wave[:, : 60 * RATE]), RATE)
        key = 0 if heard is None else heard.above
        remarks += [doubt] if (doubt := NO_NOTES if heard is None else heard.doubt) else []
    start_s = first / RATE
    return Song(
        path=str(path),
        bpm=tempo,
        key=float(key),
        start_s=start_s,
        seconds=seconds - start_s,
        rms=rms,
        beats=[float(place) for place in np.round((beats - first) / RATE, 5)] if found.drifts else [],
        remarks=remarks,
    )


class SongParts:
    """A recording as latents of one family, encoded part by part.

    Args:
        song: from :func:`read_song`.
        family: the model. Families with a beat grid get the song's beats, in their own key; others its seconds.
    """

    def __init__(self, song: Song, family: Family) -> None:
        from riffstream.audio.beats import frame_positions
        from riffstream.audio.files import read_audio
        from riffstream.audio.mono import centred

        self.family = family
        params = family.params
        interval = float(2 ** (song.key / 12)) if family.beats is not None else 1.0
        rate = round(params.sample_rate * interval)  # slower playback lowers the pitch
        wave = read_audio(song.path, sample_rate=rate, channels=params.channels, max_seconds=LONGEST_S).samples
        start = round(song.start_s * rate)
        wave = centred(wave.T).T
        wave = wave[start:] if start >= 0 else np.concatenate([np.zeros((-start, wave.shape[1]), np.float32), wave])
        level = np.clip(wave * np.float32(LEVEL / song.rms), -4, 4)
        self._wave: NDArray[np.int16] = np.round(level * 8191).astype(np.int16)  # half the memory of float32
        per_beat = 60 / song.bpm * rate
        self._hop = family.beats * per_beat / family.frames if family.beats is not None else params.hop()
        self.frames = max(1, math.ceil(len(wave) / self._hop))
        self._at: NDArray[np.float64] | None = None  # positions of the frames of a drifting song
        if song.beats and family.beats is not None and family.frames % family.beats == 0:
            in_beat = round(family.frames / family.beats)
            beats = np.maximum(np.array(song.beats) * rate, 0.0)
            self.frames = max(1, int(np.searchsorted(frame_positions(beats, in_beat), len(wave))))
            missing = max(0, self._turn // in_beat + 1 - len(beats))
            beats = np.append(beats, beats[-1] + (beats[-1] - beats[-2]) * np.arange(1, missing + 1))
            self._at = frame_positions(beats, in_beat)[: self._turn + 1]

    @property
    def _turn(self) -> int:
        """Frames after which the song repeats: whole clips."""
        return math.ceil(self.frames / self.family.frames) * self.family.frames

    def _places(self, first: int, count: int) -> NDArray[np.float64]:
        """Positions in samples of ``count`` frames from ``first`` on."""
        index = np.arange(first, first + count)
        if self._at is None:
            return np.asarray(index * self._hop, np.float64)
        return np.asarray(self._at[index % self._turn] + index // self._turn * self._at[self._turn])

    def part(self, first: int, frames: int) -> SeedClip:
        """The frames from ``first`` on. The song repeats behind its last whole clip.

        Args:
            first: number of frames since the first bar; negative positions are before it.
            frames: T.
        """
        import torch

        from riffstream.spectrogram.analysis import analyse

        turn = self._turn
        places = self._places(first % turn, frames + 1)
        begin, length = round(float(places[0])), round(float(places[-1] - places[0]))
        piece = self._wave[begin : begin + length]
        if first % turn + frames > turn:
            left = max(0, round(float(self._places(turn, 1)[0])) - begin - len(piece))
            silence = np.zeros((left, piece.shape[1]), np.int16)
            piece = np.concatenate([piece, silence, self._wave[: length - len(piece) - left]])
        wave = np.zeros((length, piece.shape[1]), np.float32)
        wave[: len(piece)] = piece.astype(np.float32) / 8191
        audio, params = torch.from_numpy(np.ascontiguousarray(wave.T)), self.family.params
        at = None if self._at is None else torch.from_numpy(places[:-1] - places[0])
        mel = analyse(audio, params, hop=self._hop, frames=frames, at=at)
        return self.family.seed_clip(mel)


class Songs:
    """Source of the songs by name (:data:`~riffstream.journey.keyframe.SONG` and an own name).

    Args:
        songs: the songs by their own names.
    """

    def __init__(self, songs: Mapping[str, Song]) -> None:
        self._songs = dict(songs)
        self._parts: dict[str, SongParts] = {}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Songs:
        """Songs from the messages' values."""
        return cls(msgspec.convert(dict(given), dict[str, Song]))

    def load(self, name: str, family: Family) -> SongParts | None:
        """A song's parts; None for an unknown name. The recording is read at the first call."""
        song = self._songs.get(name.removeprefix(SONG)) if name.startswith(SONG) else None
        if song is None:
            return None
        if name not in self._parts:
            self._parts[name] = SongParts(song, family)
        return self._parts[name]
