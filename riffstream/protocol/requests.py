"""Messages about requests: what listeners wish to hear, their votes and their reactions."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from riffstream.protocol.base import Id, Message
from riffstream.protocol.queue import ItemId

__all__ = [
    "REQUEST_CHARS",
    "Reaction",
    "Reactions",
    "Request",
    "RequestItem",
    "RequestList",
    "RequestOp",
    "RequestPlay",
    "RequestsState",
]

REQUEST_CHARS: Final = 80

RequestOp = Literal["suggest", "vote", "take", "dismiss", "react"]
RequestPlay = Literal["queue", "now"]
Reaction = Literal["heart", "fire", "wow"]
Count = Annotated[int, Meta(ge=0)]


class RequestItem(Struct, frozen=True, kw_only=True):
    """A request. ``votes`` counts its author and all who asked for the same."""

    id: ItemId
    text: str
    votes: Count = 1


class Reactions(Struct, frozen=True, kw_only=True):
    """Reactions of listeners in the last minute."""

    heart: Count = 0
    fire: Count = 0
    wow: Count = 0


class RequestList(Struct, frozen=True, kw_only=True):
    """The requests of a station, those with the most votes first, and the reactions to its music."""

    items: tuple[RequestItem, ...] = ()
    reactions: Reactions = Reactions()


class Request(Message, frozen=True, tag="request"):
    """Ask for music, or answer those who ask, on a station that takes requests. ``suggest`` (``text``), ``vote``
    (``item``; once for each client) and ``react`` (``reaction``) need the right to listen; ``take`` (``item``;
    ``play``: at the end of the queue, or now, at the next bar line) and ``dismiss`` (``item``) the right to steer. The
    answer is ``requests`` with the ``id``, or ``rejected``."""

    id: Id
    op: RequestOp
    text: Annotated[str, Meta(max_length=4096)] | None = None
    item: ItemId | None = None
    reaction: Reaction | None = None
    play: RequestPlay = "queue"


class RequestsState(Message, frozen=True, tag="requests", omit_defaults=False):
    """The requests of the station, at most once a second while they change. ``id``: of the request, in the answer to
    it."""

    requests: RequestList
    id: str = ""
