"""Webhooks: messages of stations as signed POST requests (Standard Webhooks) to configured addresses.

Only the configuration names addresses, never a client. Redirects are not followed, and the environment's proxies are
not used, so a request goes to the configured host or nowhere.

Threading model: everything runs on the event loop. A message waits in a bounded queue; a slow or dead receiver never
delays the station.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from riffstream import __version__, protocol
from riffstream.audio.ogg import one_line
from riffstream.config import Config, WebhookSettings, without_secrets
from riffstream.errors import RiffstreamError
from riffstream.server import logs
from riffstream.server.broadcast import Member
from riffstream.server.registry import Broadcasts

__all__ = ["Webhook", "Webhooks", "signature"]

AGAIN_S: Final = 5.0  # pause between looks for an ended station
GONE: Final = 410  # the receiver wants no more of this message


def signature(key: bytes, ident: str, timestamp: int, body: bytes) -> str:
    """Value of ``webhook-signature`` (Standard Webhooks 1.0): HMAC-SHA256 of id, time and body."""
    signed = f"{ident}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A message that waits. Its id is the same in each attempt, so that a receiver can drop repetitions."""

    ident: str
    body: bytes


class Webhook:
    """One address.

    Args:
        name: its name in the configuration.
        settings: its configuration.
        stations: names of its stations.
        broadcasts: the stations' broadcasts.

    Attributes:
        problem: reason of the last failure; "" after a delivery.
        delivered, failures, dropped: counters of messages, attempts, and messages that were never delivered.
    """

    def __init__(self, name: str, settings: WebhookSettings, stations: tuple[str, ...], broadcasts: Broadcasts) -> None:
        self.name, self.settings = name, settings
        self.problem = ""
        self.delivered = self.failures = self.dropped = 0
        self._stations, self._broadcasts = stations, broadcasts
        self._waiting: deque[_Delivery] = deque()
        self._arrived = asyncio.Event()

    def figures(self) -> dict[str, Any]:
        """State and counters as JSON values, without the address."""
        return {
            "problem": self.problem,
            "waiting": len(self._waiting),
            "delivered": self.delivered,
            "failures": self.failures,
            "dropped": self.dropped,
        }

    async def run(self) -> None:
        """Deliver until cancelled."""
        following = [asyncio.create_task(self._follow(name)) for name in self._stations]
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s)
        try:
            async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
                while True:
                    while not self._waiting:
                        self._arrived.clear()
                        await self._arrived.wait()
                    await self._deliver(session, self._waiting.popleft())
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    def put(self, station: str, message: protocol.Now | protocol.Event) -> None:
        """Queue a message."""
        plain = json.loads(protocol.encode(message))
        kind = plain.pop("type")
        if kind not in self.settings.events:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = json.dumps({"type": kind, "timestamp": now, "station": station, "data": plain}).encode()
        if len(self._waiting) >= self.settings.queue:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(_Delivery(f"msg_{secrets.token_hex(12)}", body))
        self._arrived.set()

    async def _follow(self, name: str) -> None:
        """Queue the messages of a station, and of each later station of its name."""
        while True:
            broadcast = self._broadcasts.get(name)
            if broadcast is not None:
                ended = asyncio.Event()

                async def leave(reason: str, ended: asyncio.Event = ended) -> None:
                    ended.set()

                def told(message: protocol.ServerMessage) -> None:
                    if isinstance(message, protocol.Now | protocol.Event):
                        self.put(name, message)

                try:
                    with broadcast.joined(Member(leave, told=told)):
                        self.put(name, broadcast.station.now())
                        await ended.wait()
                except RiffstreamError:  # the station has just ended
                    pass
            await asyncio.sleep(AGAIN_S)

    async def _deliver(self, session: aiohttp.ClientSession, delivery: _Delivery) -> None:
        delay = self.settings.backoff_s
        for attempt in range(1, self.settings.attempts + 1):
            status, problem, retry_s = await self._post(session, delivery)
            if not problem:
                self.delivered += 1
                if self.problem:
                    logs.event("webhook delivers again", webhook=self.name)
                self.problem = ""
                return
            self.failures += 1
            if problem != self.problem:
                to = without_secrets(self.settings.url)
                logs.event("webhook failed", level=logging.WARNING, webhook=self.name, to=to, problem=problem)
            self.problem = problem
            if status == GONE or attempt == self.settings.attempts:
                break
            pause = min(max(delay, retry_s), self.settings.backoff_max_s)
            delay = min(2 * delay, self.settings.backoff_max_s)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        self.dropped += 1

    async def _post(self, session: aiohttp.ClientSession, delivery: _Delivery) -> tuple[int, str, float]:
        """One attempt: status (0 without an answer), problem ("" if delivered) and the requested pause in seconds."""
        at = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"riffstream/{__version__}",
            "webhook-id": delivery.ident,
            "webhook-timestamp": str(at),
        }
        if self.settings.secret:
            headers["webhook-signature"] = signature(self.settings.key, delivery.ident, at, delivery.body)
        try:
            async with session.post(
                self.settings.url, data=delivery.body, headers=headers, allow_redirects=False
            ) as answer:
                if 200 <= answer.status < 300:
                    return answer.status, "", 0.0
                retry_s = _pause_s(answer.headers.get("Retry-After", ""))
                return answer.status, f"the answer is {answer.status}", retry_s
        except TimeoutError:
            return 0, f"no answer within {self.settings.timeout_s:g} s", 0.0
        except Exception as error:  # of any layer; the address stays out of the message
            return 0, f"no connection ({one_line(type(error).__name__)})", 0.0


def _pause_s(given: str) -> float:
    """Seconds of a ``Retry-After``: a number or a date (RFC 9110, 10.2.3); 0 for anything else."""
    if given.isascii() and given.strip().isdigit():
        return float(given[:12])
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


class Webhooks(Mapping[str, Webhook]):
    """The configured webhooks by name; each runs in a task of its own.

    Args:
        config: the whole configuration.
        broadcasts: the stations' broadcasts.
    """

    def __init__(self, config: Config, broadcasts: Broadcasts) -> None:
        self._hooks = {
            name: Webhook(name, each, (each.station,) if each.station else tuple(config.stations), broadcasts)
            for name, each in config.webhooks.items()
        }
        self._tasks: list[asyncio.Task[None]] = []

    def __getitem__(self, name: str) -> Webhook:
        return self._hooks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hooks)

    def __len__(self) -> int:
        return len(self._hooks)

    def start(self) -> None:
        """Start to deliver."""
        self._tasks = [asyncio.create_task(hook.run(), name=f"webhook-{name}") for name, hook in self.items()]

    async def stop(self) -> None:
        """Stop; messages that wait are lost. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
