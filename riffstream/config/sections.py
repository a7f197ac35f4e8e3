"""The sections of the configuration with all keys."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec.structs import force_setattr

from riffstream.config.rules import Section
from riffstream.config.targets import HIDDEN
from riffstream.errors import ParameterError
from riffstream.journey.form import FormName
from riffstream.journey.journey import Journey, Keyframe, PromptPart
from riffstream.journey.wander import ARC_CLIPS, wander
from riffstream.protocol import (
    BARS_AHEAD,
    MAX_MESSAGE_BYTES,
    PROMPT_CHARS,
    PROMPTS,
    REQUEST_CHARS,
    Limits,
    ProtocolError,
    clean_text,
)
from riffstream.ranges import RANGES, between

__all__ = [
    "AccessSettings",
    "EncodersSettings",
    "GeneratorSettings",
    "LimitsSettings",
    "LogSettings",
    "ServerSettings",
    "StationConfig",
    "TimelineSettings",
]


SIGNING_KEY_CHARS = 32
BACKENDS = ("", "local", "ray:auto", "ray:local")
PLACEHOLDER = "change-me"  # value of tokens in presets
SECRETS_TO_REPLACE = (PLACEHOLDER, HIDDEN)


class ServerSettings(Section, frozen=True, kw_only=True):
    """``[server]``: listening address, public address and trusted clients.

    Attributes:
        host: address to bind, or a name with all of its addresses. ``localhost``: 127.0.0.1 and ::1; ``::``: all
            interfaces; ``0.0.0.0``: all interfaces, IPv4 only.
        port: TCP port; 0 picks a free one.
        public_url: URL of the server for listeners, used in playlists (``https://radio.example``); "": from the
            request.
        allowed_origins: web origins that may steer besides the server's own; ``"*"``: all.
        trusted_proxies: addresses and networks (``10.0.0.0/8``) of trusted proxies, whose ``X-Forwarded-For`` counts.
        hls: serve HTTP Live Streaming (``/hls/STATION/master.m3u8``). Its encoders run only while somebody listens.
        drain_s: time for listeners to leave after SIGTERM, seconds.
        workers: processes that serve listeners on one port (SO_REUSEPORT). The first has the stations and feeds the
            others. The limits of connections and listeners hold for each.
        state_dir: folder that keeps uploaded seed images and the state of the stations between runs; "": a temporary
            folder for each run, and stations begin anew.
    """

    host: str = "localhost"
    port: Annotated[int, between(0, 65535)] = 8080
    public_url: str = ""
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    hls: bool = True
    drain_s: Annotated[float, between(0, 600, "s")] = 5.0
    workers: Annotated[int, between(1, 64)] = 1
    state_dir: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.public_url and _origin(self.public_url) is None:
            raise ParameterError("public_url", self.public_url, "an address like https://radio.example")
        for given in self.allowed_origins:
            if given not in ("*", "null") and _origin(given) != given.rstrip("/").lower():
                raise ParameterError("allowed_origins", given, "origins like https://radio.example, without a path")
        for given in self.trusted_proxies:
            try:
                ipaddress.ip_network(given, strict=False)
            except ValueError:
                allowed = "addresses and networks, such as 127.0.0.1 and 10.0.0.0/8"
                raise ParameterError("trusted_proxies", given, allowed) from None


def _origin(url: str) -> str | None:
    """Scheme, host and port of an http or https address; None for other text."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or " " in url:
            return None  # .port raises for an invalid port
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}".lower()


def _is_ray_client(address: str) -> bool:
    """Whether an address is ``ray://HOST:PORT``."""
    try:
        parts = urlsplit(address)
        return address == f"ray://{parts.netloc}" and bool(parts.hostname) and bool(parts.port)
    except ValueError:  # .port raises for an invalid port
        return False


class AccessSettings(Section, frozen=True, kw_only=True):
    """``[access]``: tokens. Without a DJ token every client may steer; without a listen token every client may listen.

    Attributes:
        dj_token: token for steering.
        owner_token: token for managing stations, and for steering.
        listen_token: token for listening.
        signing_keys: keys of signed tokens ('riffstream token'), 32 or more characters each. The first signs, all are
            accepted. With a key, steering needs a token.
        private: nothing without a token, not even listening.
    """

    dj_token: str = ""
    owner_token: str = ""
    listen_token: str = ""
    signing_keys: tuple[str, ...] = ()
    private: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in self.signing_keys:
            if len(key) < SIGNING_KEY_CHARS and key not in SECRETS_TO_REPLACE:
                allowed = f"keys of {SIGNING_KEY_CHARS} or more characters ('riffstream token --new-key' makes one)"
                raise ParameterError("signing_keys", f"{len(key)} characters", allowed)
        if self.private and not any((self.dj_token, self.owner_token, self.listen_token, self.signing_keys)):
            raise ParameterError("private", True, "true with a token or a signing key; otherwise nobody may listen")


