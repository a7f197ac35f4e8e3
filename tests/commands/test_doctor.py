"""``riffstream doctor``: what it finds, in words, as JSON and as an exit code."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from riffstream.cli import main
from riffstream.commands import doctor
from riffstream.config import Config
from riffstream.generator.messages import Job
from riffstream.generator.renderer import ToneRenderer

TRACING = '[tracing]\nendpoint = "http://127.0.0.1:4318/v1/traces"\n'


def examined(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json", *options])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


def levels(report: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["level"] for each in report["findings"]}


def config(tmp_path: Path, text: str) -> str:
    file = tmp_path / "radio.toml"
    file.write_text(text)
    return str(file)


def test_a_good_machine_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "MEASURE_S", 0.5)
    monkeypatch.setattr("os.getloadavg", lambda: (0.5, 0.5, 0.5))
    file = config(tmp_path, f'[server]\nport = 0\nstate_dir = "{tmp_path}"\n')
    code, report = examined(capsys, "--config", file, "--model", "tone")
    assert code == 0
    assert report["ready"]
    assert set(levels(report)) == {
        "codecs", "packages", "port", "folder", "open files", "sandbox", "access", "proxy", "clock", "player", "model",
    }  # fmt: skip
    assert levels(report)["codecs"] == levels(report)["folder"] == "good"
    model = next(each["text"] for each in report["findings"] if each["name"] == "model")
    measured = re.search(r"([\d.]+) s of music in a second", model)
    assert measured is not None
    assert report["stations"] == pytest.approx(float(measured[1]) * doctor.SHARE, abs=1)
    assert report["listeners"] >= 100
    assert report["preset"] == "mini"


def spare_renderer(monkeypatch: pytest.MonkeyPatch, *, spare: bool = True) -> ToneRenderer:
    renderer = ToneRenderer(waits=1)
    renderer.info = msgspec.structs.replace(renderer.info, spare=spare)
    monkeypatch.setattr("riffstream.commands.rendering.model.load_renderer", lambda *_, **__: renderer)
    monkeypatch.setattr("os.getloadavg", lambda: (0.5, 0.5, 0.5))
    return renderer


@pytest.mark.parametrize(("spare", "eased", "said"), [
    (True, 9, "7 stations at once at full quality, 9 without the guidance of clips ahead of playback, and about"),
    (False, 7, "7 stations at once at full quality and about"),
])  # fmt: skip
def test_stations_are_counted_at_full_quality_and_with_less_effort(
    spare: bool, eased: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spare_renderer(monkeypatch, spare=spare)
    monkeypatch.setattr(doctor, "_speed", lambda *_, spare=True: 10.5 if spare else 13.5)
    _, report = examined(capsys)
    assert (report["stations"], report["stations_eased"]) == (7, eased)
    main(["doctor"])
    assert said in capsys.readouterr().out


def test_less_effort_is_no_guidance_and_the_measurement_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = spare_renderer(monkeypatch)
    monkeypatch.setattr(doctor, "MEASURE_S", 0.05)
    jobs: list[Job] = []
    submit = renderer.submit
    monkeypatch.setattr(renderer, "submit", lambda job: (jobs.append(job), submit(job)))
    for spare in (True, False):
        jobs.clear()
        assert doctor._speed(renderer, Config(), spare=spare) > 0
        assert {job.guided for job in jobs} == {spare}
        assert {job.station for job in jobs} == {f"doctor-{number}" for number in range(doctor.AT_ONCE)}
        assert not renderer.pending


def test_a_busy_machine_is_not_judged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MEASURE_S", 0.1)
    monkeypatch.setattr("os.getloadavg", lambda: (90.0, 0.5, 0.5))
    code, report = examined(capsys, "--model", "tone")
    found = next(each for each in report["findings"] if each["name"] == "model")
    assert found["level"] == "warning"
    assert "busy (load 90)" in found["text"]
    assert code in (0, 1)  # the default port may be in use


def test_what_prevents_a_server_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = config(tmp_path, f'[server]\nhost = "127.0.0.1"\nport = {taken.getsockname()[1]}\n')
        code, report = examined(capsys, "--config", file, "--quick")
    assert code == 1
    assert not report["ready"]
    assert levels(report)["port"] == "bad"
    file = config(tmp_path, '[server]\nport = 0\n[generator]\nmodel = "/nowhere"\n')
    code, report = examined(capsys, "--config", file)
    assert code == 1
    assert levels(report)["model"] == "bad"


@pytest.mark.parametrize(
    ("section", "missing", "named"),
    [
        ('[generator]\nbackend = "ray:local"\n', "ray", "riffstream[ray]"),
        ('[models.big]\nmodel = "tone"\nbackend = "ray:local"\n', "ray", "riffstream[ray]"),
        (
            '[tracing]\nendpoint = "http://127.0.0.1:4318/v1/traces"\n',
            "opentelemetry.sdk.trace",
            "riffstream[otel]",
        ),
    ],
)
def test_a_setting_without_its_package_prevents_a_server(
    section: str,
    missing: str,
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == missing else find(name, *more))
    monkeypatch.setitem(sys.modules, missing, None)
    code, report = examined(capsys, "--config", config(tmp_path, f"[server]\nport = 0\n{section}"), "--quick")
    assert code == 1
    assert levels(report)["packages"] == "bad"
    assert named in next(each["text"] for each in report["findings"] if each["name"] == "packages")


def test_a_setting_with_its_package_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp", reason="the extra otel is not installed")
    code, report = examined(capsys, "--config", config(tmp_path, f"[server]\nport = 0\n{TRACING}"), "--quick")
    assert (code, levels(report)["packages"]) == (0, "good")


def test_a_model_on_a_cluster_is_not_measured_on_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine need not have the cluster's GPU."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    section = '[generator]\nmodel = "/models/of/the/nodes"\nbackend = "ray:auto"\ndevice = "cuda"\n'
    code, report = examined(capsys, "--config", config(tmp_path, f"[server]\nport = 0\n{section}"))
    assert code == 0
    assert (levels(report)["model"], report["stations"]) == ("warning", None)
    assert "Ray cluster (ray:auto)" in report["findings"][-1]["text"]


def test_limitations_are_notes_in_plain_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config(tmp_path, '[server]\nhost = "0.0.0.0"\nport = 0\npublic_url = "https://radio.example"\n')
    assert main(["doctor", "--config", file, "--quick"]) == 0
    out = capsys.readouterr().out
    assert "note access: anyone who can reach this address may steer; set access.dj_token" in out
    assert "note proxy: server.public_url is set without server.trusted_proxies" in out
    assert "note folder: server.state_dir is not set" in out
    assert out.rstrip().endswith("--config public-radio")


def test_the_listeners_are_those_of_one_core_with_a_reserve() -> None:
    config = Config.from_dict({"limits": {"connections": 1_000_000}})
    assert doctor._listeners(25.0, config) == 28_000  # 0.7 of 40,000
    assert doctor._listeners(32.6, config) == 21_000  # 21,472 in round numbers
    assert doctor._listeners(25.0, Config()) == Config().limits.connections, "no more than the server admits"
