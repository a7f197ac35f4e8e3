"""The sections of the configuration, and every key in them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from riffstream.config.rules import Checked, ruled
from riffstream.errors import ParameterError
from riffstream.journey.journey import Journey, Keyframe, PromptPart
from riffstream.journey.ranges import check
from riffstream.journey.wander import wander
from riffstream.protocol import MAX_MESSAGE_BYTES, PROMPT_CHARS, PROMPTS, ProtocolError, clean_text

__all__ = ["Access", "Encoders", "Generator", "Limits", "Log", "Server", "StationConfig", "Timeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server(Checked):
    """``[server]``: where it listens and who may reach it.

    Attributes:
        host: address to bind, or a name and all of its addresses; ``localhost``: 127.0.0.1 and ::1; ``::``: every
            interface; ``0.0.0.0``: every one, IPv4 only.
        port: 0 picks a free one.
        public_url: how listeners reach it, for playlists (``https://radio.example``); "": from the request.
        allowed_origins: web origins that may steer besides the server's own; ``"*"``: any.
        trusted_proxies: addresses and networks (``10.0.0.0/8``) whose ``X-Forwarded-For`` is believed.
        drain_s: on SIGTERM, how long listeners are given to leave.
        state_dir: folder in which uploaded seed images are kept from run to run; "": in a temporary one, for this run.
    """

    host: str = "localhost"
    port: int = ruled(8080, 0, 65535)
    public_url: str = ""
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    drain_s: float = ruled(5.0, 0, 600, unit="s")
    state_dir: str = ""

    def __post_init__(self) -> None:
        super(Server, self).__post_init__()  # slots=True makes a new class; bare super() has the old
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
    """Scheme, host and port of an http or https address; None where it is none."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or " " in url:
            return None  # .port raises where it is none
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}".lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Access(Checked):
    """``[access]``: tokens. Without a DJ token, whoever can connect may steer; without a listen token, anyone listens.

    Attributes:
        dj_token: may steer. owner_token: may also manage stations. listen_token: needed to listen.
    """

    dj_token: str = ""
    owner_token: str = ""
    listen_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Checked):
    """``[limits]``: what one client, and all together, may ask of the server.

    Attributes:
        prompt_chars: after cleaning.
        message_bytes: of one WebSocket message; it must hold as many and as long prompts as are allowed.
        steer_interval_s, steer_burst: steers per connection: ``burst`` at once, then one per interval.
        connections, connections_per_address: open sockets and streams.
        stations: stations at once. listeners_per_station: listeners at once.
        keepalive_s, body_timeout_s: of HTTP connections.
        header_s: a connection that has not sent a whole request by then is closed.
        silence_s: a client that shows no sign of life for so long is closed.
        send_buffer_bytes: kernel buffer (SO_SNDBUF) of a listener's socket.
        skip_bytes: unsent bytes at which a listener skips to live. close_bytes, close_s: at which it is closed.
        upload_mb, upload_length_s, upload_mpixels: of an uploaded seed image: size, seconds of audio, picture size.
        upload_s, upload_memory_mb: what decoding it may take.
        upload_interval_s, upload_burst: uploads per address: ``burst`` at once, then one per interval.
        uploads, uploads_mb: kept at once; the oldest that no station plays is dropped. 0: nothing can be uploaded.
        recording_s: longest recording that can be fetched; None: all that ``timeline.ring_s`` keeps.
    """

    prompt_chars: int = ruled(300, 1, 300)
    message_bytes: int = ruled(MAX_MESSAGE_BYTES, 1024, 262_144, unit="bytes")
    steer_interval_s: float = ruled(2.0, 0, 3600, unit="s")
    steer_burst: int = ruled(3, 1, 1000)
    connections: int = ruled(4000, 1, 1_000_000)
    connections_per_address: int = ruled(20, 1, 1_000_000)
    stations: int = ruled(8, 1, 1000)
    listeners_per_station: int = ruled(4000, 1, 1_000_000)
    keepalive_s: float = ruled(15.0, 0, 3600, unit="s")
    body_timeout_s: float = ruled(10.0, 0.1, 3600, unit="s")
    header_s: float = ruled(10.0, 0.1, 3600, unit="s")
    silence_s: float = ruled(55.0, 1, 3600, unit="s")
    send_buffer_bytes: int = ruled(65536, 4096, 16_777_216, unit="bytes")
    skip_bytes: int = ruled(65536, 4096, 16_777_216, unit="bytes")
    close_bytes: int = ruled(262144, 4096, 67_108_864, unit="bytes")
    close_s: float = ruled(10.0, 0.1, 3600, unit="s")
    upload_mb: float = ruled(20.0, 0.01, 1000, unit="MB")
    upload_s: float = ruled(10.0, 0.1, 600, unit="s")
    upload_mpixels: float = ruled(16.0, 0.01, 1000, unit="megapixels")
    upload_length_s: float = ruled(900.0, 1, 36000, unit="s")
    upload_memory_mb: float = ruled(1024.0, 300, 65536, unit="MB")
    upload_interval_s: float = ruled(10.0, 0, 3600, unit="s")
    upload_burst: int = ruled(5, 1, 1000)
    uploads: int = ruled(64, 0, 10_000)
    uploads_mb: float = ruled(256.0, 1, 1_000_000, unit="MB")
    recording_s: float | None = ruled(None, 0, 3600, unit="s")

    def __post_init__(self) -> None:
        super(Limits, self).__post_init__()  # slots=True makes a new class; bare super() has the old
        # A character has up to 4 bytes in UTF-8; the prompts and a negative one, and 2 kB for the other fields.
        least = (PROMPTS + 1) * 4 * self.prompt_chars + 2048
        if self.message_bytes < least:
            allowed = f"{least} or more, for {PROMPTS} prompts of prompt_chars = {self.prompt_chars}"
            raise ParameterError("message_bytes", self.message_bytes, allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator(Checked):
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
    device: str = ruled("auto", choices=("auto", "cpu", "cuda", "mps"))
    dtype: str = ruled("auto", choices=("auto", "float32", "bfloat16", "float16"))
    sampler: str | None = None
    steps: int | None = ruled(None, 1, 1000)
    guidance: float | None = ruled(None, 0, 30)
    denoising: float | None = ruled(None, 0, 1)
    seed_image: str | None = None
    max_batch: int = ruled(16, 1, 256)
    threads: int = ruled(0, 0, 1024)
    vocoder: str = ruled("pghi", choices=("pghi", "griffin-lim"))
    vocoder_iterations: int | None = ruled(None, 0, 1000)
    stall_s: float = ruled(30.0, 0.2, 3600, unit="s")
    load_s: float = ruled(900.0, 1, 86400, unit="s")
    backoff_s: float = ruled(0.25, 0.01, 60, unit="s")
    backoff_max_s: float = ruled(30.0, 0.01, 3600, unit="s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline(Checked):
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

    frame_ms: int = ruled(100, 20, 1000, unit="ms")
    send_lead_ms: int = ruled(250, 20, 5000, unit="ms")
    client_buffer_ms: int = ruled(200, 0, 10000, unit="ms")
    crossfade_ms: float = ruled(30.0, 1, 1000, unit="ms")
    ahead_s: float = ruled(6.0, 1, 120, unit="s")
    haste_s: float = ruled(0.8, 0, 3600, unit="s")
    repeats: int = ruled(4, 0, 1000)
    idle_s: float = ruled(30.0, 0, 86400, unit="s")
    burst_ms: int = ruled(1500, 100, 10000, unit="ms")
    passive_frame_ms: int = ruled(500, 20, 2000, unit="ms")
    ring_s: float = ruled(120.0, 5, 3600, unit="s")
    loudness_lufs: float | None = ruled(-16.0, -40, -8, unit="LUFS")
    true_peak_dbtp: float = ruled(-1.0, -20, 0, unit="dBTP")

    def __post_init__(self) -> None:
        super(Timeline, self).__post_init__()  # slots=True makes a new class; bare super() has the old
        if self.frame_ms % 20:
            raise ParameterError("timeline.frame_ms", self.frame_ms, "a multiple of 20")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoders(Checked):
    """``[encoders]``: bit rates in kbit/s."""

    opus_kbps: int = ruled(128, 16, 510, unit="kbit/s")
    mp3_kbps: int = ruled(128, 32, 320, unit="kbit/s")
    aac_kbps: int = ruled(128, 32, 320, unit="kbit/s")
    ogg_kbps: int = ruled(128, 16, 510, unit="kbit/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Checked):
    """``[log]``: level, and one JSON object or one line of text per record."""

    level: str = ruled("info", choices=("debug", "info", "warning", "error"))
    format: str = ruled("text", choices=("text", "json"))


TITLE_CHARS, DESCRIPTION_CHARS, SEED_IMAGE_CHARS = 120, 1000, 200


def _text(field: str, text: str, most: int, least: int = 0) -> str:
    """A text that everybody is shown, cleaned as those are that come over the socket."""
    try:
        clean = clean_text(text, limit=most, field=field)
    except ProtocolError:
        clean = None
    if clean is None or len(clean) < least:
        raise ParameterError(field, text, f"{least} to {most} characters")
    return clean


@dataclass(frozen=True, slots=True, kw_only=True)
class StationConfig(Checked):
    """``[stations.NAME]``: one stream and what it plays by itself.

    Attributes:
        title, description: for players; up to 120 and 1,000 characters.
        journey: ``wander`` (a seeded walk over moods), or a journey file (TOML or JSON) beside the config.
        prompts: visited in turn, in place of ``journey``; 1 to 300 characters each.
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
    stay: int = ruled(8, 0, 1_000_000)
    travel: int = ruled(4, 0, 1_000_000)
    seed: int = ruled(0, 0, 2**32 - 1)
    negative: str = ""
    denoising: float | None = ruled(None, 0, 1)
    guidance: float | None = ruled(None, 0, 30)
    seed_image: str | None = None
    bpm: float | None = ruled(None, 40, 240)
    key: float | None = ruled(None, -6, 6)
    beats_per_bar: int = ruled(4, 3, 4)
    steps: int | None = ruled(None, 1, 1000)
    steer: bool = True
    save_log: str = ""

    def __post_init__(self) -> None:
        super(StationConfig, self).__post_init__()  # slots=True makes a new class; bare super() has the old
        prompts = [_text(f"prompts[{n}]", text, PROMPT_CHARS, 1) for n, text in enumerate(self.prompts)]
        object.__setattr__(self, "prompts", tuple(prompts))
        for name, most in (("title", TITLE_CHARS), ("description", DESCRIPTION_CHARS), ("negative", PROMPT_CHARS)):
            object.__setattr__(self, name, _text(name, getattr(self, name), most))
        image = self.seed_image
        if image is not None and not (1 <= len(image) <= SEED_IMAGE_CHARS and image.isprintable()):
            raise ParameterError("seed_image", image, f"a name of 1 to {SEED_IMAGE_CHARS} characters")

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
            return wander(self.seed)
        journey = Journey.from_file(self.journey)
        for number, stop in enumerate(journey.stops):
            for part in stop.keyframe.prompts:  # listeners are told: what no message may hold, no station may play
                _text(f"keyframe[{number}].prompt", part.text, PROMPT_CHARS, 1)
            _text(f"keyframe[{number}].negative", stop.keyframe.negative, PROMPT_CHARS)
        return journey