class LimitsSettings(Section, frozen=True, kw_only=True):
    """``[limits]``: limits of each client and of the whole server.

    Attributes:
        prompt_chars: longest prompt after cleaning, characters.
        message_bytes: largest WebSocket message of a client; it must be large enough for the allowed prompts.
        steer_interval_s: time between steers of one connection, seconds.
        desk_interval_s: time between steers of the desk alone, which need no clip, seconds.
        steer_burst: steers of one connection at once.
        queue: items of a station's queue; 0: stations have no queue.
        requests: requests of listeners that a station keeps.
        request_chars: longest request of a listener, characters.
        request_interval_s: time between the requests of one address, seconds.
        connections: open sockets and streams.
        connections_per_address: open sockets and streams of one address.
        stations: number of stations.
        listeners_per_station: number of listeners of a station.
        keepalive_s: idle time until an HTTP connection is closed, seconds.
        body_timeout_s: longest time to receive the body of a request, seconds.
        header_s: longest time from connecting to a complete request, seconds.
        silence_s: time without a sign of life until a client is disconnected, seconds.
        send_buffer_bytes: kernel buffer (SO_SNDBUF) of a listener's socket.
        skip_bytes: unsent bytes above which a listener skips to live.
        close_bytes: unsent bytes above which a listener is disconnected.
        close_s: time with a full buffer until a listener is disconnected, seconds.
        upload_mb: size of an uploaded file, MB.
        upload_s: time for decoding an upload, seconds.
        upload_mpixels: size of an uploaded picture, megapixels.
        upload_length_s: duration of uploaded audio, seconds.
        upload_memory_mb: memory for decoding an upload, MB.
        upload_interval_s: time between uploads of one address, seconds.
        upload_burst: uploads of one address at once.
        uploads: number of kept uploads; the oldest one that no station plays is dropped. 0: no uploads.
        uploads_mb: total size of kept uploads, MB.
        uploads_per_address: kept uploads of one address without the owner's rights; above, its own oldest is dropped.
        inputs: live inputs at once, each of one station; 0: none.
        recording_s: longest recording for download, seconds; None: all that ``timeline.ring_s`` keeps.
        clips: single clips (``POST /run_inference/``) in progress; 0: none are made.
        clip_interval_s: time between single clips of one address, seconds.
        clip_burst: single clips of one address at once.
    """

    prompt_chars: Annotated[int, between(1, 300)] = 300
    message_bytes: Annotated[int, between(1024, 262_144, "bytes")] = MAX_MESSAGE_BYTES
    steer_interval_s: Annotated[float, between(0, 3600, "s")] = 2.0
    desk_interval_s: Annotated[float, between(0, 3600, "s")] = 0.1
    steer_burst: Annotated[int, between(1, 1000)] = 3
    queue: Annotated[int, between(0, 200)] = 32
    requests: Annotated[int, between(1, 200)] = 50
    request_chars: Annotated[int, between(1, 300)] = REQUEST_CHARS
    request_interval_s: Annotated[float, between(0, 86400, "s")] = 60.0
    connections: Annotated[int, between(1, 1_000_000)] = 4000
    connections_per_address: Annotated[int, between(1, 1_000_000)] = 20
    stations: Annotated[int, between(1, 1000)] = 8
    listeners_per_station: Annotated[int, between(1, 1_000_000)] = 4000
    keepalive_s: Annotated[float, between(0, 3600, "s")] = 15.0
    body_timeout_s: Annotated[float, between(0.1, 3600, "s")] = 10.0
    header_s: Annotated[float, between(0.1, 3600, "s")] = 10.0
    silence_s: Annotated[float, between(1, 3600, "s")] = 55.0
    send_buffer_bytes: Annotated[int, between(4096, 16_777_216, "bytes")] = 65536
    skip_bytes: Annotated[int, between(4096, 16_777_216, "bytes")] = 65536
    close_bytes: Annotated[int, between(4096, 67_108_864, "bytes")] = 262144
    close_s: Annotated[float, between(0.1, 3600, "s")] = 10.0
    upload_mb: Annotated[float, between(0.01, 1000, "MB")] = 20.0
    upload_s: Annotated[float, between(0.1, 600, "s")] = 10.0
    upload_mpixels: Annotated[float, between(0.01, 1000, "megapixels")] = 16.0
    upload_length_s: Annotated[float, between(1, 36000, "s")] = 900.0
    upload_memory_mb: Annotated[float, between(300, 65536, "MB")] = 1024.0
    upload_interval_s: Annotated[float, between(0, 3600, "s")] = 10.0
    upload_burst: Annotated[int, between(1, 1000)] = 5
    uploads: Annotated[int, between(0, 10_000)] = 64
    uploads_mb: Annotated[float, between(1, 1_000_000, "MB")] = 256.0
    uploads_per_address: Annotated[int, between(1, 10_000)] = 16
    inputs: Annotated[int, between(0, 1000)] = 4
    recording_s: Annotated[float, between(0, 3600, "s")] | None = None
    clips: Annotated[int, between(0, 1000)] = 8
    clip_interval_s: Annotated[float, between(0, 3600, "s")] = 1.0
    clip_burst: Annotated[int, between(1, 1000)] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        # Up to 4 bytes a character in UTF-8, for the prompts and a negative one, and 2 kB for the other fields.
        least = (PROMPTS + 1) * 4 * self.prompt_chars + 2048
        if self.message_bytes < least:
            allowed = f"{least} or more, for {PROMPTS} prompts of prompt_chars = {self.prompt_chars}"
            raise ParameterError("message_bytes", self.message_bytes, allowed)

    def shown(self) -> Limits:
        """The limits that clients are told."""
        return Limits(
            prompt_chars=self.prompt_chars,
            message_bytes=self.message_bytes,
            steer_interval_s=self.steer_interval_s,
            desk_interval_s=self.desk_interval_s,
            steer_burst=self.steer_burst,
            queue=self.queue,
            request_chars=min(self.request_chars, self.prompt_chars),
            request_interval_s=self.request_interval_s,
            bars_ahead=BARS_AHEAD,
        )


