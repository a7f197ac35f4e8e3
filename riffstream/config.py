"""Configuration: frozen dataclasses from a TOML file, the environment and flags.

Precedence: default < file < environment (``RIFFSTREAM_SERVER_PORT=9000``) < flag. Unknown keys are errors that name
the nearest known one. ``riffstream config`` prints the resolved result; every key is explained at its class below.
"""

from __future__ import annotations

import functools
import json
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from riffstream.diffusion.journey import Journey, Keyframe, PromptPart
from riffstream.diffusion.ranges import check, reject_unknown
from riffstream.errors import MediaError, ParameterError

__all__ = [
    "Access",
    "Config",
    "Encoders",
    "Generator",
    "Limits",
    "Log",
    "Server",
    "StationConfig",
    "Timeline",
    "load_config",
    "presets",
    "to_toml",
]

STATION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_ENVIRONMENT = "RIFFSTREAM_"
OFF = "off"  # TOML has no null: what turns off a key whose default is a value
PLACEHOLDER = "change-me"  # what presets have for tokens


def _in(
    default: Any, low: float | None = None, high: float | None = None, *, choices: Iterable[str] = (), unit: str = ""
) -> Any:
    """A field with a default and its rule."""
    return field(default=default, metadata={"low": low, "high": high, "choices": tuple(choices), "unit": unit})


