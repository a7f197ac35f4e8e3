"""Uploaded seed images and images of live inputs: folders, written by the server and read by the generator.

Each upload is a folder ``NAME/`` with ``seed.json`` (:class:`Upload`), ``preview.png`` and either ``loop.wav`` (8 beats
of audio, 48 kHz stereo) or ``loop.png`` (8 beats of spectrogram, with its parameters as EXIF). Its name is a hash of
its content, so an upload never changes. It is added and removed atomically. The folder survives a generator crash.

Threading model
  Server process    adds and removes uploads (``server/uploads/intake.py``); reads without torch.
  Generator         reads an upload on request; a removed folder is an unknown name.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import numpy as np

from riffstream.errors import MediaError

if TYPE_CHECKING:
    from torch import Tensor

    from riffstream.diffusion.family import Family
    from riffstream.diffusion.seed_clip import SeedClip
    from riffstream.journey.conditions import Levels
    from riffstream.spectrogram.params import SpectrogramParams

__all__ = ["BEATS", "INPUTS", "INPUT_NAME", "RATE", "SeedSources", "Upload", "UploadedSeeds", "read_upload"]

NAME: Final = re.compile(r"upload-[0-9a-f]{12}")
INPUT_NAME: Final = re.compile(r"live-[0-9a-f]{12}")
INPUTS: Final = "live"  # folder of the live inputs' images, in the folder of uploads
BEATS: Final = 8
RATE: Final = 48_000
PREVIEW, AUDIO, PICTURE, ABOUT = "preview.png", "loop.wav", "loop.png", "seed.json"
LEVEL: Final = 5.6  # root mean square of the seed library's mel amplitudes (15 dB)
KEPT: Final = 32  # encoded uploads in memory, about 600 kB each


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of an upload.

    Attributes:
        name: ``upload-`` and twelve hexadecimal digits.
        title: display name.
        bpm: tempo of the loop in beats per minute; the loop has 8 beats.
        seconds: duration of the loop in seconds.
        beats: positions of its nine beats in seconds, from 0 to the end of the loop, if they are not evenly spaced.
        key: semitones of its notes above C major and A minor; 0 if unknown. Models with a beat grid play it that much
            lower, in their own key. The ``key`` of a station restores the pitch.
        kind: audio or picture.
        at: time of the upload, in seconds since 1970.
        remover: hash of the key with which its uploader may remove it; "": only the server's owner may.
    """

    name: str
    title: str
    bpm: float
    seconds: float
    beats: list[float] = []
    key: float = 0.0
    kind: str = "audio"
    at: float = 0.0
    remover: str = ""


def read_upload(folder: Path, name: str, pattern: re.Pattern[str] = NAME) -> Upload | None:
    """An upload in ``folder``; None for an unknown name. ``name`` may be any string, ``pattern`` is that of names."""
    if not pattern.fullmatch(name):
        return None
    try:
        return msgspec.json.decode((folder / name / ABOUT).read_bytes(), type=Upload)
    except (OSError, msgspec.DecodeError):
        return None


class UploadedSeeds:
    """The generator's view of the folder, as a source of seed images.

    Args:
        folder: folder of the uploads.
        pattern: names of the uploads.
    """

    def __init__(self, folder: Path, pattern: re.Pattern[str] = NAME) -> None:
        self.folder = folder
        self._pattern = pattern
        self._known: OrderedDict[str, SeedClip] = OrderedDict()

    def load(self, name: str, family: Family) -> SeedClip | None:
        """An upload on the family's beat grid, at any tempo of the loop; None for an unknown name.

        Raises:
            MediaError: the upload's files are damaged.
        """
        if name in self._known:
            self._known.move_to_end(name)
            return self._known[name]
        entry = read_upload(self.folder, name, self._pattern)
        if entry is None:
            return None
        make = _of_audio if entry.kind == "audio" else _of_picture
        path = self.folder / name / (AUDIO if entry.kind == "audio" else PICTURE)
        clip = self._known[name] = family.seed_clip(make(path, family, entry))
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return clip


class _Source(Protocol):
    def load(self, name: str, family: Family) -> Any: ...