class GeneratorSettings(Section, frozen=True, kw_only=True):
    """``[generator]``: the model and its processes. ``[models.NAME]``: a further model, for stations that name it.

    Attributes:
        workers: processes with the model, which share its stations. Of several GPUs, each takes the next one.
        backend: where they run: ``local`` (this machine), or on a Ray cluster: ``ray:auto`` (the one of this machine or
            of ``RAY_ADDRESS``), ``ray:local`` (started and ended with the server) or ``ray://HOST:PORT`` (over Ray's
            client). "": local; for ``[models.NAME]`` that of ``[generator]``.
        cpus: CPU cores that each worker reserves on a Ray cluster.
        gpus: GPUs that each worker reserves on a Ray cluster, or a share of one; None: 1 for the device ``cuda``, 0 for
            the others.
        model: ``mini``, a folder, a single safetensors file, a hub id, or ``tone`` (a test signal, no model).
        revision: branch, tag or commit of a hub id.
        lora: safetensors files, each with ``:scale`` if not 1.
        device: ``auto``: CUDA, else MPS, else the CPU.
        dtype: ``auto``: the fastest suitable dtype of the device.
        runtime: what evaluates the network: ``torch``, or ``openvino`` (embedded model on a CPU, extra ``openvino``),
            with torch until its network is ready and after a fault.
        sampler, steps, guidance, denoising: None: the model's own.
        seed_image: default for keyframes without one: auto (a similar loop of the library), none (noise alone) or a
            name; None: the model's own.
        max_batch: rows in one evaluation of the network; a guided clip has two, a first step one for each try.
        threads: CPU threads; 0: all cores but one.
        vocoder: method of phase reconstruction.
        vocoder_iterations: Griffin-Lim iterations; None: the method's default.
        stall_s: time without a heartbeat until the process is restarted, seconds, or six times its slowest recent step
            if that is longer.
        load_s: the same limit while it loads, seconds.
        backoff_s: delay before the first restart, seconds; it doubles with each further one.
        backoff_max_s: longest delay before a restart, seconds.
    """

    workers: Annotated[int, between(1, 256)] = 1
    backend: str = ""
    cpus: Annotated[float, between(0, 1024)] = 1.0
    gpus: Annotated[float, between(0, 64)] | None = None
    model: str = "mini"
    revision: str = ""
    lora: tuple[str, ...] = ()
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    runtime: Literal["torch", "openvino"] = "torch"
    sampler: str | None = None
    steps: Annotated[int, RANGES["steps"].meta] | None = None
    guidance: Annotated[float, RANGES["guidance"].meta] | None = None
    denoising: Annotated[float, RANGES["denoising"].meta] | None = None
    seed_image: str | None = None
    max_batch: Annotated[int, between(1, 256)] = 16
    threads: Annotated[int, between(0, 1024)] = 0
    vocoder: Literal["pghi", "griffin-lim"] = "pghi"
    vocoder_iterations: Annotated[int, between(0, 1000)] | None = None
    stall_s: Annotated[float, between(0.2, 3600, "s")] = 30.0
    load_s: Annotated[float, between(1, 86400, "s")] = 900.0
    backoff_s: Annotated[float, between(0.01, 60, "s")] = 0.25
    backoff_max_s: Annotated[float, between(0.01, 3600, "s")] = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend not in BACKENDS and not _is_ray_client(self.backend):
            raise ParameterError("backend", self.backend, "local, ray:auto, ray:local or ray://HOST:PORT")
        if self.gpus is not None and self.gpus > 1 and self.gpus % 1:
            raise ParameterError("gpus", self.gpus, "a share up to 1, or a whole number")

    @property
    def on_ray(self) -> bool:
        """Whether the model runs on a Ray cluster."""
        return self.backend.startswith("ray")


