"""A judge that this project did not train: musicnn, a tagger trained on real recordings.

Pons & Serra 2019, arXiv:1909.06654: MagnaTagATune's fifty tags from a log-mel spectrogram. Its weights come with the
Python package ``musicnn``, of which only the files are used: ``pip install --no-deps musicnn``. The clips are compared
as audio, after the vocoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.corpus import measures
from riffstream.errors import CheckpointError
from riffstream.evaluation.tensor_bundle import read_bundle

__all__ = ["TAGS", "Heard", "Tagger"]

TAGS = (
    *("guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient"),
    *("beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals"),
    *("harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo"),
    *("man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello"),
    *("no voice", "weird", "country", "metal", "female voice", "choral"),
)
SAMPLE_RATE = 48_000  # of the clips
RATE, WINDOW, HOP, MELS = 16_000, 512, 256, 96
LEVEL = 0.1  # RMS of the audio that the network hears
AXES = 24  # principal axes of the embedding: its covariance is to be estimated from a hundred clips
TIMBRE, RHYTHM = (1, 2), ((3, 128), (4, 64), (5, 32))  # number of a branch; with its length in frames


class Heard:
    """What a tagger hears in clips.

    Attributes:
        tags: logits [N, 50] in the order of :data:`TAGS`.
        embedding: [N, 200], the layer before.
    """

    def __init__(self, tags: np.ndarray, embedding: np.ndarray) -> None:
        self.tags, self.embedding = tags, embedding

    def likeness(self, other: Heard) -> float:
        """Mean correlation, -1 to 1, of the clips' tag profiles with those of ``other``: log probabilities minus their
        means over the clips."""
        ours, theirs = _profile(self.tags), _profile(other.tags)
        return float(np.mean([np.corrcoef(one, two)[0, 1] for one, two in zip(ours, theirs, strict=True)]))

    def shifted(self) -> Heard:
        """The same clips in another order: each at the place of the one after it."""
        return Heard(np.roll(self.tags, 1, 0), np.roll(self.embedding, 1, 0))

    def distance(self, reference: Heard) -> float:
        """Fréchet distance to ``reference`` on the first :data:`AXES` principal axes of the reference's embedding."""
        mean = reference.embedding.mean(0)
        axes = np.linalg.svd(reference.embedding - mean, full_matrices=False)[2][:AXES].T
        return measures.frechet_distance((self.embedding - mean) @ axes, (reference.embedding - mean) @ axes)


