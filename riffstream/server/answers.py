"""The JSON answers of the HTTP interface; ``openapi.py`` makes the API's schema from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from riffstream import protocol

__all__ = [
    "ArchiveState",
    "ArchiveStretch",
    "ClipPreview",
    "ElementFile",
    "Error",
    "ErrorCode",
    "Health",
    "IcecastSource",
    "IcecastStats",
    "IcecastStatus",
    "OEmbed",
    "Origin",
    "PushState",
    "RandomPrompt",
    "ReactionHistory",
    "Readiness",
    "RiffusionClip",
    "Seed",
    "SeedDetail",
    "SeedList",
    "Session",
    "SessionPlaces",
    "Station",
    "StationArchive",
    "StationDetail",
    "StationLinks",
    "StationList",
    "UploadLimits",
    "UploadedSeed",
    "UpstreamState",
    "WebhookState",
    "WorkerState",
    "json_answer",
]

ErrorCode = Literal["bad_request", "unauthorised", "forbidden", "not_found", "rate_limited", "busy", "internal"]


class Error(Struct, frozen=True, kw_only=True):
    """A refusal. ``message`` names the value and the allowed range."""

    code: ErrorCode
    message: str


class StationLinks(Struct, frozen=True, kw_only=True):
    """Addresses of a station, relative to the answer's own address."""

    socket: Annotated[str, Meta(description="WebSocket of the protocol")]
    mp3: Annotated[str, Meta(description="MP3 stream")]
    hls: Annotated[str, Meta(description="HLS playlist, if the server serves HLS")] | UnsetType = UNSET
    events: Annotated[str, Meta(description="server-sent events")]
    embed: Annotated[str, Meta(description="player for frames")]


class Station(Struct, frozen=True, kw_only=True):
    """A station."""

    id: Annotated[str, Meta(description="name of the station in addresses")]
    title: str
    description: str
    listeners: Annotated[int, Meta(ge=0, description="listeners now")]
    rev: Annotated[int, Meta(ge=0, description="number of the last change of the music")]
    sample_pos: Annotated[int, Meta(ge=0, description="sample clock, 48 kHz")]
    playing: Annotated[str, Meta(description="the prompts in one line, the strongest first")]
    state: protocol.State
    links: StationLinks


class StationDetail(Station, frozen=True, kw_only=True):
    """A station with its musical position and its abilities."""

    now: protocol.Now
    caps: protocol.Caps


class StationList(Struct, frozen=True, kw_only=True):
    """The public stations."""

    stations: tuple[Station, ...]


class Session(Struct, frozen=True, kw_only=True):
    """A private station for one page."""

    station: Annotated[str, Meta(description="name of the station in addresses")]
    token: Annotated[str, Meta(description="steers this station and nothing else")]
    seconds: Annotated[float, Meta(ge=0, description="longest life of the station and of the token")]
    idle_s: Annotated[float, Meta(ge=0, description="time without a listener until the station ends")]
    links: StationLinks


class SessionPlaces(Struct, frozen=True, kw_only=True):
    """Places for private stations."""

    most: Annotated[int, Meta(ge=0, description="private stations at once; 0: this server makes none")]
    free: Annotated[int, Meta(ge=0, description="places that are free now")]
    invited: Annotated[bool, Meta(description="whether this client's page may make one")]


class RandomPrompt(Struct, frozen=True, kw_only=True):
    """A prompt to try."""

    prompt: str
    bpm: Annotated[int, Meta(description="fitting tempo, beats per minute")]


class Seed(Struct, frozen=True, kw_only=True):
    """A seed image: a loop of 6 or 8 beats."""

    name: Annotated[str, Meta(description="value of `seed_image` in a steer")]
    style: str
    tags: tuple[str, ...]
    caption: str
    bpm: Annotated[float, Meta(gt=0, description="beats per minute")]
    beats: Annotated[int, Meta(ge=1)]
    title: str
    captions: Annotated[tuple[str, ...], Meta(description="further descriptions")] = ()
    chords: Annotated[str, Meta(description="one bar after the other, as in a steer; empty: unknown")] = ""
    parts: Annotated[
        dict[str, float], Meta(description="levels of parts, 0 (silent) to 1; a missing part is unknown")
    ] = {}
    density: Annotated[float | None, Meta(description="0 (few notes) to 1 (many); null: unknown")] = None
    energy: Annotated[float | None, Meta(description="0 (soft) to 1 (loud); null: unknown")] = None
    brightness: Annotated[float | None, Meta(description="0 (dark) to 1 (bright); null: unknown")] = None
    key: Annotated[float, Meta(description="semitones above C major and A minor; 0 if unknown")]
    seconds: Annotated[float, Meta(gt=0, description="duration of the loop")]
    preview: Annotated[str, Meta(description="picture, relative to the answer's own address")]
    audio: Annotated[str, Meta(description="sound, relative to the answer's own address")]


