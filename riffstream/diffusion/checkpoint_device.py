"""Selection of a model's device and precision."""

from __future__ import annotations

import torch

from riffstream.errors import ParameterError

__all__ = ["pick_device", "pick_dtype"]

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Device by name; ``auto`` is CUDA, else MPS, else the CPU.

    Raises:
        ParameterError: an unknown name, or a device that this machine or this build of torch does not have.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    here = ["auto", "cpu", *(["cuda"] if cuda else []), *(["mps"] if mps else [])]
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise ParameterError("device", str(device), ", ".join(here)) from None
    in_range = chosen.type != "cuda" or chosen.index is None or chosen.index < torch.cuda.device_count()
    if chosen.type not in here or not in_range:
        raise ParameterError("device", str(device), f"{', '.join(here)} (what this machine and this torch have)")
    return chosen


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Precision by name, or ``auto``.

    ``auto`` is bfloat16 on devices with native bfloat16 products (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX),
    float16 on other GPUs, and float32 on other CPUs, where emulated bfloat16 is slower than float32.

    Raises:
        ParameterError: an unknown name.
    """
    if isinstance(dtype, torch.dtype):
        if dtype not in DTYPES.values():
            raise ParameterError("dtype", str(dtype), "float32, bfloat16 or float16")
        return dtype
    if dtype != "auto":
        if dtype not in DTYPES:
            raise ParameterError("dtype", dtype, "auto, float32, bfloat16 or float16")
        return DTYPES[dtype]
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if ampere else torch.float16
    if device.type == "mps":
        return torch.float16
    # Releases of torch before 2.9 do not report it and get float32.
    features: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16")
    return torch.bfloat16 if fast else torch.float32
