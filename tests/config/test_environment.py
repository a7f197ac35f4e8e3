"""What platforms put into the environment is no setting; a real mistake still is one."""

from __future__ import annotations

import pytest

from riffstream.config import injected_variables, load_config, similar_variables
from riffstream.errors import ParameterError

SERVICES = ["RIFFSTREAM", "RIFFSTREAM_SERVER", "RIFFSTREAM_LOG", "RIFFSTREAM_ACCESS", "RIFFSTREAM_GENERATOR_2"]


def kubernetes(service: str) -> dict[str, str]:
    """What a pod gets for a service with the ports 8080/TCP (named "http") and 53/UDP."""
    return {
        f"{service}_SERVICE_HOST": "10.0.0.7",
        f"{service}_SERVICE_PORT": "8080",
        f"{service}_SERVICE_PORT_HTTP": "8080",
        f"{service}_SERVICE_PORT_METRICS_V2": "9090",
        f"{service}_PORT": "tcp://10.0.0.7:8080",
        f"{service}_PORT_8080_TCP": "tcp://10.0.0.7:8080",
        f"{service}_PORT_8080_TCP_PROTO": "tcp",
        f"{service}_PORT_8080_TCP_PORT": "8080",
        f"{service}_PORT_8080_TCP_ADDR": "10.0.0.7",
        f"{service}_PORT_53_UDP": "udp://[fd00::7]:53",
        f"{service}_PORT_53_UDP_ADDR": "fd00::7",
    }


def docker(alias: str) -> dict[str, str]:
    """What a container gets for a legacy link."""
    return {
        f"{alias}_NAME": "/web/riffstream-server",
        f"{alias}_PORT": "tcp://172.17.0.5:8080",
        f"{alias}_PORT_8080_TCP": "tcp://172.17.0.5:8080",
        f"{alias}_ENV_PATH": "/usr/bin",
        f"{alias}_ENV_GPG_KEY": "x",
        f"{alias}_ENV_lang": "C.UTF-8",
    }


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("platform", [kubernetes, docker])
def test_what_platforms_inject_is_passed_over(service: str, platform: type) -> None:
    environment = platform(service)
    assert injected_variables(environment) == sorted(environment)
    assert load_config(environment=environment) == load_config(environment={})
    assert similar_variables(environment) == {}


def test_settings_beside_injected_variables_are_read() -> None:
    environment = kubernetes("RIFFSTREAM_LOG") | {"RIFFSTREAM_LOG_LEVEL": "debug", "RIFFSTREAM_SERVER_PORT": "9000"}
    config = load_config(environment=environment)
    assert (config.log.level, config.server.port) == ("debug", 9000)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RIFFSTREAM_SERVER_PORT", "tcp"),
        ("RIFFSTREAM_SERVER_PORT", "http://10.0.0.7:8080"),
        ("RIFFSTREAM_SERVER_PORT", "tcp://10.0.0.7"),
        ("RIFFSTREAM_SERVER_PROT", "9000"),
        ("RIFFSTREAM_SERVER_NAME", "radio"),
        ("RIFFSTREAM_SERVER_HOSTS", "10.0.0.7"),
        ("RIFFSTREAM_LOG_SERVICE", "x"),
    ],
)
def test_a_real_mistake_is_still_refused(variable: str, value: str) -> None:
    with pytest.raises(ParameterError, match=variable):
        load_config(environment={variable: value})


def test_a_slip_of_the_pen_is_still_warned_of() -> None:
    assert similar_variables({"RIFFSTREAM_PORT": "9000"}) == {"RIFFSTREAM_PORT": "RIFFSTREAM_SERVER_PORT"}
