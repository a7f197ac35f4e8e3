"""A denoiser that OpenVINO evaluates as soon as its converted network is ready.

Threading model
  Owner           (the engine's thread) calls :meth:`CompiledDenoiser.__call__` and :meth:`start`.
  Preparation     a thread for each width of latents: it finds the network in the cache or lets a process convert it,
                  loads it, compares it with torch, and hands it over once. It never runs it again.
  Any thread      :attr:`runtime` and :meth:`wait`.
  Faults          of the preparation or an evaluation end the use of OpenVINO for this width: torch goes on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from riffstream.diffusion.compiled.cache import NetworkCache, cache_folder
from riffstream.diffusion.compiled.convert import RESULT, write_job
from riffstream.diffusion.compiled.inputs import denoiser_arrays, evaluate, example_arguments
from riffstream.diffusion.family import Runtime
from riffstream.diffusion.mini.denoiser import Denoiser
from riffstream.errors import ParameterError, RiffstreamError

__all__ = ["CompiledDenoiser", "check_runtime"]

log = logging.getLogger(__name__)

CONVERSION_S: Final = 3600.0  # limit for a conversion, which takes a minute on an idle machine
# Largest allowed difference from torch, relative to the largest value of an evaluation. bfloat16 has 8 bits.
TOLERANCE: Final = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
HINTS: Final = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
SOURCES: Final = ("../mini/denoiser.py", "convert.py", "inputs.py")  # a change of them makes other networks


def check_runtime(device: torch.device) -> None:
    """Raise ParameterError if OpenVINO is not installed, or the model's device is not the CPU. It is not imported."""
    if importlib.util.find_spec("openvino") is None:
        allowed = "torch; OpenVINO is not installed (pip install 'riffstream[openvino]')"
        raise ParameterError("runtime", "openvino", allowed)
    if device.type != "cpu":
        raise ParameterError("runtime", "openvino", f"torch on the device {device}; OpenVINO is for the CPU")


