"""A listener's connection to a station: automatic reconnection, audio, messages and steering.

Threading model
  One event loop owns a ``Radio``; its methods are coroutines of that loop and raise in another one.
  A task reads the socket and decodes. Hand-over: a queue of ``queue_s`` seconds of blocks; when it is full the
  oldest block is dropped and the next one has ``discontinuity``, so steering works even without reading the audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from riffstream import protocol
from riffstream.client.greeting import greet
from riffstream.client.inbox import Block, Inbox
from riffstream.client.own import OwnStation
from riffstream.client.requests import Requests, Words, queue_message, request_message, steer_message
from riffstream.errors import RadioError

__all__ = ["Radio"]

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
STATS_S = 5.0


class Radio:
    """A listener's connection to a station. ``riffstream.connect`` makes it.

    Iteration yields each :class:`Block`, from the server's initial burst on.

    Attributes:
        welcome: the server's last ``welcome``: session, role, limits, capabilities.
        state: musical parameters of the station.
        now: the last ``now`` message with the musical position; None before the first.
        queue: the queue of the station: the prompts that follow.
        requests: what listeners wish, with votes and reactions; None: the station takes no requests.
        rev: revision of the station at the last message or frame.
        received: sample clock after the last received audio.
        reconnects: number of reconnections.
    """

    def __init__(
        self,
        url: str,
        hello: protocol.Hello,
        *,
        reconnect: bool,
        queue_s: float,
        timeout_s: float,
        own: OwnStation | None = None,
    ) -> None:
        self.url = url
        self.welcome: protocol.Welcome
        self.state: protocol.State
        self.now: protocol.Now | None = None
        self.queue = protocol.QueueList()
        self.requests: protocol.RequestList | None = None
        self.rev = 0
        self.received = 0
        self.reconnects = 0
        self._hello = hello
        self._reconnect = reconnect
        self._timeout_s = timeout_s
        self._own = own
        self._socket: ClientConnection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._inbox = Inbox(int(queue_s * protocol.SAMPLE_RATE))
        self._changed = asyncio.Event()
        self._error: RadioError | None = None
        self._done = False
        self._ids = itertools.count(1)
        self._requests = Requests(listens=bool(hello.codecs))
        self._followers: set[asyncio.Queue[protocol.ServerMessage | None]] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if self._own is not None:
            self.url, token = await self._own.open()
            self._hello = msgspec.structs.replace(self._hello, token=token)
        try:
            await self._open()
        except BaseException:
            if self._own is not None:
                await self._own.close()
            raise
        self._task = asyncio.create_task(self._run(), name="riffstream-client")
        return self

    @property
    def damaged(self) -> int:
        """Number of damaged blocks. Each is replaced by silence with ``discontinuity``."""
        return self._inbox.damaged

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Idempotent; received blocks can still be read."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._socket is not None:  # the task was cancelled before its first step
            socket, self._socket = self._socket, None
            with contextlib.suppress(OSError, ConnectionClosed):
                await socket.close()
        if self._own is not None:
            await self._own.close()
        self._finish(None)

    def __aiter__(self) -> AsyncIterator[Block]:
        return self

    async def __anext__(self) -> Block:
        self._check_loop()
        while (block := self._inbox.pop()) is None:
            if self._done:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return block

    async def steer(
        self,
        prompt: str | Sequence[str | tuple[str, float]] | None = None,
        *,
        timeout_s: float = 60.0,
        **changes: Any,
    ) -> protocol.Applied:
        """Change the music for all listeners; return when the first sample of the change has been received.

        Args:
            prompt: a text, or a mix: ``["piano", ("rain", 0.3)]``. None keeps the prompts.
            changes: seed, seed_image, negative, denoising, guidance, bpm, beats_per_bar, key, form, chords ("Am F C
                G"), parts (``{"drums": 0}``), energy, density, brightness, mix (the desk:
                ``{"low": -12, "mute": ["drums"]}``), at (asap, beat, bar, clip), bar (in place of at: the
                number of a bar, as ``now.bar``, up to 64 ahead), ramp_s, if_rev; None returns a value to the station's
                default.
            timeout_s: time limit until the change is audible, seconds. Give a change with a distant bar more.

        Returns:
            ``Applied(rev, audible_at)``, with ``bar`` if the change named one.

        Raises:
            RadioError: rejected, superseded by a later change, timed out, or the connection was lost.
            ParameterError: an unknown or ill-typed argument.
        """
        return await self._ask(steer_message(f"s{next(self._ids)}", prompt, changes), timeout_s)

    async def transport(self, op: protocol.Op, *, timeout_s: float = 60.0) -> protocol.Applied:
        """``pause``, ``resume``, ``reset`` (to the default journey) or ``skip`` the station for all listeners."""
        return await self._ask(protocol.Transport(id=f"t{next(self._ids)}", op=op), timeout_s)

    async def change_queue(
        self, op: protocol.QueueOp, prompt: Words = None, *, timeout_s: float = 10.0, **changes: Any
    ) -> protocol.QueueList:
        """Change the queue of prompts and return it. ``changes``: item (an id of :attr:`queue`), bars, ramp_bars, bpm,
        to (a place, 0 first), loop. Raises as :meth:`steer`."""
        message = queue_message(f"q{next(self._ids)}", op, prompt, changes)
        try:
            with self._requests.queue(message.id) as answer:
                await self._send(message)
                async with asyncio.timeout(timeout_s):
                    return (await answer).queue
        except TimeoutError:
            raise RadioError("timeout", f"no answer about the queue within {timeout_s:g} s") from None

    async def change_requests(
        self, op: protocol.RequestOp, text: str | None = None, *, timeout_s: float = 60.0, **fields: Any
    ) -> protocol.RequestList:
        """``suggest`` a text, ``vote`` for an item or ``react``; with the right to steer ``take`` or ``dismiss`` one.

        Args:
            op: what to do.
            text: a suggestion.
            timeout_s: time limit for the answer, seconds; somebody may have to allow the text.
            fields: item (an id of :attr:`requests`), reaction (heart, fire, wow), play (queue, now).

        Returns:
            The requests after the change. Raises as :meth:`steer`.
        """
        message = request_message(f"r{next(self._ids)}", op, text, fields)
        try:
            with self._requests.request(message.id) as answer:
                await self._send(message)
                async with asyncio.timeout(timeout_s):
                    return (await answer).requests
        except TimeoutError:
            raise RadioError("timeout", f"no answer about the requests within {timeout_s:g} s") from None

    async def clock(self, *, timeout_s: float = 10.0) -> protocol.ClockReply:
        """Request the server's clock and the audible sample; ``t0`` is the local monotonic clock in ms."""
        t0 = time.monotonic() * 1000
        try:
            with self._requests.clock(t0) as answer:
                await self._send(protocol.Clock(t0=t0))
                async with asyncio.timeout(timeout_s):
                    return await answer
        except TimeoutError:
            raise RadioError("timeout", f"no clock from {self.url} within {timeout_s:g} s") from None

    async def start_input(
        self,
        *,
        codec: protocol.CodecName = "pcm_s16",
        channels: int = 2,
        strength: float = 0.5,
        takeover: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        """Start a live input, which becomes the seed image of the next clips; :meth:`send_input` sends its audio.

        Args:
            codec: ``pcm_s16`` or ``opus``.
            channels: 1 or 2.
            strength: share of the input in the clips, 0.05 to 0.95. A second call changes it.
            takeover: True ends the input of another client.
            timeout_s: time limit for the answer, seconds.

        Raises:
            RadioError: refused (``busy``: another input is open), or the connection was lost.
        """
        message = protocol.Input(
            id=f"i{next(self._ids)}", codec=codec, channels=channels, strength=strength, takeover=takeover
        )
        await self._ask_input(message, timeout_s)

    async def stop_input(self, *, timeout_s: float = 10.0) -> None:
        """End the live input. Raises RadioError if there is none."""
        await self._ask_input(protocol.Input(id=f"i{next(self._ids)}", action="stop"), timeout_s)

    async def send_input(self, payload: bytes, n_samples: int, *, codec: protocol.CodecName = "pcm_s16") -> None:
        """Send a frame of the live input: up to 200 ms, in real time. It ends at ``input`` with ``ended``.

        Args:
            payload: interleaved little-endian 16-bit samples, or Opus packets joined by ``protocol.join_packets``.
            n_samples: samples per channel.
            codec: that of :meth:`start_input`.

        Raises:
            RadioError: the connection was lost.
        """
        kind = protocol.Codec.OPUS if codec == "opus" else protocol.Codec.PCM_S16
        await self._send(protocol.pack_frame(protocol.AudioFrame(0, 0, n_samples, 0, payload, kind)))

    async def _ask_input(self, message: protocol.Input, timeout_s: float) -> None:
        try:
            with self._requests.input(message.id) as answer:
                await self._send(message)
                async with asyncio.timeout(timeout_s):
                    await answer
        except TimeoutError:
            raise RadioError("timeout", f"no answer about the live input within {timeout_s:g} s") from None

    async def messages(self) -> AsyncIterator[protocol.ServerMessage]:
        """Iterate over all control messages from now on (now, event, scheduled, ...) until the connection ends.

        At most 1,000 unread messages are kept; older ones are dropped.
        """
        queue: asyncio.Queue[protocol.ServerMessage | None] = asyncio.Queue(1000)
        if self._done:
            return
        self._followers.add(queue)
        try:
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._followers.discard(queue)

    async def _ask(self, message: protocol.Steer | protocol.Transport, timeout_s: float) -> protocol.Applied:
        try:
            with self._requests.change(message.id) as answer:
                await self._send(message)
                async with asyncio.timeout(timeout_s):
                    return await answer
        except TimeoutError:
            raise RadioError("timeout", f"the change was not audible within {timeout_s:g} s") from None

    def _check_loop(self) -> None:
        if self._loop is not None and asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("a Radio belongs to the event loop that opened it: use asyncio.run_coroutine_threadsafe")

    async def _send(self, message: protocol.ClientMessage | bytes) -> None:
        self._check_loop()
        if self._socket is None:
            raise RadioError("disconnected", f"not connected to {self.url}", retry_after_ms=1000)
        try:
            await self._socket.send(message if isinstance(message, bytes) else protocol.encode(message))
        except ConnectionClosed:
            raise RadioError("disconnected", f"the connection to {self.url} was lost", retry_after_ms=1000) from None

    async def _open(self) -> None:
        """Connect and apply the ``welcome``."""
        hello = self._hello
        if self._inbox.last_seq is not None:
            resume = protocol.Resume(
                session=self.welcome.session, last_seq=self._inbox.last_seq, sample_pos=self._inbox.end
            )
            hello = msgspec.structs.replace(hello, resume=resume)
        socket, welcome = await greet(self.url, hello, self._timeout_s)
        if welcome.resumed:
            self._inbox.resume()
        else:
            self._inbox.begin_anew()
        self.welcome, self.state, self.rev, self._socket = welcome, welcome.state, welcome.rev, socket
        self.queue, self.requests = welcome.queue, welcome.requests

    async def _run(self) -> None:
        """Read until the connection is closed permanently; reconnect after losses."""
        pause_ms: int | None = None
        try:
            while True:
                pause_ms = await self._read()
                self._requests.fail("disconnected", f"the connection to {self.url} was lost")
                if not self._reconnect or pause_ms is None:
                    self._finish(None)
                    return
                await self._mend(pause_ms / 1000)
        except RadioError as error:
            self._finish(error)
        except Exception as error:  # a caller must not wait for a dead task
            self._finish(RadioError("internal", f"{type(error).__name__}: {error}"))
            raise

    async def _mend(self, pause_s: float) -> None:
        longest = FIRST_PAUSE_S
        while True:
            # A random delay, so that clients of a restarted server do not reconnect all at once.
            await asyncio.sleep(pause_s + random.uniform(0, longest))
            pause_s = 0.0
            longest = min(LONGEST_PAUSE_S, longest * 2)
            try:
                await self._open()
            except RadioError as error:
                if error.retry_after_ms is None:
                    raise
                pause_s = error.retry_after_ms / 1000
                continue
            self.reconnects += 1
            return

    async def _read(self) -> int | None:
        """Read until this socket ends; return the delay before the next attempt, or None for no reconnection."""
        socket = self._socket
        assert socket is not None
        pause_ms: int | None = 0
        reporter = asyncio.create_task(self._report())
        try:
            async for data in socket:
                try:
                    if isinstance(data, bytes):
                        self._take(protocol.unpack_frame(data))
                        continue
                    message = protocol.decode_server(data)
                except protocol.ProtocolError:
                    continue  # a newer server's message
                if isinstance(message, protocol.Bye):
                    pause_ms = message.reconnect_ms
                self._handle(message)
        except ConnectionClosed:
            pass
        finally:
            reporter.cancel()
            self._socket = None
            with contextlib.suppress(OSError, ConnectionClosed):
                await socket.close()
        return pause_ms

    async def _report(self) -> None:
        with contextlib.suppress(RadioError):
            while True:
                await asyncio.sleep(STATS_S)
                buffer_ms = self._inbox.held * 1000 / protocol.SAMPLE_RATE
                underruns, played = self._inbox.underruns, self._inbox.played
                await self._send(protocol.Stats(buffer_ms=buffer_ms, underruns=underruns, played=played))

    def _take(self, frame: protocol.AudioFrame) -> None:
        self._inbox.take(frame)
        self.rev = frame.rev
        self.received = frame.sample_pos + frame.n_samples
        self._changed.set()
        self._requests.heard(self.received)

    def _handle(self, message: protocol.ServerMessage) -> None:
        if isinstance(message, protocol.Now):
            self.now, self.state, self.rev = message, message.state, max(self.rev, message.rev)
        elif isinstance(message, protocol.QueueState):
            self.queue = message.queue
        elif isinstance(message, protocol.RequestsState):
            self.requests = message.requests
        self._requests.take(message, self.received)
        for queue in self._followers:
            _put(queue, message)

    def _finish(self, error: RadioError | None) -> None:
        self._requests.fail("disconnected", f"the connection to {self.url} was closed")
        if not self._done:
            self._done, self._error = True, error
            for queue in self._followers:
                _put(queue, None)
        self._changed.set()


def _put(queue: asyncio.Queue[protocol.ServerMessage | None], message: protocol.ServerMessage | None) -> None:
    """Queue a message; a full queue drops its oldest one."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(message)