class Tagger:
    """The network.

    Args:
        weights: tensors by TensorFlow's names.
    """

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        try:
            self._weights = {name: torch.from_numpy(weights[name].copy()) for name in _names()}
        except KeyError as error:
            raise CheckpointError(f"musicnn: no tensor {error.args[0]}") from None
        self._bank = _bank()

    @classmethod
    def load(cls, folder: Path | None = None) -> Tagger:
        """Read the weights.

        Args:
            folder: folder of the package ``musicnn``; None: the installed one.

        Raises:
            CheckpointError: the package is not installed, or its files cannot be read.
        """
        if folder is None:
            spec = find_spec("musicnn")
            if spec is None or spec.origin is None:
                raise CheckpointError("package musicnn is not installed; run: pip install --no-deps musicnn")
            folder = Path(spec.origin).parent
        return cls(read_bundle(f"{folder}/MTT_musicnn/"))

    def listen(self, waves: Iterable[np.ndarray]) -> Heard:
        """Hear clips [n] or [n, channels], float at 48 kHz."""
        found = [self(wave) for wave in waves]
        return Heard(np.stack([tags for tags, _ in found]), np.stack([embedding for _, embedding in found]))

    @torch.no_grad()
    def __call__(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits of the tags [50] and the embedding [200] of audio [n] or [n, channels] at 48 kHz."""
        x = self._norm(self._features(wave)[None, ..., None], 0)[..., 0][:, None]
        branches = [self._peaks(F.pad(x, (0, 0, 3, 3)), number) for number in TIMBRE]
        for number, length in RHYTHM:
            branches.append(self._peaks(F.pad(x, (0, 0, (length - 1) // 2, length // 2)), number))
        front = torch.cat(branches, 2)
        first = self._middle(front, 6)
        second = self._middle(first, 7) + first
        third = self._middle(second, 8) + second
        every = torch.cat([front, first, second, third], 2)
        pooled = torch.stack([every.amax(1), every.mean(1)], -1).flatten(1)
        hidden = self._norm(F.relu(self._linear(self._norm(pooled, 9), "dense")), 10)
        return self._linear(hidden, "dense_1")[0].numpy(), hidden[0].numpy()

    def _features(self, wave: np.ndarray) -> Tensor:
        """Log-mel spectrogram [frames, 96] of audio at a fixed level."""
        mono = np.asarray(wave, np.float32)
        mono = mono if mono.ndim == 1 else mono.mean(1)
        mono = soxr.resample(mono, SAMPLE_RATE, RATE)
        mono = mono * (LEVEL / max(float(np.sqrt(np.mean(mono**2))), 1e-9))
        window = torch.hann_window(WINDOW)
        spectrum = torch.stft(
            torch.from_numpy(mono), WINDOW, HOP, window=window, pad_mode="constant", return_complex=True
        )
        return torch.log10(10_000 * (self._bank @ spectrum.abs().square()) + 1).T

    def _norm(self, x: Tensor, number: int) -> Tensor:
        """Batch normalisation of the last axis."""
        name = f"batch_normalization{f'_{number}' if number else ''}"
        mean, variance = self._weights[f"{name}/moving_mean"], self._weights[f"{name}/moving_variance"]
        scale = self._weights[f"{name}/gamma"] / torch.sqrt(variance + 1e-3)
        return x * scale + (self._weights[f"{name}/beta"] - mean * scale)

    def _convolve(self, x: Tensor, number: int) -> Tensor:
        """[B, 1, T, F] to [B, T', F', C], normalised; convolution ``number`` counts from 1."""
        name = f"conv2d{f'_{number - 1}' if number > 1 else ''}"
        kernel = self._weights[f"{name}/kernel"].permute(3, 2, 0, 1)
        made = F.relu(F.conv2d(x, kernel, self._weights[f"{name}/bias"])).permute(0, 2, 3, 1)
        return self._norm(made, number)

    def _peaks(self, x: Tensor, number: int) -> Tensor:
        """A branch of the front: its largest values over the frequencies, [B, T, C]."""
        return self._convolve(x, number).amax(2)

    def _middle(self, x: Tensor, number: int) -> Tensor:
        """Seven frames of all features to 64 features, [B, T, 64]."""
        return self._convolve(F.pad(x[:, None], (0, 0, 3, 3)), number)[:, :, 0]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self._weights[f"{name}/kernel"] + self._weights[f"{name}/bias"]


def _names() -> Iterator[str]:
    """The tensors of the network."""
    for number in range(11):
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            yield f"batch_normalization{f'_{number}' if number else ''}/{part}"
    for name in ("conv2d", *(f"conv2d_{number}" for number in range(1, 8)), "dense", "dense_1"):
        yield f"{name}/kernel"
        yield f"{name}/bias"


def _bank() -> Tensor:
    """Slaney's mel filters [96, 257] of equal area."""
    from riffstream._torchaudio import ensure_importable

    ensure_importable()
    from torchaudio.functional import melscale_fbanks

    bank: Tensor = melscale_fbanks(WINDOW // 2 + 1, 0.0, RATE / 2, MELS, RATE, norm="slaney", mel_scale="slaney")
    return bank.T.contiguous()


def _profile(tags: np.ndarray) -> np.ndarray:
    logs = np.log(1 / (1 + np.exp(-tags)) + 1e-6)
    return np.asarray(logs - logs.mean(0))
