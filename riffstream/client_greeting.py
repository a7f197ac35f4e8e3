"""The first words of a connection: the client says hello, the server welcomes it or says why not.

Threading model
  One event loop; nothing is kept between two calls.
"""

from __future__ import annotations

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket

from riffstream import protocol
from riffstream.client_blocks import RadioError

__all__ = ["greet"]

MESSAGE_BYTES = 4 * 2**20


async def greet(url: str, hello: protocol.Hello, timeout_s: float) -> tuple[ClientConnection, protocol.Welcome]:
    """Connect, say hello, and read the welcome; what comes before it (audio, other messages) is skipped.

    Args:
        url: of the socket.
        hello: what to say.
        timeout_s: for the socket to be open. How long the welcome may take is the caller's business.

    Raises:
        RadioError: the server refuses, says goodbye, or does not speak the protocol. The socket is closed then.
        OSError, WebSocketException: there is no socket, or it broke on the way.
    """
    socket = await open_socket(
        url,
        subprotocols=[protocol.SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        max_size=MESSAGE_BYTES,
        open_timeout=timeout_s,
        close_timeout=1,  # audio that nobody reads any more would hold up the farewell
    )
    try:
        await socket.send(protocol.encode(hello))
        while True:
            data = await socket.recv()
            if isinstance(data, bytes):
                continue
            try:
                message = protocol.decode_server(data)
            except protocol.ProtocolError as error:
                raise RadioError("internal", f"{url} does not speak {protocol.SUBPROTOCOL}: {error}") from None
            if isinstance(message, protocol.Rejected):
                raise RadioError(
                    message.code, message.message, field=message.field, retry_after_ms=message.retry_after_ms
                )
            if isinstance(message, protocol.Bye):
                raise RadioError("busy", f"{url}: {message.reason}", retry_after_ms=message.reconnect_ms)
            if isinstance(message, protocol.Welcome):
                return socket, message
    except BaseException:
        await socket.close()
        raise
