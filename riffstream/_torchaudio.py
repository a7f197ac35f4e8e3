"""Make torchaudio importable beside a torch without CUDA. Import this before torchaudio, transformers or diffusers.

torchaudio's wheels link their compiled extension against CUDA. Beside a CPU build of torch, ``import torchaudio``
raises OSError, and so does every import of transformers, which imports an installed torchaudio. The Python parts need
no extension. If loading fails, and only then, the loader module is replaced by one that reports an absent extension.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["ensure_importable"]


def _extension() -> ModuleType:
    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    module = ModuleType("torchaudio._extension", "Stands in for the compiled extension, which could not be loaded.")
    module.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=fail_if_no_align,
        _check_cuda_version=lambda: None,
    )
    return module


def ensure_importable() -> bool:
    """Import torchaudio, without its extension if that does not load. False if torchaudio is not installed."""
    try:
        importlib.import_module("torchaudio")
    except ModuleNotFoundError:
        return False
    except (OSError, ImportError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _extension()
        importlib.import_module("torchaudio")
    return True


ensure_importable()
