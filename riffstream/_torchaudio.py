"""Make torchaudio importable beside a torch without CUDA. Import this before torchaudio, transformers or diffusers.

torchaudio's only wheels link their compiled extension against CUDA, so next to a CPU build of torch ``import
torchaudio`` raises OSError, and with it every import of transformers, which imports torchaudio wherever it is
installed. Its Python parts need no extension. So where, and only where, loading fails, the module that loads the
extension is replaced by one that says it is absent.
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
    """Import torchaudio, without its extension where that does not load; False where torchaudio is not installed."""
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
