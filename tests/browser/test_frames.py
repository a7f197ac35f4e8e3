"""The page in a frame of another site: dress, control by messages, and the code that Share gives for all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Open, Served, Start
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser
Site = tuple[Path, str]


def framed(served: Served, site: Site, open_page: Open, query: str = "", path: str = "embed/main") -> Page:
    folder, origin = site
    (folder / "index.html").write_text(
        f"""<!doctype html><meta charset=utf-8><title>a shop</title>
        <iframe src="{served.url}/{path}{query}" width=640 height=360 allow=autoplay></iframe>
        <script>
          window.said = [];
          addEventListener("message", ({{ data, origin }}) => said.push({{ ...data, origin }}));
          window.ask = (action, value) => document.querySelector("iframe").contentWindow
            .postMessage({{ type: "riffstream", action, value }}, "{served.url}");
        </script>"""
    )
    page = open_page(f"{origin}/index.html")
    expect(page.frame_locator("iframe").locator("body")).to_have_attribute("data-state", "idle", timeout=PATIENCE_MS)
    return page


def test_an_invited_site_controls_the_frame(
    start_server: Start, open_page: Open, other_origin: Site, tmp_path: Path
) -> None:
    config = tmp_path / "two.toml"
    config.write_text(f'[server]\nallowed_origins = ["{other_origin[1]}"]\n[stations.main]\n[stations.jazz]\n')
    served = start_server(config=config)
    page = framed(served, other_origin, open_page, "?several")
    body = page.frame_locator("iframe").locator("body")
    page.wait_for_function("() => { ask('listen'); return said.some(({ event }) => event === 'ready'); }", polling=500)
    ready: Any = page.evaluate("() => said.find(({ event }) => event === 'ready')")
    assert ready["origin"] == served.url
    assert ready["detail"]["station"] == "main"
    assert ready["detail"]["now"]["title"]
    page.frame_locator("iframe").get_by_role("button", name="Play", exact=True).click()  # browsers want a press first
    expect(body).to_have_attribute("data-state", "playing", timeout=PATIENCE_MS)
    page.evaluate("() => ask('pause')")
    expect(body).to_have_attribute("data-state", "paused")
    page.evaluate("() => ask('play')")
    expect(body).to_have_attribute("data-state", "playing", timeout=PATIENCE_MS)
    page.evaluate("() => ask('volume', 0.25)")
    page.wait_for_function("() => said.some(({ event, detail }) => event === 'volume' && detail.volume === 0.25)")
    page.evaluate("() => ask('tune', 'jazz')")
    page.wait_for_function("() => said.some(({ event, detail }) => event === 'state' && detail.station === 'jazz')")
    wrong = [("volume", "7", "allowed: 0 to 1"), ("tune", "'../x'", "of a station"), ("dance", "1", "listen, play")]
    for action, value, words in wrong:
        page.evaluate(f"() => {{ said.length = 0; ask('{action}', {value}); }}")
        page.wait_for_function("() => said.some(({ event }) => event === 'error')")
        assert words in page.evaluate("() => said.find(({ event }) => event === 'error').detail.message")


def test_a_stranger_is_told_what_to_change_and_changes_nothing(
    served: Served, open_page: Open, other_origin: Site
) -> None:
    page = framed(served, other_origin, open_page)
    page.evaluate("() => ask('volume', 0.25)")
    page.wait_for_function("() => { ask('play'); return said.some(({ event }) => event === 'error'); }", polling=500)
    detail = page.evaluate("() => said.find(({ event }) => event === 'error').detail")
    assert detail["code"] == "forbidden"
    assert f'add "{other_origin[1]}" to server.allowed_origins' in detail["message"]
    assert page.evaluate("() => said.every(({ event }) => event === 'error')")
    expect(page.frame_locator("iframe").locator("body")).to_have_attribute("data-state", "idle")


def test_the_frame_takes_colours_and_may_leave_out_its_button(served: Served, open_page: Open) -> None:
    page = open_page(f"{served.url}/embed/main?accent=0a7&bg=fafafa&controls=0")
    read = "(name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"
    assert page.evaluate(read, "--accent") == "#00aa77"
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(250, 250, 250)"
    assert page.evaluate("() => document.documentElement.dataset.theme") == "light"
    expect(page.locator("#play")).to_be_hidden()
    page.goto(f"{served.url}/embed/main?accent=url(x)&bg=red")
    assert page.evaluate(read, "--accent") != "url(x)"
    expect(page.locator("#play")).to_be_visible()


def test_the_preview_ends_with_its_tab_and_with_the_dialog(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    page.get_by_role("button", name="Share").click()
    for leave in ("tab", "dialog"):
        page.get_by_role("tab", name="Frame", exact=True).click()
        body = page.frame_locator("iframe").locator("body")
        expect(body).to_have_attribute("data-state", "idle", timeout=PATIENCE_MS)
        page.frame_locator("iframe").get_by_role("button", name="Play", exact=True).click()
        expect(body).to_have_attribute("data-state", "playing", timeout=PATIENCE_MS)
        if leave == "tab":
            page.get_by_role("tab", name="OBS", exact=True).click()
        else:
            page.get_by_role("button", name="Close").click()
        expect(page.locator("iframe")).to_have_count(0)
        assert len(page.frames) == 1, leave


@pytest.mark.parametrize("transport", ["opus", "mp3"])
def test_a_strict_page_needs_no_more_than_the_policy_that_share_writes(
    served: Served, open_page: Open, other_origin: Site, transport: str
) -> None:
    page = open_page(served.url)
    page.get_by_role("button", name="Share").click()
    policy = page.get_by_label("Its content security policy, if it has one", exact=True).first.input_value()
    policy = policy.replace("script-src ", "script-src 'unsafe-eval' ")  # of this test's own questions
    folder, origin = other_origin
    (folder / "index.html").write_text(
        f"""<!doctype html><meta charset=utf-8><title>a shop</title>
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; {policy}">
        <script type="module" src="{served.url}/v1/riff-stream.js"></script>
        <riff-stream transport={transport} controls visual></riff-stream>"""
    )
    shop = open_page(f"{origin}/index.html", bypass_csp=False)
    shop.wait_for_function("() => document.querySelector('riff-stream').play", timeout=PATIENCE_MS)
    shop.get_by_role("button", name="Play").click()
    shop.wait_for_function("() => document.querySelector('riff-stream').state === 'playing'", timeout=PATIENCE_MS)
    assert shop.evaluate("() => document.querySelector('riff-stream').player.transport") == transport


def test_share_builds_code_that_works_elsewhere(served: Served, open_page: Open, other_origin: Site) -> None:
    page = open_page(served.url, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Share").click()
    code = page.get_by_label("For a web page", exact=True)
    expect(code).to_have_value(re.compile("/v1/riff-stream.js"))
    page.get_by_label("this exact version").check()
    expect(code).to_have_value(re.compile(r"integrity=\"sha384-"))
    page.get_by_label("Theme of the element").select_option("auto")
    policy = page.get_by_label("Its content security policy, if it has one", exact=True).first
    expect(policy).to_have_value(re.compile("worker-src .* blob:"))
    assert violations(page) == []
    written = code.input_value()
    page.get_by_role("button", name="Copy: for a web page").click()
    expect(page.get_by_role("button", name="Copy: for a web page")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == written
    page.get_by_role("tab", name="Element", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Frame", exact=True)).to_be_focused()
    page.get_by_label("Size of the frame").select_option("2")
    page.get_by_label("button and volume").uncheck()
    frame = page.get_by_label("Frame", exact=True).and_(page.locator("input"))
    expect(frame).to_have_value(re.compile(r"controls=0\" width=\"640\" height=\"120\""))
    expect(page.get_by_title("Preview of the frame")).to_have_attribute("src", re.compile("controls=0&several="))
    page.keyboard.press("ArrowRight")
    page.get_by_role("tab", name="Player", exact=True).click()
    expect(page.get_by_label("Playlist (pls)", exact=True)).to_have_value(f"{served.url}/listen/main.pls")
    assert page.evaluate("() => document.querySelector('.qr').decode().then(() => true)")

    folder, origin = other_origin
    (folder / "index.html").write_text(f"<!doctype html><meta charset=utf-8><title>a blog</title>{written}")
    blog = open_page(f"{origin}/index.html")
    blog.wait_for_function("() => document.querySelector('riff-stream').play", timeout=PATIENCE_MS)
    blog.get_by_role("button", name="Play").click()
    blog.wait_for_function("() => document.querySelector('riff-stream').state === 'playing'", timeout=PATIENCE_MS)
    # Another content is refused.
    (folder / "index.html").write_text(f"<!doctype html><title>a blog</title>{written.replace('sha384-', 'sha384-A')}")
    blog.goto(f"{origin}/index.html")
    blog.wait_for_timeout(1500)
    assert not blog.evaluate("() => 'play' in document.querySelector('riff-stream')")
