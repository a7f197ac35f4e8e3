"""General MIDI instruments from a soundfont: libfluidsynth in this process, with one stereo output per track.

The ctypes binding has advantages over the ``fluidsynth`` program: the soundfont is loaded once per process, notes
start within 64 samples of their time, and tracks stay separate. Production treats each track by itself, and captions
name the loudest instrument.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from riffstream.corpus.music import Track
from riffstream.errors import RiffstreamError

__all__ = ["SOUNDFONTS", "SoundFont", "find_soundfonts", "library_available"]

SOUNDFONTS: dict[str, tuple[str, ...]] = {
    "fluidr3": ("/usr/share/sounds/sf2/FluidR3_GM.sf2",),
    "musescore": (
        "/usr/share/sounds/sf3/MuseScore_General_Full.sf3",
        "/usr/share/sounds/sf3/MuseScore_General.sf3",
    ),
}
_BLOCK = 64  # size of fluidsynth's internal buffer, in samples (1.3 ms): events take effect at its multiples
_CHANNELS = 8  # tracks in one pass: fluidsynth also mixes unused outputs


def _library() -> ctypes.CDLL | None:
    for name in (ctypes.util.find_library("fluidsynth"), "libfluidsynth.so.3", "libfluidsynth.so.2"):
        if name:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    return None


def library_available() -> bool:
    """Whether libfluidsynth can be loaded."""
    return _library() is not None


def find_soundfonts() -> dict[str, Path]:
    """Installed soundfonts among the known ones: name -> file."""
    found = {}
    for name, places in SOUNDFONTS.items():
        for place in places:
            if Path(place).is_file():
                found[name] = Path(place)
                break
    return found


class SoundFont:
    """A loaded soundfont.

    Threading model
      One thread at a time; each worker process loads its own. ``close()`` frees the memory and is idempotent.
    """

    def __init__(self, path: str | Path, *, sample_rate: int = 48000) -> None:
        """
        Args:
            path: an .sf2 or .sf3 file.
            sample_rate: sample rate of the audio, in Hz.

        Raises:
            RiffstreamError: the library or the file is missing; the message names the Debian packages.
        """
        library = _library()
        if library is None:
            raise RiffstreamError(
                "libfluidsynth is not installed; on Debian: apt install fluidsynth fluid-soundfont-gm"
            )
        pointer = ctypes.c_void_p
        for name in ("new_fluid_settings", "new_fluid_synth", "fluid_synth_get_sfont_by_id"):
            getattr(library, name).restype = pointer
        self._lib = library
        library.fluid_set_log_function(3, None, None)  # hide warnings, e.g. about a missing instrument
        library.fluid_set_log_function(2, None, None)
        self._settings = pointer(library.new_fluid_settings())
        self._set_number("synth.sample-rate", float(sample_rate))
        self._set_number("synth.gain", 0.5)
        for key, value in (
            ("synth.audio-channels", _CHANNELS),
            ("synth.audio-groups", _CHANNELS),
            ("synth.polyphony", 256),
            ("synth.reverb.active", 0),
            ("synth.chorus.active", 0),
            ("synth.threadsafe-api", 0),
        ):
            library.fluid_settings_setint(self._settings, key.encode(), value)
        self._owner = pointer(library.new_fluid_synth(self._settings))
        number = library.fluid_synth_sfload(self._owner, str(path).encode(), 1)
        if number < 0:
            raise RiffstreamError(f"{path}: not a soundfont that fluidsynth can load")
        self._font = pointer(library.fluid_synth_get_sfont_by_id(self._owner, number))
        self.sample_rate = sample_rate

    def _set_number(self, key: str, value: float) -> None:
        self._lib.fluid_settings_setnum(self._settings, key.encode(), ctypes.c_double(value))

    def render(self, tracks: Sequence[Track], *, bpm: float, samples: int) -> list[np.ndarray]:
        """Play tracks together.

        Args:
            tracks: tracks to play; a drum track gets a percussion bank.
            bpm: beats per minute; sample 0 is beat 0.
            samples: length of the result; later sound is cut.

        Returns:
            One float32 array [2, samples] per track, in the given order, without reverb and chorus.
        """
        if len(tracks) > _CHANNELS:
            first = self.render(tracks[:_CHANNELS], bpm=bpm, samples=samples)
            return first + self.render(tracks[_CHANNELS:], bpm=bpm, samples=samples)
        # A new synthesiser for each pass: a used one gives different samples, even after a reset.
        lib = self._lib
        synth = ctypes.c_void_p(lib.new_fluid_synth(self._settings))
        lib.fluid_synth_add_sfont(synth, self._font)
        try:
            return self._play(synth, tracks, bpm, samples)
        finally:
            lib.fluid_synth_remove_sfont(synth, self._font)
            lib.delete_fluid_synth(synth)

    def _play(self, synth: ctypes.c_void_p, tracks: Sequence[Track], bpm: float, samples: int) -> list[np.ndarray]:
        lib = self._lib
        events: list[tuple[int, int, int, int, int]] = []  # block, order, channel, pitch or controller, value
        per_beat = self.sample_rate * 60.0 / bpm
        for channel, track in enumerate(tracks):
            lib.fluid_synth_set_channel_type(synth, channel, 1 if track.drum else 0)
            lib.fluid_synth_program_change(synth, channel, track.program)
            for controller, value in ((7, track.volume), (10, round(64 + 63 * track.pan)), (91, 0), (93, 0)):
                lib.fluid_synth_cc(synth, channel, controller, max(0, min(127, value)))
            for note in track.notes:
                start = round(note.start * per_beat / _BLOCK)
                stop = max(start + 1, round((note.start + note.length) * per_beat / _BLOCK))
                events.append((start, 1, channel, note.pitch, note.velocity))
                events.append((stop, 0, channel, note.pitch, 0))
            for beat, controller, value in track.controls:
                events.append((round(beat * per_beat / _BLOCK), 2, channel, controller, value))
        events.sort()
        total = -(-samples // _BLOCK) * _BLOCK
        out = np.zeros((2 * _CHANNELS, total), np.float32)
        position = 0
        for block, order, channel, key, value in events:
            target = min(block * _BLOCK, total)
            if target > position:
                self._write(synth, out, position, target - position)
                position = target
            if position >= total:
                break
            if order == 1:
                lib.fluid_synth_noteon(synth, channel, key, value)
            elif order == 0:
                lib.fluid_synth_noteoff(synth, channel, key)
            elif key == 128:
                lib.fluid_synth_pitch_bend(synth, channel, value)
            else:
                lib.fluid_synth_cc(synth, channel, key, value)
        self._write(synth, out, position, total - position)
        return [out[2 * i : 2 * i + 2, :samples] for i in range(len(tracks))]

    def _write(self, synth: ctypes.c_void_p, out: np.ndarray, position: int, count: int) -> None:
        if count <= 0:
            return
        row = ctypes.c_void_p * _CHANNELS
        base, stride = out.ctypes.data + 4 * position, out.strides[0]
        left = row(*(base + 2 * i * stride for i in range(_CHANNELS)))
        right = row(*(base + (2 * i + 1) * stride for i in range(_CHANNELS)))
        self._lib.fluid_synth_nwrite_float(synth, count, left, right, None, None)

    def close(self) -> None:
        """Free the soundfont's memory."""
        if self._owner:
            self._lib.delete_fluid_synth(self._owner)
            self._lib.delete_fluid_settings(self._settings)
            self._owner = ctypes.c_void_p()
