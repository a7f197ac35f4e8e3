"""Rules for prompts: the block-list, then the moderation hook, for every way in which a prompt of a client enters.

The hook gets ``{"prompts": [...], "negative": "...", "station": "...", "way": "..."}`` and answers with
``{"action": ...}``: ``allow``; ``deny`` (with ``reason``); ``rewrite`` (with ``prompts`` and ``negative``, as many
prompts as it got); ``hold`` (it is asked again after ``retry_s``, until it decides or ``prompts.hold_s`` has passed).

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UNSET

from riffstream import protocol
from riffstream.config import Config
from riffstream.protocol import ProtocolError, clean_text
from riffstream.server import logs
from riffstream.server.blocklist import BlockList
from riffstream.server.hooks import Hook, HookError

__all__ = ["Moderation", "Texts", "texts_of", "with_texts"]

BLOCKED: Final = "this prompt contains a word that is not allowed here"
DENIED: Final = "this prompt is not allowed here"
DOWN: Final = "prompts cannot be checked at the moment"
REASON_CHARS: Final = 200
RETRY_S, RETRY_LEAST_S, RETRY_MOST_S = 5.0, 0.2, 60.0
WAITING: Final = 200  # prompts with the hook at once


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a request: prompts, and the negative prompt ("" without one)."""

    prompts: tuple[str, ...]
    negative: str = ""


class Moderation:
    """The rules of a server.

    Args:
        config: ``[prompts]`` and the longest prompt.
    """

    def __init__(self, config: Config) -> None:
        self._settings = config.prompts
        self._chars = config.limits.prompt_chars
        self._list = BlockList(self._settings.blocked)
        self._hook: Hook | None = None
        if self._settings.hook:
            self._hook = Hook(self._settings.hook, self._settings.hook_secret, self._settings.hook_timeout_s)
        self._waiting = 0
        self._problem = ""

    @property
    def asks(self) -> bool:
        """Whether a hook decides, so that an answer takes time."""
        return self._hook is not None

    def check(self, texts: Texts, field: str = "prompts") -> None:
        """Raise ProtocolError (``prompt_rejected``) for a blocked word."""
        if any(self._list.blocks(text) for text in texts.prompts):
            raise ProtocolError("prompt_rejected", BLOCKED, field=field)
        if self._list.blocks(texts.negative):
            raise ProtocolError("prompt_rejected", BLOCKED, field="negative")

    async def decide(self, texts: Texts, *, station: str, way: str) -> Texts:
        """The texts to use, which the hook may have rewritten.

        Args:
            texts: cleaned texts of a client.
            station: name of the station; "" without one.
            way: ``socket``, ``plain``, ``http`` (the queue), ``station`` (a new one), ``clip``.

        Raises:
            ProtocolError: ``prompt_rejected``, or ``busy`` if too many prompts wait for the hook.
        """
        self.check(texts)
        if self._hook is None or not (texts.negative or any(texts.prompts)):
            return texts
        if self._waiting >= WAITING:
            raise ProtocolError("busy", DOWN, retry_after_ms=5000)
        self._waiting += 1
        try:
            return await self._ask(self._hook, texts, station, way)
        finally:
            self._waiting -= 1

    async def _ask(self, hook: Hook, texts: Texts, station: str, way: str) -> Texts:
        until = time.monotonic() + self._settings.hold_s
        question = {"prompts": list(texts.prompts), "negative": texts.negative, "station": station, "way": way}
        while True:
            try:
                answer = await hook.ask(question)
                decided = self._decided(texts, answer)
                self._report("")
            except HookError as error:
                self._report(str(error))
                if self._settings.hook_down == "allow":
                    return texts
                raise ProtocolError("prompt_rejected", DOWN, field="prompts") from None
            if decided is not None:
                return decided
            retry_s = _number(answer.get("retry_s"), RETRY_S)
            if time.monotonic() + retry_s > until:
                raise ProtocolError("prompt_rejected", f"{DENIED}: nobody has decided in time", field="prompts")
            await asyncio.sleep(retry_s)

    def _decided(self, texts: Texts, answer: dict[str, Any]) -> Texts | None:
        """The decision; None to hold. Raises HookError for an answer without one, ProtocolError for a refusal."""
        match answer.get("action"):
            case "allow":
                return texts
            case "hold":
                return None
            case "deny":
                reason = answer.get("reason")
                told = f": {' '.join(reason.split())[:REASON_CHARS]}" if isinstance(reason, str) and reason else ""
                raise ProtocolError("prompt_rejected", f"{DENIED}{told}", field="prompts")
            case "rewrite":
                new = self._rewritten(texts, answer.get("prompts"), answer.get("negative", texts.negative))
                self.check(new)
                return new
        raise HookError("the answer has no known action (allow, deny, rewrite, hold)")

    def _rewritten(self, texts: Texts, prompts: Any, negative: Any) -> Texts:
        given = prompts if isinstance(prompts, list) else []
        if len(given) != len(texts.prompts) or not all(isinstance(each, str) for each in (*given, negative)):
            raise HookError("the answer has another number of prompts, or no texts")
        try:
            clean = tuple(clean_text(each, limit=self._chars, field="prompts") for each in given)
            if not all(clean):
                raise HookError("the answer has an empty prompt")
            return Texts(clean, clean_text(negative, limit=self._chars, field="negative"))
        except ProtocolError as error:
            raise HookError(f"the answer has a text that is not allowed: {error.message}") from None

    def _report(self, problem: str) -> None:
        if problem and not self._problem:
            logs.event("the prompt hook does not answer", level=logging.WARNING, problem=problem)
        elif self._problem and not problem:
            logs.event("the prompt hook answers again")
        self._problem = problem

    async def close(self) -> None:
        """Close the connections to the hook. Idempotent."""
        if self._hook is not None:
            await self._hook.close()


def texts_of(steer: protocol.Steer) -> Texts | None:
    """The texts of a steer; None without any."""
    prompts = steer.prompts if isinstance(steer.prompts, tuple) else ()
    negative = steer.negative if isinstance(steer.negative, str) else ""
    return Texts(tuple(part.text for part in prompts), negative) if prompts or negative else None


def with_texts(steer: protocol.Steer, texts: Texts) -> protocol.Steer:
    """A steer with other texts, as many as it has."""
    changes: dict[str, Any] = {}
    if isinstance(steer.prompts, tuple):
        pairs: Sequence[tuple[protocol.Prompt, str]] = list(zip(steer.prompts, texts.prompts, strict=True))
        changes["prompts"] = tuple(msgspec.structs.replace(part, text=text) for part, text in pairs)
    if steer.negative is not UNSET and steer.negative is not None:
        changes["negative"] = texts.negative
    return msgspec.structs.replace(steer, **changes)


def _number(value: Any, default: float) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return min(max(float(value), RETRY_LEAST_S), RETRY_MOST_S) if good else default
