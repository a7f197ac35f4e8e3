"""Files of docs/deploy, checked by the programs that read them as far as these are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from riffstream.config import load_config, similar_variables
from riffstream.server import api, health

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
VALUES = {"RIFFSTREAM_ACCESS_DJ_TOKEN": "a secret", "RIFFSTREAM_SERVER_PUBLIC_URL": "https://radio.example"}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | environment)


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    names = ("riffstream.service", "riffstream.socket", "riffstream@.service")
    for name in names:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/riffstream/bin/riffstream", "/bin/true"))
    checked = run(tool, "verify", *(str(tmp_path / name.replace("@", "@a")) for name in names))
    assert (checked.returncode, checked.stderr) == (0, "")


def test_caddy_accepts_its_file() -> None:
    tool = shutil.which("caddy")
    if tool is None:
        pytest.skip("caddy is not installed")
    file = str(DEPLOY / "Caddyfile")
    checked = run(tool, "validate", "--config", file, "--adapter", "caddyfile", RADIO_HOST="radio.example")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    "name", ["Dockerfile", "compose.yaml", "kubernetes.yaml", "riffstream.service", "riffstream@.service"]
)
def test_every_variable_is_a_setting(name: str) -> None:
    text = (DEPLOY / name).read_text()
    given = dict(re.findall(r"\b(RIFFSTREAM_[A-Z_]+)(?:=|: |, value: )\"?([^\s\"}\\]+)", text))
    named = set(re.findall(r"\bRIFFSTREAM_[A-Z_]+", text))
    assert named
    values = given | {key: VALUES[key] for key in named & VALUES.keys()}
    assert named <= values.keys() | {"RIFFSTREAM_GENERATOR_MODEL"}
    environment = {key: value.replace("%S", "/var/lib") for key, value in values.items()}
    load_config(environment=environment)  # an unknown key or a bad value raises
    assert similar_variables(environment) == {}


def test_the_probes_ask_for_paths_that_exist() -> None:
    deployment, claim, service = documents("kubernetes.yaml")
    assert [each["kind"] for each in (deployment, claim, service)] == ["Deployment", "PersistentVolumeClaim", "Service"]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    paths = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert paths <= {route.path for route in (*health.routes, *api.routes)}  # type: ignore[attr-defined]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_the_composition_builds_from_the_repository() -> None:
    (composition,) = documents("compose.yaml")
    built = composition["services"]["riffstream"]["build"]
    assert (DEPLOY / built["context"]).resolve() == DEPLOY.parents[1]
    assert ((DEPLOY / built["context"]) / built["dockerfile"]).is_file()
    assert composition["services"]["riffstream"]["expose"] == ["8080"]
    assert "riffstream:8080" in (DEPLOY / "Caddyfile").read_text()
