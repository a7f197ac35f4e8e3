"""A private station of the caller: made over HTTP before the connection, and ended after it.

Threading model: one event loop makes every call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from riffstream.client.proxy import choose_proxy
from riffstream.errors import RadioError

__all__ = ["NEW", "OwnStation"]

NEW = "new"  # in place of a station's name
END_S = 5.0


class OwnStation:
    """A private station.

    Args:
        url: URL of the socket with :data:`NEW` as the station.
        music: fields of ``POST /api/sessions``: prompts, bpm, seed, ...
        token: token for listening, if the server requires one.
        timeout_s: time limit for the request, seconds.
    """

    def __init__(self, url: str, music: Mapping[str, Any], token: str | None, timeout_s: float) -> None:
        self._root = url.removesuffix(f"ws/{NEW}")
        self._music = dict(music)
        self._token = token
        self._timeout_s = timeout_s
        self._made: tuple[str, str] | None = None

    async def open(self) -> tuple[str, str]:
        """Make the station; return the URL of its socket and its token. Raises RadioError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status, answer, retry = await self._request("POST", "api/sessions", self._token, self._music)
        except TimeoutError:
            raise RadioError("timeout", f"no private station from {self._root} within {self._timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RadioError("unreachable", f"cannot reach {self._root}: {reason}") from None
        if status != 201:
            text = str(answer.get("message", f"the answer is {status}"))
            retry_ms = int(retry) * 1000 if retry.isdecimal() else None
            raise RadioError(str(answer.get("code", "internal")), text, retry_after_ms=retry_ms)
        station, token = answer.get("station"), answer.get("token")
        if not isinstance(station, str) or not isinstance(token, str):
            raise RadioError("internal", f"{self._root} does not say which private station it has made")
        self._made = station, token
        return f"{self._root}ws/{station}", token

    async def close(self) -> None:
        """End the station. Idempotent; without the server it ends by itself."""
        made, self._made = self._made, None
        if made is None:
            return
        try:
            async with asyncio.timeout(END_S):
                await self._request("DELETE", f"api/sessions/{made[0]}", made[1])
        except (TimeoutError, aiohttp.ClientError):
            pass

    async def _request(
        self, method: str, path: str, token: str | None, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any], str]:
        """Status, JSON object and ``Retry-After`` of an answer."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body)
        proxy = await choose_proxy(self._root)
        url = f"http{self._root.removeprefix('ws')}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=data, headers=headers, proxy=proxy, allow_redirects=False) as answer,
        ):
            try:
                found = json.loads(await answer.read())
            except ValueError:
                found = {}
            return answer.status, found if isinstance(found, dict) else {}, answer.headers.get("Retry-After", "")
