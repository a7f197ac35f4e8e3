"""Import torchaudio where its compiled extension does not load.

torchaudio's wheel links CUDA libraries, so beside a CPU build of torch ``import torchaudio`` raises OSError, and with it
``import transformers`` and ``import diffusers``, which import torchaudio when they find it. Its transforms are plain
Python: this module, imported first, puts an empty extension in place of the one that fails. Where the extension loads,
or torchaudio is not installed, nothing is changed.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

__all__ = ["AVAILABLE"]


def _stub() -> ModuleType:
    module = ModuleType("torchaudio._extension")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    module._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
    module.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    module._check_cuda_version = lambda: None  # type: ignore[attr-defined]
    return module


def _load() -> bool:
    if importlib.util.find_spec("torchaudio") is None:
        return False
    try:
        import torchaudio  # noqa: F401
    except OSError:
        for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _stub()
        import torchaudio  # noqa: F401
    return True


AVAILABLE = _load()
