"""Firefox for the tests: a sound device that goes nowhere, and a browser driven by WebDriver BiDi, without a driver.

Firefox gives an AudioContext no clock until there is a sound device, so a private PulseAudio with a null sink stands
behind it. Both are started here, in folders of their own, and are gone when the ``with`` block ends.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_PREFERENCES = {
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.aboutwelcome.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",  # no remote settings: nothing leaves this machine
    "toolkit.startup.max_resumed_crashes": -1,
}


@contextlib.contextmanager
def _program(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, all of which ends with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def _appears(path: Path, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{path.name} did not appear:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


@contextlib.contextmanager
def sound_device(program: str, folder: Path) -> Iterator[dict[str, str]]:
    """A sound device that swallows 48 kHz stereo; gives the environment of programs that are to use it.

    Raises:
        RuntimeError: the sound server did not start.
    """
    folder.chmod(0o700)  # the server insists
    socket, log = folder / "native", folder / "pulseaudio.log"
    names = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH")
    options = ["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes"]
    modules = [
        "--load=module-null-sink rate=48000 channels=2",
        f"--load=module-native-protocol-unix socket={socket} auth-anonymous=1",
    ]
    with _program([program, *options, *modules], log, dict.fromkeys(names, str(folder))) as process:
        _appears(socket, process, log, 15)
        yield {"PULSE_SERVER": f"unix:{socket}"}


class Tab:
    """One page of Firefox, with those methods of playwright's pages that :mod:`tests.browser.listening` needs."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        self.firefox = firefox
        self.context = context

    def goto(self, url: str) -> None:
        """Load a page to its end."""
        self.firefox.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def evaluate(self, function: str, argument: object = None) -> Any:
        """What a JavaScript function gives for an argument; both pass as JSON.

        Raises:
            RuntimeError: it threw.
        """
        answer = self.firefox.command(
            "script.callFunction",
            functionDeclaration=f"async (given) => JSON.stringify(await ({function})(JSON.parse(given))) ?? 'null'",
            arguments=[{"type": "string", "value": json.dumps(argument)}],
            awaitPromise=True,
            target={"context": self.context},
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def wait_for_timeout(self, milliseconds: float) -> None:
        time.sleep(milliseconds / 1000)

    def wait_for(self, function: str, argument: object = None, seconds: float = 30) -> Any:
        """The first true value of a function, asked for ten times a second.

        Raises:
            AssertionError: none came in time; the message tells the last one, and what the page's console said.
        """
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(function, argument)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{function} is still {value!r} after {seconds} s; {self.firefox.failures}")
            time.sleep(0.1)
        return value

    def click(self, element: str) -> None:
        """Press the mouse on what a JavaScript expression gives."""
        x, y = self.evaluate(
            f"() => {{ const e = {element}; e.scrollIntoView({{block: 'nearest'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2].map(Math.round); }"
        )
        moves = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._act({"type": "pointer", "id": "mouse", "actions": moves})

    def type(self, text: str) -> None:
        """Press the keys of a text; ``\\n`` is Enter."""
        keys = [
            {"type": way, "value": "\ue007" if key == "\n" else key} for key in text for way in ("keyDown", "keyUp")
        ]
        self._act({"type": "key", "id": "keyboard", "actions": keys})

    def press(self, *keys: str) -> None:
        """Press keys together: those before the last one are held. ``shift`` and ``\\n`` (Enter) have names."""
        codes = [{"shift": "\ue008", "\n": "\ue007"}.get(key, key) for key in keys]
        downs = [{"type": "keyDown", "value": code} for code in codes]
        ups = [{"type": "keyUp", "value": code} for code in reversed(codes)]
        self._act({"type": "key", "id": "keyboard", "actions": downs + ups})

    def _act(self, actions: dict[str, Any]) -> None:
        self.firefox.command("input.performActions", context=self.context, actions=[actions])


class Firefox:
    """A session of WebDriver BiDi; made by :func:`firefox`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.failures: list[str] = []  # errors on the console, and of scripts
        self.version = str(self.command("session.new", capabilities={})["capabilities"]["browserVersion"])
        self.command("session.subscribe", events=["log.entryAdded"])

    def command(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its answer.

        Raises:
            RuntimeError: the browser refused it.
            TimeoutError: it did not answer within a minute.
        """
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                break
            entry = message.get("params", {})
            # That a socket was closed while it was being opened is worth an error to Firefox, and none to us.
            if message.get("method") == "log.entryAdded" and entry["level"] == "error" and "ws://" not in entry["text"]:
                self.failures.append(str(entry["text"]))
        if message["type"] == "error":
            raise RuntimeError(f"{method}: {message['message']}")
        return message["result"]

    def open(self, url: str) -> Tab:
        """A page in a new tab."""
        tab = Tab(self, self.command("browsingContext.create", type="tab")["context"])
        self.command("browsingContext.setViewport", context=tab.context, viewport={"width": 1000, "height": 700})
        tab.goto(url)
        return tab

    def close(self, tab: Tab) -> None:
        self.command("browsingContext.close", context=tab.context)


@contextlib.contextmanager
def firefox(program: str, folder: Path, environment: dict[str, str]) -> Iterator[Firefox]:
    """A headless Firefox with a profile of its own.

    Raises:
        RuntimeError: it did not start.
    """
    profile, log = folder / "profile", folder / "firefox.log"
    profile.mkdir()
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [program, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(profile)]
    address = profile / "WebDriverBiDiServer.json"
    with _program(command, log, {**environment, "HOME": str(folder)}) as process:
        _appears(address, process, log, 60)
        found = _read(address)
        with connect(f"ws://{found['ws_host']}:{found['ws_port']}/session", max_size=None) as socket:
            browser = Firefox(socket)
            yield browser
            with contextlib.suppress(Exception):  # it may be gone before it has answered
                browser.command("browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)


def _read(path: Path) -> Any:
    """JSON of a file that is only just being written."""
    for _ in range(50):
        with contextlib.suppress(ValueError):
            return json.loads(path.read_text())
        time.sleep(0.05)
    raise RuntimeError(f"{path} is no JSON: {path.read_text()!r}")
