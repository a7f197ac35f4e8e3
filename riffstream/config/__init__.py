"""Configuration: checked structures from a TOML file, the environment and flags.

Precedence: default < file < environment (``RIFFSTREAM_SERVER_PORT=9000``) < flag. Unknown keys are errors that name
the nearest known key. ``riffstream config`` prints the resolved result. The classes in ``config/sections.py`` describe
every key.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from riffstream.config.asking import PromptSettings, TokenSettings
from riffstream.config.environment import injected_variables
from riffstream.config.outgoing import ArchiveSettings, PushSettings, WebhookSettings
from riffstream.config.relay import RelaySettings, UpstreamAddress
from riffstream.config.rules import OFF, Section, keys, parse
from riffstream.config.sections import (
    SECRETS_TO_REPLACE,
    AccessSettings,
    EncodersSettings,
    GeneratorSettings,
    LimitsSettings,
    LogSettings,
    ServerSettings,
    StationConfig,
    TimelineSettings,
)
from riffstream.config.sessions import SessionSettings
from riffstream.config.targets import HIDDEN, PushTarget, without_secrets
from riffstream.config.tracing import TracingSettings
from riffstream.errors import MediaError, ParameterError
from riffstream.ranges import reject_unknown
from riffstream.text_files import parse_toml, read_text

__all__ = [
    "AccessSettings",
    "ArchiveSettings",
    "Config",
    "EncodersSettings",
    "GeneratorSettings",
    "LimitsSettings",
    "LogSettings",
    "PromptSettings",
    "PushSettings",
    "PushTarget",
    "RelaySettings",
    "ServerSettings",
    "SessionSettings",
    "StationConfig",
    "TimelineSettings",
    "TokenSettings",
    "TracingSettings",
    "UpstreamAddress",
    "WebhookSettings",
    "check_station_name",
    "injected_variables",
    "json_schema",
    "load_config",
    "presets",
    "similar_variables",
    "to_toml",
    "without_secrets",
]

log = logging.getLogger(__name__)

STATION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_ENVIRONMENT = "RIFFSTREAM_"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The complete configuration. Each section is described at its class."""

    server: ServerSettings = field(default_factory=ServerSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    timeline: TimelineSettings = field(default_factory=TimelineSettings)
    encoders: EncodersSettings = field(default_factory=EncodersSettings)
    log: LogSettings = field(default_factory=LogSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    archive: ArchiveSettings = field(default_factory=ArchiveSettings)
    prompts: PromptSettings = field(default_factory=PromptSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    relay: RelaySettings = field(default_factory=RelaySettings)
    stations: dict[str, StationConfig] = field(default_factory=lambda: {"main": StationConfig()})
    models: dict[str, GeneratorSettings] = field(default_factory=dict)
    push: dict[str, PushSettings] = field(default_factory=dict)
    webhooks: dict[str, WebhookSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, settings in self.stations.items():
            try:
                self.generator_of(settings)
            except ParameterError as error:
                raise ParameterError(f"stations.{name}.{error.field}", error.value, error.allowed) from None
        for station in self.archive.stations:
            if station not in self.stations:
                raise ParameterError("archive.stations", station, ", ".join(self.stations))
        for section, tables in (("push", self.push), ("webhooks", self.webhooks)):
            for name, each in tables.items():
                if each.station and each.station not in self.stations:
                    raise ParameterError(f"{section}.{name}.station", each.station, ", ".join(self.stations))
        asked, kept = self.limits.recording_s, self.timeline.ring_s
        if asked is not None and asked > kept:
            raise ParameterError("limits.recording_s", asked, f"0 to {kept:g} s, which timeline.ring_s keeps")

    def generator_of(self, station: StationConfig) -> GeneratorSettings:
        """Settings of a station's model. Raises ParameterError if no table has its name."""
        if station.model and station.model not in self.models:
            allowed = ", ".join(self.models) or "the name of a table [models.NAME]; there is none"
            raise ParameterError("model", station.model, allowed)
        return self.generators()[station.model]

    def generators(self) -> dict[str, GeneratorSettings]:
        """Settings of each model, by the name that stations use; "": the one of ``[generator]``."""
        found = {"": self.generator}
        for name, settings in self.models.items():
            backend = settings.backend or self.generator.backend
            found[name] = msgspec.structs.replace(settings, backend=backend)
        return found

    @property
    def recording_s(self) -> float:
        """Longest recording that clients can download, seconds."""
        return self.timeline.ring_s if self.limits.recording_s is None else self.limits.recording_s

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], *, folder: Path | None = None) -> Config:
        """Make a configuration from nested plain values.

        Args:
            given: section -> key -> value, as in TOML.
            folder: base folder of relative journey files.

        Raises:
            ParameterError: an unknown key (with the nearest known one), a wrong type, a value outside its range.
                An older version's default that is no longer allowed is replaced by the current one, with a warning.
        """
        while True:
            try:
                return cls._built(given, folder)
            except ParameterError as error:
                given = _renewed(given, error)

    @classmethod
    def _built(cls, given: Mapping[str, Any], folder: Path | None) -> Config:
        reject_unknown(given, cls.__struct_fields__, where="section")
        built: dict[str, Any] = {}
        for name, values in given.items():
            if name == "stations":
                built[name] = _stations(values, folder)
            elif name in _TABLES:
                built[name] = _named(name, values)
            else:
                built[name] = _SECTIONS[name].from_table(values, name)
        return cls(**built)

    def to_dict(self) -> dict[str, Any]:
        """Inverse of :meth:`from_dict`, with all keys."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def public_dict(self) -> dict[str, Any]:
        """:meth:`to_dict` with hidden secrets, for printing and logs."""
        plain = self.to_dict()
        plain["access"] = {key: _hidden(value) for key, value in plain["access"].items()}
        plain["relay"]["token"] = _hidden(plain["relay"]["token"])
        for table in (plain["prompts"], plain["tokens"]):
            table["hook"] = without_secrets(table["hook"])
            table["hook_secret"] = _hidden(table["hook_secret"])
        for table in plain["push"].values():
            table["url"] = without_secrets(table["url"])
            table["password"] = _hidden(table["password"])
        for table in plain["webhooks"].values():
            table["url"] = without_secrets(table["url"])
            table["secret"] = _hidden(table["secret"])
        return plain


def _hidden(secret: Any) -> Any:
    """A secret's replacement for printing; one for each of a list. Switches are no secrets."""
    if isinstance(secret, str):
        return HIDDEN if secret else ""
    return secret if isinstance(secret, bool) else [_hidden(each) for each in secret]


# Sections with one table for each name.
_TABLES: dict[str, type[Section]] = {
    "stations": StationConfig,
    "models": GeneratorSettings,
    "push": PushSettings,
    "webhooks": WebhookSettings,
}
_SECTIONS: dict[str, type[Section]] = {each.name: each.type for each in keys(Config) if each.name not in _TABLES}


# Defaults of older versions, as printed by ``riffstream config``, that are no longer always allowed.
_OUTGROWN = {"limits.message_bytes": 4096, "limits.recording_s": 600.0}


def _renewed(given: Mapping[str, Any], error: ParameterError) -> dict[str, Any]:
    """Remove the value refused by ``error`` if it is an older version's default; otherwise raise ``error``."""
    if error.field not in _OUTGROWN or error.value != _OUTGROWN[error.field]:
        raise error
    log.warning("%s; it was the default of an older version and is replaced by the current default", error)
    section, key = error.field.split(".", 1)
    return {**given, section: {name: value for name, value in given[section].items() if name != key}}


def _stations(values: Any, folder: Path | None) -> dict[str, StationConfig]:
    if not isinstance(values, Mapping) or not values:
        raise ParameterError("stations", values, "one or more tables [stations.NAME]")
    stations = {}
    for name, table in values.items():
        check_station_name(name)
        station = StationConfig.from_table(table, f"stations.{name}")
        if folder is not None and station.journey != "wander" and not Path(station.journey).is_absolute():
            station = msgspec.structs.replace(station, journey=str(folder / station.journey))
        if folder is not None and station.song:
            station = msgspec.structs.replace(station, song=str(folder / station.song))
        stations[name] = station
    return stations


def _named(section: str, values: Any) -> dict[str, Any]:
    """Tables ``[section.NAME]``."""
    if not isinstance(values, Mapping):
        raise ParameterError(section, values, f"tables [{section}.NAME]")
    kind = _TABLES[section]
    return {
        check_station_name(name, section): kind.from_table(table, f"{section}.{name}") for name, table in values.items()
    }


def check_station_name(name: str, field: str = "station") -> str:
    """Return the name of a station, or of another named table, if it is valid. Raises ParameterError."""
    if not STATION_NAME.fullmatch(name):
        raise ParameterError(field, name, "1 to 40 of a-z, 0-9, - and _, starting with a letter or a digit")
    return name


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the configuration file, for editors with TOML support."""
    schema = msgspec.json.schema(Config)
    for kind in schema["$defs"].values():
        for key in kind["properties"].values():
            if {"type": "null"} in key.get("anyOf", []):  # TOML has no null
                off = [] if key["default"] is None else [{"const": OFF}]
                key["anyOf"] = [each for each in key["anyOf"] if each != {"type": "null"}] + off
                if not off:
                    del key["default"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def presets() -> dict[str, Path]:
    """Presets in the package: name -> TOML file."""
    here = Path(__file__).resolve().parent.parent
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
        flags: ``{"server.port": 9000}``; None values are ignored.
        check_secrets: True refuses placeholder tokens of presets and hidden tokens printed by ``riffstream config``.

    Raises:
        MediaError: the file cannot be read or is not TOML.
        ParameterError: an unknown key or a value that is not allowed, with its source.
    """
    environment = os.environ if environment is None else environment
    path = path or environment.get("RIFFSTREAM_CONFIG") or None
    given: dict[str, Any] = {}
    folder = None
    if path is not None:
        file = presets().get(str(path), Path(path))
        folder = file.parent
        try:
            given = parse_toml(read_text(file))
        except FileNotFoundError:
            known = ", ".join(presets())
            raise MediaError(f"config {path}: no such file; presets are {known}") from None
        except (OSError, MediaError) as error:
            raise MediaError(f"config {path}: {error}") from None
    for path_to, value in _from_environment(environment):
        _set(given, path_to, value)
    for name, value in (flags or {}).items():
        if value is not None:
            _set(given, name.split("."), value)
    config = Config.from_dict(given, folder=folder)
    for name in AccessSettings.__struct_fields__ if check_secrets else ():
        value = getattr(config.access, name)
        for secret in value if isinstance(value, tuple) else (value,):
            if secret in SECRETS_TO_REPLACE:
                variable = f"{_ENVIRONMENT}ACCESS_{name.upper()}"
                raise ParameterError(f"access.{name}", secret, f"a secret of your own; set {variable}")
    if check_secrets and config.relay.token == HIDDEN:
        raise ParameterError("relay.token", HIDDEN, f"the token itself; set {_ENVIRONMENT}RELAY_TOKEN")
    for name, asked in (("prompts", config.prompts), ("tokens", config.tokens)) if check_secrets else ():
        if HIDDEN in asked.hook or asked.hook_secret == HIDDEN:
            key = "hook" if HIDDEN in asked.hook else "hook_secret"
            variable = f"{_ENVIRONMENT}{name.upper()}_{key.upper()}"
            raise ParameterError(f"{name}.{key}", HIDDEN, f"the value itself; set {variable}")
    for name, push in config.push.items() if check_secrets else ():
        if HIDDEN in push.url or push.password == HIDDEN:
            variable = f"{_ENVIRONMENT}PUSH_{name.upper()}_URL"
            raise ParameterError(f"push.{name}.url", push.url, f"the address with its password; set {variable}")
    for name, hook in config.webhooks.items() if check_secrets else ():
        if HIDDEN in hook.url or hook.secret == HIDDEN:
            key = "url" if HIDDEN in hook.url else "secret"
            variable = f"{_ENVIRONMENT}WEBHOOKS_{name.upper()}_{key.upper()}"
            raise ParameterError(f"webhooks.{name}.{key}", HIDDEN, f"the value itself; set {variable}")
    return config


def _set(given: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value below its tables, made where they are missing."""
    for name in path[:-1]:
        given = given.setdefault(name, {})
    given[path[-1]] = value


def _from_environment(environment: Mapping[str, str]) -> Iterable[tuple[Sequence[str], Any]]:
    foreign = injected_variables(environment)
    for variable, text in sorted(environment.items()):
        if not variable.startswith(_ENVIRONMENT) or variable in foreign:
            continue
        section, _, key = variable.removeprefix(_ENVIRONMENT).lower().partition("_")
        if section in _TABLES and section != "stations":  # RIFFSTREAM_PUSH_HOME_URL: the table [push.home]
            known = {each.name: each for each in keys(_TABLES[section])}
            found = max((name for name in known if key.endswith(f"_{name}")), key=len, default="")
            if not found:
                allowed_names = ", ".join(f"{_ENVIRONMENT}{section.upper()}_NAME_{name.upper()}" for name in known)
                raise ParameterError("environment", variable, allowed_names)
            yield (section, key.removesuffix(f"_{found}"), found), parse(known[found], text, variable)
            continue
        # RIFFSTREAM_CONFIG and RIFFSTREAM_TOKEN do not belong to a section.
        if section not in _SECTIONS or not key:
            continue
        known = {each.name: each for each in keys(_SECTIONS[section])}
        reject_unknown([key], known, where=f"environment {variable}")
        yield (section, key), parse(known[key], text, variable)


def similar_variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Probably misspelt variables, which have no effect: name -> similar setting.

    They are not errors, because other programs may use variables with the same prefix.

    Args:
        environment: ``os.environ`` by default.
    """
    environment = os.environ if environment is None else environment
    settings = [f"{section}_{each.name}" for section, kind in _SECTIONS.items() for each in keys(kind)]
    found = {}
    for variable in sorted(environment.keys() - injected_variables(environment)):
        name = variable.removeprefix(_ENVIRONMENT).lower()
        if (
            name == variable.lower()
            or name in ("config", "token")
            or name.partition("_")[0] in {*_SECTIONS, *_TABLES} - {"stations"}
        ):
            continue
        bare = [setting for setting in settings if setting.partition("_")[2] == name]
        near = bare or difflib.get_close_matches(name, settings, n=1, cutoff=0.9)
        if near:
            found[variable] = _ENVIRONMENT + near[0].upper()
    return found


def to_toml(values: Mapping[str, Any]) -> str:
    """Format nested plain values (from :meth:`Config.to_dict`) as TOML; None values become comments."""
    lines: list[str] = []
    for section, table in values.items():
        groups = {f"{section}.{name}": each for name, each in table.items()} if section in _TABLES else {section: table}
        for name, group in groups.items():
            lines.append(f"[{name}]")
            lines += [_line(section, key, value) for key, value in group.items()]
            lines.append("")
    return "\n".join(lines)


def _line(section: str, key: str, value: Any) -> str:
    if value is None:
        kind = _TABLES.get(section) or _SECTIONS[section]
        switched = any(each.name == key and each.default is not None for each in keys(kind))
        return f'{key} = "{OFF}"' if switched else f"# {key} ="
    return f"{key} = {_literal(value)}"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_literal(part) for part in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML escapes DEL, JSON does not
    return repr(value)
