"""Steers of the desk: which settings change, from which sample on, and the answers to their senders.

A change of the desk alone begins at its own position. A change of the desk together with other fields begins with their
take. The newest accepted value of each field wins.

Threading model
  One thread makes every call (``timeline.py``'s). Replies are called on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import UNSET

from riffstream import protocol
from riffstream.protocol import SAMPLE_RATE
from riffstream.station.changes import Pending, Reply, Waiters, Wish
from riffstream.station.desk import Move
from riffstream.station.playout import Playout
from riffstream.station.score import Setting

__all__ = ["Faders", "neutral", "setting"]


def setting(steer: protocol.Steer, target: protocol.Mix) -> Setting | None:
    """The fields of the desk that a steer changes; None without any.

    Args:
        steer: the steer.
        target: the settings after all accepted changes.
    """
    if steer.mix is UNSET:
        return None
    if steer.mix is None:
        return neutral(target, steer.ramp_s)
    return _differing(steer.mix.fields(), target, steer.ramp_s if steer.mix.ramp_s is None else steer.mix.ramp_s)


def neutral(target: protocol.Mix, ramp_s: float = 0.0) -> Setting | None:
    """The change back to a neutral desk; None if it is neutral."""
    return _differing(msgspec.structs.asdict(protocol.Mix()), target, ramp_s)


def _differing(fields: Mapping[str, Any], target: protocol.Mix, ramp_s: float) -> Setting | None:
    changed = {name: value for name, value in fields.items() if value != getattr(target, name)}
    return Setting(changed, round(ramp_s * SAMPLE_RATE) or None) if changed else None


@dataclass(slots=True)
class Faders:
    """The desk's part of a timeline.

    Attributes:
        playout: the playout with the desk.
        waiting: requests by the revision of their move.
    """

    playout: Playout
    waiting: dict[int, Waiters]

    def target(self, pending: Pending | None, wish: Wish | None) -> protocol.Mix:
        """The settings after all accepted changes."""
        mix = self.playout.desk.target
        for each in (pending, wish):
            if each is not None and each.change.mix is not None:
                mix = mix.changed(**each.change.mix.fields)
        return mix

    def place(self, at: str, bar: int | None = None) -> int:
        """First sample of a change of the desk alone, not before the line of ``bar``."""
        playout, first = self.playout, self.playout.desk.taken
        if at == "asap" or playout.lead is None or playout.frozen is not None:
            return first
        beat = playout.beat(first)
        return max(first, round(playout.where(playout.grid(at, beat if bar is None else max(beat, playout.line(bar))))))

    def move(
        self,
        ident: str,
        change: Setting,
        rev: int,
        pos: int,
        reply: Reply,
        *,
        bar: int | None = None,
        behind: tuple[Pending | Wish | None, ...] = (),
    ) -> None:
        """Schedule a change of the desk alone, with the ``bar`` that it named.

        ``behind``: older changes without a position, which lose its fields.
        """
        for each in behind:
            if each is not None and each.change.mix is not None:
                each.change = replace(each.change, mix=each.change.mix.without(change))
        waiters = self.waiting[rev] = Waiters(bar)
        waiters.add(ident, rev, reply)
        for dropped in self._move(change, rev, pos):
            if (lost := self.waiting.pop(dropped.rev, None)) is not None:
                lost.superseded(by=ident)

    def join(self, change: Setting, rev: int, pos: int) -> None:
        """Schedule a change of the desk with the take that begins at ``pos``."""
        self._move(change, rev, max(pos, self.playout.desk.taken))

    def _move(self, change: Setting, rev: int, pos: int) -> list[Move]:
        move = Move(pos=pos, fields=change.fields, ramp=change.ramp, bar=self.playout.bar, rev=rev)
        return self.playout.desk.move(move)

    def begun(self, move: Move) -> None:
        """Tell those who wait for a move that it is audible."""
        if (waiters := self.waiting.pop(move.rev, None)) is not None:
            waiters.applied(move.pos, 0 if waiters.bar is None else self.playout.reaches(move.pos, 0))
