"""Accepted changes that are not audible yet, and the requests that wait for them.

A change is *pending* while its take is rendered. A newer change is a *wish* until the pending one is scheduled, so that
continuous steering cannot postpone every change.

Threading model
  One thread makes every call (``timeline.py``'s). Replies are called on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from riffstream import protocol
from riffstream.journey.journey import ClipSpec
from riffstream.journey.prompts import PromptPart
from riffstream.protocol import SAMPLE_RATE
from riffstream.station.history import moment, with_coming
from riffstream.station.likenesses import Likenesses
from riffstream.station.planner import Planner
from riffstream.station.playout import Playout
from riffstream.station.score import Change, Here, Score
from riffstream.station.take import Take
from riffstream.station.timed import Timed

__all__ = [
    "Pending",
    "Reply",
    "Waiters",
    "Wish",
    "announcing",
    "here",
    "index_of",
    "latest",
    "merged",
    "newest",
    "scheduled",
    "told_moment",
]

Reply = Callable[[protocol.ServerMessage], None]


class Waiters:
    """Requests that wait for one change, in order of arrival. Each is answered once.

    Args:
        bar: bar before whose line the change must not begin; None: any place.
    """

    def __init__(self, bar: int | None = None) -> None:
        self.bar = bar
        self._waiting: list[tuple[str, int, Reply]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def newest(self) -> str:
        """Ident of the latest request; "" without any."""
        return self._waiting[-1][0] if self._waiting else ""

    def add(self, ident: str, rev: int, reply: Reply) -> None:
        """Add a request with its revision and its reply function."""
        self._waiting.append((ident, rev, reply))

    def applied(self, pos: int, bar: int) -> None:
        """Answer all requests with ``applied`` at sample ``pos``, near the line of ``bar``."""
        named = None if self.bar is None else bar
        for ident, rev, reply in self._answered():
            reply(protocol.Applied(id=ident, rev=rev, audible_at=pos, bar=named))

    def superseded(self, by: str) -> None:
        """Answer all requests with ``superseded`` by the change ``by``."""
        for ident, _, reply in self._answered():
            reply(protocol.Superseded(id=ident, by=by))

    def rejected(self, code: protocol.Code, message: str) -> None:
        """Answer all requests with ``rejected``."""
        for ident, _, reply in self._answered():
            reply(protocol.Rejected(id=ident, code=code, message=message))

    def _answered(self) -> list[tuple[str, int, Reply]]:
        answered, self._waiting = self._waiting, []
        return answered


@dataclass(slots=True)
class Pending:
    """A change whose take is being rendered and is not scheduled yet.

    Attributes:
        take: the take that plays the change.
        change: the change.
        at: position of the splice: asap, beat, bar, clip, or end (of the lead).
        since: time of the first request in it.
        requests: requests that wait for it.
        deaths: number of consecutive generator processes that ended while rendering it.
    """

    take: Take
    change: Change
    at: str
    since: float
    requests: Waiters = field(default_factory=Waiters)
    deaths: int = 0


@dataclass(slots=True)
class Wish:
    """A change that waits until the pending one is scheduled. For the attributes see :class:`Pending`."""

    change: Change
    at: str
    rev: int
    since: float
    requests: Waiters = field(default_factory=Waiters)


def told_moment(playout: Playout, likenesses: Likenesses, pos: int) -> tuple[object, ...]:
    """All of the audible music that decides the ``now`` message at a sample. Empty before the first take."""
    played = playout.heard(pos)
    if played is None or played.take is None:
        return ()
    return (*moment(played, played.take, pos), playout.desk.at(pos)[0], likenesses.reports)


def announcing(
    now: protocol.Now,
    pos: int,
    playout: Playout,
    planner: Planner,
    pending: Pending | None,
    wish: Wish | None,
    aim: Callable[[Change, str, float, int | None], int],
    timed: Timed,
) -> protocol.Now:
    """The ``now`` message with the accepted changes that begin later.

    Args:
        now: the message for station sample ``pos``.
        pos: the sample.
        playout: the scheduled changes.
        planner: its estimates.
        pending, wish: the changes that are not scheduled yet.
        aim: function that estimates the sample of a change from its position, the wait for its first clip in seconds
            and its bar.
        timed: the changes that wait for their bars.
    """
    accepted = _accepted(now.rev, pos, playout, planner, pending, wish, aim)
    return with_coming(now, itertools.chain(accepted, timed.coming()))


def _accepted(
    rev: int,
    pos: int,
    playout: Playout,
    planner: Planner,
    pending: Pending | None,
    wish: Wish | None,
    aim: Callable[[Change, str, float, int | None], int],
) -> Iterator[tuple[int, tuple[PromptPart, ...]]]:
    """Sample and prompts of each change newer than ``rev``."""
    for cue, take in playout.changes(pos):
        if cue.rev > rev:
            yield cue.pos, take.score.goal(take.entries[0].index if take.entries else take.index).prompts
    if pending is not None and pending.requests:
        at = aim(pending.change, pending.at, planner.opening_s(pending.change), pending.requests.bar)
        yield at, pending.change.score.goal(pending.take.index).prompts
    if wish is not None:
        at = aim(wish.change, wish.at, 2 * planner.opening_s(wish.change), wish.requests.bar)
        yield at, wish.change.score.goal(wish.change.index or 0).prompts


def newest(playout: Playout, pending: Pending | None, wish: Wish | None) -> tuple[int, int, int]:
    """Revisions of the last scheduled, the pending and the wished change; they differ when :func:`announcing` does."""
    last = max((cue.rev for cue in playout.mixer.coming), default=playout.mixer.current.rev)
    return last, pending.take.rev if pending else -1, wish.rev if wish else -1


def latest(bar: int | None, pending: Pending | None, wish: Wish | None, waiting: Iterable[Waiters]) -> int | None:
    """The latest bar named by a change and by those that it joins; it must not bring them forward. None: no bar."""
    bars = [bar, *(each.requests.bar for each in (pending, wish) if each is not None), *(each.bar for each in waiting)]
    return max((each for each in bars if each is not None), default=None)


def index_of(playout: Playout, pending: Pending | None, wish: Wish | None) -> int:
    """Index of the newest accepted change in its path."""
    if wish is not None and wish.change.index is not None:
        return wish.change.index
    if pending is not None:
        return pending.take.entries[0].index if pending.take.entries else pending.take.index
    entry = playout.entry(playout.mixer.position)
    return entry.index if entry else 0


def here(playout: Playout, score: Score, index: int, pending: Pending | None, pos: int) -> Here:
    """What a steer at station sample ``pos`` changes; ``index``: of :func:`index_of`."""
    beat = playout.beat(pos)
    entry = playout.entry(pos) if pending is None else pending.take.entry(pending.take.beats.sample(beat))
    spec = entry.spec if entry else score.spec(index, beat)
    beats = score.info_of(spec).beats
    return Here(spec, beat, score.samples_per_beat(spec, beat) * beats / SAMPLE_RATE, beats)


def merged(change: Change, before: Change) -> Change:
    """Merge a change with an earlier one that is not audible yet. The result needs new clips if either does."""
    mix = before.mix if change.mix is None else change.mix.over(before.mix)
    if change.index is None and (before.kind == "clip" or before.index is not None):
        return Change(change.score, "clip", before.index, max(change.fade_s, before.fade_s), mix)
    return replace(change, mix=mix)


def scheduled(
    playout: Playout,
    score: Score,
    goal: ClipSpec,
    ident: str,
    rev: int,
    pos: int,
    likenesses: Likenesses,
    bar: int | None = None,
) -> protocol.Scheduled:
    """Make the ``scheduled`` message for a change that becomes audible at sample ``pos`` and leads to a clip.

    ``bar``: the bar that it named.
    """
    lead_ms = playout.settings.send_lead_ms + playout.settings.client_buffer_ms
    ms = (pos - playout.committed) / SAMPLE_RATE * 1000 + lead_ms
    tempo = score.tempo(goal, math.inf)
    return protocol.Scheduled(
        id=ident,
        rev=rev,
        audible_at=pos,
        audible_in_ms=round(max(0.0, ms), 1),
        bpm=None if tempo is None else round(tempo, 3),
        bpm_reason=score.tempo_reason(goal),
        beats_per_bar=score.meter(goal),
        beats_per_bar_reason=score.meter_reason(goal),
        likeness=likenesses.of(goal.prompts),
        bar=None if bar is None else playout.reaches(pos),
    )
