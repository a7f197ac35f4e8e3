"""The tensors of a seed library: ``seeds.safetensors``, read one loop at a time. No torch for reading.

``latents`` [N, C, h, w] and ``vectors`` [N, D] are int8 with a scale for each channel of a loop and for each vector
(``latents.scale`` [N, C], ``vectors.scale`` [N], float32). Older libraries have float16 without scales.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open

from riffstream.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TENSORS", "read_all", "read_loop", "write_loops"]

TENSORS: Final = "seeds.safetensors"


def read_loop(folder: Path, place: int, count: int) -> np.ndarray:
    """Latents of one loop, float32 [C, h, w]; the others stay on the disk.

    Args:
        folder: folder of the library.
        place: index of the loop.
        count: number of loops in the library.

    Raises:
        CheckpointError: a missing or damaged file, or one with another number of loops.
    """
    with _opened(folder) as file:
        loops = file.get_slice("latents")
        if loops.get_shape()[0] != count:
            raise ValueError(f"it has latents for {loops.get_shape()[0]} seeds, not {count}")
        return _scaled(loops[place], lambda: file.get_slice("latents.scale")[place])


def read_all(folder: Path, name: str, count: int) -> np.ndarray:
    """``latents`` [count, C, h, w] or ``vectors`` [count, D] as float32. Raises CheckpointError."""
    with _opened(folder) as file:
        stored = file.get_tensor(name)
        if len(stored) != count:
            raise ValueError(f"it has {name} for {len(stored)} seeds, not {count}")
        return _scaled(stored, lambda: file.get_tensor(f"{name}.scale"))


def write_loops(folder: Path, latents: Tensor, vectors: Tensor) -> None:
    """Write latents [N, C, h, w] and vectors [N, D] with 8 bits a number."""
    from riffstream.diffusion.mini.files import quantise, write_tensors

    rows = quantise({"latents": latents.flatten(2).flatten(0, 1), "vectors": vectors})
    rows["latents"] = rows["latents"].view(latents.shape)
    rows["latents.scale"] = rows["latents.scale"].view(latents.shape[:2])
    write_tensors(folder / TENSORS, rows)


@contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    try:
        with safe_open(folder / TENSORS, "np") as file:
            yield file
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{folder.name}/{TENSORS} cannot be read: {error}") from None


def _scaled(stored: np.ndarray, read_scale: Any) -> np.ndarray:
    if stored.dtype != np.int8:
        return np.asarray(stored, np.float32)
    scale = np.asarray(read_scale(), np.float32)
    if scale.shape != stored.shape[: scale.ndim]:
        raise ValueError(f"a scale is {scale.shape}; its tensor is {stored.shape}")
    return stored * scale.reshape(*scale.shape, *(1,) * (stored.ndim - scale.ndim))
