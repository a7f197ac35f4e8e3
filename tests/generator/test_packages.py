"""Optional packages that settings need: the error names the extra."""

from __future__ import annotations

import asyncio

import pytest

from riffstream.config import Config, GeneratorSettings, StationConfig
from riffstream.errors import ParameterError
from riffstream.generator import packages
from riffstream.generator.packages import check_installed
from riffstream.station.hub import Hub


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    check_installed(GeneratorSettings())
    check_installed(GeneratorSettings(backend="local"))
    with pytest.raises(ParameterError, match=r"generator.backend.*riffstream\[ray\]"):
        check_installed(GeneratorSettings(backend="ray:auto"))
    with pytest.raises(ParameterError, match=r"generator.runtime.*riffstream\[openvino\]"):
        check_installed(GeneratorSettings(runtime="openvino"))
    for settings in (GeneratorSettings(backend="ray:local"), GeneratorSettings(runtime="openvino")):
        config = Config(models={"large": settings}, stations={"main": StationConfig(model="large")})
        with pytest.raises(ParameterError, match=r"pip install 'riffstream\["):
            asyncio.run(Hub(config).start())


def test_the_packages_of_a_cluster_are_its_nodes_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    check_installed(GeneratorSettings(runtime="openvino", backend="ray:auto"))
