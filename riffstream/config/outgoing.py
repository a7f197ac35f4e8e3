"""The sections for what the server itself writes and sends: ``[archive]``, ``[push.NAME]``, ``[webhooks.NAME]``."""

from __future__ import annotations

import base64
import binascii
import ssl
from typing import Annotated, Literal
from urllib.parse import urlsplit

from riffstream.config.rules import Section
from riffstream.config.targets import HIDDEN, PUSH_CODECS, PushTarget, without_secrets
from riffstream.errors import ParameterError
from riffstream.ranges import between

__all__ = ["ArchiveSettings", "PushSettings", "WebhookSettings", "check_address"]


MESSAGES = ("now", "event")


def check_address(field: str, url: str) -> None:
    """Raise ParameterError unless ``url`` is an http or https address without a user."""
    shown = without_secrets(url)
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or " " in url:
        raise ParameterError(field, shown, "an address such as https://host/path")
    if parts.username is not None:
        raise ParameterError(field, shown, "an address without a user; use secret")


class ArchiveSettings(Section, frozen=True, kw_only=True):
    """``[archive]``: the encoded audio of the last hours on disk, for downloads.

    Attributes:
        dir: its folder; "": no archive.
        hours: age at which audio is removed.
        max_mb: largest size of the archive, MB; the oldest audio is removed above it.
        codec: mp3, aac or opus, at the bit rate of ``[encoders]``.
        stations: recorded stations; empty: all configured ones.
    """

    dir: str = ""
    hours: Annotated[float, between(0.1, 8760, "h")] = 24.0
    max_mb: Annotated[float, between(20, 10_000_000, "MB")] = 4096.0
    codec: Literal["mp3", "aac", "opus"] = "mp3"
    stations: tuple[str, ...] = ()


class PushSettings(Section, frozen=True, kw_only=True):
    """``[push.NAME]``: a server of others (Icecast or RTMP) that gets a station's audio.

    Attributes:
        url: ``icecast://source:PASSWORD@HOST:PORT/MOUNT``, ``icecasts://`` (TLS), ``rtmp://HOST/APP/KEY`` or
            ``rtmps://``.
        password: password of Icecast's source if ``url`` has none.
        ca: PEM file with the authorities, or the server's own certificate, that ``icecasts://`` and ``rtmps://`` trust
            in place of the system's; "": those of the system.
        station: name of the station; "": the first one.
        codec: mp3, aac or ogg (Opus); None: by the ending of the mount point, else mp3 (RTMP: aac). Its bit
            rate is that of ``[encoders]``.
        genre: genre for Icecast's directory.
        public: list the stream in Icecast's directory.
        stall_s: time without progress until a connection is given up, seconds.
        backoff_s: delay before the first reconnection, seconds; it doubles with each failure.
        backoff_max_s: longest delay before a reconnection, seconds.
    """

    url: str = ""
    password: str = ""
    ca: str = ""
    station: str = ""
    codec: Literal["mp3", "aac", "ogg"] | None = None
    genre: str = ""
    public: bool = False
    stall_s: Annotated[float, between(0.5, 300, "s")] = 10.0
    backoff_s: Annotated[float, between(0.05, 60, "s")] = 1.0
    backoff_max_s: Annotated[float, between(0.05, 3600, "s")] = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        target = self.target
        codecs = PUSH_CODECS[target.scheme]
        if self.codec is not None and self.codec not in codecs:
            raise ParameterError("codec", self.codec, f"{' or '.join(codecs)} for {target.scheme}")
        if self.ca:
            _check_ca(self.ca, target)

    @property
    def target(self) -> PushTarget:
        """The parsed address. Raises ParameterError."""
        return PushTarget.parse(self.url, self.password)


def _check_ca(ca: str, target: PushTarget) -> None:
    if not target.secure:
        raise ParameterError("ca", ca, "nothing without TLS (icecasts:// or rtmps://)")
    try:
        ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise ParameterError("ca", ca, "a PEM file with certificates") from None
    except OSError as error:
        raise ParameterError("ca", ca, f"a readable PEM file with certificates ({error.strerror})") from None


class WebhookSettings(Section, frozen=True, kw_only=True):
    """``[webhooks.NAME]``: an address that gets the messages of stations as POST requests.

    Attributes:
        url: ``https://`` or ``http://`` address. Redirects are not followed.
        secret: signs the requests (Standard Webhooks): ``whsec_`` and base64, or any text; "": no signature.
        station: name of the station; "": all configured stations.
        events: ``now``, ``event`` or both.
        queue: messages that wait for delivery; the oldest is dropped above it.
        timeout_s: longest time for an answer, seconds.
        attempts: deliveries of one message until it is dropped.
        backoff_s: delay before the second attempt, seconds; it doubles with each further one.
        backoff_max_s: longest delay before an attempt, seconds.
    """

    url: str = ""
    secret: str = ""
    station: str = ""
    events: tuple[str, ...] = MESSAGES
    queue: Annotated[int, between(1, 10_000)] = 256
    timeout_s: Annotated[float, between(0.1, 60, "s")] = 10.0
    attempts: Annotated[int, between(1, 100)] = 8
    backoff_s: Annotated[float, between(0.05, 60, "s")] = 1.0
    backoff_max_s: Annotated[float, between(0.05, 3600, "s")] = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_address("url", self.url)
        if not self.events or not set(self.events) <= set(MESSAGES):
            raise ParameterError("events", list(self.events), f"a list of {' and '.join(MESSAGES)}, or of one of them")
        try:
            key = self.key
        except (ValueError, binascii.Error):
            raise ParameterError("secret", HIDDEN, "base64 after whsec_") from None
        if self.secret and len(key) < 8:
            raise ParameterError("secret", HIDDEN, "8 bytes or more")

    @property
    def key(self) -> bytes:
        """The bytes of the secret. Raises ValueError for invalid base64."""
        if self.secret.startswith("whsec_"):
            return base64.b64decode(self.secret.removeprefix("whsec_"), validate=True)
        return self.secret.encode()
