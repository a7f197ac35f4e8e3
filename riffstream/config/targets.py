"""Addresses of servers that get a station's audio: ``icecast://source:password@host:8000/live.mp3``, or over RTMP."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from riffstream.errors import ParameterError

__all__ = ["HIDDEN", "PUSH_CODECS", "PushTarget", "without_secrets"]

HIDDEN: Final = "***"  # printed in place of a secret
# scheme -> allowed codecs; the first is the default
PUSH_CODECS: Final = {
    "icecast": ("mp3", "aac", "ogg"),
    "icecasts": ("mp3", "aac", "ogg"),
    "rtmp": ("aac",),
    "rtmps": ("aac",),
}
_ENDINGS: Final = {".mp3": "mp3", ".aac": "aac", ".ogg": "ogg", ".opus": "ogg"}
_ICECAST: Final = "icecast://source:PASSWORD@HOST:PORT/MOUNT"
_ALLOWED: Final = {
    "icecast": _ICECAST,
    "icecasts": "icecasts://source:PASSWORD@HOST:PORT/MOUNT",
    "rtmp": "rtmp://HOST/APP/KEY",
    "rtmps": "rtmps://HOST/APP/KEY",
}
# PyAV's libraries are built without SRT.
_SRT: Final = (
    "for SRT run ffmpeg beside the server (docs/outlets.md): "
    "ffmpeg -i http://localhost:8080/stream/main.aac -c copy -f mpegts srt://HOST:PORT"
)


@dataclass(frozen=True, slots=True)
class PushTarget:
    """A parsed address.

    Attributes:
        scheme: icecast, icecasts (TLS), rtmp or rtmps.
        host: name or address.
        port: TCP port; Icecast's default is 8000.
        path: mount point of Icecast, with its slash.
        codec: mp3, aac or ogg, by the ending of the path; otherwise the default of the scheme.
        user, password: credentials of Icecast's source.
        url: the address as given, with its secrets.
    """

    scheme: str
    host: str
    port: int
    path: str
    codec: str
    user: str
    password: str = field(repr=False)
    url: str = field(repr=False)

    @property
    def secure(self) -> bool:
        """Whether the connection is over TLS."""
        return self.scheme in ("icecasts", "rtmps")

    @classmethod
    def parse(cls, url: str, password: str = "") -> PushTarget:
        """Parse an address.

        Args:
            url: the address.
            password: password of Icecast's source if the address has none.

        Raises:
            ParameterError: ``url`` or ``password``, without the secret in the message.
        """
        shown = without_secrets(url)
        try:
            if not url.isascii() or not url.isprintable() or " " in url:
                raise ValueError
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port  # ValueError for an invalid port
        except ValueError:
            raise ParameterError("url", shown, f"an address such as {_ICECAST}") from None
        if parts.scheme == "srt":
            raise ParameterError("url", shown, f"{', '.join(_ALLOWED.values())}; {_SRT}")
        if parts.scheme not in PUSH_CODECS:
            raise ParameterError("url", shown, ", ".join(_ALLOWED.values()))
        allowed = _ALLOWED[parts.scheme]
        if not host or port == 0:
            raise ParameterError("url", shown, f"{allowed}, with a port from 1 to 65535")
        is_icecast = parts.scheme.startswith("icecast")
        if is_icecast and (len(parts.path) < 2 or parts.query or parts.fragment):
            raise ParameterError("url", shown, f"{allowed}, with a mount point such as /live.mp3 and no query")
        if parts.scheme.startswith("rtmp") and parts.path.count("/") < 2:
            raise ParameterError("url", shown, allowed)
        secret = unquote(parts.password or "") or password
        if is_icecast and not secret:
            raise ParameterError("password", "", "the password of Icecast's source, here or in the address")
        if any(not character.isprintable() for character in secret + unquote(parts.username or "")):
            raise ParameterError("password", HIDDEN, "printable characters")
        ending = next((codec for end, codec in _ENDINGS.items() if parts.path.endswith(end)), "")
        codecs = PUSH_CODECS[parts.scheme]
        return cls(
            scheme=parts.scheme,
            host=host,
            port=port or {"rtmp": 1935, "rtmps": 443}.get(parts.scheme, 8000),
            path=parts.path,
            codec=ending if ending in codecs else codecs[0],
            user=unquote(parts.username or "") or "source",
            password=secret,
            url=url,
        )


def without_secrets(url: str) -> str:
    """An address for logs and messages: without password, key or query, whether or not it is valid.

    RTMP's key is the last part of its path; the path of a webhook is often a secret as well.
    """
    bare = re.sub(r"^([^/?#]*//)[^/?#]*@", rf"\1{HIDDEN}@", url)
    bare = re.sub(r"\?.*", f"?{HIDDEN}", bare, flags=re.DOTALL)
    if re.match(r"(rtmp|http)", bare):
        bare = re.sub(r"^([^/]*//[^/?]*/(?:[^/?]*/)?)[^?]+", rf"\1{HIDDEN}", bare)
    return bare
