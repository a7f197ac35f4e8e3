"""The sections for what the server itself writes and sends: ``[archive]`` and ``[push.NAME]``."""

from __future__ import annotations

from typing import Annotated, Literal

from riffstream.config.rules import Section
from riffstream.config.targets import PUSH_CODECS, PushTarget
from riffstream.errors import ParameterError
from riffstream.ranges import between

__all__ = ["ArchiveSettings", "PushSettings"]


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

    @property
    def target(self) -> PushTarget:
        """The parsed address. Raises ParameterError."""
        return PushTarget.parse(self.url, self.password)
