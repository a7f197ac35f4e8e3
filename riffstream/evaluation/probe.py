"""A small classifier of style and instruments from a spectrogram, trained on the corpus alone.

The generator and its codec have no part in its training. Its last hidden layer is the embedding of the Fréchet
distance.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from riffstream.corpus.data import Corpus
from riffstream.corpus.instrument_classes import INSTRUMENT_CLASSES, instrument_targets
from riffstream.errors import CheckpointError

__all__ = [
    "Judge",
    "Probe",
    "ProbeResult",
    "fit_probe",
    "load_probe",
    "probe_features",
]

EMBEDDING = 96


def probe_features(mel: np.ndarray) -> np.ndarray:
    """The probe's input: [2, 256, T] amplitudes to uint8 [64, T / 4], levels from -20 to 60 dB."""
    amplitude = mel.mean(0)
    pooled = amplitude.reshape(64, 4, amplitude.shape[1] // 4, 4).mean((1, 3))
    return np.asarray(np.clip((20 * np.log10(pooled + 1e-6) + 20) * (255 / 80), 0, 255).astype(np.uint8))


class Probe(nn.Module):
    """Five strided convolutions, an embedding and two heads, with about 0.2 M parameters."""

    def __init__(self, styles: Sequence[str], instruments: Sequence[str]) -> None:
        super().__init__()
        self.styles, self.instruments = list(styles), list(instruments)
        widths = (1, 24, 48, 72, 96)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.embed = nn.Sequential(nn.Linear(2 * 96 * 4, EMBEDDING), nn.ReLU())
        self.style_head = nn.Linear(EMBEDDING, len(self.styles))
        self.instrument_head = nn.Linear(EMBEDDING, len(self.instruments))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classify clips.

        Args:
            features: uint8 [B, 64, T / 4].

        Returns:
            Embedding [B, 96], style logits [B, styles], instrument logits [B, instruments].
        """
        hidden = self.body(features[:, None].float() / 128 - 1)
        pooled = torch.cat([hidden.mean(-1), hidden.amax(-1)], 1).flatten(1)
        embedding = self.embed(pooled)
        return embedding, self.style_head(embedding), self.instrument_head(embedding)

    @torch.no_grad()
    def listen(self, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``forward`` in evaluation mode for any number of clips of any lengths; numpy in and out."""
        self.eval()
        out = []
        for item in features:
            out.append([part[0].numpy() for part in self(torch.from_numpy(item)[None])])
        return tuple(np.stack(parts) for parts in zip(*out, strict=True))  # type: ignore[return-value]

    def save(self, path: Path) -> None:
        """Write weights and labels to one safetensors file."""
        labels = {"styles": json.dumps(self.styles), "instruments": json.dumps(self.instruments)}
        save_file(self.state_dict(), path, metadata=labels)


def load_probe(path: Path) -> Probe:
    """Read a file of ``Probe.save``.

    Raises:
        CheckpointError: the file is missing or not a probe.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            labels = file.metadata()
        probe = Probe(json.loads(labels["styles"]), json.loads(labels["instruments"]))
        probe.load_state_dict(load_file(path))
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a probe ({error})") from None
    return probe.eval()


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The probe's recognition rates in a set of clips, 0 to 1.

    Attributes:
        style_top1: share of clips with the requested style in first place.
        style_top5: share of clips with the requested style in the first five places.
        instrument_precision: see ``recognition``.
        classes: requested class of instruments -> (number of clips, share of clips with the class recognised).
    """

    style_top1: float
    style_top5: float
    instrument_precision: float
    classes: dict[str, tuple[int, float]]


def fit_probe(
    corpus: Corpus,
    *,
    clips: int = 8000,
    epochs: int = 8,
    seed: int = 0,
    quiet: bool = False,
    classes: Sequence[str] = tuple(INSTRUMENT_CLASSES),
    target: Callable[[int], np.ndarray] | None = None,
) -> Probe:
    """Train a probe on the corpus's training songs.

    Args:
        corpus: training corpus.
        clips: number of random clips.
        epochs: passes over the clips.
        seed: seed of weights and order.
        quiet: whether to hide progress bars.
        classes: labels of the second head, by default instruments.
        target: function from the number of a clip to its labels, float32 [classes]; by default its instruments.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    chosen = corpus.split("train")
    chosen = [int(i) for i in rng.permutation(chosen)[:clips]]
    styles = corpus.styles
    place = {style: i for i, style in enumerate(styles)}
    features = [probe_features(corpus.mel(i)) for i in tqdm(chosen, desc="listening", disable=quiet)]
    labels = torch.tensor([place[corpus.style(i)] for i in chosen])
    wanted = [instrument_targets(corpus[i].instruments, classes) if target is None else target(i) for i in chosen]
    targets = torch.from_numpy(np.stack(wanted))
    groups = [
        [j for j, f in enumerate(features) if f.shape[1] == width] for width in sorted({f.shape[1] for f in features})
    ]
    probe = Probe(styles, classes)
    batches = sum(-(-len(group) // 64) for group in groups)
    optimiser = torch.optim.AdamW(probe.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=batches * epochs)
    probe.train()
    for _ in tqdm(range(epochs), desc="probe", disable=quiet):
        plan = [list(rng.permutation(group)[k : k + 64]) for group in groups for k in range(0, len(group), 64)]
        for index in rng.permutation(len(plan)):
            rows = plan[index]
            gain = torch.from_numpy(rng.uniform(-10, 10, (len(rows), 1, 1))).float()  # +-3 dB
            batch = torch.from_numpy(np.stack([features[j] for j in rows])).float()
            batch = torch.roll(batch, int(rng.integers(8)) * 16, -1) + gain * (batch > 0)
            _, style, instruments = probe(batch)
            loss = nn.functional.cross_entropy(style, labels[rows], label_smoothing=0.05)
            loss = loss + 4 * nn.functional.binary_cross_entropy_with_logits(instruments, targets[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return probe.eval()


class Judge(Protocol):
    """A classifier of styles and instruments: a ``Probe`` of the sound, or a ``TextJudge`` of the words."""

    styles: list[str]
    instruments: list[str]

    def listen(self, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Embeddings, style logits and instrument logits, one row per clip."""


def recognition(
    probe: Judge, features: Sequence[np.ndarray], styles: Sequence[str], instruments: Sequence[Sequence[str]]
) -> ProbeResult:
    """The probe's recognition of requested styles and instruments.

    Args:
        probe: trained probe.
        features: features of the clips.
        styles: requested styles.
        instruments: requested instruments, by their names in the corpus.

    Returns:
        Rates of the style in first place and in the first five. For instruments, the mean precision over clips, with as
        many answers as requested instruments.
    """
    _, style, kind = probe.listen(features)
    order = np.argsort(-style, 1)
    wanted = [probe.styles.index(name) if name in probe.styles else -1 for name in styles]
    top1 = float(np.mean([order[i, 0] == want for i, want in enumerate(wanted)]))
    top5 = float(np.mean([want in order[i, :5] for i, want in enumerate(wanted)]))
    asked: dict[str, list[bool]] = {}
    precision = []
    for i, names in enumerate(instruments):
        target = instrument_targets(names, probe.instruments).astype(bool)
        count = int(target.sum())
        if not count:
            continue
        heard = set(np.argsort(-kind[i])[:count].tolist())
        found = [place in heard for place in np.flatnonzero(target).tolist()]
        precision.append(float(np.mean(found)))
        for place, hit in zip(np.flatnonzero(target).tolist(), found, strict=True):
            asked.setdefault(probe.instruments[place], []).append(hit)
    classes = {name: (len(hits), float(np.mean(hits))) for name, hits in asked.items()}
    return ProbeResult(top1, top5, float(np.mean(precision)) if precision else 0.0, classes)
