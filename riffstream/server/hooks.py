"""Questions to a configured service: one POST request with JSON, signed like a webhook, with a limit of time and size.

Only the configuration names addresses, never a client. Redirects are not followed, and the environment's proxies are
not used, so a request goes to the configured host or nowhere.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import time
from typing import Any, Final

import aiohttp

from riffstream import __version__
from riffstream.errors import RiffstreamError
from riffstream.server.webhooks import signature

__all__ = ["Hook", "HookError"]

ANSWER_BYTES: Final = 64 * 1024
AT_ONCE: Final = 16


class HookError(RiffstreamError):
    """The service gave no usable answer."""


class Hook:
    """A service that answers questions.

    Args:
        url: its address.
        secret: signs the requests; "": no signature.
        timeout_s: longest time for an answer with the wait for a free connection, seconds.
    """

    def __init__(self, url: str, secret: str, timeout_s: float) -> None:
        self.url = url
        self._secret = _key(secret)
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer to a question. Raises HookError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(json.dumps(question).encode())
        except TimeoutError:
            problem = f"no answer within {self._timeout_s:g} s"
        except HookError:
            raise
        except Exception as error:  # of any layer; the address stays out of the message
            problem = f"no connection ({type(error).__name__})"
        raise HookError(problem)

    async def _post(self, body: bytes) -> dict[str, Any]:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=AT_ONCE)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        ident, at = f"msg_{secrets.token_hex(12)}", int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"riffstream/{__version__}",
            "webhook-id": ident,
            "webhook-timestamp": str(at),
        }
        if self._secret:
            headers["webhook-signature"] = signature(self._secret, ident, at, body)
        async with self._session.post(self.url, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                raise HookError(f"the answer is {answer.status}")
            read = await answer.content.read(ANSWER_BYTES + 1)
            while len(read) <= ANSWER_BYTES and (more := await answer.content.read(ANSWER_BYTES)):
                read += more
        try:
            given = json.loads(read) if len(read) <= ANSWER_BYTES else None
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            raise HookError(f"the answer is no JSON object of up to {ANSWER_BYTES >> 10} kB")
        return given

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (ValueError, binascii.Error):
            pass
    return secret.encode()
