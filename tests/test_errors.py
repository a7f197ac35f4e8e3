"""Which exceptions mean that memory ran out or that a device is lost."""

from __future__ import annotations

import errno

import pytest
import torch

from riffstream.errors import CheckpointError, device_lost, out_of_memory

CPU = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(CPU),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        caused(CheckpointError("unet cannot be read"), RuntimeError(CPU)),
    ],
)
def test_memory_that_ran_out_is_known_by_every_name(error: Exception) -> None:
    assert out_of_memory(error)


def test_torch_says_what_is_expected_when_a_cpu_has_no_memory() -> None:
    with pytest.raises(RuntimeError) as told:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(told.value)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory"),
        RuntimeError("shapes do not match"),
        OSError(errno.EMFILE, "x"),
        CheckpointError("x"),
    ],
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not out_of_memory(error)
    assert not device_lost(error)


def test_a_lost_device_is_known() -> None:
    assert device_lost(RuntimeError("CUDA error: device-side assert triggered"))
    assert not device_lost(ValueError("CUDA error"))
