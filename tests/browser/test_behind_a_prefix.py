"""The player behind real nginx, below a path that the server is not told of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests import reverse_proxies
from tests.browser import listening
from tests.browser.conftest import Open, Served, Start
from tests.reverse_proxies import Proxy

pytestmark = pytest.mark.browser

PREFIX = "/api/ingress/Ab-3_x"


@pytest.fixture(scope="module")
def backend(start_for_file: Start) -> Served:
    return start_for_file(limits_steer_interval_s=0, limits_steer_burst=1000, limits_connections_per_address=200)


@pytest.fixture
def proxy(backend: Served, need_tool: Callable[[str], str], tmp_path: Path) -> Iterator[Proxy]:
    """Strips the prefix and says nothing of it, as Home Assistant's ingress does but for its own header."""
    recipe = reverse_proxies.recipe("nginx", prefix=True, backend=backend.port)
    lines = [line for line in recipe.splitlines() if "X-Forwarded" not in line]
    recipe = "\n".join(lines).replace("/radio/", f"{PREFIX}/")
    with reverse_proxies.nginx(need_tool("nginx"), tmp_path / "nginx", recipe, prefix=PREFIX) as proxy:
        yield proxy
        outside = [path for path in proxy.paths if not path.startswith(f"{PREFIX}/")]
        assert not outside, "the player asked for addresses outside its prefix"


def test_the_page_plays_steers_and_shares_below_a_prefix(proxy: Proxy, open_page: Open) -> None:
    page = open_page(f"{proxy.url}/")
    listening.play(page)
    listening.steer(page, "church bells")
    expect(page.locator("#now")).to_have_text("church bells")
    page.locator("#tab-seeds").click()
    page.locator(".gallery img").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.gallery img').naturalWidth > 0")
    page.locator("#share").click()
    link = page.locator("#share-url").input_value()
    assert link.startswith(f"{proxy.url}/?station=main&p=church")
    assert page.locator("#share-stream").input_value() == f"{proxy.url}/stream/main.mp3"
    expect(page.locator("#share-embed")).to_have_value(re.compile(f'src="{proxy.url}/v1/riff-stream.js"'))
    page.goto(link)
    expect(page.locator("#status")).to_have_text("ready")
    asked = {re.sub(r"^/static/[0-9a-f]{16}", "", path.partition("?")[0].removeprefix(PREFIX)) for path in proxy.paths}
    assert {"/", "/style.css", "/src/stream-worker.js", "/src/worklet.js", "/api/seeds", "/ws/main"} <= asked
    assert any(path.startswith("/api/seeds/") for path in asked)


def test_an_embedded_page_plays_below_a_prefix(proxy: Proxy, open_page: Open) -> None:
    page = open_page(f"{proxy.url}/embed/main")
    listening.play(page)
    expect(page.locator("#canvas2d")).to_be_visible()


@pytest.mark.parametrize("source", ["", ' src="{url}/"', ' src="{url}"'])
def test_the_element_plays_below_a_prefix_on_another_site(
    source: str, proxy: Proxy, open_page: Open, other_origin: tuple[Path, str]
) -> None:
    folder, url = other_origin
    (folder / "index.html").write_text(
        f'<!doctype html><script type="module" src="{proxy.url}/riff-stream.js"></script>'
        f"<riff-stream controls visual{source.format(url=proxy.url)}></riff-stream>"
    )
    page = open_page(f"{url}/index.html")
    page.locator("riff-stream button").click()
    expect(page.locator("riff-stream #state")).to_have_text("playing")
