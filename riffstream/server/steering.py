"""Rate limit for a connection's changes. A delayed steer is merged with later ones, so that none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from msgspec import UNSET

from riffstream import protocol
from riffstream.server.limits import TokenBucket

__all__ = ["SteerGate", "desk_only", "merge"]


def merge(old: protocol.Steer, new: protocol.Steer) -> protocol.Steer:
    """Merge two changes under the newer id; the newer value of each field, part and setting of the desk wins."""
    kept = {
        name: getattr(old, name)
        for name in protocol.Steer.__struct_fields__
        if name not in ("mix", "parts") and getattr(new, name) is UNSET and getattr(old, name) is not UNSET
    }
    mix, parts = protocol.merged_mix(old.mix, new.mix), protocol.merged_parts(old.parts, new.parts)
    return msgspec.structs.replace(new, **kept, mix=mix, parts=parts)


def desk_only(message: protocol.Steer) -> bool:
    """Whether a steer changes the desk and nothing else, which costs no clip."""
    others = set(protocol.Steer.__struct_fields__) - {"id", "mix", "at", "bar", "ramp_s", "if_rev"}
    return message.mix is not UNSET and all(getattr(message, name) is UNSET for name in others)


class _Delay:
    """One rate limit. A delayed steer absorbs later ones, so that the last position of a fast fader is kept."""

    def __init__(
        self,
        bucket: TokenBucket,
        apply: Callable[[protocol.Steer | protocol.Transport], None],
        tell: Callable[[protocol.ServerMessage], None],
    ) -> None:
        self.bucket = bucket
        self.held: protocol.Steer | None = None
        self._apply = apply
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def steer(self, message: protocol.Steer) -> None:
        if self.held is not None:
            self.held = self.absorbed(message)
        elif self.bucket.take():
            self._apply(message)
        else:
            self.held = message
            self._timer = asyncio.get_running_loop().call_later(self.bucket.wait_s(), self._turn)

    def absorbed(self, message: protocol.Steer) -> protocol.Steer:
        """A steer with the fields of the held one, which is answered and dropped."""
        held, self.held = self.held, None
        if held is None:
            return message
        self._tell(protocol.Superseded(id=held.id, by=message.id))
        return merge(held, message)

    def close(self) -> None:
        self.held = None
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        if self.held is None:
            return
        if not self.bucket.take():  # a transport message has used the action
            self._timer = asyncio.get_running_loop().call_later(max(0.01, self.bucket.wait_s()), self._turn)
            return
        held, self.held = self.held, None
        self._apply(held)


class SteerGate:
    """Rate limiter of one connection's steers. Steers of the desk alone have a rate of their own.

    Args:
        bucket: the rate of steers.
        desk: the rate of steers of the desk alone.
        apply: function that passes a change to the station, which answers.
        tell: function that answers the connection.

    Attributes:
        refusal: reason why this connection may not steer; None if it may.
    """

    def __init__(
        self,
        bucket: TokenBucket,
        desk: TokenBucket,
        apply: Callable[[protocol.Steer | protocol.Transport], None],
        tell: Callable[[protocol.ServerMessage], None],
    ) -> None:
        self._apply = apply
        self._tell = tell
        self.refusal: str | None = None
        self._steers = _Delay(bucket, apply, tell)
        self._desk = _Delay(desk, apply, tell)
        self._timed = _Delay(bucket, apply, tell)  # steers with a bar: merged with others, they would begin elsewhere
        self._expiry: asyncio.TimerHandle | None = None

    def expire_in(self, seconds: float) -> None:
        """Withdraw the right to steer after ``seconds``, the rest of a signed token's validity."""
        self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self.refusal = "your token has expired"

    def steer(self, message: protocol.Steer) -> None:
        """Handle a change. It is answered with ``scheduled``, ``superseded`` or ``rejected``, now or after its delay.

        Raises:
            ProtocolError: this connection may not steer.
        """
        self.check(message.id)
        held = self._steers.held
        if message.bar is not None:
            self._timed.steer(message)
        elif desk_only(message) and (held is None or held.mix is UNSET):
            self._desk.steer(message)
        elif message.mix is not UNSET:  # a delayed change of the desk must not come after this newer one
            self._steers.steer(self._desk.absorbed(message))
        else:
            self._steers.steer(message)

    def transport(self, message: protocol.Transport) -> None:
        """Handle pause, resume, reset or skip. They are never delayed, but count; above the limit they are rejected.

        Raises:
            ProtocolError: this connection may not steer.
        """
        self.check(message.id)
        bucket = self._steers.bucket
        if bucket.take():
            self._apply(message)
        else:
            retry_ms = round(bucket.wait_s() * 1000)
            error = protocol.ProtocolError("rate_limited", "too many changes", retry_after_ms=retry_ms)
            self._tell(error.reply(message.id))

    def check(self, id: str) -> None:  # noqa: A002  (the wire's name)
        """Raise ProtocolError if this connection may not steer."""
        if self.refusal is not None:
            raise protocol.ProtocolError("forbidden", self.refusal, id=id)

    def close(self) -> None:
        """Drop what is held."""
        self._steers.close()
        self._desk.close()
        self._timed.close()
        if self._expiry is not None:
            self._expiry.cancel()
