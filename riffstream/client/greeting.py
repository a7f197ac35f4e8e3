"""The first words of a connection: the socket, through a proxy if there is one, ``hello`` and ``welcome``.

Threading model: one event loop makes every call.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import InvalidProxy, InvalidStatus, ProxyError, WebSocketException

from riffstream import protocol
from riffstream.client.proxy import choose_proxy, shown_proxy
from riffstream.errors import RadioError

__all__ = ["greet"]

MESSAGE_BYTES = 4 * 2**20
FINAL = (401, 403, 404, 410)  # permanent refusals of the handshake


async def greet(
    url: str, hello: protocol.Hello, timeout_s: float, **options: Any
) -> tuple[ClientConnection, protocol.Welcome]:
    """Connect, send ``hello`` and receive ``welcome``; earlier audio and messages are skipped.

    Args:
        url: URL of the socket.
        hello: the message to send.
        timeout_s: time limit for the whole handshake, seconds.
        options: further arguments of ``websockets.connect``. With ``path``, the server listens on a Unix socket.

    Raises:
        RadioError: ``unreachable``, ``timeout``, or the server refuses, closes, or does not speak the protocol. The
            socket is then closed. ``retry_after_ms`` is None if a retry cannot succeed.
    """
    proxy: str | None = None
    try:
        async with asyncio.timeout(timeout_s):
            proxy = None if "path" in options else await choose_proxy(url)
            socket = await _opened(url, proxy, options)
            try:
                return socket, await _welcome(socket, url, hello)
            except WebSocketException as error:  # it is closed then
                raise _unreachable(url, proxy, error) from None
            except BaseException:
                await socket.close()
                raise
    except TimeoutError:
        through = f" through the proxy {shown_proxy(proxy)}" if proxy else ""
        raise RadioError("timeout", f"no answer from {url}{through} within {timeout_s:g} s", retry_after_ms=0) from None


async def _opened(url: str, proxy: str | None, options: dict[str, Any]) -> ClientConnection:
    if "path" in options:
        options = {"unix": True, **options}
    try:
        return await open_socket(
            url,
            subprotocols=[protocol.SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            max_size=MESSAGE_BYTES,
            open_timeout=None,
            close_timeout=1,  # unread audio would delay the closing handshake
            proxy=proxy,
            **options,
        )
    except Exception as error:  # sockets, TLS, proxies and their libraries raise many types
        raise _unreachable(url, proxy, error) from None


async def _welcome(socket: ClientConnection, url: str, hello: protocol.Hello) -> protocol.Welcome:
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
            raise RadioError(message.code, message.message, field=message.field, retry_after_ms=message.retry_after_ms)
        if isinstance(message, protocol.Bye):
            raise RadioError("busy", f"{url}: {message.reason}", retry_after_ms=message.reconnect_ms)
        if isinstance(message, protocol.Welcome):
            return message


def _stated(error: Exception) -> str:
    """The server's own sentence about a refusal; empty if it sent none."""
    if not isinstance(error, InvalidStatus):
        return ""
    try:
        message = json.loads(error.response.body or b"")["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    shown = " ".join(str(message).split())[:300]
    return f"{shown} (HTTP {error.response.status_code})" if shown.isprintable() else ""


def _unreachable(url: str, proxy: str | None, error: Exception) -> RadioError:
    """Error for a failed connection, in one line."""
    reason = _stated(error) or " ".join(str(error).split()) or type(error).__name__
    final = isinstance(error, InvalidStatus) and error.response.status_code in FINAL
    if proxy is None:
        return RadioError("unreachable", f"cannot reach {url}: {reason}", retry_after_ms=None if final else 0)
    shown = shown_proxy(proxy)
    without = f"to connect without it, set NO_PROXY={urlsplit(url).hostname}"
    if isinstance(error, InvalidProxy):
        reason = reason.replace(proxy, shown)
        return RadioError("unreachable", f"the proxy {shown} cannot be used: {reason}; {without}")
    if isinstance(error, ImportError):
        missing = "SOCKS needs the package python-socks (pip install 'python-socks[asyncio]')"
        return RadioError("unreachable", f"the proxy {shown} cannot be used: {missing}; {without}")
    if isinstance(error, ProxyError):
        reason = f"the proxy {shown} refuses: {reason}"
    else:
        reason = f"through the proxy {shown}: {reason}"
    return RadioError("unreachable", f"cannot reach {url}: {reason}; {without}", retry_after_ms=None if final else 0)
