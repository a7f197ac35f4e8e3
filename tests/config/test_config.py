"""Configuration: precedence, checks, presets, and the command that prints it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from riffstream.cli import main
from riffstream.config import (
    AccessSettings,
    Config,
    GeneratorSettings,
    PushSettings,
    ServerSettings,
    StationConfig,
    TimelineSettings,
    WebhookSettings,
    check_station_name,
    json_schema,
    load_config,
    presets,
    similar_variables,
    to_toml,
)
from riffstream.errors import MediaError, ParameterError

TABLES = {
    "stations": StationConfig,
    "models": GeneratorSettings,
    "push": PushSettings,
    "webhooks": WebhookSettings,
}  # of the sections with a table for each name


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return path


def test_defaults_then_file_then_environment_then_flags(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nport = 1\nhost = 'file'\ndrain_s = 1")
    environment = {"RIFFSTREAM_SERVER_PORT": "2", "RIFFSTREAM_SERVER_HOST": "env", "RIFFSTREAM_TOKEN": "other"}
    config = load_config(path, environment=environment, flags={"server.port": 3, "generator.model": None})
    assert (config.server.port, config.server.host, config.server.drain_s) == (3, "env", 1.0)
    assert config.generator.model == "mini"


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("[sever]\n", "section", "did you mean 'server'?"),
        ("[server]\nprot = 1", r"\[server\]", "did you mean 'port'?"),
        ("[server]\nport = 'x'", "server.port", "a whole number from 0 to 65535"),
        ("[server]\nport = true", "server.port", "a whole number from 0 to 65535"),
        ("[server]\nport = 65536", "server.port", "0 to 65535"),
        ("[server]\ndrain_s = true", "server.drain_s", "0 to 600 s"),
        ("[limits]\nrecording_s = 300", "limits.recording_s", "0 to 120 s, which timeline.ring_s keeps"),
        ("[timeline]\nring_s = 20\n[limits]\nrecording_s = 21", "limits.recording_s", "0 to 20 s"),
        ("[server]\nallowed_origins = 'x'", "server.allowed_origins", "a list of strings"),
        ("[server]\nallowed_origins = ['radio.example']", "server.allowed_origins", "origins like https://"),
        ("[server]\nallowed_origins = ['https://x/player']", "server.allowed_origins", "without a path"),
        ("[push.Home]\nurl = 'icecast://h/x'", "push", "1 to 40 of a-z"),
        ("[push.home]\n", "push.home.url", "icecast://source:PASSWORD@HOST:PORT/MOUNT"),
        ("[push.home]\nurl = 'http://a:b@h/x'", "push.home.url", "rtmp://HOST/APP/KEY"),
        ("[push.home]\nurl = 'icecast://a:b@h:0/x'", "push.home.url", "a port from 1 to 65535"),
        ("[push.home]\nurl = 'icecast://a:b@h:65536/x'", "push.home.url", "icecast://source:PASSWORD"),
        ("[push.home]\nurl = 'icecast://a:b@h'", "push.home.url", "a mount point such as /live.mp3"),
        ("[push.home]\nurl = 'icecast://h/x'", "push.home.password", "the password of Icecast's source"),
        ("[push.home]\nurl = 'rtmp://h/live'", "push.home.url", "rtmp://HOST/APP/KEY"),
        ("[push.home]\nurl = 'rtmp://h/a/b'\ncodec = 'mp3'", "push.home.codec", "aac for rtmp"),
        ("[push.home]\nurl = 'icecast://a:b@h/x'\ncodec = 'flac'", "push.home.codec", "mp3"),
        ("[push.home]\nurl = 'icecast://a:b@h/x'\nstall_s = 0", "push.home.stall_s", "0.5 to 300 s"),
        ("[push.home]\nurl = 'icecast://a:b@h/x'\nstation = 'x'", "push.home.station", "main"),
        ("[webhooks.a]\n", "webhooks.a.url", "an address such as https://host/path"),
        ("[webhooks.a]\nurl = 'ftp://h/x'", "webhooks.a.url", "https://host/path"),
        ("[webhooks.a]\nurl = 'https://u:p@h/x'", "webhooks.a.url", "without a user"),
        ("[webhooks.a]\nurl = 'https://h/x'\nsecret = 'short'", "webhooks.a.secret", "8 bytes or more"),
        ("[webhooks.a]\nurl = 'https://h/x'\nsecret = 'whsec_%'", "webhooks.a.secret", "base64 after whsec_"),
        ("[webhooks.a]\nurl = 'https://h/x'\nevents = ['all']", "webhooks.a.events", "now"),
        ("[webhooks.a]\nurl = 'https://h/x'\nqueue = 0", "webhooks.a.queue", "1 to 10000"),
        ("[webhooks.a]\nurl = 'https://h/x'\nstation = 'x'", "webhooks.a.station", "main"),
        ("[archive]\nhours = 0", "archive.hours", "0.1 to 8760 h"),
        ("[archive]\nmax_mb = 1", "archive.max_mb", "20 to 10000000 MB"),
        ("[archive]\ncodec = 'flac'", "archive.codec", "mp3"),
        ("[archive]\nstations = ['x']", "archive.stations", "main"),
        ("[push]\nurl = 'icecast://a:b@h/x'", "push.url", "a table"),
        ("[server]\ntrusted_proxies = ['proxy']", "server.trusted_proxies", "addresses and networks"),
        ("[server]\npublic_url = 'radio.example'", "server.public_url", "an address like https://"),
        ("[server]\npublic_url = 'https://h:port'", "server.public_url", "an address like https://"),
        ("[generator]\ndevice = 'tpu'", "generator.device", "auto, cpu, cuda, mps"),
        ("[generator]\nworkers = 0", "generator.workers", "1 to 256"),
        ("[generator]\nbackend = 'ray'", "generator.backend", "local, ray:auto, ray:local or ray://HOST:PORT"),
        ("[generator]\nbackend = 'ray://head'", "generator.backend", "ray://HOST:PORT"),
        ("[generator]\nbackend = 'ray://head:1/x'", "generator.backend", "ray://HOST:PORT"),
        ("[generator]\nbackend = 'ray://head:99999'", "generator.backend", "ray://HOST:PORT"),
        ("[generator]\ngpus = 1.5", "generator.gpus", "a share up to 1, or a whole number"),
        ("[models.large]\nbackend = 'k8s'", "models.large.backend", "local, ray:auto"),
        ("[models.'A b']\n", "models", "1 to 40 of a-z"),
        ("[models.large]\ndevice = 'tpu'", "models.large.device", "auto, cpu, cuda, mps"),
        ("[stations.main]\nmodel = 'large'", "stations.main.model", "a table [models.NAME]; there is none"),
        ("[stations.main]\nmodel = 'l'\n[models.large]\n", "stations.main.model", "large"),
        ("[timeline]\nframe_ms = 50", "timeline.frame_ms", "a multiple of 20"),
        ("[timeline]\nahead_s = nan", "timeline.ahead_s", "1 to 120 s"),
        ("[stations.'Bad Name']\n", "station", "1 to 40 of"),
        ("[stations.main]\nbpm = 10", "stations.main.bpm", "40 to 240"),
        ("[stations.main]\nprompts = ['a', ' ']", r"stations.main.prompts\[1\]", "1 to 300 characters"),
        (f"[stations.main]\nprompts = ['{'x' * 301}']", r"stations.main.prompts\[0\]", "1 to 300 characters"),
        (f"[stations.main]\ntitle = '{'x' * 121}'", "stations.main.title", "0 to 120 characters"),
        ("stations = 1", "stations", "one or more tables"),
        ("[stations]\n", "stations", "one or more tables"),
        ("server = 1", "server", "a table"),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(tmp_path: Path, text: str, field: str, says: str) -> None:
    with pytest.raises(ParameterError, match=field) as caught:
        load_config(write(tmp_path, text), environment={})
    assert says in str(caught.value)


def test_the_environment_is_checked_too() -> None:
    with pytest.raises(ParameterError, match="did you mean 'port'"):
        load_config(environment={"RIFFSTREAM_SERVER_PROT": "1"})
    with pytest.raises(ParameterError, match="RIFFSTREAM_SERVER_PORT"):
        load_config(environment={"RIFFSTREAM_SERVER_PORT": "many"})
    config = load_config(
        environment={
            "RIFFSTREAM_SERVER_ALLOWED_ORIGINS": "https://a.example, https://b.example",
            "RIFFSTREAM_GENERATOR_STEPS": "",
            "RIFFSTREAM_TIMELINE_AHEAD_S": "7.5",
        }
    )
    assert config.server.allowed_origins == ("https://a.example", "https://b.example")
    assert (config.generator.steps, config.timeline.ahead_s) == (None, 7.5)


def test_a_recording_is_as_long_as_the_ring_by_default(tmp_path: Path) -> None:
    assert load_config(environment={}).recording_s == 120
    assert load_config(write(tmp_path, "[timeline]\nring_s = 30"), environment={}).recording_s == 30
    assert load_config(write(tmp_path, "[limits]\nrecording_s = 60"), environment={}).recording_s == 60


def test_variables_that_nearly_name_a_setting_are_pointed_out() -> None:
    ours = ("SERVRE_PORT", "PORT", "SERVER_PORT", "CONFIG", "TOKEN")
    environment = {f"RIFFSTREAM_{name}": "1" for name in ours}
    environment |= {"RIFFSTREAM_SERVICE_HOST": "10.0.0.1", "RIFFSTREAM_PORT_8080_TCP_ADDR": "10.0.0.1", "HOME": "/"}
    assert similar_variables(environment) == {
        "RIFFSTREAM_SERVRE_PORT": "RIFFSTREAM_SERVER_PORT",
        "RIFFSTREAM_PORT": "RIFFSTREAM_SERVER_PORT",
    }


def test_files_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file; presets are"):
        load_config(tmp_path / "missing.toml", environment={})
    with pytest.raises(MediaError, match=r"my\.toml"):
        load_config(write(tmp_path, "a = ["), environment={})


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_valid_and_its_journeys_play(name: str) -> None:
    config = load_config(name, environment={}, check_secrets=False)
    assert config.stations
    for station in config.stations.values():
        journey = station.plan()
        assert journey.clip(0).prompts
        assert journey.clip(10_000).prompts


def test_the_four_presets_are_there() -> None:
    assert set(presets()) >= {"mini", "riffusion-gpu", "public-radio", "kiosk"}


def test_a_preset_s_placeholder_is_no_secret() -> None:
    with pytest.raises(ParameterError, match="RIFFSTREAM_ACCESS_DJ_TOKEN"):
        load_config("public-radio", environment={})
    config = load_config("public-radio", environment={"RIFFSTREAM_ACCESS_DJ_TOKEN": "mine"})
    assert config.access.dj_token == "mine"
    shown = config.public_dict()["access"]
    assert (shown["dj_token"], shown["owner_token"], shown["signing_keys"]) == ("***", "", [])


def test_the_config_can_be_named_in_the_environment() -> None:
    assert load_config(environment={"RIFFSTREAM_CONFIG": "kiosk"}).timeline.repeats == 64


def test_journey_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "tour.toml").write_text('[[keyframe]]\nprompt = "calm"\n')
    path = write(tmp_path, '[stations.main]\njourney = "tour.toml"')
    station = load_config(path, environment={}).stations["main"]
    assert station.plan().clip(0).prompts[0].text == "calm"


def test_texts_of_a_station_are_cleaned_as_those_of_a_listener_are() -> None:
    station = StationConfig(title=" My\r\nradio\x07 ", prompts=(" cafe\u0301\u0000 ",), negative="\tdrums\n")
    assert (station.title, station.prompts, station.negative) == ("My radio", ("caf\u00e9",), "drums")


@pytest.mark.parametrize("prompt", ["", "x" * 301])
def test_a_journey_that_no_message_could_tell_of_is_refused(tmp_path: Path, prompt: str) -> None:
    (tmp_path / "tour.toml").write_text(f'[[keyframe]]\nprompt = "calm"\n[[keyframe]]\nprompt = "{prompt}"\n')
    with pytest.raises(ParameterError, match=r"keyframe\[1\]\.prompt is .*; allowed: 1 to 300 characters"):
        StationConfig(journey=str(tmp_path / "tour.toml")).plan()


def test_prompts_are_visited_in_turn() -> None:
    journey = StationConfig(prompts=("a", "b"), stay=2, travel=1, seed=9, guidance=5.0).plan()
    assert [journey.clip(n).prompts[0].text for n in (0, 3, 6)] == ["a", "b", "a"]
    assert (journey.clip(0).start.seed, journey.clip(0).start.guidance) == (9, 5.0)


@given(
    st.builds(
        Config,
        server=st.builds(ServerSettings, host=st.text(max_size=20), port=st.integers(0, 65535)),
        access=st.builds(AccessSettings, dj_token=st.text(max_size=20)),
        generator=st.builds(
            GeneratorSettings, steps=st.none() | st.integers(1, 1000), lora=st.tuples(st.text(max_size=5))
        ),
        timeline=st.builds(TimelineSettings, ahead_s=st.floats(1, 120), loudness_lufs=st.none() | st.floats(-40, -8)),
        stations=st.dictionaries(
            st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,9}\Z"),
            st.builds(StationConfig, title=st.text(max_size=20), bpm=st.none() | st.floats(40, 240)),
            min_size=1,
            max_size=3,
        ),
    )
)
def test_what_is_printed_reads_back_as_the_same(config: Config) -> None:
    assert Config.from_dict(tomllib.loads(to_toml(config.to_dict()))) == config
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_key_is_documented_at_its_class() -> None:
    for section in fields(Config):
        kind = TABLES.get(section.name) or type(getattr(Config(), section.name))
        for each in fields(kind):
            assert each.name in (kind.__doc__ or "") or section.name in ("encoders", "log"), (
                f"{section.name}.{each.name}"
            )


@pytest.mark.parametrize("name", ["a", "main", "x" * 40, "0-_"])
def test_station_names(name: str) -> None:
    assert check_station_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "-a", "x" * 41, "a/b", "ä", "a b", "../a"])
def test_station_names_that_cannot_be_addresses(name: str) -> None:
    with pytest.raises(ParameterError):
        check_station_name(name)


def test_the_command_prints_what_would_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIFFSTREAM_SERVER_PORT", "9999")
    assert main(["config", "kiosk"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert (printed["server"]["port"], printed["timeline"]["repeats"]) == (9999, 64)
    assert main(["config", "kiosk", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["server"]["port"] == 9999
    assert main(["config", "--presets"]) == 0
    assert "kiosk" in capsys.readouterr().out


def test_the_command_hides_tokens_unless_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIFFSTREAM_ACCESS_DJ_TOKEN", "s3cret")
    assert main(["config"]) == 0
    assert "s3cret" not in capsys.readouterr().out
    assert main(["config", "--show-tokens"]) == 0
    assert "s3cret" in capsys.readouterr().out


def test_the_command_checks_quietly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["config", str(write(tmp_path, "[server]\nprt = 1"))]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_message_must_hold_the_prompts_that_are_allowed() -> None:
    with pytest.raises(ParameterError, match=r"limits.message_bytes is 5000; allowed: 12848 or more, for 8 prompts"):
        Config.from_dict({"limits": {"message_bytes": 5000}})
    assert Config.from_dict({"limits": {"message_bytes": 4096, "prompt_chars": 50}}).limits.message_bytes == 4096
    assert Config().limits.message_bytes == 36_864


def test_defaults_that_an_older_version_printed_give_way_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = "[server]\nhls = true\n[limits]\nmessage_bytes = 4096\nrecording_s = 600.0\nconnections = 7\n"
    config = load_config(write(tmp_path, older), environment={})
    assert (config.limits.message_bytes, config.recording_s, config.limits.connections) == (36_864, 120, 7)
    assert [key for key in ("message_bytes", "recording_s") if key in caplog.text] == ["message_bytes", "recording_s"]
    assert len(caplog.records) == 2


def test_the_stars_that_are_printed_for_a_token_are_no_token(tmp_path: Path) -> None:
    printed = to_toml(Config.from_dict({"access": {"dj_token": "s3cret"}}).public_dict())
    with pytest.raises(ParameterError, match="RIFFSTREAM_ACCESS_DJ_TOKEN"):
        load_config(write(tmp_path, printed), environment={})


def test_a_variable_out_of_its_range_is_named_with_it() -> None:
    with pytest.raises(ParameterError, match=r"server\.port is 70000; allowed: a whole number from 0 to 65535"):
        load_config(environment={"RIFFSTREAM_SERVER_PORT": "70000"})
    with pytest.raises(ParameterError, match=r"RIFFSTREAM_TIMELINE_AHEAD_S is 'long'; allowed: 1 to 120 s"):
        load_config(environment={"RIFFSTREAM_TIMELINE_AHEAD_S": "long"})


@pytest.mark.parametrize("text", ["", "off"])
def test_loudness_can_be_off_in_the_environment_too(text: str) -> None:
    assert load_config(environment={"RIFFSTREAM_TIMELINE_LOUDNESS_LUFS": text}).timeline.loudness_lufs is None
    with pytest.raises(ParameterError, match="SERVER_PORT"):
        load_config(environment={"RIFFSTREAM_SERVER_PORT": "off"})


def test_a_section_is_checked_however_it_is_made() -> None:
    for values, allowed in (
        ({"port": 70_000}, "a whole number from 0 to 65535"),
        ({"port": 1.5}, "a whole number from 0 to 65535"),
        ({"host": 1}, "a string"),
        ({"trusted_proxies": [1]}, "a list of strings"),
    ):
        with pytest.raises(ParameterError) as caught:
            ServerSettings(**values)
        assert (caught.value.field, caught.value.allowed) == (next(iter(values)), allowed)
    with pytest.raises(ParameterError, match="a multiple of 20"):
        TimelineSettings(frame_ms=50)


def test_editors_get_a_schema_of_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == json.loads(json.dumps(json_schema()))
    assert '"null"' not in json.dumps(schema)  # TOML has none
    kinds = schema["$defs"]
    for name, table in Config().to_dict().items():
        kind = TABLES.get(name) or type(getattr(Config(), name))
        described = kinds[kind.__name__]
        assert described["additionalProperties"] is False
        known = [each.name for each in fields(kind)] if name in TABLES else list(table)
        assert list(described["properties"]) == known
    assert kinds["ServerSettings"]["properties"]["port"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 65535,
        "default": 8080,
    }
    assert {"const": "off"} in kinds["TimelineSettings"]["properties"]["loudness_lufs"]["anyOf"]


def test_further_models_run_where_the_first_one_runs_unless_they_say_so(tmp_path: Path) -> None:
    text = (
        "[generator]\nbackend = 'ray://head:10001'\n[models.far]\ndevice = 'cuda'\n[models.near]\nbackend = 'local'\n"
        "[stations.a]\n[stations.b]\nmodel = 'far'\n[stations.c]\nmodel = 'near'"
    )
    config = load_config(write(tmp_path, text), environment={})
    found = [config.generator_of(station) for station in config.stations.values()]
    assert [each.backend for each in found] == ["ray://head:10001", "ray://head:10001", "local"]
    assert [each.on_ray for each in found] == [True, True, False]
