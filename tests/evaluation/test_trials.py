"""Trials of a model: what the clips of its long stream continue."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from riffstream.diffusion.clip import Clip, ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.evaluation.trials import drift


def test_a_long_stream_continues_as_stations_do(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(MiniFamily.random(), steps=2)
    made: list[Clip] = []
    render = engine.render

    def kept(request: ClipRequest) -> Clip:
        made.append(render(request))
        return made[-1]

    monkeypatch.setattr(engine, "render", kept)
    probe: Any = SimpleNamespace(listen=lambda features: (np.eye(4)[: len(features)], None))
    assert drift(engine, probe, "jazz", None, 4)["clips"] == 4
    assert made[0].request.previous is None
    for before, clip in pairwise(made):
        assert clip.request.previous is before.latents
        assert clip.request.origin is made[0].latents
