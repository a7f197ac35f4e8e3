"""Checks of ``riffstream doctor``: each looks at one thing and says it in a sentence."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import numpy as np

from riffstream.config import Config
from riffstream.errors import RiffstreamError
from riffstream.protocol import SAMPLE_RATE

__all__ = ["Finding", "listener_us", "look"]

Level = Literal["good", "warning", "bad"]
LEAST_FREE_MB: Final = 200
CODECS: Final = ("opus", "mp3", "aac")
LISTENERS: Final = 100  # of the measurement
FRAMES_A_SECOND: Final = 2  # of a passive listener
FRAME_BYTES: Final = 8000  # half a second of Opus at 128 kbit/s
OVERHEAD: Final = 2.0  # a listener's other costs: heartbeat, HTTP, its share of frames


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found.

    Attributes:
        name: of the check.
        level: good; warning: it works with a limitation; bad: the server cannot work.
        text: in a sentence, with the remedy.
    """

    name: str
    level: Level
    text: str


def look(config: Config) -> Iterator[Finding]:
    """Check all but the model and the speed."""
    yield from _codecs()
    yield _packages(config)
    yield _port(config)
    yield _folder(config)
    yield _files(config)
    yield _sandbox()
    yield from _public(config)
    yield _clock()
    yield _player()


def _codecs() -> Iterator[Finding]:
    from riffstream.audio.encoders import make_encoder

    block = np.zeros((SAMPLE_RATE // 5, 2), np.float32)
    broken = []
    for codec in CODECS:
        try:
            encoder = make_encoder(codec)
            made = [*encoder.push(block), *encoder.close()]
            if not made:
                broken.append(f"{codec} (no output)")
        except Exception as error:  # libav has many exceptions
            broken.append(f"{codec} ({type(error).__name__}: {error})")
    if broken:
        yield Finding("codecs", "bad", f"these encoders do not work: {', '.join(broken)}; reinstall av and lameenc")
    else:
        yield Finding("codecs", "good", f"{', '.join(CODECS)} and PCM can be encoded")


def _packages(config: Config) -> Finding:
    from riffstream.generator import packages
    from riffstream.server import tracing

    try:
        for settings in config.generators().values():
            packages.check_installed(settings)
        tracing.check_installed(config.tracing)
    except RiffstreamError as error:
        return Finding("packages", "bad", str(error))
    return Finding("packages", "good", "the packages of all settings are installed")


def _port(config: Config) -> Finding:
    from riffstream.server.binding import listening_sockets

    try:
        for sock in listening_sockets(config.server.host, config.server.port):
            sock.close()
    except RiffstreamError as error:
        return Finding("port", "bad", str(error))
    return Finding("port", "good", f"port {config.server.port} of {config.server.host} is free")


def _sandbox() -> Finding:
    from riffstream.server.sandbox import FILES, NETWORK

    asked = subprocess.run(
        [sys.executable, "-m", "riffstream.server.sandbox"], capture_output=True, text=True, timeout=60
    )
    missing = [each for each in (FILES, NETWORK) if each not in asked.stdout.split()]
    if missing:
        text = (
            f"this system does not take {' and '.join(missing)} from the processes that decode uploads and live input"
        )
        return Finding("sandbox", "warning", f"{text}; Linux 5.13 and later does, with Landlock and seccomp")
    return Finding("sandbox", "good", "processes that decode uploads and live input have no network and no other files")


def _folder(config: Config) -> Finding:
    folder = Path(config.server.state_dir).expanduser() if config.server.state_dir else Path(tempfile.gettempdir())
    where = "server.state_dir" if config.server.state_dir else "the temporary folder"
    near = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if not os.access(near, os.W_OK):
        return Finding("folder", "bad", f"{where} ({folder}) cannot be written to")
    free_mb = shutil.disk_usage(near).free >> 20
    if free_mb < LEAST_FREE_MB:
        return Finding("folder", "warning", f"{where} has {free_mb} MB left; uploads and states may fail")
    if not config.server.state_dir:
        return Finding("folder", "warning", "server.state_dir is not set, so stations and uploads end with the server")
    return Finding("folder", "good", f"{where} can be written to, with {free_mb} MB left")


def _files(config: Config) -> Finding:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return Finding("open files", "good", "this system has no limit of open files")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * config.limits.connections + 256
    if hard != resource.RLIM_INFINITY and hard < wanted:
        text = f"the limit is {hard}; limits.connections = {config.limits.connections} needs {wanted} (ulimit -n)"
        return Finding("open files", "warning", text)
    return Finding("open files", "good", f"enough for {config.limits.connections} connections")


def _public(config: Config) -> Iterator[Finding]:
    from riffstream.server.access import is_public_address

    server, access = config.server, config.access
    public = is_public_address(server.host)
    closed = access.dj_token or access.signing_keys or config.tokens.hook
    if public and not closed:
        yield Finding("access", "warning", "anyone who can reach this address may steer; set access.dj_token")
    else:
        yield Finding("access", "good", "steering needs a token" if closed else "only this machine can connect")
    if server.public_url and not server.trusted_proxies:
        text = "server.public_url is set without server.trusted_proxies: all listeners behind the proxy count as one"
        yield Finding("proxy", "warning", text)
    elif public and urlsplit(server.public_url).scheme != "https":
        text = "browsers give pages without HTTPS no AudioWorklet; put a proxy with a certificate before the server"
        yield Finding("proxy", "warning", text)
    else:
        yield Finding("proxy", "good", "browsers have all features that the player uses")


def _clock() -> Finding:
    before, began = time.time(), time.monotonic()
    time.sleep(0.3)
    drift = abs((time.time() - before) - (time.monotonic() - began))
    if time.gmtime(before).tm_year < 2025:
        return Finding("clock", "warning", "the date is wrong: signed tokens and certificates will not work")
    if drift > 0.05:
        return Finding("clock", "warning", f"the system's clock jumped by {drift:.2f} s just now")
    return Finding("clock", "good", "the system's clock runs evenly")


def _player() -> Finding:
    from riffstream.server.static_files import client_folder

    folder = client_folder()
    if folder is None or not (folder / "index.html").is_file():
        return Finding("player", "bad", "the browser player's files are missing; reinstall riffstream")
    return Finding("player", "good", "the browser player's files are there")


async def listener_us() -> float:
    """CPU time of a passive listener per second in µs, by writing frames to real sockets of this machine."""
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(LISTENERS)]
    transports = []
    try:
        for ours, theirs in pairs:
            ours.setblocking(False)
            theirs.setblocking(False)
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transports.append(transport)
        frame, rounds, began = bytes(FRAME_BYTES), 20, time.process_time()
        spent = 0.0
        for _ in range(rounds):
            began = time.process_time()
            for transport in transports:
                transport.write(frame)
            spent += time.process_time() - began
            for _, theirs in pairs:  # not part of the server's cost
                theirs.recv(2 * FRAME_BYTES)
            await asyncio.sleep(0)
        return spent / rounds / LISTENERS * FRAMES_A_SECOND * OVERHEAD * 1e6
    finally:
        for transport in transports:
            transport.close()
        for _, theirs in pairs:
            theirs.close()
