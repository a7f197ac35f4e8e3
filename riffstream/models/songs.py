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
    from torch import Tensor

    from riffstream.diffusion.family import Family

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
    """

    path: str
    bpm: float
    key: float
    start_s: float
    seconds: float
    rms: float


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
    from riffstream.audio.files import read_audio
    from riffstream.audio.key import find_key
    from riffstream.audio.tempo import find_tempo

    if bpm is not None:
        check("bpm", bpm)
    if key is not None:
        check("key", key)
    wave = read_audio(path, sample_rate=RATE, channels=2, max_seconds=LONGEST_S).samples.T
    seconds = wave.shape[1] / RATE
    if seconds < SHORTEST_S:
        raise MediaError(f"{path} has {seconds:.2f} s of sound; a song has {SHORTEST_S:g} to {LONGEST_S:g} s")
    rms = float(np.sqrt(np.square(wave, dtype=np.float64).mean()))
    if rms < 1e-4:
        raise MediaError(f"{path} is silent")
    tempo, first = find_tempo(wave, RATE, bpm=bpm)
    if first and np.sqrt(np.square(wave[:, :first], dtype=np.float64).mean()) > QUIET * rms:
        bar = BEATS_IN_BAR * 60 / tempo * RATE
        first = round(first - math.ceil(first / bar) * bar)  # an upbeat: its bar begins before the recording
    if key is None:
        key = find_key(np.ascontiguousarray(wave[:, : 60 * RATE]), RATE) or 0
    start_s = first / RATE
    return Song(path=str(path), bpm=tempo, key=float(key), start_s=start_s, seconds=seconds - start_s, rms=rms)


class SongParts:
    """A recording as latents of one family, encoded part by part.

    Args:
        song: from :func:`read_song`.
        family: the model. Families with a beat grid get the song's beats, in their own key; others its seconds.
    """

    def __init__(self, song: Song, family: Family) -> None:
        from riffstream.audio.files import read_audio

        self.family = family
        params = family.params
        interval = float(2 ** (song.key / 12)) if family.beats is not None else 1.0
        rate = round(params.sample_rate * interval)  # slower playback lowers the pitch
        wave = read_audio(song.path, sample_rate=rate, channels=params.channels, max_seconds=LONGEST_S).samples
        start = round(song.start_s * rate)
        wave = wave[start:] if start >= 0 else np.concatenate([np.zeros((-start, wave.shape[1]), np.float32), wave])
        level = np.clip(wave * np.float32(LEVEL / song.rms), -4, 4)
        self._wave: NDArray[np.int16] = np.round(level * 8191).astype(np.int16)  # half the memory of float32
        per_beat = 60 / song.bpm * rate
        self._hop = family.beats * per_beat / family.frames if family.beats is not None else params.hop()
        self.frames = max(1, math.ceil(len(wave) / self._hop))

    def part(self, first: int, frames: int) -> Tensor:
        """Latents [C, h, w] of the frames from ``first`` on. The song repeats behind its last whole clip.

        Args:
            first: number of frames since the first bar; negative positions are before it.
            frames: T.
        """
        import torch

        from riffstream.spectrogram.analysis import analyse

        turn = math.ceil(self.frames / self.family.frames) * self.family.frames
        begin = round(first % turn * self._hop)
        length = round(frames * self._hop)
        piece = self._wave[begin : begin + length]
        if first % turn + frames > turn:
            left = max(0, round(turn * self._hop) - begin - len(piece))
            silence = np.zeros((left, piece.shape[1]), np.int16)
            piece = np.concatenate([piece, silence, self._wave[: length - len(piece) - left]])
        wave = np.zeros((length, piece.shape[1]), np.float32)
        wave[: len(piece)] = piece.astype(np.float32) / 8191
        mel = analyse(torch.from_numpy(np.ascontiguousarray(wave.T)), self.family.params, hop=self._hop, frames=frames)
        return self.family.encode_mel(mel.unsqueeze(0))[0]


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
