"""How near prompts are to styles that the model knows, as the generator reports it with the audio of clips.

Threading model
  One thread makes every call (``timeline.py``'s).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from riffstream.journey.prompts import PromptPart
from riffstream.protocol import Likeness, Now, Prompt, State

__all__ = ["Likenesses"]

KEPT: Final = 256  # texts


class Likenesses:
    """Likeness of the newest texts.

    Attributes:
        reports: number of reports so far.
    """

    def __init__(self) -> None:
        self.reports = 0
        self._known: OrderedDict[str, Likeness] = OrderedDict()

    def learn(self, found: Iterable[Likeness]) -> None:
        """Record a report of the generator."""
        for each in found:
            self.reports += 1
            self._known[each.text] = each
            self._known.move_to_end(each.text)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)

    def of(self, prompts: Sequence[Prompt | PromptPart]) -> Likeness | None:
        """Likeness of the prompt that the model knows least; None while one of them is unknown here."""
        found = [self._known.get(part.text) for part in prompts if part.weight > 0]
        known = [each for each in found if each is not None]
        return min(known, key=lambda each: each.score) if known and len(known) == len(found) else None

    def state(self, state: State) -> State:
        """The state with its likeness."""
        return msgspec.structs.replace(state, likeness=self.of(state.prompts))

    def now(self, now: Now) -> Now:
        """The ``now`` message with its likeness."""
        return msgspec.structs.replace(now, state=self.state(now.state))
