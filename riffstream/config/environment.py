"""Environment variables of a platform that look like settings but are none.

Kubernetes describes each service of the namespace, such as ``riffstream-server``, in
``RIFFSTREAM_SERVER_SERVICE_HOST``, ``RIFFSTREAM_SERVER_PORT=tcp://…`` and others. Docker does so for each link.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["injected_variables"]

_PREFIX = "RIFFSTREAM_"
# kubernetes.io: "Accessing the Service", environment variables; docs.docker.com: "Legacy container links".
_NAMES = re.compile(
    r"(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?|ENV_.+)",
    re.DOTALL,
)
# Names that could also be settings: the value decides.
_VALUES = {
    "PORT": re.compile(r"(?:tcp|udp|sctp)://\S+:\d{1,5}"),
    "NAME": re.compile(r"/[^/\s]+/[^/\s]+"),
}


def injected_variables(environment: Mapping[str, str]) -> list[str]:
    """Sorted names of the variables with our prefix that describe a service or a link."""
    return sorted(name for name, value in environment.items() if name.startswith(_PREFIX) and _is_injected(name, value))


def _is_injected(name: str, value: str) -> bool:
    rest = name.removeprefix(_PREFIX)
    rule = _VALUES.get(rest.rpartition("_")[2])
    return bool(_NAMES.fullmatch(rest) or (rule is not None and rule.fullmatch(value)))
