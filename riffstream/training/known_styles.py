"""Write the sentence vectors of the corpus's styles for ``diffusion/mini/likeness.py``.

``python -m riffstream.training.known_styles`` encodes every name of a style with the shipped text encoder.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from riffstream.corpus.styles import groove_styles, own_styles
from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.mini.likeness import STYLES_FILE

__all__ = ["style_names", "write"]


def style_names() -> list[str]:
    """Every name of a style in captions, in the order of the tables, without repetitions."""
    styles = [*own_styles(), *groove_styles().values()]
    return list(dict.fromkeys(tag for style in styles for tag in style.tags))


def write(path: Path = STYLES_FILE) -> None:
    """Encode the names and write them as float16 [K, D]."""
    family = Checkpoint.load("mini", device="cpu")
    assert isinstance(family, MiniFamily)
    names = style_names()
    vectors = torch.cat([family.text_encoder.sentences(names[i : i + 16]) for i in range(0, len(names), 16)])
    save_file({"vectors": vectors.half().contiguous()}, str(path), metadata={"names": json.dumps(names)})


if __name__ == "__main__":
    write()
