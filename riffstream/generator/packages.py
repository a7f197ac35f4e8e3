"""Optional packages that the generators' settings need."""

from __future__ import annotations

import importlib.util

from riffstream.config import GeneratorSettings
from riffstream.errors import ParameterError

__all__ = ["check_installed"]


def check_installed(settings: GeneratorSettings) -> None:
    """Raise ParameterError if the settings need a package that is not installed. Nothing is imported."""
    if settings.on_ray and importlib.util.find_spec("ray") is None:
        allowed = "local; Ray is not installed (pip install 'riffstream[ray]')"
        raise ParameterError("generator.backend", settings.backend, allowed)
    # The nodes of a cluster have packages of their own.
    if settings.runtime == "openvino" and not settings.on_ray and importlib.util.find_spec("openvino") is None:
        allowed = "torch; OpenVINO is not installed (pip install 'riffstream[openvino]')"
        raise ParameterError("generator.runtime", settings.runtime, allowed)
