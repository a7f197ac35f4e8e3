"""``[tracing]``: traces of steers."""

from __future__ import annotations

from typing import Annotated

from riffstream.config.rules import Section
from riffstream.errors import ParameterError
from riffstream.ranges import between

__all__ = ["TracingSettings"]


class TracingSettings(Section, frozen=True, kw_only=True):
    """``[tracing]``: traces of steers with OpenTelemetry (extra ``otel``).

    Attributes:
        endpoint: address of an OTLP receiver over HTTP, such as ``http://localhost:4318/v1/traces``; empty: no traces.
        service_name: name of this server in the traces.
        sample: share of the steers that are traced.
    """

    endpoint: str = ""
    service_name: str = "riffstream"
    sample: Annotated[float, between(0, 1)] = 1.0

    def __post_init__(self) -> None:
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ParameterError("endpoint", self.endpoint, "an address with http:// or https://")
