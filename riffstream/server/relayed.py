"""Rights of a client at a relay: those that the server behind it gives to the client's own token.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from riffstream import protocol
from riffstream.server.context import Context
from riffstream.server.interfaces import Line, Reply, Station, Upstream
from riffstream.server.roles import Role

__all__ = ["Rights", "relayed_rights"]


@dataclass(frozen=True, slots=True)
class Rights:
    """Rights of a client.

    Attributes:
        role: its role.
        reason: why it may not steer; None if it may.
        line: its connection to the server behind the relay.
    """

    role: Role
    reason: str | None
    line: Line


async def relayed_rights(
    context: Context, upstream: Upstream, request: web.Request, station: Station, token: str | None, tell: Reply
) -> Rights:
    """Ask the server behind this relay for the rights of a client.

    A client without a token, or with the relay's own token for listening, has those that the other server gives to
    everybody.

    Args:
        context: state of the relay.
        upstream: the servers behind it.
        request: the client's request.
        station: the station.
        token: the client's token.
        tell: receives the answers to the client.

    Raises:
        ProtocolError: the client may not listen, or the other server cannot be reached.
        429 with Retry-After after many wrong tokens from the same address.
    """
    own = context.access.role_of(token, station.name) if token else None
    if not token or own is Role.LISTENER:
        if context.grant(request, token) is None:
            raise protocol.ProtocolError("unauthorised", "listening here needs a token", field="token")
        name, reason = upstream.role(station.name)
        line = upstream.line(station.name, None, _forwarded(context, request), tell)
    else:
        context.check_lockout(request)
        line = upstream.line(station.name, token, _forwarded(context, request), tell)
        try:
            welcome = await line.open()
        except BaseException as error:
            line.close()
            if isinstance(error, protocol.ProtocolError) and error.code == "unauthorised":
                context.lockout.wrong(context.asked(request).address)
            raise
        name, reason = welcome.role, welcome.reason
    origin = request.headers.get("Origin")
    is_open = upstream.role(station.name)[0] != "listener"
    if is_open and not context.access.trusts(origin, context.asked(request).host):
        return Rights(Role.LISTENER, context.access.refusal(origin), line)
    return Rights(Role(name), reason, line)


def _forwarded(context: Context, request: web.Request) -> str:
    """Address of the client for ``X-Forwarded-For``; the first one of a counted IPv6 network."""
    return context.asked(request).address.partition("/")[0]