class _Checked:
    """Checks every field against its rule when the object is made, however it is made."""

    def __post_init__(self) -> None:
        for each in fields(typing.cast(Any, self)):
            object.__setattr__(self, each.name, _checked(type(self), each, getattr(self, each.name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server(_Checked):
    """``[server]``: where it listens and who may reach it.

    Attributes:
        host: address to bind; ``0.0.0.0`` for every interface.
        port: 0 picks a free one.
        public_url: how listeners reach it, for playlists (``https://radio.example``); "": from the request.
        allowed_origins: web origins that may steer besides the server's own; ``"*"``: any.
        trusted_proxies: addresses whose ``X-Forwarded-For`` is believed.
        drain_s: on SIGTERM, how long listeners are given to leave.
        hls: serve HLS.
        state_dir: folder in which uploaded seed images are kept from run to run; "": in a temporary one, for this run.
    """

    host: str = "127.0.0.1"
    port: int = _in(8080, 0, 65535)
    public_url: str = ""
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    drain_s: float = _in(5.0, 0, 600, unit="s")
    hls: bool = True
    state_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access(_Checked):
    """``[access]``: tokens. Without a DJ token, whoever can connect may steer; without a listen token, anyone listens.

    Attributes:
        dj_token: may steer. owner_token: may also manage stations. listen_token: needed to listen.
    """

    dj_token: str = ""
    owner_token: str = ""
    listen_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(_Checked):
    """``[limits]``: what one client, and all together, may ask of the server.

    Attributes:
        prompt_chars: after cleaning.
        message_bytes: of one WebSocket message.
        steer_interval_s, steer_burst: steers per connection: ``burst`` at once, then one per interval.
        connections, connections_per_address: open sockets and streams.
        stations: stations at once. listeners_per_station: listeners at once.
        keepalive_s, body_timeout_s: of HTTP connections.
        header_s: a connection that has not sent a whole request by then is closed.
        send_buffer_bytes: kernel buffer (SO_SNDBUF) of a listener's socket.
        skip_bytes: unsent bytes at which a listener skips to live. close_bytes, close_s: at which it is closed.
        upload_mb, upload_length_s, upload_mpixels: of an uploaded seed image: size, seconds of audio, picture size.
        upload_s, upload_memory_mb: what decoding it may take.
        upload_interval_s, upload_burst: uploads per address: ``burst`` at once, then one per interval.
        uploads, uploads_mb: kept at once; the oldest that no station plays is dropped. 0: nothing can be uploaded.
        recording_s: longest recording that can be fetched.
    """

    prompt_chars: int = _in(300, 1, 300)
    message_bytes: int = _in(4096, 256, 65536, unit="bytes")
    steer_interval_s: float = _in(2.0, 0, 3600, unit="s")
    steer_burst: int = _in(3, 1, 1000)
    connections: int = _in(4000, 1, 1_000_000)
    connections_per_address: int = _in(20, 1, 1_000_000)
    stations: int = _in(8, 1, 1000)
    listeners_per_station: int = _in(4000, 1, 1_000_000)
    keepalive_s: float = _in(15.0, 0, 3600, unit="s")
    body_timeout_s: float = _in(10.0, 0.1, 3600, unit="s")
    header_s: float = _in(10.0, 0.1, 3600, unit="s")
    send_buffer_bytes: int = _in(65536, 4096, 16_777_216, unit="bytes")
    skip_bytes: int = _in(65536, 4096, 16_777_216, unit="bytes")
    close_bytes: int = _in(262144, 4096, 67_108_864, unit="bytes")
    close_s: float = _in(10.0, 0.1, 3600, unit="s")
    upload_mb: float = _in(20.0, 0.01, 1000, unit="MB")
    upload_s: float = _in(10.0, 0.1, 600, unit="s")
    upload_mpixels: float = _in(16.0, 0.01, 1000, unit="megapixels")
    upload_length_s: float = _in(900.0, 1, 36000, unit="s")
    upload_memory_mb: float = _in(1024.0, 300, 65536, unit="MB")
    upload_interval_s: float = _in(10.0, 0, 3600, unit="s")
    upload_burst: int = _in(5, 1, 1000)
    uploads: int = _in(64, 0, 10_000)
    uploads_mb: float = _in(256.0, 1, 1_000_000, unit="MB")
    recording_s: float = _in(600.0, 0, 86400, unit="s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator(_Checked):
    """``[generator]``: the model and the process that runs it.

    Attributes:
        model: ``mini``, a folder, a single safetensors file, a hub id, or ``tone`` (a test signal, no model).
        revision: of a hub id. lora: safetensors files, each with ``:weight`` if not 1.
        device, dtype: ``auto`` picks.
        sampler, steps, guidance, denoising: None: the model's own.
        seed_image: of keyframes that name none: auto (the library's nearest loop), none (noise) or a name; None: the
            model's own.
        max_batch: clips in one evaluation of the network.
        threads: CPU threads; 0: all cores but one.
        vocoder: how phases are found. vocoder_iterations: None: the method's own.
        stall_s: without a heartbeat for so long (or for six times its slowest step lately, if that is longer), it is
            killed and restarted. load_s: the same while it loads.
        backoff_s, backoff_max_s: wait before the first restart, and the longest after doublings.
    """

    model: str = "mini"
    revision: str = ""
    lora: tuple[str, ...] = ()
    device: str = _in("auto", choices=("auto", "cpu", "cuda", "mps"))
    dtype: str = _in("auto", choices=("auto", "float32", "bfloat16", "float16"))
    sampler: str | None = None
    steps: int | None = _in(None, 1, 1000)
    guidance: float | None = _in(None, 0, 30)
    denoising: float | None = _in(None, 0, 1)
    seed_image: str | None = None
    max_batch: int = _in(16, 1, 256)
    threads: int = _in(0, 0, 1024)
    vocoder: str = _in("pghi", choices=("pghi", "griffin-lim"))
    vocoder_iterations: int | None = _in(None, 0, 1000)
    stall_s: float = _in(30.0, 0.2, 3600, unit="s")
    load_s: float = _in(900.0, 1, 86400, unit="s")
    backoff_s: float = _in(0.25, 0.01, 60, unit="s")
    backoff_max_s: float = _in(30.0, 0.01, 3600, unit="s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline(_Checked):
    """``[timeline]``: how far ahead audio is made, committed and sent.

    Attributes:
        frame_ms: length of one frame to listeners, a multiple of 20. Longer costs less per listener, and steers later.
        send_lead_ms: how far ahead of the audible moment audio leaves. client_buffer_ms: what clients keep.
        crossfade_ms: at splices.
        ahead_s: finished audio kept ahead as insurance.
        haste_s: a steer's first clip is made in fewer steps where it would take longer than this.
        repeats: how many clips long the last music is repeated when nothing new comes, before silence.
        idle_s: generation stops when nobody has listened for so long; 0: never.
        burst_ms: audio that a media player gets at once, so that it starts without waiting.
        passive_frame_ms: length of one frame to those who do not steer; longer ones cost less.
        ring_s: committed audio kept for recordings, resuming and bursts.
        loudness_lufs: target of the slow gain; ``"off"``: as the model has it. true_peak_dbtp: ceiling of the limiter.
    """

    frame_ms: int = _in(100, 20, 1000, unit="ms")
    send_lead_ms: int = _in(250, 20, 5000, unit="ms")
    client_buffer_ms: int = _in(200, 0, 10000, unit="ms")
    crossfade_ms: float = _in(30.0, 1, 1000, unit="ms")
    ahead_s: float = _in(6.0, 1, 120, unit="s")
    haste_s: float = _in(0.8, 0, 3600, unit="s")
    repeats: int = _in(4, 0, 1000)
    idle_s: float = _in(30.0, 0, 86400, unit="s")
    burst_ms: int = _in(1500, 100, 10000, unit="ms")
    passive_frame_ms: int = _in(500, 20, 2000, unit="ms")
    ring_s: float = _in(120.0, 5, 3600, unit="s")
    loudness_lufs: float | None = _in(-16.0, -40, -8, unit="LUFS")
    true_peak_dbtp: float = _in(-1.0, -20, 0, unit="dBTP")

    def __post_init__(self) -> None:
        super(Timeline, self).__post_init__()  # slots=True makes a new class; bare super() has the old
        if self.frame_ms % 20:
            raise ParameterError("timeline.frame_ms", self.frame_ms, "a multiple of 20")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoders(_Checked):
    """``[encoders]``: bit rates in kbit/s."""

    opus_kbps: int = _in(128, 16, 510, unit="kbit/s")
    mp3_kbps: int = _in(128, 32, 320, unit="kbit/s")
    aac_kbps: int = _in(128, 32, 320, unit="kbit/s")
    ogg_kbps: int = _in(128, 16, 510, unit="kbit/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(_Checked):
    """``[log]``: level, and one JSON object or one line of text per record."""

    level: str = _in("info", choices=("debug", "info", "warning", "error"))
    format: str = _in("text", choices=("text", "json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StationConfig(_Checked):
    """``[stations.NAME]``: one stream and what it plays by itself.

    Attributes:
        title, description: for players.
        journey: ``wander`` (a seeded walk over moods), or a journey file (TOML or JSON) beside the config.
        prompts: visited in turn, in place of ``journey``.
        stay, travel: clips at each prompt, and on the way to the next.
        seed: of the noise (and of ``wander``).
        negative, denoising, guidance, seed_image: for every keyframe of ``prompts``.
        bpm, key: fix the tempo and the key; None: the journey's.
        beats_per_bar: 4, or 3 for waltzes: clips are two bars then, and splices fall on bars of three.
        steps: of the sampler; None: the generator's.
        steer: whether it may be steered at all.
        save_log: file to which the steering log is written while it plays; "": memory only.
    """

    title: str = ""
    description: str = ""
    journey: str = "wander"
    prompts: tuple[str, ...] = ()
    stay: int = _in(8, 0, 1_000_000)
    travel: int = _in(4, 0, 1_000_000)
    seed: int = _in(0, 0, 2**32 - 1)
    negative: str = ""
    denoising: float | None = _in(None, 0, 1)
    guidance: float | None = _in(None, 0, 30)
    seed_image: str | None = None
    bpm: float | None = _in(None, 40, 240)
    key: float | None = _in(None, -6, 6)
    beats_per_bar: int = _in(4, 3, 4)
    steps: int | None = _in(None, 1, 1000)
    steer: bool = True
    save_log: str = ""

    def plan(self) -> Journey:
        """The default journey. Raises ParameterError or MediaError."""
        if self.prompts:
            keyframe = Keyframe(
                (PromptPart(self.prompts[0]),),
                negative=self.negative,
                seed=check("seed", self.seed),
                denoising=self.denoising,
                guidance=self.guidance,
                seed_image=self.seed_image,
            )
            rest = {name: getattr(keyframe, name) for name in ("negative", "denoising", "guidance", "seed_image")}
            return Journey.visit(self.prompts, self.stay, self.travel, seed=keyframe.seed, **rest)
        if self.journey == "wander":
            return Journey.wander(self.seed)
        return Journey.from_file(self.journey)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything. The sections are explained at their classes."""

    server: Server = field(default_factory=Server)
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    generator: Generator = field(default_factory=Generator)
    timeline: Timeline = field(default_factory=Timeline)
    encoders: Encoders = field(default_factory=Encoders)
    log: Log = field(default_factory=Log)
    stations: Mapping[str, StationConfig] = field(default_factory=lambda: {"main": StationConfig()})

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], *, folder: Path | None = None) -> Config:
        """A configuration from nested plain values.

        Args:
            given: section -> key -> value, as TOML has it.
            folder: what relative journey files are relative to.

        Raises:
            ParameterError: an unknown key (with the nearest known one), a wrong type, a value outside its range.
        """
        sections = {each.name: each for each in fields(cls)}
        reject_unknown(given, sections, where="section")
        built: dict[str, Any] = {}
        for name, values in given.items():
            if name == "stations":
                built[name] = _stations(values, folder)
            else:
                built[name] = _section(_SECTIONS[name], values, name)
        return cls(**built)

    def to_dict(self) -> dict[str, Any]:
        """The inverse of :meth:`from_dict`, complete."""
        plain = {each.name: asdict(getattr(self, each.name)) for each in fields(self) if each.name != "stations"}
        return plain | {"stations": {name: asdict(station) for name, station in self.stations.items()}}

    def public_dict(self) -> dict[str, Any]:
        """:meth:`to_dict` with tokens hidden, fit for printing and for logs."""
        plain = self.to_dict()
        plain["access"] = {key: "***" if value else "" for key, value in plain["access"].items()}
        return plain


_SECTIONS: dict[str, type] = {
    "server": Server,
    "access": Access,
    "limits": Limits,
    "generator": Generator,
    "timeline": Timeline,
    "encoders": Encoders,
    "log": Log,
}


def presets() -> dict[str, Path]:
    """The presets that come with the package: name -> TOML file."""
    here = Path(__file__).resolve().parent
    for folder in (here / "presets", here.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def load_config(
    path: str | Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    check_secrets: bool = True,
) -> Config:
    """Resolve the configuration.

    Args:
        path: a TOML file, or the name of a preset; None: ``RIFFSTREAM_CONFIG`` if set, else the defaults.
        environment: ``RIFFSTREAM_<SECTION>_<KEY>`` variables; ``os.environ`` by default. Lists are comma-separated.
        flags: ``{"server.port": 9000}``; values that are None are left out.
        check_secrets: refuse the placeholder that presets have for tokens.

    Raises:
        MediaError: the file cannot be read or is no TOML.
        ParameterError: an unknown key or a value that is not allowed, with where it was found.
    """
    environment = os.environ if environment is None else environment
    path = path or environment.get("RIFFSTREAM_CONFIG") or None
    given: dict[str, Any] = {}
    folder = None
    if path is not None:
        file = presets().get(str(path), Path(path))
        folder = file.parent
        try:
            given = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(presets())
            raise MediaError(f"config {path}: no such file; presets are {known}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise MediaError(f"config {path}: {error}") from None
    for section, key, value in _from_environment(environment):
        given.setdefault(section, {})[key] = value
    for name, value in (flags or {}).items():
        if value is not None:
            section, key = name.split(".", 1)
            given.setdefault(section, {})[key] = value
    config = Config.from_dict(given, folder=folder)
    for each in fields(config.access) if check_secrets else ():
        if getattr(config.access, each.name) == PLACEHOLDER:
            variable = f"{_ENVIRONMENT}ACCESS_{each.name.upper()}"
            raise ParameterError(f"access.{each.name}", PLACEHOLDER, f"a secret of your own; set {variable}")
    return config


def _from_environment(environment: Mapping[str, str]) -> Iterable[tuple[str, str, Any]]:
    for variable, text in sorted(environment.items()):
        if not variable.startswith(_ENVIRONMENT):
            continue
        section, _, key = variable.removeprefix(_ENVIRONMENT).lower().partition("_")
        # Other variables of ours (RIFFSTREAM_CONFIG, RIFFSTREAM_TOKEN) name no section.
        if section not in _SECTIONS or not key:
            continue
        known = {each.name: each for each in fields(_SECTIONS[section])}
        reject_unknown([key], known, where=f"environment {variable}")
        yield section, key, _parse(_SECTIONS[section], known[key], text, variable)


def _parse(kind: type, rule: Field[Any], text: str, variable: str) -> Any:
    kinds = _kinds(kind, rule)
    if type(None) in kinds and text == "":
        return None
    try:
        if tuple in kinds:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if bool in kinds:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if int in kinds:
            return int(text)
        return float(text) if float in kinds else text
    except (ValueError, KeyError):
        raise ParameterError(variable, text, _words(kind, rule)) from None


def _section(kind: type, values: Any, name: str) -> Any:
    if not isinstance(values, Mapping):
        raise ParameterError(name, values, f"a table: [{name}]")
    reject_unknown(values, [each.name for each in fields(kind)], where=f"[{name}]")
    try:
        return kind(**values)
    except ParameterError as error:
        raise ParameterError(f"{name}.{error.field.rsplit('.', 1)[-1]}", error.value, error.allowed) from None


def _stations(values: Any, folder: Path | None) -> dict[str, StationConfig]:
    if not isinstance(values, Mapping) or not values:
        raise ParameterError("stations", values, "one or more tables [stations.NAME]")
    stations = {}
    for name, table in values.items():
        check_station_name(name)
        station: StationConfig = _section(StationConfig, table, f"stations.{name}")
        if folder is not None and station.journey != "wander" and not Path(station.journey).is_absolute():
            station = _section(StationConfig, {**table, "journey": str(folder / station.journey)}, f"stations.{name}")
        stations[name] = station
    return stations


def check_station_name(name: str) -> str:
    """Return a station's name if it may be one. Raises ParameterError."""
    if not STATION_NAME.fullmatch(name):
        raise ParameterError("station", name, "1 to 40 of a-z, 0-9, - and _, starting with a letter or a digit")
    return name


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _kinds(kind: type, rule: Field[Any]) -> set[type]:
    hint = _hints(kind)[rule.name]
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return {typing.get_origin(part) or part for part in parts}


def _words(kind: type, rule: Field[Any]) -> str:
    low, high = rule.metadata.get("low"), rule.metadata.get("high")
    kinds = _kinds(kind, rule)
    if choices := rule.metadata.get("choices"):
        return ", ".join(choices)
    if tuple in kinds:
        return "a list of strings"
    if bool in kinds:
        return "true or false"
    if low is None:
        return "a string" if str in kinds else "a number"
    unit = f" {rule.metadata['unit']}" if rule.metadata["unit"] else ""
    return f"{'a whole number from ' if int in kinds else ''}{low:.12g} to {high:.12g}{unit}"


def _checked(kind: type, rule: Field[Any], value: Any) -> Any:
    kinds = _kinds(kind, rule)
    if type(None) in kinds and (value is None or (value == OFF and rule.default is not None)):
        return None
    if tuple in kinds and isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wrong = not any(type(value) is kind for kind in kinds)
    choices, low, high = (rule.metadata.get(key) for key in ("choices", "low", "high"))
    if wrong or (choices and value not in choices) or (low is not None and not low <= value <= high):
        raise ParameterError(rule.name, value, _words(kind, rule))
    return value


def to_toml(values: Mapping[str, Any]) -> str:
    """Nested plain values (as of :meth:`Config.to_dict`) as TOML; keys that are None become comments."""
    lines: list[str] = []
    for section, table in values.items():
        groups = (
            {f"{section}.{name}": each for name, each in table.items()} if section == "stations" else {section: table}
        )
        for name, group in groups.items():
            lines.append(f"[{name}]")
            lines += [_line(section, key, value) for key, value in group.items()]
            lines.append("")
    return "\n".join(lines)


def _line(section: str, key: str, value: Any) -> str:
    if value is None:
        kind = _SECTIONS.get(section, StationConfig)
        switched = next((each.default for each in fields(kind) if each.name == key), None) is not None
        return f'{key} = "{OFF}"' if switched else f"# {key} ="
    return f"{key} = {_literal(value)}"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_literal(part) for part in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML wants DEL escaped, JSON does not
    return repr(value)
