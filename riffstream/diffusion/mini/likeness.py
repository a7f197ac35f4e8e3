"""How near a prompt is to the styles that the embedded model knows.

The names are those of the corpus. Their sentence vectors are stored beside this module, because to encode them takes
seconds (``python -m riffstream.training.known_styles`` writes the file).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

__all__ = ["STYLES_FILE", "KnownStyles"]

STYLES_FILE: Final = Path(__file__).with_name("styles.safetensors")


class KnownStyles:
    """Styles of the corpus with their sentence vectors.

    Args:
        names: K names.
        vectors: [K, D] unit vectors, any float type.
    """

    def __init__(self, names: list[str], vectors: Tensor) -> None:
        self.names = names
        self._vectors = F.normalize(vectors.float(), dim=-1)

    @classmethod
    def load(cls, path: Path = STYLES_FILE) -> KnownStyles:
        """Read the file of the package."""
        with safe_open(str(path), framework="pt") as file:
            return cls(json.loads(file.metadata()["names"]), file.get_tensor("vectors"))

    def nearest(self, vector: Tensor) -> tuple[str, float] | None:
        """Name of the nearest style, and the cosine similarity from 0 (or less) to 1.

        Args:
            vector: [D] sentence vector of a prompt, of any length. None if D is that of another text encoder.
        """
        if vector.shape[-1] != self._vectors.shape[1]:
            return None
        scores = self._vectors @ F.normalize(vector.detach().float().cpu(), dim=-1)
        best = int(torch.argmax(scores))
        return self.names[best], round(min(1.0, max(0.0, float(scores[best]))), 3)
