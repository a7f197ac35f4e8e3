"""Common parts of all training runs: saving and resuming, the log, the moving average of the weights, the step size."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from riffstream.diffusion.mini.family import preferred_dtype
from riffstream.errors import ParameterError
from riffstream.training.guard import TrainingError, all_finite

__all__ = [
    "Ema",
    "Log",
    "Muon",
    "autocast",
    "common_arguments",
    "load_averaged",
    "load_state",
    "log_table",
    "pick_device",
    "save_state",
    "step_size",
    "until_terminated",
]


def common_arguments(parser: argparse.ArgumentParser, *, minutes: float) -> None:
    """Options of all stages."""
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="corpus folder (riffstream train corpus)")
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="run folder: states, log, exported model")
    parser.add_argument("--preset", choices=("cpu", "gpu", "smoke"), default="cpu", help="model sizes and batch")
    parser.add_argument("--minutes", type=float, default=minutes, help="duration of the run; the next run continues")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


@contextmanager
def until_terminated() -> Iterator[Callable[[], bool]]:
    """Record SIGTERM: the yielded function returns True after it, so a run can save its state and end.

    Outside the main thread no handler can be set; the function always returns False.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def pick_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA if available, otherwise the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ParameterError("device", name, "auto, cpu, cuda, cuda:N or mps") from None


@contextmanager
def autocast(device: torch.device) -> Iterator[None]:
    """bfloat16 on devices with hardware support, otherwise float32."""
    dtype = preferred_dtype(device)
    manager = torch.autocast(device.type, torch.bfloat16) if dtype == torch.bfloat16 else nullcontext()
    with manager:
        yield


class Ema:
    """Moving average of a module's parameters; the decay min(decay, (1 + n) / (10 + n)) is short at first."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.count += 1
        rate = 1 - min(self.decay, (1 + self.count) / (10 + self.count))
        own, now = list(self.values.values()), [value.detach() for _, value in module.named_parameters()]
        torch._foreach_lerp_(own, now, rate)

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "values": self.values}

    def restore(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Set ``module`` to the average for the duration of the block."""
        kept = {name: value.detach().clone() for name, value in module.named_parameters()}
        self._write(module, self.values)
        try:
            yield
        finally:
            self._write(module, kept)

    @staticmethod
    @torch.no_grad()
    def _write(module: nn.Module, values: dict[str, Tensor]) -> None:
        for name, parameter in module.named_parameters():
            parameter.copy_(values[name])


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024): momentum whose update is orthogonalised by Newton-Schulz iterations.

    For the matrices of a transformer. The update is scaled to the size of an AdamW step (Liu et al. 2025,
    arXiv:2502.16982), so both share one step size. Matrices of equal shape are processed as one batch.
    """

    def __init__(
        self, params: Sequence[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for value in group["params"]:
                if value.grad is not None:
                    shapes.setdefault((min(value.shape), max(value.shape)), []).append(value)
            for values in shapes.values():
                updates = []
                for value in values:
                    assert value.grad is not None
                    state = self.state[value]
                    if not state:
                        state["momentum"] = torch.zeros_like(value)
                    state["momentum"].lerp_(value.grad, 1 - group["momentum"])
                    update = value.grad.lerp(state["momentum"], group["momentum"])
                    updates.append(update.T if value.shape[0] > value.shape[1] else update)
                turned = _orthogonalise(torch.stack(updates))
                for value, update in zip(values, turned, strict=True):
                    update = update.T if value.shape[0] > value.shape[1] else update
                    value.mul_(1 - group["lr"] * group["weight_decay"])
                    value.add_(update, alpha=-group["lr"] * 0.2 * max(value.shape) ** 0.5)


def _orthogonalise(x: Tensor, steps: int = 5) -> Tensor:
    """Approximately the nearest semi-orthogonal matrices to x [n, rows, columns]: singular values from 0.7 to 1.2."""
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if preferred_dtype(x.device) != torch.float32:
        x = x.bfloat16()  # for speed: according to its authors, the iteration tolerates it
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.float()


def step_size(step: int, warm_up: int, remaining: float = 1.0, decay_from: float = 0.0) -> float:
    """Factor of the step size: a linear warm-up, a constant part, and with ``decay_from`` > 0 a linear fall to zero
    over the last share ``decay_from`` of the run. ``remaining``: remaining share of the run, in [0, 1]."""
    factor = min(1.0, (step + 1) / max(warm_up, 1))
    if decay_from > 0:
        factor *= min(1.0, max(remaining, 0.0) / decay_from)
    return factor


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state atomically.

    Raises:
        TrainingError: the state is not finite; the file keeps the previous state.
    """
    if not all_finite(state):
        raise TrainingError(f"the weights are no longer finite; {path} keeps the last good state")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def load_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The state written by :func:`save_state`; None without a file."""
    if not path.is_file():
        return None
    return dict(torch.load(path, map_location=device, weights_only=True))


def load_averaged(module: nn.Module, state: dict[str, Any], key: str) -> None:
    """Fill ``module`` from a training state: buffers of ``state[key]``, and the averages of its parameters."""
    module.load_state_dict(state[key])
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(state["ema"]["values"][name])


class Log:
    """``log.jsonl`` of a run folder: one line per event, also shown on stderr unless quiet. Lines are never deleted."""

    def __init__(self, folder: Path, stage: str, *, quiet: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.jsonl"
        self._stage = stage
        self._quiet = quiet

    def __call__(self, **values: float | int | str) -> None:
        tidy = {name: _tidy(value) for name, value in values.items()}
        line = {"stage": self._stage, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **tidy}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if not self._quiet:
            from tqdm import tqdm

            tqdm.write("  ".join(f"{key} {value}" for key, value in tidy.items()), file=sys.stderr)


def _tidy(value: float | int | str) -> float | int | str | None:
    """Five significant digits; None for values that JSON does not support."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def log_table(folder: Path) -> str:
    """``log.jsonl`` of a run as Markdown: a table per stage; lines without common columns are separate."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        stages.setdefault(entry.pop("stage"), []).append(entry)
    parts = []
    for stage, entries in stages.items():
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for entry in entries:
            groups.setdefault(tuple(entry), []).append(entry)
        parts.append(f"## {stage}")
        for names, rows in groups.items():
            head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
            parts.append("\n".join([head, *(f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows)]))
    return "\n\n".join(parts) + "\n"
