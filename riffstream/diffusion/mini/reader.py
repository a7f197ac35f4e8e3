"""The reader of words: the style and the instruments that a prompt implies, for opening sounds and the seed library.

Sentence vectors of a general text encoder know which texts are alike, and not which music they mean: "smooth jazz for
dinner" is near to every jazz. A small network, trained on captions of a corpus, reads style and instruments from the
vector, and sounds and loops that have them fit better (docs/mini.md, "Reader of words").

``reader.safetensors`` has the network (``inner.weight`` and ``outer.weight`` in int8 with a scale for each row), the
labels of the model's opening sounds, ``style`` [N] int16 and ``instruments`` [N, I] uint8, and ``sounds``, the
fingerprint of the sounds (uint8).
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riffstream.diffusion.mini.files import (
    load_module,
    pack_fingerprint,
    quantise,
    read_tensors,
    unpack_fingerprint,
    write_tensors,
)
from riffstream.errors import CheckpointError

__all__ = ["READER", "LabelledSounds", "ReadTexts", "Reader", "write_reader"]

READER: Final = "reader.safetensors"
HIDDEN: Final = 512
# Weights relative to the cosine of words and sound: of the logarithm of the probability of the sound's style, and of
# the cosine of the instruments' probabilities and the sound's instruments. The same for the words of a sound.
STYLE, INSTRUMENTS = 0.05, 0.3
UNLIKELY: Final = 1e-4  # probability of a style below which all styles fit equally badly


class Reader(nn.Module):
    """A network with one hidden layer from sentence vectors to styles and instruments.

    Args:
        width: D of a sentence vector.
        styles: number of styles.
        instruments: number of classes of instruments.
    """

    def __init__(self, width: int, styles: int, instruments: int) -> None:
        super().__init__()
        self.sizes = (styles, instruments)
        self.inner = nn.Linear(width, HIDDEN)
        self.outer = nn.Linear(HIDDEN, styles + instruments)

    def forward(self, vectors: Tensor, dropped: float = 0.0) -> tuple[Tensor, Tensor]:
        """Map vectors [B, D] of length 1 to logits of the styles [B, styles] and of the instruments [B, instruments].

        A text has one style and any number of instruments. ``dropped``: share of hidden values left out in training.
        """
        hidden = F.gelu(self.inner(vectors * math.sqrt(vectors.shape[1])))
        if dropped:
            hidden = F.dropout(hidden, dropped)
        style, instruments = self.outer(hidden).split(self.sizes, 1)
        return style, instruments

    @torch.no_grad()
    def read(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the styles [B, styles], and of the instruments [B, instruments], scaled to length 1, for
        vectors [B, D] of length 1."""
        style, instruments = self(vectors.float().cpu())
        return style.softmax(1), F.normalize(instruments.sigmoid(), dim=1)


