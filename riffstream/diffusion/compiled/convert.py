"""Conversion of a denoiser for OpenVINO, in a process of its own: ``python -m riffstream.diffusion.compiled.convert``.

The conversion takes some 30 s of CPU in Python and 150 MB. In this process it takes neither Python's lock nor memory
from the music, and runs at the lowest priority.

Threading model
  Main thread     converts.
  Watching thread ends the process when its standard input ends, which the process that wants the network holds open.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from riffstream.diffusion.compiled.inputs import AnyBatch, denoiser_arrays, evaluate, example, example_arguments, shapes
from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.files import load_module, read_json, read_tensors, write_tensors

__all__ = ["JOB", "RESULT", "WEIGHTS", "convert", "main", "write_job"]

JOB, WEIGHTS, RESULT = "job.json", "weights.safetensors", "result"


def convert(denoiser: Denoiser, width: int, options: Mapping[str, Any]) -> bytes:
    """Compile a denoiser for latents of ``width`` columns and any batch.

    Args:
        denoiser: the network in float32.
        width: columns of the latents, those of 4/4 or 3/4 clips.
        options: properties of OpenVINO's CPU device.

    Returns:
        Data for ``openvino.Core.import_model``.
    """
    # OpenVINO's converter would report its use over the network if it could import this.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    config = denoiser.config
    batch, tokens = torch.export.Dim("batch", min=1, max=256), torch.export.Dim("tokens", min=2, max=1024)
    sizes = [{0: batch} for _ in shapes(config, width)]
    sizes[2], sizes[3] = {0: batch, 1: tokens}, {0: batch, 1: tokens}
    named = dict(zip(("x", "t", "tokens", "mask", "previous", "given", "conditions"), sizes, strict=False))
    # Without gradients the attention is one operation, which OpenVINO has too.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(
            AnyBatch(denoiser).eval(), example(config, width), dynamic_shapes=named, strict=False
        )
        model = openvino.convert_model(exported)
    model.reshape({place: openvino.PartialShape(shape) for place, shape in enumerate(shapes(config, width))})
    core = openvino.Core()
    data = core.compile_model(model, "CPU", dict(options)).export_model()
    data = data.getvalue() if isinstance(data, io.BytesIO) else bytes(data)
    # A network that would end its process (an instruction that this CPU does not have) ends this one.
    request = core.import_model(data, "CPU", dict(options)).create_infer_request()
    evaluate(request, denoiser_arrays(config, *example_arguments(config, width)))
    return data


def main() -> None:
    """Convert what the folder of the first argument contains, and write the result there."""
    threading.Thread(target=_watch, name="parent", daemon=True).start()
    with contextlib.suppress(OSError, AttributeError):  # Windows has no os.nice
        os.nice(19)
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    job = read_json(folder / JOB)
    denoiser = Denoiser(DenoiserConfig(**job["config"]))
    load_module(denoiser, read_tensors(folder / WEIGHTS), "denoiser")
    part = folder / f"{RESULT}.part"
    part.write_bytes(convert(denoiser.requires_grad_(False), job["width"], job["options"]))
    os.replace(part, folder / RESULT)


def write_job(folder: Path, denoiser: Denoiser, width: int, options: Mapping[str, Any]) -> None:
    """Write what :func:`main` reads."""
    tensors = {name: value.float() for name, value in denoiser.state_dict().items()}
    write_tensors(folder / WEIGHTS, tensors)
    job = {"config": asdict(denoiser.config), "width": width, "options": dict(options)}
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")


def _watch() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock this thread would hold while the process ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
