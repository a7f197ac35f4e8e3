"""Pictures of the player for the documentation: ``python -m tests.screenshots [FOLDER]``.

``player.webp`` and ``player-landscape.webp`` for README.md and docs/player.md, and ``screens/`` for docs/screens.md:
each state at three sizes, in the dark and the light theme, one sheet a state. All are taken in headless Chromium with
the embedded model. It takes about five minutes on an idle machine. Look at the pictures before you commit them.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser import listening
from tests.browser.conftest import Served
from tests.conftest import ROOT

SIZES = {"phone": (360, 740), "laptop": (1280, 800), "wall": (2560, 1440)}
THEMES = ("dark", "light")
HEIGHT = 420  # of a picture on a sheet, pixels
GAP = 8
PANELS = ("sound", "desk", "levels", "mix", "pad", "seeds", "scenes", "queue")
Shoot = Callable[[str], None]


def _tour(page: Page, shoot: Shoot) -> None:
    """States of a listener who may steer."""
    expect(page.locator("#status")).to_have_text("ready")
    page.wait_for_timeout(1500)
    shoot("first")
    listening.play(page)
    page.wait_for_timeout(14_000)
    shoot("playing")
    page.locator("#prompt").fill("church bells and a choir")
    page.get_by_text("clip", exact=True).click()
    page.locator("#prompt").press("Enter")
    page.wait_for_timeout(400)
    shoot("change-scheduled")
    page.wait_for_timeout(6000)
    for name in PANELS:
        page.locator(f"#tab-{name}").click()
        page.wait_for_timeout(700)
        page.locator(f"#panel-{name}").scroll_into_view_if_needed()
        shoot(f"panel-{name}")
    page.evaluate("scrollTo(0, 0)")
    for name in ("share", "timer", "help"):
        page.keyboard.press("Escape")
        page.locator(f"#{name}").click()
        page.wait_for_timeout(700)
        shoot(f"dialog-{name}")
        page.keyboard.press("Escape")
    page.locator("#debug").click()
    page.locator("#debug-panel").scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    shoot("debug")
    page.locator("#debug").click()
    page.evaluate("scrollTo(0, 0)")
    page.context.set_offline(True)
    page.wait_for_timeout(4000)
    shoot("offline")
    page.context.set_offline(False)


def _refused(browser: Browser, url: str, size: tuple[int, int], theme: str, shoot: Shoot) -> None:
    """States of a listener who may not, at a station for one listener."""
    for name, address in (("bad-token", "/#token=wrong"), ("unknown-station", "/?station=nope")):
        with _page(browser, url + address, size, theme) as page:
            page.wait_for_timeout(2500)
            shoot_page(page, shoot, name)
    with _page(browser, url, size, theme) as listener:
        listening.play(listener)
        listener.wait_for_timeout(8000)
        shoot_page(listener, shoot, "read-only")
        with _page(browser, url, size, theme) as second:
            second.get_by_role("button", name="Play", exact=True).click()
            expect(second.locator("#status")).to_contain_text("full")
            shoot_page(second, shoot, "full")


def _frames(browser: Browser, url: str, size: tuple[int, int], theme: str, shoot: Shoot) -> None:
    for name, address in (("kiosk", "/?kiosk&autoplay"), ("embed", "/embed/main")):
        with _page(browser, url + address, size, theme) as page:
            if name == "embed":
                page.get_by_role("button", name="Play").first.click()
            page.wait_for_timeout(8000)
            shoot_page(page, shoot, name)


def take_large(browser: Browser, url: str, folder: Path) -> None:
    """The pictures of README.md and docs/player.md."""
    with _page(browser, url, SIZES["laptop"], "dark") as page:
        listening.play(page)
        page.wait_for_timeout(8000)
        listening.steer(page, "bossa nova with nylon guitar")
        expect(page.locator("#now")).to_have_text("bossa nova with nylon guitar")
        for name in ("player", "player-landscape"):
            if name != "player":
                page.evaluate("() => riffstream.picture.setLook('landscape')")
            page.wait_for_timeout(6000)
            expect(page.locator("#canvas3d")).to_be_visible(visible=name != "player")
            with Image.open(io.BytesIO(page.screenshot())) as picture:
                picture.convert("RGB").save(folder / f"{name}.webp", quality=80, method=6)


_current: list[Page] = []


def shoot_page(page: Page, shoot: Shoot, name: str) -> None:
    """Take the picture of this page."""
    _current[:] = [page]
    shoot(name)


@contextlib.contextmanager
def _page(browser: Browser, url: str, size: tuple[int, int], theme: str) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if theme == "dark" else "light"
    )
    context.set_default_timeout(40_000)
    page = context.new_page()
    page.goto(url)
    try:
        yield page
    finally:
        context.close()


def _queue(url: str) -> None:
    for text in ("slow waltz with strings", "acid bass line"):
        body = json.dumps({"op": "add", "prompts": [{"text": text}], "bars": 64}).encode()
        request = urllib.request.Request(f"{url}/api/stations/main/queue", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30):
            pass


def _sheet(pictures: dict[tuple[str, str], Path], target: Path) -> None:
    """One picture of all sizes (columns) and themes (rows)."""
    rows = []
    for theme in THEMES:
        row = []
        for name, (width, height) in SIZES.items():
            with Image.open(pictures[name, theme]) as picture:
                row.append(
                    picture.convert("RGB").resize((round(width * HEIGHT / height), HEIGHT), Image.Resampling.LANCZOS)
                )
        rows.append(row)
    width = sum(each.width for each in rows[0]) + GAP * (len(SIZES) + 1)
    sheet = Image.new("RGB", (width, len(rows) * (HEIGHT + GAP) + GAP), (128, 128, 128))
    for number, row in enumerate(rows):
        x = GAP
        for each in row:
            sheet.paste(each, (x, GAP + number * (HEIGHT + GAP)))
            x += each.width + GAP
    sheet.save(target, quality=70, method=6)


def main() -> None:
    """Write the large pictures, and one sheet a state."""
    images = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "img"
    target = images / "screens"
    target.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("screenshots need chromium")
    taken: dict[str, dict[tuple[str, str], Path]] = {}
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = Path(made)
        free = {"limits_steer_interval_s": 0, "limits_connections_per_address": 200, "model": "mini"}
        guarded = {"access_dj_token": "a-token-of-the-dj", "limits_listeners_per_station": 1, "model": "tone"}
        servers = [Served(folder, **free), Served(folder, **guarded)]
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
        )
        try:
            take_large(browser, servers[0].url, images)
            for size_name, size in SIZES.items():
                for theme in THEMES:

                    def shoot(state: str, key: tuple[str, str] = (size_name, theme)) -> None:
                        path = folder / f"{state}-{key[0]}-{key[1]}.png"
                        _current[0].screenshot(path=path)
                        taken.setdefault(state, {})[key] = path

                    with _page(browser, servers[0].url, size, theme) as page:
                        _queue(servers[0].url)
                        _current[:] = [page]
                        _tour(page, shoot)
                    _refused(browser, servers[1].url, size, theme, shoot)
                    _frames(browser, servers[0].url, size, theme, shoot)
                    print(f"{size_name} {theme}", flush=True)
        finally:
            browser.close()
            for server in servers:
                server.stop()
        for state, pictures in taken.items():
            _sheet(pictures, target / f"{state}.webp")
    print(f"{len(taken)} sheets in {target}")


if __name__ == "__main__":
    main()
