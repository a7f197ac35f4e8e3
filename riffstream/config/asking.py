"""The sections for what the server asks: ``[prompts]`` (rules for prompts) and ``[tokens]``."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from riffstream.config.outgoing import check_address
from riffstream.config.rules import Section
from riffstream.config.targets import HIDDEN
from riffstream.errors import ParameterError
from riffstream.ranges import between

__all__ = ["PromptSettings", "TokenSettings"]

BLOCKED: Final = 10_000
BLOCKED_CHARS: Final = 100
SECRET_CHARS: Final = 8


class PromptSettings(Section, frozen=True, kw_only=True):
    """``[prompts]``: rules for the prompts of clients. The prompts of the configuration are not checked.

    Attributes:
        blocked: words and phrases that no prompt may contain, up to 10,000 of up to 100 characters. Case, accents and
            invisible characters do not matter; ``word*`` also blocks longer words.
        hook: ``https://`` or ``http://`` address of a service that decides on each prompt; "": none.
        hook_secret: signs its requests (Standard Webhooks); "": no signature.
        hook_timeout_s: longest time for its answer, seconds.
        hook_down: decision without an answer: ``deny`` or ``allow``.
        hold_s: longest time that the hook may hold a prompt, seconds; then it is refused.
    """

    blocked: tuple[str, ...] = ()
    hook: str = ""
    hook_secret: str = ""
    hook_timeout_s: Annotated[float, between(0.1, 60, "s")] = 2.0
    hook_down: Literal["deny", "allow"] = "deny"
    hold_s: Annotated[float, between(0, 3600, "s")] = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.blocked) > BLOCKED:
            raise ParameterError("blocked", f"{len(self.blocked)} words", f"up to {BLOCKED}")
        for word in self.blocked:
            if len(word) > BLOCKED_CHARS or not any(char.isalnum() for char in word):
                allowed = f"words and phrases with a letter or a digit, up to {BLOCKED_CHARS} characters"
                raise ParameterError("blocked", word[:BLOCKED_CHARS], allowed)
        _check_hook("hook", self.hook, "hook_secret", self.hook_secret)


class TokenSettings(Section, frozen=True, kw_only=True):
    """``[tokens]``: a service of your own that knows the rights of tokens which are not in ``[access]``.

    Attributes:
        hook: ``https://`` or ``http://`` address; "": none. Steering then needs a token.
        hook_secret: signs its requests (Standard Webhooks); "": no signature.
        hook_timeout_s: longest time for its answer, seconds. Without an answer the token is not valid.
        hook_cache_s: time for which an answer is used again, seconds; at most the ``seconds`` of the answer.
    """

    hook: str = ""
    hook_secret: str = ""
    hook_timeout_s: Annotated[float, between(0.1, 60, "s")] = 2.0
    hook_cache_s: Annotated[float, between(1, 86400, "s")] = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_hook("hook", self.hook, "hook_secret", self.hook_secret)


def _check_hook(name: str, url: str, secret_name: str, secret: str) -> None:
    if url:
        check_address(name, url)
    if secret and secret != HIDDEN and len(secret) < SECRET_CHARS:
        raise ParameterError(secret_name, HIDDEN, f"{SECRET_CHARS} characters or more")