class TimelineSettings(Section, frozen=True, kw_only=True):
    """``[timeline]``: lead times of rendering, committing and sending, and the sound at splices.

    Attributes:
        frame_ms: length of a frame for listeners that steer, a multiple of 20. Longer frames cost less CPU but delay
            steers.
        send_lead_ms: time from sending audio to its audible position.
        client_buffer_ms: buffer with which clients begin; on a calm line it shrinks to 80 ms.
        crossfade_ms: length of the crossfade at splices.
        ahead_s: finished audio kept ahead of playback, seconds.
        haste_s: a steer's first clip gets fewer steps if its first audio would take longer than this, seconds.
        repeats: duration of the repeated last music before silence when generation is late, in clips.
        idle_s: time without listeners until generation pauses, seconds; 0: it never pauses.
        burst_ms: audio sent to a media player at once, so that it starts without a delay.
        passive_frame_ms: length of a frame for listeners that do not steer, rounded to a multiple of ``frame_ms``.
        ring_s: committed audio kept for recordings, resuming and bursts, seconds.
        loudness_lufs: target loudness of the slow gain; ``"off"``: no gain.
        true_peak_dbtp: ceiling of the limiter.
    """

    frame_ms: Annotated[int, between(20, 1000, "ms", multiple_of=20)] = 40
    send_lead_ms: Annotated[int, between(20, 5000, "ms")] = 250
    client_buffer_ms: Annotated[int, between(0, 10000, "ms")] = 200
    crossfade_ms: Annotated[float, between(1, 1000, "ms")] = 30.0
    ahead_s: Annotated[float, between(1, 120, "s")] = 6.0
    haste_s: Annotated[float, between(0, 3600, "s")] = 0.8
    repeats: Annotated[int, between(0, 1000)] = 4
    idle_s: Annotated[float, between(0, 86400, "s")] = 30.0
    burst_ms: Annotated[int, between(100, 10000, "ms")] = 1500
    passive_frame_ms: Annotated[int, between(20, 2000, "ms")] = 500
    ring_s: Annotated[float, between(5, 3600, "s")] = 120.0
    loudness_lufs: Annotated[float, between(-40, -8, "LUFS")] | None = -16.0
    true_peak_dbtp: Annotated[float, between(-20, 0, "dBTP")] = -1.0


class EncodersSettings(Section, frozen=True, kw_only=True):
    """``[encoders]``: bit rates in kbit/s."""

    opus_kbps: Annotated[int, between(16, 510, "kbit/s")] = 128
    mp3_kbps: Annotated[int, between(32, 320, "kbit/s")] = 128
    aac_kbps: Annotated[int, between(32, 320, "kbit/s")] = 128
    ogg_kbps: Annotated[int, between(16, 510, "kbit/s")] = 128


