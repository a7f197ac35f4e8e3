"""Tokens whose rights a service of the operator knows (``[tokens] hook``), with a cache of its answers.

The service gets ``{"token": "..."}`` and answers ``{"role": "listener" | "dj" | "owner" | null, "station": "",
"seconds": 3600}``. ``station`` limits the rights to one station, ``seconds`` their validity; both are optional. A role
of null, no answer and a wrong answer give no rights.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import OrderedDict
from typing import Any, Final

from riffstream.config import TokenSettings
from riffstream.server import logs
from riffstream.server.hooks import Hook, HookError
from riffstream.server.roles import Role
from riffstream.server.tokens import MAX_CHARS, SignedToken

__all__ = ["TokenHook"]

KEPT: Final = 10_000  # answers
REFUSED_S: Final = 10.0  # a refusal is not kept longer, so that a new token works soon
FAILED_S: Final = 1.0


class TokenHook:
    """The service and its answers.

    Args:
        settings: its address and the time for which an answer is kept.
    """

    def __init__(self, settings: TokenSettings) -> None:
        self._settings = settings
        self._hook = Hook(settings.hook, settings.hook_secret, settings.hook_timeout_s)
        self._answers: OrderedDict[bytes, tuple[SignedToken | None, float]] = OrderedDict()  # with their end
        self._failing = False

    async def learn(self, token: str) -> bool:
        """Ask about a token, unless its answer is known. Never raises.

        Returns:
            True if the service was asked and gave no rights.
        """
        if len(token) > MAX_CHARS or self._known(token) is not None:
            return False
        kept_s = self._settings.hook_cache_s
        try:
            rights = _rights(await self._hook.ask({"token": token}))
            self._report("")
            refused = rights is None
        except HookError as error:
            self._report(str(error))
            rights, kept_s, refused = None, FAILED_S, False
        kept_s = min(kept_s, REFUSED_S) if rights is None else min(kept_s, rights.expires_at - time.time())
        self._answers[_hashed(token)] = rights, time.monotonic() + kept_s
        while len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return refused

    def read(self, token: str) -> SignedToken | None:
        """Rights of a token by the known answer; None without one."""
        known = self._known(token)
        return None if known is None else known[0]

    def _known(self, token: str) -> tuple[SignedToken | None, float] | None:
        key = _hashed(token)
        found = self._answers.get(key)
        if found is not None and found[1] <= time.monotonic():
            del self._answers[key]
            return None
        return found

    def _report(self, problem: str) -> None:
        if problem and not self._failing:
            logs.event("the token hook does not answer", level=logging.WARNING, problem=problem)
        elif self._failing and not problem:
            logs.event("the token hook answers again")
        self._failing = bool(problem)

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._hook.close()


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _rights(answer: dict[str, Any]) -> SignedToken | None:
    """Rights in an answer. Raises HookError."""
    role, station, seconds = answer.get("role"), answer.get("station", ""), answer.get("seconds")
    if role is None:
        return None
    try:
        known = Role(role)
    except ValueError:
        raise HookError("the answer has no known role (listener, dj, owner, null)") from None
    if not isinstance(station, str) or not isinstance(seconds, int | float | None) or isinstance(seconds, bool):
        raise HookError("the answer's station is no text, or its seconds are no number")
    if seconds is not None and not seconds > 0:
        return None
    return SignedToken(known, station, math.inf if seconds is None else time.time() + float(seconds))
