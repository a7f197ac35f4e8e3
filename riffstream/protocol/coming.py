"""What follows on a station."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from riffstream.protocol.prompt import Prompt

__all__ = ["Coming"]


class Coming(Struct, frozen=True, kw_only=True):
    """What follows on the station. ``by`` says what plans it, and ``at`` is the sample at which it begins:

    - ``form``: a ``section`` of the form.
    - ``journey``: the next ``prompts`` of the journey, or of a transition. ``at`` is the sample at which they join the
      mix, in the past during a transition; ``alone_at`` the sample at which the others have left it.
    - ``steer``: the ``prompts`` of an accepted change. ``at`` is an estimate until its clip is rendered.

    Samples are those of the present tempo.
    """

    at: Annotated[int, Meta(ge=0, le=2**53)]
    by: Literal["form", "journey", "steer"] = "form"
    section: str | None = None
    prompts: tuple[Prompt, ...] | None = None
    alone_at: Annotated[int, Meta(ge=0, le=2**53)] | None = None