class CompiledDenoiser:
    """Evaluations of a denoiser by OpenVINO, or None where torch has to do them.

    Args:
        denoiser: the network, on the CPU.
        dtype: precision of the products.
        cache: converted networks; None: those of the user.
        launch: runs the conversion of a folder; raises RiffstreamError. By default in a process of its own.

    Attributes:
        patient: True makes evaluations wait for the network, so that the same work gives the same result; False lets
            torch do them meanwhile.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        dtype: torch.dtype,
        *,
        cache: NetworkCache | None = None,
        launch: Callable[[Path], None] | None = None,
    ) -> None:
        self.denoiser, self.dtype = denoiser, dtype
        self.patient = False
        self._cache = cache or NetworkCache(cache_folder())
        self._launch = launch or _convert_apart
        self._threads = torch.get_num_threads()
        self._networks: dict[int, _Network] = {}
        config = denoiser.config
        self._widths = (config.columns, config.columns_triple)

    def start(self, width: int) -> None:
        """Prepare the network for latents of ``width`` columns, in a thread, unless this was done before."""
        if width in self._widths and width not in self._networks:
            network = self._networks[width] = _Network()
            work = threading.Thread(target=self._prepare, args=(width, network), name=f"openvino-{width}", daemon=True)
            work.start()

    def wait(self, timeout_s: float | None = None) -> Runtime:
        """Wait until all started networks are ready or given up; return :attr:`runtime`."""
        for network in list(self._networks.values()):
            network.settled.wait(timeout_s)
        return self.runtime

    @property
    def runtime(self) -> Runtime:
        """What evaluates the network now; with several widths, the first one that OpenVINO does not evaluate."""
        found = [network.runtime for network in list(self._networks.values())]
        return next((each for each in found if each.note), found[0] if found else Runtime("torch"))

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor,
        mask: Tensor | None,
        previous: Tensor | None,
        previous_mask: Tensor | None,
        conditions: Tensor | None,
    ) -> Tensor | None:
        """Evaluate as ``Denoiser.forward`` does, float32; None: OpenVINO is not ready, or cannot do this one."""
        self.start(x.shape[-1])
        network = self._networks.get(x.shape[-1])
        if network is not None and self.patient:
            network.settled.wait()
        if network is None or network.request is None:
            return None
        try:
            arrays = denoiser_arrays(self.denoiser.config, x, t, tokens, mask, previous, previous_mask, conditions)
            made = evaluate(network.request, arrays)
        except Exception as error:
            network.give_up(f"an evaluation failed: {_line(error)}")
            return None
        if not bool(torch.isfinite(made).all()):
            network.give_up("an evaluation gave numbers that are not finite")
            return None
        return made

    def _prepare(self, width: int, network: _Network) -> None:
        try:
            request = self._load(width, network)
        except Exception as error:  # OpenVINO raises RuntimeError; a broken installation ImportError or OSError
            network.give_up(_line(error))
        else:
            network.request = request
            network.runtime = Runtime("openvino")
        network.settled.set()

    def _load(self, width: int, network: _Network) -> Any:
        """A request of the network for ``width``, tried and found equal to torch."""
        import openvino

        core = openvino.Core()
        options = {**self._options(), "INFERENCE_NUM_THREADS": self._threads}
        key = self._key(width, openvino.get_version(), core)
        data = self._cache.load(key)
        if data is not None:
            try:
                return self._tried(core.import_model(data, "CPU", options), width)
            except Exception as error:
                log.warning("a network in the cache cannot be used and is made again: %s", _line(error))
                self._cache.remove(key)
        with self._cache.lock():
            data = self._cache.load(key)  # another process may have converted it
            if data is None:
                network.runtime = Runtime("torch", "OpenVINO's network is converted, once for this version")
                data = self._convert(width)
                try:
                    self._cache.store(key, data)
                except OSError as error:
                    log.warning("the converted network cannot be kept, so the next start converts it again: %s", error)
        return self._tried(core.import_model(data, "CPU", options), width)

    def _options(self) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": HINTS[self.dtype],
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # the pinned core may be busy with the server
        }

    def _key(self, width: int, version: str, core: Any) -> str:
        digest = hashlib.blake2b(digest_size=16)
        device = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
        digest.update(repr((self.denoiser.config, width, self._options(), version, torch.__version__, device)).encode())
        for source in SOURCES:
            digest.update((Path(__file__).parent / source).read_bytes())
        for name, value in sorted(self.denoiser.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _convert(self, width: int) -> bytes:
        with tempfile.TemporaryDirectory(prefix="riffstream-openvino-") as folder:
            write_job(Path(folder), self.denoiser, width, self._options())
            self._launch(Path(folder))
            return (Path(folder) / RESULT).read_bytes()

    @torch.no_grad()
    def _tried(self, compiled: Any, width: int) -> Any:
        """A request of a compiled network, after a comparison with torch. Raises RiffstreamError if they differ."""
        request = compiled.create_infer_request()
        given = example_arguments(self.denoiser.config, width)
        made = evaluate(request, denoiser_arrays(self.denoiser.config, *given))
        dtype = next(self.denoiser.parameters()).dtype
        x, t, tokens, mask, previous, known, conditions = given
        if conditions is not None:
            conditions = conditions.to(dtype)
        wanted = self.denoiser(
            x.to(dtype), t, tokens.to(dtype), mask, previous.to(dtype), known, conditions=conditions
        ).float()
        error = float((made - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
        if not error <= TOLERANCE[self.dtype]:
            raise RiffstreamError(f"its result differs from torch's by {error:.2g} of the largest value")
        return request


class _Network:
    """The network for one width: what the preparation hands over, and what is said about it."""

    def __init__(self) -> None:
        self.request: Any = None
        self.settled = threading.Event()
        self.runtime = Runtime("torch", "OpenVINO's network is loaded")

    def give_up(self, why: str) -> None:
        """Use torch from now on."""
        self.request = None
        self.runtime = Runtime("torch", f"OpenVINO cannot be used: {why}", fault=True)


def _convert_apart(folder: Path) -> None:
    """Convert what is in a folder, in a process. Raises RiffstreamError with its last words."""
    command = [sys.executable, "-m", "riffstream.diffusion.compiled.convert", str(folder)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
    }
    with (
        open(folder / "stderr", "wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        ) as process,
    ):
        try:
            code = process.wait(CONVERSION_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RiffstreamError(f"the conversion did not end within {CONVERSION_S:g} s") from None
    said = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if code != 0 or not (folder / RESULT).is_file():
        raise RiffstreamError(f"the conversion ended with code {code}: {said[-1] if said else 'without a message'}")


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, RiffstreamError) else f"{type(error).__name__}: {text}"