class SeedDetail(Seed, frozen=True, kw_only=True):
    """A seed image and its use."""

    played_by: Annotated[str | None, Meta(description="a station that plays it")]


class UploadedSeed(Seed, frozen=True, kw_only=True):
    """A new seed image."""

    notes: Annotated[tuple[str, ...], Meta(description="faults of the file, and guesses")] | UnsetType = UNSET
    remove_key: Annotated[str, Meta(description="secret of the uploader, for the removal")] | UnsetType = UNSET


class UploadLimits(Struct, frozen=True, kw_only=True):
    """Limits on uploads."""

    bytes: Annotated[int, Meta(ge=0, description="largest file")]
    seconds: Annotated[float, Meta(ge=0, description="longest audio")]
    pixels: Annotated[int, Meta(ge=0, description="largest image, width times height")]


class SeedList(Struct, frozen=True, kw_only=True):
    """The seed images."""

    seeds: tuple[Seed, ...]
    total: Annotated[int, Meta(ge=0, description="number of seeds without `limit` and `offset`")]
    default: Annotated[
        str | None,
        Meta(description="seed of music without one; `auto`: a similar one; null: noise, or not known yet"),
    ]
    uploads: Annotated[bool, Meta(description="whether uploads are accepted")]
    limits: UploadLimits


class PushState(Struct, frozen=True, kw_only=True):
    """A push of a station to another server."""

    station: str
    state: str
    problem: Annotated[str, Meta(description="reason of the last failure, or empty")]
    bytes: Annotated[int, Meta(ge=0, description="sent bytes")]
    connects: Annotated[int, Meta(ge=0)]
    failures: Annotated[int, Meta(ge=0)]
    dropped_s: Annotated[float, Meta(ge=0, description="audio that was not sent")]


class WebhookState(Struct, frozen=True, kw_only=True):
    """Deliveries to a configured address."""

    problem: Annotated[str, Meta(description="reason of the last failure, or empty")]
    waiting: Annotated[int, Meta(ge=0, description="messages in the queue")]
    delivered: Annotated[int, Meta(ge=0, description="messages")]
    failures: Annotated[int, Meta(ge=0, description="failed attempts")]
    dropped: Annotated[int, Meta(ge=0, description="messages that were never delivered")]


class ArchiveState(Struct, frozen=True, kw_only=True):
    """The archive on disk."""

    state: Literal["recording", "stopped"]
    problem: Annotated[str, Meta(description="why nothing is written at the moment, or empty")]
    bytes: Annotated[int, Meta(ge=0, description="size of the archive")]
    written_s: Annotated[float, Meta(ge=0, description="archived audio since the start")]
    lost_s: Annotated[float, Meta(ge=0, description="audio that could not be archived")]
    failures: Annotated[int, Meta(ge=0)]


class ArchiveStretch(Struct, frozen=True, kw_only=True, rename={"begin": "from", "end": "to"}):
    """Archived audio without a gap."""

    run: Annotated[int, Meta(description="one life of the station")]
    current: Annotated[bool, Meta(description="whether it is the present run")]
    begin: Annotated[str, Meta(description="date")]
    end: Annotated[str, Meta(description="date")]
    from_s: Annotated[float, Meta(description="station time, seconds")]
    to_s: Annotated[float, Meta(description="station time, seconds")]
    seconds: float


class StationArchive(ArchiveState, frozen=True, kw_only=True):
    """What the archive has of a station."""

    codec: Literal["mp3", "aac", "opus"]
    stretches: tuple[ArchiveStretch, ...]


class UpstreamState(Struct, frozen=True, kw_only=True):
    """Connection of a relay to the server that feeds it."""

    state: Literal["connected", "lost"]
    address: Annotated[str, Meta(description="the server in use, or tried next")]
    servers: Annotated[int, Meta(ge=0, description="servers from that one to the station's own")]
    failures: Annotated[int, Meta(ge=0, description="connections refused or lost since the start")]
    reason: Annotated[str | None, Meta(description="why the last connection failed")]


