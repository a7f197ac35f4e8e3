"""Requests of listeners: a list with votes, and their reactions to the music.

Threading model
  Event loop   makes every call. Nothing here blocks.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from riffstream import protocol
from riffstream.protocol import ProtocolError, Reaction, Reactions, RequestItem, RequestList

__all__ = ["BUCKETS", "BUCKET_S", "MOST_OF_ONE", "MOST_VOTES", "REACTION_S", "Requests"]

log: Final = logging.getLogger(__name__)

REACTION_S: Final = 60.0  # time for which a reaction counts
REACTIONS: Final = 2000  # remembered ones
BUCKET_S: Final = 10  # reactions are remembered as counts of so many seconds
BUCKETS: Final = 60  # ten minutes
MOST_OF_ONE: Final = 5  # requests of one client, so that nobody fills the list alone
MOST_VOTES: Final = 5000  # of one request; the saved state has all of them


@dataclass(slots=True)
class _Request:
    """A request: its text, and the hashes of its author and of those who want it."""

    text: str
    author: str
    voters: set[str] = field(default_factory=set)


class Requests:
    """Bounded list of requests.

    Args:
        most: largest number of requests.
        clock: monotonic clock, seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._items: dict[str, _Request] = {}
        self._number = 0
        self._salt = secrets.token_hex(8)
        self._reactions: deque[tuple[float, Reaction]] = deque(maxlen=REACTIONS)
        self._history: deque[tuple[int, Counter[str]]] = deque(maxlen=BUCKETS)  # number of the bucket, counts

    @classmethod
    def opened(cls, station: str, most: int, clock: Callable[[], float], kept: dict[str, Any] | None) -> Requests:
        """The requests of a station, which continue those of :meth:`to_dict`, if there are any."""
        made = cls(most, clock)
        try:
            if kept is not None:
                made.restore(kept)
        except msgspec.ValidationError as error:  # a saved state must not keep a station from its music
            log.warning("station %s: its saved requests cannot be read: %s", station, error)
        return made

    def shown(self) -> RequestList:
        """The requests for clients, those with the most votes first, and the reactions of the last minute."""
        since = self._clock() - REACTION_S
        while self._reactions and self._reactions[0][0] < since:
            self._reactions.popleft()
        counts: Counter[str] = Counter(reaction for _, reaction in self._reactions)
        items = [RequestItem(id=name, text=each.text, votes=len(each.voters)) for name, each in self._items.items()]
        items.sort(key=lambda item: -item.votes)  # stable: the older one first
        return RequestList(items=tuple(items), reactions=Reactions(**counts))

    def suggest(self, text: str, voter: str) -> None:
        """Add a request; if it is on the list already, this is a vote for it.

        Args:
            text: the cleaned text.
            voter: identity of the client.

        Raises:
            ProtocolError: the list is full, or has :data:`MOST_OF_ONE` requests of this client.
        """
        author = self._hashed(voter)
        for each in self._items.values():
            if each.text.casefold() == text.casefold():
                _count(each, author)
                return
        if len(self._items) >= self._most:
            what = f"the list has {len(self._items)} requests; allowed: up to {self._most}"
            raise ProtocolError("busy", what, retry_after_ms=60_000)
        if sum(each.author == author for each in self._items.values()) >= MOST_OF_ONE:
            what = f"the list has {MOST_OF_ONE} requests from you; allowed: up to {MOST_OF_ONE}"
            raise ProtocolError("rate_limited", what, retry_after_ms=60_000)
        while (name := f"r{self._number}") in self._items:
            self._number += 1
        self._number += 1
        self._items[name] = _Request(text, author, {author})

    def vote(self, item: str | None, voter: str) -> None:
        """Count a vote, once for each client.

        Raises:
            ProtocolError: an unknown item, or one with :data:`MOST_VOTES` votes.
        """
        _count(self._found(item), self._hashed(voter))

    def text(self, item: str | None) -> str:
        """Text of a request. Raises ProtocolError for an unknown item."""
        return self._found(item).text

    def remove(self, item: str | None) -> None:
        """Remove a request. Raises ProtocolError for an unknown item."""
        self._found(item)
        del self._items[str(item)]

    def react(self, reaction: Reaction) -> None:
        """Count a reaction."""
        now = self._clock()
        self._reactions.append((now, reaction))
        bucket = int(now // BUCKET_S)
        if not self._history or self._history[-1][0] != bucket:
            self._history.append((bucket, Counter()))
        self._history[-1][1][reaction] += 1

    def history(self) -> tuple[Reactions, ...]:
        """Reactions of the last :data:`BUCKETS` spans of :data:`BUCKET_S`, oldest first; the last one is incomplete."""
        counts = {bucket: dict(each) for bucket, each in self._history}
        last = int(self._clock() // BUCKET_S)
        return tuple(Reactions(**counts.get(bucket, {})) for bucket in range(last - BUCKETS + 1, last + 1))

    def _found(self, item: str | None) -> _Request:
        if item is None:
            raise ProtocolError("bad_request", "item is missing; allowed: the id of a request", field="item")
        if item not in self._items:
            what = f"request {item!r} is not on the list; it was taken or dismissed"
            raise ProtocolError("bad_request", what, field="item")
        return self._items[item]

    def _hashed(self, voter: str) -> str:
        return hashlib.blake2b(voter.encode(errors="replace"), key=self._salt.encode(), digest_size=8).hexdigest()

    # -- snapshots ------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The requests as JSON values, with hashes of their voters. Reactions are not kept."""
        items = [
            {"id": name, "text": each.text, "author": each.author, "voters": tuple(each.voters)}
            for name, each in self._items.items()
        ]
        return {"items": items, "salt": self._salt}

    def restore(self, saved: Any) -> None:
        """Set the requests from :meth:`to_dict`. Requests beyond the limit are left out.

        Raises:
            msgspec.ValidationError: ``saved`` is no such snapshot; the list does not change.
        """
        snapshot = msgspec.convert(saved, _Snapshot)
        self._salt = snapshot.salt
        self._items = {
            each.id: _Request(each.text, each.author, set(each.voters)) for each in snapshot.items[: self._most]
        }


def _count(request: _Request, voter: str) -> None:
    if voter not in request.voters and len(request.voters) >= MOST_VOTES:
        what = f"this request has {MOST_VOTES} votes; allowed: up to {MOST_VOTES}"
        raise ProtocolError("busy", what, retry_after_ms=60_000)
    request.voters.add(voter)


class _SavedRequest(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=16)]
    text: Annotated[str, Meta(min_length=1, max_length=protocol.PROMPT_CHARS)]
    author: Annotated[str, Meta(max_length=16)] = ""
    voters: list[Annotated[str, Meta(max_length=16)]]


class _Snapshot(msgspec.Struct, frozen=True):
    items: list[_SavedRequest]
    salt: Annotated[str, Meta(min_length=1, max_length=64)]
