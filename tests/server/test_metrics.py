"""``/metrics`` as Prometheus' own tools read it, and the dashboard and alerts made for it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed

from tests.server.conftest import Running, running
from tests.server.test_process import Process, fetch, welcome
from tests.server.test_sockets import joined

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
UNITS = ("_seconds", "_bytes", "_total", "_info")
OPEN = "application/openmetrics-text; version=1.0.0"


async def text_of(served: Running, accept: str = "") -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{served.url}/metrics", headers={"Accept": accept}) as answer:
        kind = "application/openmetrics-text" if accept else "text/plain"
        assert answer.headers["Content-Type"].startswith(kind)
        return await answer.text()


def families(text: str) -> dict[str, Metric]:
    found = list(parsed(text))
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}


def value(text: str, name: str, **labels: str) -> float:
    for family in parsed(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(f"no {name} {labels}")


async def test_values_labels_and_types() -> None:
    async with (
        running(speed=10.0) as served,
        aiohttp.ClientSession() as http,
        http.get(f"{served.url}/stream/main.mp3") as response,
    ):
        await response.content.readexactly(1000)
        text = await text_of(served)
    assert value(text, "riffstream_listeners", station="main") == 1
    assert value(text, "riffstream_skips_total", station="main") == 0
    assert value(text, "riffstream_station_underruns_total", station="main") == 0
    assert value(text, "riffstream_listener_seconds_total", station="main") > 0
    assert value(text, "riffstream_generator_restarts_total") == 0
    assert value(text, "riffstream_loop_lag_seconds", stat="p95") < 1
    assert value(text, "riffstream_resident_bytes") > 1e6
    assert value(text, "riffstream_rejected_total") == 0  # there before anything was
    assert value(text, "riffstream_steer_to_air_seconds_count") == 0
    found = families(text)
    assert {found[f"riffstream_{name}"].type for name in ("station_underruns", "skips", "uploads")} == {"counter"}
    assert found["riffstream_listeners"].type == found["riffstream_uptime_seconds"].type == "gauge"
    assert all(family.documentation for family in found.values())


async def test_a_steer_is_timed_until_it_is_audible() -> None:
    async with running(speed=10.0) as served, joined(served) as client:
        await client.send(type="steer", id="a", bpm=101)
        await client.message("applied")
        await client.send(type="steer", id="b", bpm=102, at="clip")
        await client.message("applied")
        text = await text_of(served)
    assert value(text, "riffstream_steer_to_air_seconds_count") == 1
    assert 0 <= value(text, "riffstream_steer_to_air_seconds_sum") < 30


async def test_listener_seconds_count_every_listener() -> None:
    async with running(speed=10.0) as served, joined(served), joined(served):
        before = value(await text_of(served), "riffstream_listener_seconds_total", station="main")
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.5)
        after = value(await text_of(served), "riffstream_listener_seconds_total", station="main")
        passed = asyncio.get_running_loop().time() - began
    assert 0.9 <= after - before <= 2 * passed + 0.1


async def test_names_follow_the_conventions_and_both_formats_parse() -> None:
    async with running(speed=10.0) as served:
        text = await text_of(served)
        assert len(list(parsed_openmetrics(await text_of(served, OPEN)))) >= len(families(text)) - 4
    for family in families(text).values():
        assert re.fullmatch(r"riffstream_[a-z][a-z0-9_]*", family.name)
        assert not re.search(r"_(ms|s|mb|kb|pct)$", family.name), f"{family.name}: base units have full names"
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, timeout=60)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def used_metrics(text: str) -> set[str]:
    return set(re.findall(r"\briffstream_[a-z0-9_]+", text))


def test_the_dashboard_and_the_alerts_use_metrics_that_exist() -> None:
    process = Process()
    try:
        asyncio.run(welcome(process.url))
        exported = {sample.name for family in parsed(fetch(f"{process.url}/metrics")) for sample in family.samples}
    finally:
        process.end()
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 8
    rules = (DEPLOY / "alerts.yml").read_text()
    assert used_metrics(" ".join(queries)) | used_metrics(rules) <= exported
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: the syntax of the alert rules was not checked")
    checked = subprocess.run(
        [promtool, "check", "rules", str(DEPLOY / "alerts.yml")], text=True, capture_output=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