class SeedSources:
    """Several sources as one. The first source with a name wins."""

    def __init__(self, *sources: _Source) -> None:
        self.sources = sources

    def load(self, name: str, family: Family) -> Any:
        """``load`` of the first source with the name; None without one."""
        return next((found for each in self.sources if (found := each.load(name, family)) is not None), None)

    def like(
        self, vector: Tensor, family: Family, *, beats: float, count: int, asked: Levels | None = None
    ) -> list[tuple[str, float]]:
        """Search the first searchable source. Uploads have no search."""
        from riffstream.diffusion.seed_images import SeedSearch

        library = next((each for each in self.sources if isinstance(each, SeedSearch)), None)
        return [] if library is None else library.like(vector, family, beats=beats, count=count, asked=asked)


def _interval(entry: Upload, family: Family) -> float:
    """The ratio of an upload's original frequencies to its playing frequencies; 1 for models without a fixed key
    and beat grid."""
    return float(2 ** (entry.key / 12)) if family.beats is not None else 1.0


def _of_audio(path: Path, family: Family, entry: Upload) -> Tensor:
    """The loop's mel amplitudes [A, M, frames], with frequencies divided by the interval. 8 beats fill a model's beat
    grid, each evenly. Without a beat grid the loop repeats for the length of a clip."""
    import torch

    from riffstream.audio.beats import frame_positions
    from riffstream.audio.files import read_audio
    from riffstream.spectrogram.analysis import analyse

    params, frames, interval = family.params, family.frames, _interval(entry, family)
    # Slower playback lowers the pitch; the number of frames in the grid stays the same.
    rate = round(params.sample_rate * interval)
    samples = read_audio(path, sample_rate=rate, channels=params.channels).samples
    hop = len(samples) / frames if family.beats is not None else params.hop()
    turns = -(-round(frames * hop) // len(samples))
    wave = torch.from_numpy(np.ascontiguousarray(np.tile(samples, (turns, 1)).T))
    if not entry.beats or family.beats is None or frames % BEATS:
        return analyse(wave, params, hop=hop, frames=frames)
    at = frame_positions(np.array(entry.beats) * rate, frames // BEATS)[:frames]
    return analyse(wave, params, frames=frames, at=torch.from_numpy(at))


def _of_picture(path: Path, family: Family, entry: Upload) -> Tensor:
    """A spectrogram picture's mel amplitudes, converted to the model's frequencies, frames and level. Frequencies are
    divided by the interval."""
    import torch
    import torch.nn.functional as F

    from riffstream.spectrogram.image import amplitudes_from_image, image_params, read_image

    image = read_image(path)
    theirs, ours, interval = image_params(image), family.params, _interval(entry, family)
    shown = torch.from_numpy(amplitudes_from_image(image, power=theirs.power_for_image, stereo=theirs.stereo))
    mel = _move_bands(shown, theirs, ours, interval)
    mel = mel[:1].expand(ours.channels, -1, -1) if len(mel) == 1 else mel if ours.stereo else mel.mean(0, keepdim=True)
    width = family.frames
    if family.beats is None:  # keep the length
        width = max(1, round(mel.shape[-1] * theirs.hop() / theirs.sample_rate * ours.sample_rate / ours.hop()))
    mel = F.interpolate(mel, width, mode="linear", align_corners=False)
    mel = mel.repeat(1, 1, -(-family.frames // width))[..., : family.frames]
    loudness = float(mel.square().mean().sqrt())
    if not loudness > 0:
        raise MediaError(f"{path.name} is an empty picture")
    return mel * (LEVEL / loudness)


def _move_bands(mel: Tensor, theirs: SpectrogramParams, ours: SpectrogramParams, interval: float) -> Tensor:
    """Convert mel amplitudes [A, M, T] of one filter bank to another, [A, M', T]: amplitude per Hertz at the new
    filters' centres times ``interval``, times the new filters' width. Frequencies above the old bank stay silent."""
    import torch

    from riffstream.spectrogram.mel import centre_frequencies

    edges, wanted = centre_frequencies(theirs).double(), centre_frequencies(ours).double() * interval
    density = mel / ((edges[2:] - edges[:-2]) / 2).float()[:, None]
    centres, at = edges[1:-1], wanted[1:-1]
    if len(centres) < 2:
        raise MediaError("a picture of one row has no pitches")
    above = torch.searchsorted(centres, at).clamp(1, len(centres) - 1)
    share = ((at - centres[above - 1]) / (centres[above] - centres[above - 1])).clamp(0, 1).float()[:, None]
    moved = density[:, above - 1] * (1 - share) + density[:, above] * share
    inside = (at <= edges[-1]).float()[:, None]
    return moved * inside * ((wanted[2:] - wanted[:-2]) / 2).float()[:, None]
