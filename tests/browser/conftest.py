"""A real server in a process of its own, and a real headless Chromium in front of it.

The music is the ``tone`` generator's: a steady tone whose pitch tells the prompt and a click on every beat, so that
what was captured says what was heard. ``test_embedded.py`` plays the embedded model.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from tests.conftest import PATIENCE_MS, PATIENCE_S, ROOT

Start = Callable[..., "Served"]
Open = Callable[..., Page]

PLAIN_HOST = "192.168.77.1"
"""An address of a LAN, which the browser is told to take for this machine: a page from it is no secure context."""

DOTTED_HOST = "mypc.fritz.box"
"""A name that a router gave this machine, for all the browser knows."""


class Served:
    """``riffstream serve`` as a user runs it.

    Args:
        folder: for its log.
        port: 0 picks a free one.
        model: ``tone`` or ``mini``.
        settings: ``limits_steer_burst=9`` is the variable RIFFSTREAM_LIMITS_STEER_BURST.
    """

    def __init__(self, folder: Path, *, port: int = 0, model: str = "tone", **settings: object) -> None:
        self.log = folder / f"server-{time.monotonic_ns()}.log"
        environment = {f"RIFFSTREAM_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "riffstream", "serve", "--model", model, "--port", str(port), "--json"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}, cwd=ROOT
            )
        self.url = str(self._wait(self._listening, PATIENCE_S))
        self.port = int(self.url.rsplit(":", 1)[1])
        self._wait(self._ready, PATIENCE_S)

    def _wait(self, probe: Callable[[], str | None], seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if (found := probe()) is not None:
                return found
            time.sleep(0.1)
        self.stop()
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def _listening(self) -> str | None:
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                if "url" in (record := json.loads(line)):
                    return str(record["url"])
        return None

    def _ready(self) -> str | None:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=20) as answer:
                return "ready" if answer.status == 200 else None
        except OSError:
            return None

    def get(self, path: str) -> Any:
        """A JSON answer of the API."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it: SIGTERM in good order, SIGKILL as a crash would."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(PATIENCE_S / 2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[Start]:
    """``start(**settings)``: a server that lives until the end of the block."""
    started: list[Served] = []

    def start(**settings: Any) -> Served:
        started.append(Served(folder, **settings))
        return started[-1]

    yield start
    for served in started:
        served.stop()


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Servers of a test. Each costs a tenth of a core as long as it plays."""
    with _servers(tmp_path_factory.mktemp("servers")) as start:
        yield start


@pytest.fixture(scope="module")
def start_for_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Servers that the tests of a file share."""
    with _servers(tmp_path_factory.mktemp("servers")) as start:
        yield start


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server that most tests share; it may be steered as often as one likes."""
    with _servers(tmp_path_factory.mktemp("servers")) as start:
        yield start(
            limits_steer_interval_s=0, limits_steer_burst=1000, limits_connections_per_address=200, timeline_idle_s=0
        )


@pytest.fixture(scope="package")
def browser(need_tool: Callable[[str], str]) -> Iterator[Browser]:
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    arguments.append(f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1, MAP {DOTTED_HOST} 127.0.0.1")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=need_tool("chromium"), args=arguments)
        yield chromium
        chromium.close()


def _append(more: str, route: Route) -> None:
    response = route.fetch()
    route.fulfill(response=response, body=f"{response.text()}\n{more}")


@contextlib.contextmanager
def opened(browser: Browser) -> Iterator[Open]:
    """``open_page(url, **context options)``: a page in a context of its own. No script of it may fail.

    ``script`` runs before the page's own; ``appended`` is added to the end of one of the player's files, by its name.
    """
    contexts: list[BrowserContext] = []
    failures: list[str] = []

    def open_page(url: str, *, script: str = "", appended: dict[str, str] | None = None, **options: Any) -> Page:
        # The capture's worklet comes from a blob, which the page's own policy rightly refuses.
        context = browser.new_context(**{"bypass_csp": True, "viewport": {"width": 1000, "height": 700}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        if script:
            context.add_init_script(script)
        for name, more in (appended or {}).items():
            context.route(f"**/{name}", partial(_append, more))
        if appended:  # the files of the page one by one
            url += ("&" if "?" in url else "?") + "modules"
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(f"{url}: {error}"))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not failures, failures


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    with opened(browser) as open_page:
        yield open_page


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        pass


@pytest.fixture
def other_origin(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of another site that serves it."""
    handler = partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