class LogSettings(Section, frozen=True, kw_only=True):
    """``[log]``: level and format of the log.

    Attributes:
        level: lowest level in the log.
        format: ``text`` (one line a record) or ``json`` (one object a record).
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


TITLE_CHARS, DESCRIPTION_CHARS, SEED_IMAGE_CHARS = 120, 1000, 200


def _text(field: str, text: str, most: int, least: int = 0) -> str:
    """Clean a public text like those from the socket, and check its length."""
    try:
        clean = clean_text(text, limit=most, field=field)
    except ProtocolError:
        clean = None
    if clean is None or len(clean) < least:
        raise ParameterError(field, text, f"{least} to {most} characters")
    return clean


class StationConfig(Section, frozen=True, kw_only=True):
    """``[stations.NAME]``: one stream and its default music.

    Attributes:
        model: name of a table ``[models.NAME]``; "": the model of ``[generator]``.
        title: title for players, up to 120 characters.
        description: description for players, up to 1,000 characters.
        journey: ``wander`` (a seeded walk over moods), or a journey file (TOML or JSON) relative to the config.
        prompts: prompts of a cyclic journey in place of ``journey``; 1 to 300 characters each.
        stay: clips at each prompt.
        travel: clips from one prompt to the next.
        seed: seed of the noise (and of ``wander``).
        negative, denoising, guidance, seed_image: for every keyframe of ``prompts``.
        song: recording that the station plays along with, relative to the config; ``prompts`` and ``denoising`` (0: the
            song itself) decide what becomes of it. ``bpm`` and ``key`` are its tempo and key; None: measured.
        bpm: fixed tempo; None: the journey's.
        key: fixed transposition in semitones; None: the journey's.
        beats_per_bar: fixed metre, 3 or 4; None: the journey's, which is that of the words without a number.
        form: planner of sections and chords, for models that follow one; None: the journey's (``wander``: song).
        steps: sampler steps; None: the generator's.
        steer: False refuses all steering.
        requests: True lets listeners suggest prompts, vote and react; who steers sees and takes them.
        save_log: file for the steering log; "": the log stays in memory.
    """

    model: str = ""
    title: str = ""
    description: str = ""
    journey: str = "wander"
    prompts: tuple[str, ...] = ()
    stay: Annotated[int, RANGES["stay"].meta] = 8
    travel: Annotated[int, RANGES["travel"].meta] = 4
    seed: Annotated[int, RANGES["seed"].meta] = 0
    negative: str = ""
    denoising: Annotated[float, RANGES["denoising"].meta] | None = None
    guidance: Annotated[float, RANGES["guidance"].meta] | None = None
    seed_image: str | None = None
    song: str = ""
    bpm: Annotated[float, RANGES["bpm"].meta] | None = None
    key: Annotated[float, RANGES["key"].meta] | None = None
    beats_per_bar: Annotated[int, RANGES["beats_per_bar"].meta] | None = None
    form: FormName | None = None
    steps: Annotated[int, RANGES["steps"].meta] | None = None
    steer: bool = True
    requests: bool = False
    save_log: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        prompts = [_text(f"prompts[{n}]", text, PROMPT_CHARS, 1) for n, text in enumerate(self.prompts)]
        force_setattr(self, "prompts", tuple(prompts))
        for name, most in (("title", TITLE_CHARS), ("description", DESCRIPTION_CHARS), ("negative", PROMPT_CHARS)):
            force_setattr(self, name, _text(name, getattr(self, name), most))
        if self.song and not self.prompts:
            raise ParameterError("song", self.song, "a recording together with prompts")
        if self.song and self.seed_image is not None:
            raise ParameterError("seed_image", self.seed_image, "nothing together with song")
        image = self.seed_image
        if image is not None and not (1 <= len(image) <= SEED_IMAGE_CHARS and image.isprintable()):
            raise ParameterError("seed_image", image, f"a name of 1 to {SEED_IMAGE_CHARS} characters")

    def plan(self, *, conditions: bool = False) -> Journey:
        """Make the default journey. Raises ParameterError or MediaError.

        Args:
            conditions: whether the model follows a form; stops of the default journey are then as long as an arc.
        """
        if self.prompts:
            keyframe = Keyframe(
                (PromptPart(self.prompts[0]),),
                negative=self.negative,
                seed=self.seed,
                denoising=self.denoising,
                guidance=self.guidance,
                seed_image=self.seed_image,
            )
            rest = {name: getattr(keyframe, name) for name in ("negative", "denoising", "guidance", "seed_image")}
            return Journey.visit(self.prompts, self.stay, self.travel, seed=keyframe.seed, **rest)
        if self.journey == "wander":
            if conditions and self.form != "none":
                return wander(self.seed, stay=ARC_CLIPS - 4)
            return wander(self.seed)
        journey = Journey.from_file(self.journey)
        for number, stop in enumerate(journey.stops):
            for part in stop.keyframe.prompts:  # messages contain the prompts, so the same limits apply
                _text(f"keyframe[{number}].prompt", part.text, PROMPT_CHARS, 1)
            _text(f"keyframe[{number}].negative", stop.keyframe.negative, PROMPT_CHARS)
        return journey