class LabelledSounds:
    """A reader, and the labels of opening sounds.

    Args:
        path: the file.
        count: number of the sounds.
        width: D of a sentence vector.
        sounds: fingerprint of the sounds.

    Raises:
        CheckpointError: a missing or damaged file, or one of other sounds.

    Attributes:
        identity: fingerprint of the file.
        sizes: number of styles and of classes of instruments.
    """

    def __init__(self, path: Path, count: int, width: int, sounds: str) -> None:
        tensors = read_tensors(path)
        name = f"{path.parent.name}/{path.name}"
        # Copies, because the tensors are maps of the file, which may change.
        labels = {key: tensors.pop(key).clone() for key in ("style", "instruments", "sounds") if key in tensors}
        style, instruments = labels.get("style", torch.empty(0)), labels.get("instruments", torch.empty(0, 0))
        labelled = style.shape == (count,) and instruments.ndim == 2 and len(instruments) == count
        labelled = labelled and style.dtype == torch.int16 and instruments.dtype == torch.uint8
        if not labelled:
            raise CheckpointError(f"{name} has no labels for {count} sounds")
        if unpack_fingerprint(labels.get("sounds")) != sounds:
            raise CheckpointError(f"{name} is of other opening sounds; 'riffstream train sounds' makes both files")
        self._reader = _network(tensors, name, width, instruments.shape[1])
        self.sizes = self._reader.sizes
        styles = self.sizes[0]
        if count and not (int(style.min()) >= 0 and int(style.max()) < styles):
            raise CheckpointError(f"{name}: style has numbers outside 0 to {styles - 1}")
        self._style = style.long()
        self._instruments = F.normalize(instruments.float(), dim=1)
        digest = hashlib.blake2b(digest_size=8)
        for value in (*self._reader.state_dict().values(), self._style, self._instruments):
            digest.update(value.numpy().tobytes())
        self.identity = digest.hexdigest()

    def alike(self, sound: int) -> np.ndarray:
        """Whether each sound is of the style of ``sound``, bool [N]."""
        return np.asarray((self._style == self._style[sound]).numpy())

    def probability(self, vector: Tensor) -> np.ndarray:
        """Probability that words with sentence vector [D] of length 1 mean the style of each sound, float32 [N]."""
        return np.asarray(self._reader.read(vector[None])[0][0, self._style].numpy())

    @torch.no_grad()
    def expected(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of each style [styles] and of each class of instruments, for words with sentence vector [D] of
        length 1."""
        style, instruments = self._reader(vector[None].float().cpu())
        return style[0].softmax(0), instruments[0].sigmoid()

    @torch.no_grad()
    def likeness(self, vector: Tensor) -> np.ndarray:
        """How well each sound has the style and the instruments that the words imply, float32 [N], to be added to the
        cosines of words and sounds.

        Args:
            vector: sentence vector [D] of length 1.
        """
        style, instruments = self._reader.read(vector[None])
        named = style.clamp_min(UNLIKELY).log()[0, self._style]
        played = torch.mv(self._instruments, instruments[0])
        return np.asarray((STYLE * named + INSTRUMENTS * played).numpy(), np.float32)


class ReadTexts:
    """A reader, and what it reads in the words of loops, which have no labels.

    Args:
        path: the file.
        vectors: sentence vectors of the loops, [N, D], of length 1.

    Raises:
        CheckpointError: a missing or damaged file.
    """

    def __init__(self, path: Path, vectors: Tensor) -> None:
        tensors = read_tensors(path)
        name = f"{path.parent.name}/{path.name}"
        labels = {key: tensors.pop(key) for key in ("style", "instruments", "sounds") if key in tensors}
        classes = labels["instruments"].shape[-1] if labels.get("instruments", torch.empty(())).ndim else 0
        self._reader = _network(tensors, name, vectors.shape[1], classes)
        self._style, self._instruments = self._reader.read(vectors)

    def likeness(self, vector: Tensor) -> Tensor:
        """How well the words of each loop have the style and the instruments of other words, float32 [N]: at most
        ``INSTRUMENTS``, to be added to the cosines.

        Args:
            vector: sentence vector [D] of length 1.
        """
        style, instruments = self._reader.read(vector[None])
        same = torch.mv(self._style, style[0]).clamp_min(UNLIKELY)
        return STYLE * same.log() + INSTRUMENTS * torch.mv(self._instruments, instruments[0])


def _network(tensors: dict[str, Tensor], name: str, width: int, instruments: int) -> Reader:
    """The network of a file without its labels. Raises CheckpointError."""
    if "outer.weight" not in tensors or not tensors["outer.weight"].ndim:
        raise CheckpointError(f"{name} has no network")
    outputs = tensors["outer.weight"].shape[0]
    styles = outputs - instruments
    if not 0 < styles < outputs:
        raise CheckpointError(f"{name}: instruments has {instruments} classes; this network needs 1 to {outputs - 1}")
    with torch.random.fork_rng(devices=[]):
        reader = Reader(width, styles, instruments)
    load_module(reader, tensors, name)
    reader.eval().requires_grad_(False)
    if not all(value.isfinite().all() for value in reader.state_dict().values()):
        raise CheckpointError(f"{name} has numbers that are not finite")
    return reader


def write_reader(path: Path, reader: Reader, style: Tensor, instruments: Tensor, sounds: str) -> None:
    """Write a file.

    Args:
        style: index of each sound's style, [N].
        instruments: 1 for each class of instruments in each sound, [N, I].
        sounds: fingerprint of the sounds (``Sounds.identity`` without a reader).
    """
    labels = {
        "style": style.to(torch.int16), "instruments": instruments.to(torch.uint8),
        "sounds": pack_fingerprint(sounds),
    }  # fmt: skip
    write_tensors(path, {**quantise(reader.state_dict()), **labels})
