"""Text encoder of the embedded model: all-MiniLM-L6-v2 in plain torch, weights stored as int8.

The network is BERT (Devlin et al. 2018, arXiv:1810.04805) with six layers and width 384, trained by the project
sentence-transformers (Apache-2.0; see the licence beside the weights). It is implemented here because the import of
``transformers`` takes longer than the rest of the start-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.files import quantise, read_config, read_tensors, row_scale, write_config, write_tensors
from riffstream.errors import CheckpointError

__all__ = [
    "ByteTokenizer",
    "MiniTextEncoder",
    "TextConfig",
    "Tokenizer",
    "WordPieceTokenizer",
    "from_bert",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Sizes of the text encoder (``text_encoder/config.json``).

    Attributes:
        length: maximum tokens of a prompt, with marks.
        token_scale: factor that gives the token states about unit variance, as in training of the denoiser.
    """

    vocab_size: int = 30522
    width: int = 384
    layers: int = 6
    heads: int = 12
    mlp: int = 1536
    positions: int = 512
    length: int = 64
    epsilon: float = 1e-12
    token_scale: float = 2.2


class Tokenizer(Protocol):
    """Interface of tokenizers: text to at most ``limit`` ids with start and end marks; False if the text was cut."""

    def __call__(self, text: str, limit: int) -> tuple[list[int], bool]: ...


