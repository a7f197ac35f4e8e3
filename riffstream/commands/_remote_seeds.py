"""Seeds of a running server over its HTTP API, for ``riffstream seeds``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, FormData

from riffstream.client import socket_url
from riffstream.client.proxy import choose_proxy
from riffstream.errors import RadioError

__all__ = ["Remote"]

CONNECT_S, TOTAL_S = 10.0, 300.0


class Remote:
    """Seeds of the server at an address.

    Args:
        url: any address of the server.
        token: access token, or None.

    Raises:
        ParameterError: not an address.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._socket = socket_url(url)
        parts = urlsplit(self._socket)
        scheme = "https" if parts.scheme == "wss" else "http"
        self._base = urlunsplit((scheme, parts.netloc, parts.path.rpartition("/ws/")[0] + "/api/seeds", "", ""))
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def all(self) -> list[dict[str, Any]]:
        seeds = self._json("GET", "").get("seeds")
        if not isinstance(seeds, list):
            raise RadioError("internal", f"{self._base} does not answer like riffstream")
        return seeds

    def one(self, name: str) -> dict[str, Any]:
        seed: dict[str, Any] = self._json("GET", f"/{quote(name, safe='')}")
        return seed

    def data(self, name: str, kind: str) -> bytes:
        name = quote(name, safe="")
        return self._ask("GET", f"/{name}/preview.png" if kind == "png" else f"/{name}/audio?format={kind}")

    def add(self, file: Path, fields: dict[str, Any]) -> dict[str, Any]:
        with file.open("rb") as opened:
            form = FormData()
            for name, value in fields.items():
                if value is not None:
                    form.add_field(name, str(value))
            form.add_field("file", opened, filename=file.name)
            made: dict[str, Any] = self._json("POST", "", form)
        return made

    def remove(self, name: str, key: str | None) -> None:
        self._ask("DELETE", f"/{quote(name, safe='')}", headers={"Riffstream-Remove-Key": key} if key else None)

    def _json(self, method: str, path: str, form: FormData | None = None) -> dict[str, Any]:
        try:
            found = json.loads(self._ask(method, path, form))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RadioError("internal", f"{self._base} does not answer like riffstream")
        return found

    def _ask(
        self, method: str, path: str, form: FormData | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """Body of an answer. Raises RadioError with the server's code and message."""
        return asyncio.run(self._asked(method, path, form, headers or {}))

    async def _asked(self, method: str, path: str, form: FormData | None, headers: dict[str, str]) -> bytes:
        limit = ClientTimeout(total=TOTAL_S, connect=CONNECT_S)
        try:
            proxy = await choose_proxy(self._socket)
            async with (
                ClientSession(timeout=limit, headers=self._headers) as session,
                session.request(method, self._base + path, data=form, headers=headers, proxy=proxy) as answer,
            ):
                body = await answer.read()
                if answer.status < 400:
                    return body
                raise _refused(answer.status, body)
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RadioError("unreachable", f"cannot reach {self._base}: {reason}") from None


def _refused(status: int, body: bytes) -> RadioError:
    try:
        told = json.loads(body)
        return RadioError(str(told["code"]), str(told["message"]))
    except (ValueError, KeyError, TypeError):  # the page of a proxy
        return RadioError("internal", f"the server answered {status}")
