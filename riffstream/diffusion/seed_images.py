"""Seed images of any source, encoded once and cached."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from riffstream.diffusion.family import Family
from riffstream.diffusion.seed_clip import SeedClip
from riffstream.errors import MediaError, ParameterError
from riffstream.journey.conditions import Levels
from riffstream.journey.keyframe import SONG
from riffstream.spectrogram.analysis import analyse
from riffstream.spectrogram.pictures import is_picture, open_picture

__all__ = ["Seed", "SeedImages", "SeedSearch", "SeedSource"]

NEAR = 0.03  # loops whose fit is at most this much below the best are candidates
COLUMNS = 32  # of a picture; every family encodes multiples of it
MOST = 4  # maximum number of candidates

Seed = SeedClip | Tensor | np.ndarray | bytes | Path | str


@runtime_checkable
class SeedParts(Protocol):
    """A recording longer than a clip."""

    def part(self, first: int, frames: int) -> SeedClip:
        """``frames`` frames of it, ``first`` frames after its beginning."""


class SeedSource(Protocol):
    """A seed library as the engine sees it."""

    def load(self, name: str, family: Family) -> Tensor | np.ndarray | bytes | Path | SeedClip | SeedParts | None:
        """Load a seed image: latents [C, h, w] of this family, a picture uint8 [H, W, 3], a file, an encoded clip, or
        the parts of a recording; None: unknown."""


@runtime_checkable
class SeedSearch(SeedSource, Protocol):
    """A seed library that can be searched."""

    def like(
        self, vector: Tensor, family: Family, *, beats: float, count: int, asked: Levels | None = None
    ) -> list[tuple[str, float]]:
        """Search for loops of ``beats`` beats by the sentence vector ``vector`` [D], and by parts and levels.

        Returns:
            Names with their fit, best first; none if ``family`` has other sentence vectors. The fit is the cosine
            similarity in [-1, 1], with what a reader of words adds, less what is not as ``asked``.
        """


class SeedImages:
    """Encoder of seed images to latents of one family, with a cache.

    Args:
        family: the model.
        source: the seed library; None: there are no names.
        files: True allows paths of this machine as strings. Keep it False for strings from a network.
        cache: number of encoded seed images to keep.
    """

    def __init__(
        self, family: Family, source: SeedSource | None = None, *, files: bool = False, cache: int = 64
    ) -> None:
        self.family = family
        self.source = source
        self.files = files
        self._limit = cache
        self._cache: OrderedDict[tuple[object, ...], SeedClip] = OrderedDict()

    def clip(self, seed: Seed, *, frames: int | None = None, bpm: float | None = None, first: int = 0) -> SeedClip:
        """Encode a seed image, with latents in float32, all on the family's device.

        Args:
            seed: an encoded clip; latents [C, h, w]; a picture, uint8 [H, W, 3]; the bytes of an image or audio file,
                or its path; a name in the library.
            frames: T of the clip. A longer seed is cut, a shorter one is repeated, because seeds are loops.
            bpm: tempo of audio on the beat grid, for families with one.
            first: frames from the beginning of the music to the clip, for recordings in parts.

        Returns:
            The clip, with latents of ``family.latent_shape(frames)``.

        Raises:
            ParameterError: an unknown name, or latents of another model.
            MediaError: a file that is neither a picture nor audio.
        """
        parts = self._parts(seed)
        key = (self._identity(seed), frames, bpm, 0 if parts is None else first)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        encoded = self._encode(seed, bpm) if parts is None else parts.part(first, frames or self.family.frames)
        clip = self._fit(encoded, frames)
        if key[0] is not None:
            self._cache[key] = clip
            if len(self._cache) > self._limit:
                self._cache.popitem(last=False)
        return clip

    def nearest(self, vector: Tensor, pick: int, *, beats: float, asked: Levels | None = None) -> str | None:
        """Find a loop for a prompt.

        Args:
            vector: [D], sentence vector of the prompt.
            pick: any number; another one may pick another loop among those that fit nearly as well. It follows from
                the keyframe's noise seed, so that the same seed gives the same clip.
            beats: length of the clip in beats.
            asked: parts and levels of the clip; None: words alone.

        Returns:
            A name, or None without a searchable library.
        """
        if not isinstance(self.source, SeedSearch):
            return None
        found = self.source.like(vector, self.family, beats=beats, count=MOST, asked=asked)
        near = [name for name, fit in found if fit >= found[0][1] - NEAR]
        # The smallest hash, not an index: where the candidates change a little, the pick mostly stays.
        return min(near, key=lambda name: hashlib.blake2b(f"{pick} {name}".encode()).digest(), default=None)

    def _parts(self, seed: Seed) -> SeedParts | None:
        if not isinstance(seed, str) or not seed.startswith(SONG) or self.source is None:
            return None
        found = self.source.load(seed, self.family)
        return found if isinstance(found, SeedParts) else None

    @staticmethod
    def _identity(seed: Seed) -> object:
        """Cache key of a seed; None if it needs no encoding."""
        if isinstance(seed, SeedClip | Tensor):
            return None
        if isinstance(seed, np.ndarray):
            return seed.shape, hashlib.blake2b(seed.tobytes()).digest()
        if isinstance(seed, bytes):
            return hashlib.blake2b(seed).digest()
        if isinstance(seed, Path):
            return _stamp(seed)
        return ("name", seed)

    def _encode(self, seed: Seed, bpm: float | None) -> SeedClip:
        """Encode a seed of any type: a name or path, latents, a picture, or the bytes of a file."""
        rescale = isinstance(seed, str)
        found = self._named(seed) if isinstance(seed, str) else seed
        if isinstance(found, SeedClip):
            return found
        seed = found
        if isinstance(seed, Tensor):
            return SeedClip(seed)
        if isinstance(seed, np.ndarray):
            if seed.dtype != np.uint8 or seed.ndim != 3 or seed.shape[2] != 3:
                raise ParameterError("seed_image", f"{seed.dtype} {seed.shape}", "a picture, uint8 [H, W, 3]")
            return self._encode_picture(seed, rescale)
        name = str(seed) if isinstance(seed, Path) else f"{len(seed)} bytes"
        try:
            data = seed.read_bytes() if isinstance(seed, Path) else seed
        except OSError as error:
            raise MediaError(f"seed image {name}: {error.strerror or error}") from None
        if is_picture(data):
            return self._encode_picture(np.array(open_picture(data, name=f"seed image {name}")), rescale)
        try:
            return self._encode_audio(data, bpm)
        except MediaError as error:
            reason = str(error).removeprefix("cannot read the audio: ").replace("the audio", "it")
            raise MediaError(f"seed image {name}: {reason}") from None

    def _encode_picture(self, picture: np.ndarray, rescale: bool) -> SeedClip:
        """Encode a picture; ``rescale`` adapts the height of a library picture made for another model.

        The rhythm of a rescaled picture is kept, and denoising adapts its sound to this model.
        """
        rows = self.family.params.num_frequencies
        if rescale and picture.shape[0] != rows:
            picture = np.array(Image.fromarray(picture).resize((picture.shape[1], rows), Image.Resampling.LANCZOS))
        if picture.shape[0] != rows:
            given = f"a picture of {picture.shape[1]} x {picture.shape[0]}"
            raise ParameterError("seed_image", given, f"pictures {rows} rows high with this model")
        return self.family.picture_clip(self._whole_latents(picture))

    def _whole_latents(self, picture: np.ndarray) -> np.ndarray:
        """Columns of a picture that fill whole latents; at most one clip for families with a beat."""
        step, width = min(COLUMNS, self.family.frames), picture.shape[1]
        if self.family.beats is not None:
            width = min(width, self.family.frames)
        width = max(step, width - width % step)
        return np.tile(picture, (1, -(-width // picture.shape[1]), 1))[:, :width]

    def _named(self, name: str) -> Tensor | np.ndarray | bytes | Path | SeedClip:
        found = self.source.load(name, self.family) if self.source is not None else None
        assert not isinstance(found, SeedParts)
        if found is None and self.files and Path(name).is_file():
            return Path(name)
        if found is None:
            raise ParameterError("seed_image", name, "a name in the seed library" + (" or a file" * self.files))
        return found

    def _encode_audio(self, data: bytes, bpm: float | None) -> SeedClip:
        """Encode the beginning of a recording, at most one clip."""
        from riffstream.audio.files import read_audio

        params, frames = self.family.params, self.family.frames
        if self.family.beats is not None:
            bpm = bpm or self.family.defaults.bpm
        hop = params.hop(bpm) if self.family.beats is not None else params.hop()
        seconds = frames * hop / params.sample_rate
        audio = read_audio(
            data, sample_rate=params.sample_rate, channels=params.channels, max_seconds=seconds, cut=True
        )
        wave = torch.from_numpy(np.ascontiguousarray(audio.samples.T))
        wave = F.pad(wave, (0, max(0, round(frames * hop) - wave.shape[1])))
        return self.family.seed_clip(analyse(wave, params, hop=hop, frames=frames))

    def _fit(self, clip: SeedClip, frames: int | None) -> SeedClip:
        channels, height, width = self.family.latent_shape(frames)
        latents = clip.latents
        if latents.ndim != 3 or latents.shape[:2] != (channels, height) or latents.shape[2] == 0:
            shape = f"[{channels}, {height}, {width}]"
            raise ParameterError("seed_image", f"latents {list(latents.shape)}", f"latents {shape} with this model")
        if clip.sound is not None:
            params, per_column = self.family.params, self.family.frames // self.family.latent_shape()[2]
            size = (params.channels, params.num_frequencies, latents.shape[2] * per_column)
            if tuple(clip.sound.shape) != size:
                raise ParameterError("seed_image", f"sound {list(clip.sound.shape)}", f"sound {list(size)}")
        return clip.fitted(width).to(self.family.device)


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_mtime_ns, status.st_size
