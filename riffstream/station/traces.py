"""Trace contexts of requests on their way through a station: to the jobs that they wait for, and back.

Threading model
  Event loop   makes every call.
"""

from __future__ import annotations

from collections.abc import Callable

from riffstream import protocol
from riffstream.generator.messages import Piece, Stages
from riffstream.station.changes import Pending, Reply
from riffstream.station.take import Take

__all__ = ["Rendered", "Traces"]

Rendered = Callable[[str, Stages | None], None]


class Traces:
    """Trace contexts (W3C ``traceparent``) of one station's requests.

    Attributes:
        rendered: called with the context of each job's first audio, and the generator's times.
    """

    def __init__(self) -> None:
        self.rendered: Rendered | None = None
        self._contexts: dict[str, str] = {}

    def kept(self, ident: str, context: str, reply: Reply) -> Reply:
        """Keep the context of a request until its last answer; return the function to answer with."""
        if not context:
            return reply

        def answer(message: protocol.ServerMessage) -> None:
            if not isinstance(message, protocol.Scheduled):
                self._contexts.pop(ident, None)
            reply(message)

        self._contexts[ident] = context
        return answer

    def marked(self, pending: Pending | None) -> Take | None:
        """The take of a pending change, with the context of its newest request; None without one."""
        if pending is None:
            return None
        if self._contexts:
            pending.take.trace = self._contexts.get(pending.requests.newest, "")
        return pending.take

    def heard(self, piece: Piece) -> None:
        """Report the first audio of a job with a context."""
        if piece.trace and self.rendered is not None:
            self.rendered(piece.trace, piece.stages)
