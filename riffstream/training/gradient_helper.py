"""Gradient helpers: additional processes for a training run on a shared CPU.

Threads of one process wait for each other at every matrix product, so one busy neighbour slows all of them. A helper
computes the gradient of its own batch with the shared weights and stores it in shared memory. The main process takes
a finished gradient, at most one step old, and never waits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["GradientHelper", "Job"]

Job = Callable[[nn.Module, int], tuple[Tensor, int]]  # (model, index) -> (mean loss with graph, examples)


@dataclass(slots=True)
class _Shared:
    gradient: Tensor  # [P] float32, mean over the helper's batch
    control: Tensor  # [3] int64: examples ready (0: none), stop, pid of the main process


def _work(
    model: nn.Module, make_job: Callable[..., Job], arguments: tuple[Any, ...], shared: _Shared, core: int
) -> None:
    torch.set_num_threads(1)
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, 10)  # lower priority than the main process and other programs
    if core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    job = make_job(*arguments)
    index = 0
    while not shared.control[1]:
        if os.getppid() != int(shared.control[2]):
            return
        model.zero_grad(set_to_none=True)
        loss, examples = job(model, index)
        loss.backward()  # type: ignore[no-untyped-call]
        index += 1
        while shared.control[0] and not shared.control[1] and os.getppid() == int(shared.control[2]):
            time.sleep(0.02)
        torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()],
            out=shared.gradient,
        )
        shared.control[0] = examples


class GradientHelper:
    """One helper process.

    Args:
        model: its parameters move to shared memory; the main process must change them in place afterwards.
        make_job: importable function; it builds the job from ``arguments`` inside the helper.
        core: CPU core of the helper; -1: any core.

    Threading model
        Main process calls ``add_to`` after its own backward pass; never blocks.
        ``close()`` is idempotent and ends the process within 5 s. The helper also ends after the end of its parent.
    """

    def __init__(
        self, model: nn.Module, make_job: Callable[..., Job], arguments: tuple[Any, ...], *, core: int = -1
    ) -> None:
        import torch.multiprocessing as processes

        model.share_memory()
        self._parameters = list(model.parameters())
        size = sum(parameter.numel() for parameter in self._parameters)
        gradient, control = torch.zeros(size), torch.tensor([0, 0, os.getpid()])
        for shared in (gradient, control):
            shared.share_memory_()  # type: ignore[no-untyped-call]
        self._shared = _Shared(gradient, control)
        context = processes.get_context("spawn")
        self._process = context.Process(
            target=_work, args=(model, make_job, arguments, self._shared, core), daemon=True
        )
        self._process.start()

    def add_to(self, examples: int) -> int:
        """Average a finished helper gradient into the main gradient of ``examples``; returns the helper's examples."""
        extra = int(self._shared.control[0])
        if extra == 0:
            return 0
        share = extra / (extra + examples)
        at = 0
        for parameter in self._parameters:
            part = self._shared.gradient[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()
            if parameter.grad is not None:
                parameter.grad.lerp_(part, share)
        self._shared.control[0] = 0
        return extra

    def close(self) -> None:
        self._shared.control[1] = 1
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(5)