class WordPieceTokenizer:
    """Tokenizer of a checkpoint, read from ``tokenizer.json``."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Backend

        if not path.is_file():
            raise CheckpointError(f"{path.parent} holds no {path.name}")
        self._backend = Backend.from_file(str(path))
        self._backend.no_padding()
        self._backend.no_truncation()

    def __call__(self, text: str, limit: int) -> tuple[list[int], bool]:
        ids: list[int] = self._backend.encode(text).ids
        if len(ids) <= limit:
            return ids, True
        return [*ids[: limit - 1], ids[-1]], False


class ByteTokenizer:
    """Tokenizer without files: UTF-8 bytes as ids (3 to 258) between start mark 1 and end mark 2."""

    def __call__(self, text: str, limit: int) -> tuple[list[int], bool]:
        data = [3 + byte for byte in text.encode()]
        return [1, *data[: limit - 2], 2], len(data) <= limit - 2


def _shapes(config: TextConfig) -> dict[str, tuple[int, ...]]:
    d, m = config.width, config.mlp
    shapes: dict[str, tuple[int, ...]] = {
        "word": (config.vocab_size, d),
        "position": (config.positions, d),
        "type": (1, d),
        "norm.weight": (d,),
        "norm.bias": (d,),
    }
    for i in range(config.layers):
        for part, (rows, columns) in {"qkv": (3 * d, d), "out": (d, d), "up": (m, d), "down": (d, m)}.items():
            shapes[f"{i}.{part}.weight"] = (rows, columns)
            shapes[f"{i}.{part}.bias"] = (rows,)
        for part in ("norm1", "norm2"):
            shapes[f"{i}.{part}.weight"] = (d,)
            shapes[f"{i}.{part}.bias"] = (d,)
    return shapes


class MiniTextEncoder:
    """Text encoder: prompts to token states.

    Args:
        config: sizes.
        weights: tensors by name, float or quantised by :func:`quantise`.
        tokenizer: text to ids.
        device: torch device. The computation is in float32, because a prompt is encoded once and costs only 1 GFLOP.

    Raises:
        CheckpointError: a tensor is missing or has the wrong shape.
    """

    def __init__(
        self,
        config: TextConfig,
        weights: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self._weights: dict[str, Tensor] = {}
        for name, shape in _shapes(config).items():
            value = weights.get(name)
            if value is None:
                raise CheckpointError(f"text_encoder: tensor {name} is missing")
            if tuple(value.shape) != shape:
                raise CheckpointError(f"text_encoder: tensor {name} is {tuple(value.shape)}; expected {shape}")
            if value.dtype == torch.int8:
                scale = row_scale(weights, name, "text_encoder")
                if name == "word":  # only the rows in use become float: the whole table would take 47 MB
                    self._weights["word.scale"] = scale.to(self.device)
                    self._weights[name] = value.to(self.device)
                    continue
                value = value.float() * scale[:, None]
            self._weights[name] = value.to(self.device, torch.float32)

    @classmethod
    def load(cls, folder: Path, tokenizer_folder: Path, device: torch.device | str = "cpu") -> MiniTextEncoder:
        """Read ``text_encoder/`` and ``tokenizer/`` of a checkpoint."""
        config = read_config(folder, TextConfig)
        tokenizer = WordPieceTokenizer(tokenizer_folder / "tokenizer.json")
        return cls(config, read_tensors(folder / "model.safetensors"), tokenizer, device)

    @classmethod
    def random(cls, *, seed: int = 0, width: int = 16, length: int = 240) -> MiniTextEncoder:
        """Make a tiny untrained encoder over bytes. Different texts have different embeddings."""
        config = TextConfig(
            vocab_size=260, width=width, layers=1, heads=2, mlp=2 * width, positions=256, length=length, epsilon=1e-6,
            token_scale=1.0,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for name, shape in _shapes(config).items():
            value = torch.randn(shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) == 2 else 0.02)
            weights[name] = value + 1 if "norm" in name and name.endswith("weight") else value
        return cls(config, weights, ByteTokenizer())

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and int8 weights."""
        weights = dict(self._weights)
        scale = weights.pop("word.scale", None)
        if scale is not None:
            weights["word"] = weights["word"].float() * scale[:, None]
        write_config(folder, {"_class_name": "MiniTextEncoder", **asdict(self.config)})
        write_tensors(folder / "model.safetensors", quantise(weights))

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        scale, shift = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(x, (self.config.width,), scale, shift, self.config.epsilon)

    @torch.no_grad()
    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states [B, N, width] of ``ids`` [B, N]; ``mask`` [B, N] is True for tokens, False for padding."""
        config = self.config
        word = self._weights["word"][ids].float()
        if "word.scale" in self._weights:
            word = word * self._weights["word.scale"][ids][..., None]
        x = self._norm(word + self._weights["position"][: ids.shape[1]] + self._weights["type"][0], "norm")
        bias = torch.zeros(mask.shape, device=x.device).masked_fill(~mask, -1e9)[:, None, None, :]
        for i in range(config.layers):
            qkv = self._linear(x, f"{i}.qkv")
            q, k, v = qkv.reshape(*qkv.shape[:2], 3, config.heads, -1).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
            x = self._norm(x + self._linear(attended, f"{i}.out"), f"{i}.norm1")
            x = self._norm(x + self._linear(F.gelu(self._linear(x, f"{i}.up")), f"{i}.down"), f"{i}.norm2")
        return x

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> tuple[TextEmbedding, bool]:
        """Encode texts.

        Returns:
            Token states [B, S, width] float32 of about unit variance, zero where masked, with S tokens of the longest
            text; and False if a text was cut to ``length`` tokens.
        """
        rows = [self.tokenizer(text, self.config.length) for text in texts]
        return self.encode_ids([ids for ids, _ in rows]), all(whole for _, whole in rows)

    @torch.no_grad()
    def encode_ids(
        self, rows: Sequence[Sequence[int]], weights: Sequence[Sequence[float]] | None = None
    ) -> TextEmbedding:
        """Encode token ids with marks, as in :meth:`encode`; ``weights`` (>= 0) replace the ones of the mask."""
        longest = max(1, *(len(ids) for ids in rows))  # a tokenizer without marks returns no ids for an empty text
        ids = torch.zeros(len(rows), longest, dtype=torch.long, device=self.device)
        mask = torch.zeros(len(rows), longest, device=self.device)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1 if weights is None else torch.tensor(weights[i])
        counts = torch.arange(longest, device=self.device) < torch.tensor(
            [[len(row)] for row in rows], device=self.device
        )
        states = self.states(ids, counts) * counts[..., None]
        return TextEmbedding(states * self.config.token_scale, mask)

    def sentences(self, texts: Sequence[str]) -> Tensor:
        """Unit sentence vectors [B, width]; the dot product of two is their cosine similarity."""
        return F.normalize(self.encode(texts)[0].pooled(), dim=-1)


def from_bert(weights: Mapping[str, Tensor], config: TextConfig) -> dict[str, Tensor]:
    """Rename the tensors of a BERT checkpoint from sentence-transformers for :class:`MiniTextEncoder`."""
    result = {
        "word": weights["embeddings.word_embeddings.weight"],
        "position": weights["embeddings.position_embeddings.weight"],
        "type": weights["embeddings.token_type_embeddings.weight"][:1],
        "norm.weight": weights["embeddings.LayerNorm.weight"],
        "norm.bias": weights["embeddings.LayerNorm.bias"],
    }
    names = {
        "out": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm2": "output.LayerNorm",
    }
    for i in range(config.layers):
        prefix = f"encoder.layer.{i}"
        for kind in ("weight", "bias"):
            parts = [weights[f"{prefix}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            result[f"{i}.qkv.{kind}"] = torch.cat(parts)
            for ours, theirs in names.items():
                result[f"{i}.{ours}.{kind}"] = weights[f"{prefix}.{theirs}.{kind}"]
    return result
