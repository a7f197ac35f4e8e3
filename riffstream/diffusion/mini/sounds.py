"""Opening sounds: clips of the corpus that a first clip continues, unheard (``sounds.safetensors``).

From noise alone a clip's sounds are decided in the first step, and a small network mixes them there. A clip that
goes on from another one has sounds of one piece (docs/mini.md, "Opening sounds").

``latents`` [N, C h w / 2] has two numbers of 4 bits in a byte, with a scale for each channel (``latents.scale`` [N, C],
float16); ``vectors`` [N, D] are int8 directions; ``levels`` [N, 9] float16 are ``Levels.row``; ``beats`` [N] is uint8.
``codec`` (uint8) is the fingerprint of the codec that made the latents; older files have none. A reader of words
(``reader.py``) may lie beside the file; without one the words choose by their sentence vector alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.files import pack_fingerprint, read_tensors, unpack_fingerprint, write_tensors
from riffstream.diffusion.mini.leaning import APART, LEAN, lean
from riffstream.diffusion.mini.reader import READER, LabelledSounds
from riffstream.errors import CheckpointError
from riffstream.journey.conditions import PARTS, Levels
from riffstream.journey.misfit import misfit

if TYPE_CHECKING:
    from riffstream.diffusion.mini.codec import Codec

__all__ = ["FILE", "Sounds", "check_codec", "fingerprint", "write_sounds"]

FILE: Final = "sounds.safetensors"
NEAR, MOST = 0.05, 4  # candidates: at most so many, with a fit at most so much below the best
WIDER_NEAR = 0.12  # NEAR for another sound than before, with a reader: it is of one style with the one before
# In 3/4, least cosine of words and sound, or least probability of the sound's style: few sounds are in 3/4, and another
# style is worse than noise.
LIKE, LIKELY = 0.8, 0.5
# Weight of parts and levels (a seed loop's is 4, or 1 without a reader), because a sound is continued with its parts. A
# wrong part costs more than another style, or "no pad" would lose against "jazz".
ASKED = 32.0
LARGEST, CLIPPED = 7, 0.7  # largest number of 4 bits, and the share of the largest latent that it stands for


class Sounds:
    """The opening sounds of a model, in memory: 7 kB each.

    Args:
        path: the file.
        shape: [C, h, w] of the model's latents.
        codec: fingerprint of the model's codec (:func:`fingerprint`); None: not compared.

    Raises:
        CheckpointError: a missing or damaged file, or one of another model; a damaged reader, or one of other sounds.

    Attributes:
        reader: its reader of words; None: it has none.
        identity: fingerprint of the set, and of its reader if it has one.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], codec: str | None = None) -> None:
        self._shape = shape
        if codec is not None:
            check_codec(path, codec)
        tensors = _checked(path, shape)
        # Copies, because the tensors are maps of the file, which may change.
        kept = {name: tensors[name].numpy().copy() for name in sorted(tensors)}
        digest = hashlib.blake2b(digest_size=8)
        for values in kept.values():
            digest.update(values.tobytes())
        self.identity = digest.hexdigest()
        self._packed, self._scale, self._beats = kept["latents"], kept["latents.scale"], kept["beats"]
        self._levels, vectors = (np.asarray(kept[name], np.float32) for name in ("levels", "vectors"))
        self._vectors = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-6))
        self.reader: LabelledSounds | None = None
        if os.path.lexists(path.with_name(READER)):
            self.reader = LabelledSounds(path.with_name(READER), len(self), vectors.shape[1], self.identity)
            self.identity += f"{self.reader.identity}{LEAN}{APART}"

    def __len__(self) -> int:
        return len(self._vectors)

    def choose(
        self,
        vector: Tensor,
        pick: int,
        *,
        beats: float,
        asked: Levels | None = None,
        besides: Collection[int] | None = None,
        like: int | None = None,
    ) -> int | None:
        """Choose as ``family.OpeningSounds`` says.

        None: there is no sound of the metre (in 3/4, which is 6 beats: none that is near to the words, or of a style
        that they mean), or the vector is of another encoder. With a reader and ``besides`` the choice is wider, and of
        one style: that of ``like``, or else of the best sound.
        """
        if len(vector) != self._vectors.shape[1]:
            return None
        words, fit = self._fits(vector)
        if asked is not None:
            fit = fit - ASKED * misfit(asked, self._levels)
        if like is not None:
            fit = fit - misfit(self._rhythm(like), self._levels)
        if beats == 6:
            meant = words >= LIKE
            if self.reader is not None:
                meant |= self.reader.probability(vector) >= LIKELY
            fit[(self._beats != 6) | ~meant] = -np.inf
        else:
            fit[self._beats == 6] = -np.inf
        if besides is not None and self.reader is not None:
            fit[~self.reader.alike(int(fit.argmax()) if like is None else like)] = -np.inf
        order = (-fit).argsort(kind="stable")[:MOST]
        reach = NEAR if besides is None or self.reader is None else WIDER_NEAR
        near = [int(place) for place in order if np.isfinite(fit[place]) and fit[place] >= fit[order[0]] - reach]
        near = [place for place in near if place not in (besides or ())]
        # The smallest hash, not an index: where the candidates change a little, the choice mostly stays.
        return min(near, key=lambda place: hashlib.blake2b(f"{pick} {place}".encode()).digest(), default=None)

    def _fits(self, vector: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Cosines of words and sounds [N], and the fits of the sounds, with what the reader adds [N]."""
        # Not numpy's product: its threads spin on after it, and the network's first evaluations take twice the time.
        words = torch.mv(self._vectors, vector.float().cpu()).numpy()
        return words, words.copy() if self.reader is None else words + self.reader.likeness(vector)

    def _rhythm(self, index: int) -> Levels:
        """Drums, bass and levels of a sound: with others a stream would seem to break off or to begin."""
        row = self._levels[index].tolist()
        count = len(PARTS)
        return Levels({part: row[PARTS.index(part)] for part in ("drums", "bass")}, *row[count:])

    def lean(self, text: TextEmbedding) -> TextEmbedding:
        """A prompt [1, S, D], nearer to the captions of the sounds that fit it; unchanged without a reader, or for a
        vector of another encoder."""
        if self.reader is None or text.tokens.shape[-1] != self._vectors.shape[1]:
            return text
        _, fit = self._fits(F.normalize(text.pooled()[0].float(), dim=0))
        return lean(text, self._vectors, torch.from_numpy(fit))

    def latents(self, index: int) -> Tensor:
        """Latents of a sound, float32 [C, h, w]; w of a sound in 3/4 is three quarters."""
        packed, scale = self._packed[index], np.asarray(self._scale[index], np.float32)
        numbers = np.stack([packed & 15, packed >> 4], -1).astype(np.float32).reshape(self._shape) - LARGEST
        whole = torch.from_numpy(numbers * scale[:, None, None])
        return whole[..., : self._shape[2] * 3 // 4] if self._beats[index] == 6 else whole


def _checked(path: Path, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """The tensors of a file; CheckpointError names the one that is missing or wrong."""
    tensors = read_tensors(path)
    count = len(tensors["latents"]) if "latents" in tensors and tensors["latents"].ndim else 0
    size = tensors["vectors"].shape[-1] if "vectors" in tensors and tensors["vectors"].ndim else 0
    sizes = {
        "latents": (count, shape[0] * shape[1] * shape[2] // 2), "latents.scale": (count, shape[0]),
        "vectors": (count, size), "levels": (count, len(Levels().row)), "beats": (count,),
    }  # fmt: skip
    for name, needed in sizes.items():
        where = f"{path.parent.name}/{path.name}: {name}"
        if name not in tensors:
            raise CheckpointError(f"{where} is missing")
        if tuple(tensors[name].shape) != needed:
            raise CheckpointError(f"{where} is {tuple(tensors[name].shape)}; this model needs {needed}")
        if name == "latents" and tensors[name].dtype != torch.uint8:
            raise CheckpointError(f"{where} is {tensors[name].dtype}; this model needs torch.uint8")
        if name != "levels" and not tensors[name].isfinite().all():
            raise CheckpointError(f"{where} has numbers that are not finite")
    return {name: tensors[name].float() if tensors[name].is_floating_point() else tensors[name] for name in sizes}


def fingerprint(codec: Codec) -> str:
    """Fingerprint of the encoding part of a codec, in hexadecimal digits: it changes with the latents.

    A codec in training and its checkpoint, which has parameters in bfloat16, have the same one.
    """
    digest = hashlib.blake2b(digest_size=8)
    buffers = {name for name, _ in codec.named_buffers()}
    for name, value in sorted(codec.state_dict().items()):
        if name.startswith(("encoder", "basis", "mean", "latent")):
            stored = value if name in buffers else value.bfloat16()
            digest.update(stored.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_codec(path: Path, codec: str) -> None:
    """Refuse a file whose latents are not of the codec with fingerprint ``codec``; an older file does not say.

    Raises:
        CheckpointError: another codec, or a missing or damaged file.
    """
    own = read_tensors(path).get("codec")
    if own is not None and unpack_fingerprint(own) != codec:
        raise CheckpointError(
            f"{path.parent.name}/{path.name}: the sounds are of another codec; 'riffstream train sounds' makes new ones"
        )


def write_sounds(
    path: Path, latents: Tensor, vectors: Tensor, levels: np.ndarray, triple: Tensor, *, codec: str | None = None
) -> None:
    """Write a file of sounds.

    Args:
        latents: [N, C, h, w]; C h w is even. A clip in 3/4 fills the first columns.
        vectors: [N, D], any length.
        levels: ``Levels.row`` of each clip, [N, 9].
        triple: whether a clip is in 3/4, bool [N].
        codec: fingerprint of the codec (:func:`fingerprint`); None: not noted.
    """
    scale = (CLIPPED / LARGEST * latents.float().abs().amax((2, 3))).clamp_min(1e-6).half()
    numbers = (latents.float() / scale.float()[:, :, None, None]).round().clamp(-LARGEST, LARGEST) + LARGEST
    pairs = numbers.to(torch.uint8).reshape(len(latents), -1, 2)
    largest = vectors.float().abs().amax(1, keepdim=True).clamp_min(1e-12)
    tensors: dict[str, Any] = {
        "latents": (pairs[..., 0] | (pairs[..., 1] << 4)).contiguous(), "latents.scale": scale,
        "vectors": (vectors.float() * (127 / largest)).round().to(torch.int8),
        "levels": torch.from_numpy(levels).half(), "beats": torch.where(triple, 6, 8).to(torch.uint8),
    }  # fmt: skip
    if codec is not None:
        tensors["codec"] = pack_fingerprint(codec)
    write_tensors(path, tensors)