class WorkerState(Struct, frozen=True, kw_only=True):
    """A further process of the server."""

    pid: int | None
    state: Literal["starting", "running"]
    restarts: Annotated[int, Meta(ge=0, description="processes that ended and were replaced")]


class Health(Struct, frozen=True, kw_only=True):
    """The event loop runs."""

    status: Literal["ok"] = "ok"
    version: str
    push: Annotated[dict[str, PushState], Meta(description="pushes by name")] | UnsetType = UNSET
    webhooks: Annotated[dict[str, WebhookState], Meta(description="webhooks by name")] | UnsetType = UNSET
    archive: ArchiveState | UnsetType = UNSET
    upstream: Annotated[UpstreamState, Meta(description="of a relay")] | UnsetType = UNSET
    workers: Annotated[dict[str, WorkerState], Meta(description="by number, if there are any")] | UnsetType = UNSET


class ReactionHistory(Struct, frozen=True, kw_only=True):
    """Reactions over time: counts of `bucket_s` seconds each, oldest first. The last ones are not complete yet."""

    bucket_s: int
    heart: tuple[int, ...]
    fire: tuple[int, ...]
    wow: tuple[int, ...]


class ClipPreview(Struct, frozen=True, kw_only=True):
    """The clip with which a change would begin. A change with its ``seed`` begins with the same clip."""

    audio: Annotated[str, Meta(description="MP3 file, `data:audio/mpeg;base64,`")]
    duration_s: Annotated[float, Meta(gt=0)]
    seed: int
    bpm: float | None


class RiffusionClip(Struct, frozen=True, kw_only=True):
    """A clip in the form of Riffusion's server."""

    image: Annotated[str, Meta(description="spectrogram, `data:image/jpeg;base64,`")]
    audio: Annotated[str, Meta(description="MP3 file, `data:audio/mpeg;base64,`")]
    duration_s: Annotated[float, Meta(gt=0)]


class Readiness(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the server has audio; ``reason`` if not. ``runtime``: what evaluates the model's network now, `torch` or
    `openvino`, with the reason if it is not the configured one."""

    status: Literal["ready", "not ready"]
    reason: str | None = None
    runtime: str | None = None


class OEmbed(Struct, frozen=True, kw_only=True):
    """An oEmbed answer (oembed.com) of the type `rich`."""

    version: Literal["1.0"] = "1.0"
    type: Literal["rich"] = "rich"
    provider_name: Literal["riffstream"] = "riffstream"
    provider_url: str
    title: str
    thumbnail_url: str
    thumbnail_width: int
    thumbnail_height: int
    width: int
    height: int
    html: Annotated[str, Meta(description="an iframe with the player")]


class ElementFile(Struct, frozen=True, kw_only=True):
    """The element for other sites; addresses are relative to the answer's own."""

    latest: Annotated[str, Meta(description="its present content; browsers ask once a day")]
    pinned: Annotated[str, Meta(description="this content; browsers keep it for a year")]
    integrity: Annotated[str, Meta(description="value of the attribute `integrity` for this content")]


class Origin(Struct, frozen=True, kw_only=True):
    """Whether pages of a site may control a player in a frame."""

    origin: Annotated[str, Meta(description="in its usual form; `null` for what is no origin")]
    allowed: bool


class IcecastSource(Struct, frozen=True, kw_only=True):
    """A station as a mount point of Icecast."""

    listenurl: str
    server_name: str
    server_description: str
    server_type: str
    bitrate: Annotated[int, Meta(description="kbit/s")]
    samplerate: Annotated[int, Meta(description="Hz")]
    channels: int
    listeners: Annotated[int, Meta(ge=0)]
    title: Annotated[str, Meta(description="the prompts")]


class IcecastStats(Struct, frozen=True, kw_only=True):
    """Server and sources."""

    server_id: str
    host: str
    source: tuple[IcecastSource, ...]


class IcecastStatus(Struct, frozen=True, kw_only=True):
    """The status page of an Icecast server."""

    icestats: IcecastStats


def json_answer(body: Struct, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Make a response with a struct as JSON."""
    encoded = msgspec.json.encode(body)
    return web.Response(body=encoded, status=status, headers=headers, content_type="application/json")
