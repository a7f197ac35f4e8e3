"""Parameters of a spectrogram: rates, window, mel scale, companding.

Pure Python, so that the server and the command line read parameters without loading torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import IntEnum
from typing import Any, Literal

from riffstream.errors import ParameterError

__all__ = ["DEFAULT_BPM", "MAX_BPM", "MIN_BPM", "ExifTag", "MelScale", "SpectrogramParams"]

MelScale = Literal["htk", "slaney", "window"]

MIN_BPM, MAX_BPM, DEFAULT_BPM = 20.0, 400.0, 120.0


class ExifTag(IntEnum):
    """EXIF tags of a spectrogram image. The first ten are Riffusion's; images at its parameters carry no others.

    ``MAX_VALUE`` is the amplitude of black in int16 units. It is written for Riffusion and never read here: audio is
    normalised after decoding.
    """

    SAMPLE_RATE = 11000
    STEREO = 11005
    STEP_SIZE_MS = 11010
    WINDOW_DURATION_MS = 11020
    PADDED_DURATION_MS = 11030
    NUM_FREQUENCIES = 11040
    MIN_FREQUENCY = 11050
    MAX_FREQUENCY = 11060
    POWER_FOR_IMAGE = 11070
    MAX_VALUE = 11080
    MEL_SCALE_TYPE = 11090
    FRAMES_PER_BEAT = 11100


_REQUIRED = tuple(tag for tag in ExifTag if tag < ExifTag.MAX_VALUE)
_WHOLE = ("sample_rate", "num_frequencies", "max_mel_iters", "num_griffin_lim_iters")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrogramParams:
    """Parameters of a mel spectrogram and of its image. The defaults are Riffusion's.

    Attributes:
        stereo: True for two channels, False for one.
        sample_rate: in Hertz, 1000 to 384000.
        step_size_ms: hop from frame to frame; with ``frames_per_beat``, the hop at 120 bpm.
        window_duration_ms: length of the Hann window.
        padded_duration_ms: length of the Fourier transform; the window is zero-padded to it.
        num_frequencies: mel bins, the image's height.
        min_frequency, max_frequency: range of the mel bins in Hertz.
        mel_scale_norm: ``"slaney"`` divides each filter by its width; None leaves the peaks at 1.
        mel_scale_type: ``"htk"``, ``"slaney"``, or ``"window"``: htk's form with a corner frequency that keeps
            neighbouring filters at least one bin of the window apart (see ``mel.corner_frequency``).
        max_mel_iters, num_griffin_lim_iters: iterations of Riffusion's inversion (``parity`` and the benchmark).
        power_for_image: companding exponent of the image.
        frames_per_beat: frames a beat if the hop follows the tempo; None for a fixed hop.

    Raises:
        ParameterError: a value outside its range.
    """

    stereo: bool = False
    sample_rate: int = 44100
    step_size_ms: float = 10
    window_duration_ms: float = 100
    padded_duration_ms: float = 400
    num_frequencies: int = 512
    min_frequency: float = 0
    max_frequency: float = 10000
    mel_scale_norm: Literal["slaney"] | None = None
    mel_scale_type: MelScale = "htk"
    max_mel_iters: int = 200
    num_griffin_lim_iters: int = 32
    power_for_image: float = 0.25
    frames_per_beat: int | None = None

    def __post_init__(self) -> None:
        _within("sample_rate", self.sample_rate, 1000, 384000, " Hz")
        _within("step_size_ms", self.step_size_ms, 0.5, 1000, " ms")
        _within("window_duration_ms", self.window_duration_ms, 1, 1000, " ms")
        _within("padded_duration_ms", self.padded_duration_ms, self.window_duration_ms, 4000, " ms")
        _within("num_frequencies", self.num_frequencies, 1, 4096, "")
        _within("max_frequency", self.max_frequency, 1, self.sample_rate / 2, " Hz")
        _within("min_frequency", self.min_frequency, 0, self.max_frequency - 1, " Hz")
        _within("max_mel_iters", self.max_mel_iters, 1, 100_000, "")
        _within("num_griffin_lim_iters", self.num_griffin_lim_iters, 0, 100_000, "")
        _within("power_for_image", self.power_for_image, 0.01, 10, "")
        if self.mel_scale_type not in ("htk", "slaney", "window"):
            raise ParameterError("mel_scale_type", self.mel_scale_type, "htk, slaney or window")
        if self.mel_scale_norm not in (None, "slaney"):
            raise ParameterError("mel_scale_norm", self.mel_scale_norm, "slaney or none")
        if self.frames_per_beat is not None:
            _within("frames_per_beat", self.frames_per_beat, 1, 4096, "")
        if self.window < 16:
            raise ParameterError("window_duration_ms", self.window_duration_ms, "at least 16 samples")
        if self.step_size_ms * self.sample_rate < 1000:
            raise ParameterError("step_size_ms", self.step_size_ms, "at least one sample")

    @classmethod
    def riffusion(cls, stereo: bool = False) -> SpectrogramParams:
        """Riffusion's parameters: 44.1 kHz, hop 441, window 4410, 512 htk mel bins from 0 to 10 kHz."""
        return cls(stereo=stereo)

    @classmethod
    def mini(cls) -> SpectrogramParams:
        """Parameters of the embedded model: 48 kHz stereo, window 2048, 256 bins from 0 to 16 kHz, 64 frames a beat.

        A bin of this window is 23.4 Hz wide, but 256 htk filters are 8.6 Hz apart in the bass: the lowest 80 would
        share 51 bins, and four of them would be empty rows of the image. On the ``window`` scale no filter is empty.
        Filters are one bin apart at the bottom, so that bass is kept bin by bin and inverted exactly, and 130 Hz apart
        at 16 kHz (htk: 205 Hz).
        """
        return cls(
            stereo=True,
            sample_rate=48000,
            step_size_ms=7.8125,
            window_duration_ms=2048 / 48,
            padded_duration_ms=2048 / 48,
            num_frequencies=256,
            min_frequency=0,
            max_frequency=16000,
            mel_scale_type="window",
            frames_per_beat=64,
        )

    @property
    def channels(self) -> int:
        """2 where stereo, else 1."""
        return 2 if self.stereo else 1

    @property
    def n_fft(self) -> int:
        """Length of the Fourier transform in samples."""
        return self._samples(self.padded_duration_ms)

    @property
    def window(self) -> int:
        """Length of the Hann window in samples."""
        return self._samples(self.window_duration_ms)

    @property
    def n_bins(self) -> int:
        """Linear frequency bins of the Fourier transform, ``n_fft // 2 + 1``."""
        return self.n_fft // 2 + 1

    def hop(self, bpm: float | None = None) -> float:
        """Samples from frame to frame, fractional: frame k sits at ``round(k * hop)``.

        Args:
            bpm: tempo, 20 to 400. Without it, or with a fixed hop (``frames_per_beat`` is None), the hop is
                ``step_size_ms``. A fixed hop is rounded down to whole samples, as in Riffusion.
        """
        if bpm is not None:
            _within("bpm", bpm, MIN_BPM, MAX_BPM, "")
        if self.frames_per_beat is None:
            return float(self._samples(self.step_size_ms))
        if bpm is None:
            return self.step_size_ms * self.sample_rate / 1000
        return 60 / bpm * self.sample_rate / self.frames_per_beat

    def _samples(self, milliseconds: float) -> int:
        # Riffusion truncates; the small addend keeps 2048 / 48 ms from becoming 2047 samples.
        return int(milliseconds / 1000 * self.sample_rate + 1e-6)

    def to_exif(self, max_value: float | None = None) -> dict[int, int | float | str]:
        """EXIF tags and values, typed as Riffusion writes them (whole numbers as int, STEREO as 0 or 1)."""
        tags: dict[int, int | float | str] = {
            ExifTag.SAMPLE_RATE: self.sample_rate,
            ExifTag.STEREO: int(self.stereo),
            ExifTag.STEP_SIZE_MS: _tidy(self.step_size_ms),
            ExifTag.WINDOW_DURATION_MS: _tidy(self.window_duration_ms),
            ExifTag.PADDED_DURATION_MS: _tidy(self.padded_duration_ms),
            ExifTag.NUM_FREQUENCIES: self.num_frequencies,
            ExifTag.MIN_FREQUENCY: _tidy(self.min_frequency),
            ExifTag.MAX_FREQUENCY: _tidy(self.max_frequency),
            ExifTag.POWER_FOR_IMAGE: float(self.power_for_image),
        }
        if max_value is not None:
            tags[ExifTag.MAX_VALUE] = float(max_value)
        if self.mel_scale_type != "htk":
            tags[ExifTag.MEL_SCALE_TYPE] = self.mel_scale_type
        if self.frames_per_beat is not None:
            tags[ExifTag.FRAMES_PER_BEAT] = self.frames_per_beat
        return {int(tag): value for tag, value in tags.items()}

    @staticmethod
    def in_exif(exif: Mapping[int, Any]) -> bool:
        """Whether these EXIF tags describe a spectrogram completely."""
        return not SpectrogramParams.missing_in_exif(exif)

    @staticmethod
    def missing_in_exif(exif: Mapping[int, Any]) -> list[str]:
        """Names of the required fields that these EXIF tags lack; empty if they are complete."""
        return [tag.name.lower() for tag in _REQUIRED if tag not in exif]

    @classmethod
    def from_exif(cls, exif: Mapping[int, Any]) -> SpectrogramParams:
        """Inverse of ``to_exif``. Missing tags default to Riffusion's values; unknown tags are ignored.

        Raises:
            ParameterError: a value that is not a number or outside its range.
        """
        known = {field.name for field in fields(cls)}
        values = {tag.name.lower(): exif[tag] for tag in ExifTag if tag in exif and tag.name.lower() in known}
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as values that JSON and TOML can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SpectrogramParams:
        """Inverse of ``to_dict``; missing fields keep their defaults.

        Raises:
            ParameterError: an unknown field, or a value of the wrong type or outside its range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            allowed = f"the fields {', '.join(sorted(known))}"
            raise ParameterError(unknown[0], values[unknown[0]], allowed)
        return cls(**{name: _convert(name, value) for name, value in values.items()})

    def replace(self, **changes: Any) -> SpectrogramParams:
        """A copy with some fields changed."""
        return replace(self, **changes)


def _within(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise ParameterError(name, value, f"{low:g} to {high:g}{unit}")


def _tidy(value: float) -> int | float:
    return int(value) if float(value).is_integer() else float(value)


def _convert(name: str, value: Any) -> Any:
    if name in ("mel_scale_norm", "mel_scale_type"):
        return value.strip("\0 ") if isinstance(value, str) else value
    if name == "frames_per_beat" and value is None:
        return None
    try:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise ParameterError(name, value, "a number") from None
    if name == "stereo":
        return bool(number)
    if name in _WHOLE or name == "frames_per_beat":
        if not number.is_integer():
            raise ParameterError(name, value, "a whole number")
        return int(number)
    return _tidy(number)
