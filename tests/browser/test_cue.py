"""Cue and drop, the badge, the ring of the next change, and the way to become a DJ."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import listening
from tests.browser.axe import violations
from tests.browser.conftest import Open, Served, Start, opened
from tests.browser.test_live_input import microphone
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser


def cue(page: Page, text: str) -> None:
    page.locator("#prompt").fill(text)
    page.keyboard.press("Shift+Enter")
    expect(page.locator("#cue-text")).to_have_text(text)
    expect(page.locator("#prompt")).to_have_value("")


@pytest.mark.parametrize("bars", [1, 4])
def test_a_cue_drops_on_its_bar(served: Served, open_page: Open, bars: int) -> None:
    page = open_page(served.url)
    listening.play(page)
    page.evaluate("() => riffstream.player.steer({prompts: [{text: 'before', weight: 1}], bpm: 60})")
    expect(page.locator("#now")).to_have_text("before")
    cue(page, f"drop {bars}")
    page.locator("#cue-bars").select_option(str(bars))
    page.wait_for_timeout(1200)
    assert served.get("/api/stations/main")["playing"] == "before"  # it waits
    assert violations(page) == []
    page.evaluate(
        """() => { window.heard = []; window.counts = [];
             riffstream.player.addEventListener('now', ({detail}) => heard.push(detail));
             setInterval(() => {
               const shown = document.querySelector('#cue-count').textContent;
               if (counts.at(-1) !== shown) counts.push(shown);
             }, 20);
             document.activeElement.blur(); }"""
    )
    page.keyboard.press("x")
    expect(page.locator("#now")).to_have_text(f"drop {bars}", timeout=PATIENCE_MS)
    expect(page.locator("#cue")).to_be_hidden()
    first = page.evaluate("(text) => heard.find((now) => now.state.prompts[0].text === text)", f"drop {bars}")
    line = first["bar"] + first["bar_beat"] / 4  # it fades in just before the bar line
    assert line == pytest.approx(round(line), abs=0.02)
    assert round(line) % bars == 0, first
    counts = page.evaluate("() => counts")
    shown = [each for each in counts if each in list("4321")]
    assert len(shown) > 1, counts
    assert shown == sorted(shown, reverse=True)  # a busy machine may skip one


def test_a_drop_keeps_its_bar_though_the_page_stalls(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    listening.play(page)
    page.evaluate("() => riffstream.player.steer({prompts: [{text: 'before', weight: 1}], bpm: 100})")
    expect(page.locator("#now")).to_have_text("before")
    cue(page, "on its bar")
    page.locator("#cue-bars").select_option("1")
    page.evaluate(
        """() => { window.heard = []; window.bars = [];
             riffstream.player.addEventListener('now', ({detail}) => heard.push(detail));
             riffstream.player.addEventListener('scheduled', ({detail}) => bars.push(detail.bar));
             riffstream.player.addEventListener('applied', ({detail}) => bars.push(detail.bar));
             document.activeElement.blur(); }"""
    )
    page.keyboard.press("x")
    page.wait_for_function("() => bars.length > 0")
    page.evaluate("() => { const end = performance.now() + 1200; while (performance.now() < end); }")  # a busy machine
    expect(page.locator("#now")).to_have_text("on its bar", timeout=60_000)
    first = page.evaluate("heard.find((now) => now.state.prompts[0].text === 'on its bar')")
    bars = page.evaluate("() => bars")
    assert len(set(bars)) == 1, bars  # the one that was promised
    assert first["bar"] + first["bar_beat"] / 4 == pytest.approx(bars[0], abs=0.02)


def test_escape_clears_it_and_enter_alone_plays(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    cue(page, "not this")
    page.keyboard.press("Escape")
    expect(page.locator("#cue")).to_be_hidden()
    expect(page.locator("#prompt")).to_be_focused()
    cue(page, "by hand")
    page.get_by_role("button", name="Clear the cue").click()
    expect(page.locator("#cue")).to_be_hidden()
    page.keyboard.press("x")  # nothing to drop
    cue(page, "silent drop")
    page.get_by_role("button", name="Drop", exact=True).click()  # nothing sounds here: the station's next bar
    expect(page.locator("#now")).to_have_text("silent drop", timeout=PATIENCE_MS)


def test_a_refused_cue_stays_and_an_old_answer_leaves_a_new_one(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    page.evaluate("() => (riffstream.app.steer = () => new Promise((told) => (window.answer = told)))")
    drop = page.get_by_role("button", name="Drop", exact=True)
    cue(page, "refused")
    drop.click()
    expect(drop).to_be_disabled()
    page.evaluate("() => window.answer(null)")
    expect(drop).to_be_enabled()
    expect(page.locator("#cue-text")).to_be_visible()
    drop.click()
    cue(page, "the next one")
    page.evaluate("() => window.answer({ rev: 1 })")
    page.wait_for_timeout(200)
    expect(page.locator("#cue-text")).to_be_visible()
    expect(page.locator("#cue-text")).to_have_text("the next one")


def test_the_role_the_ring_and_becoming_a_dj(start_server: Start, open_page: Open) -> None:
    served = start_server(access_dj_token="dj-secret", limits_steer_burst=1, limits_steer_interval_s=10)
    page = open_page(served.url)
    expect(page.locator("#readonly")).to_contain_text("You are listening")
    expect(page.locator("#role")).to_be_hidden()
    page.get_by_role("button", name="Become DJ").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("DJ's token")).to_be_focused()
    assert violations(page) == []
    page.keyboard.type("dj-secret")
    page.keyboard.press("Enter")
    expect(page.locator("#role")).to_have_text("DJ")
    expect(page.get_by_role("button", name="Become DJ")).to_be_hidden()
    page.locator("#prompt").fill("church bells")
    page.keyboard.press("Enter")
    expect(page.locator("#send")).to_have_class("primary steers cooling")
    expect(page.locator("#send")).to_have_attribute("title", re.compile(r"^The next change passes in \d+\.\d s; an"))
    ready = page.evaluate("() => Number(document.querySelector('#send').style.getPropertyValue('--ready'))")
    page.wait_for_timeout(500)
    assert page.evaluate("() => Number(document.querySelector('#send').style.getPropertyValue('--ready'))") > ready
    expect(page.locator("#send")).to_have_class("primary steers", timeout=PATIENCE_MS)
    page.reload()  # the token is kept for this tab
    expect(page.locator("#role")).to_have_text("DJ")


def test_a_wrong_token_is_told(start_server: Start, open_page: Open) -> None:
    served = start_server(access_dj_token="dj-secret")
    page = open_page(served.url)
    page.get_by_role("button", name="Become DJ").click()
    page.get_by_label("DJ's token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="This station")).to_contain_text("does not accept your token")
    page.get_by_role("button", name="Listen without it").click()
    expect(page.locator("#status")).to_have_text("ready")


def test_a_cue_is_heard_ahead_on_this_page_and_drops_with_the_same_clip(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    listening.play(page)
    page.evaluate(
        """() => { window.sent = [];
             const steer = riffstream.player.steer.bind(riffstream.player);
             riffstream.player.steer = (change, told) => (sent.push(change), steer(change, told)); }"""
    )
    cue(page, "heard ahead")
    page.get_by_role("button", name="Hear the cue").click()
    page.wait_for_function("riffstream.player.output.fades.get('beside') < 1")  # the station goes on quietly
    assert page.get_by_label("Output for listening ahead").locator("option").all_text_contents()[0] == "on this output"
    assert violations(page) == []
    page.get_by_label("Drop on").select_option("1")
    page.get_by_role("button", name="Drop", exact=True).click()
    expect(page.locator("#now")).to_have_text("heard ahead", timeout=60_000)
    page.wait_for_function("riffstream.player.output.fades.get('beside') === 1")
    (change,) = page.evaluate("() => sent")
    assert isinstance(change["seed"], int)
    now = page.evaluate("() => riffstream.player.now.state.seed")
    assert now - change["seed"] in range(8)  # the seed walks from clip to clip


def test_a_cue_that_is_heard_again_is_not_made_again(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    listening.play(page)
    asked: list[dict[str, Any]] = []
    page.on("request", lambda each: each.url.endswith("/preview") and asked.append(each.post_data_json))
    cue(page, "heard twice")
    hear = page.get_by_role("button", name="Hear the cue")
    behind = "riffstream.player.output.fades.get('beside')"
    for _ in range(3):  # off again while it is being made
        hear.click()
    page.wait_for_function(f"{behind} < 1")
    hear.click()
    page.wait_for_function(f"{behind} === 1")
    hear.click()
    page.wait_for_function(f"{behind} < 1")
    hear.click()
    assert [body["prompts"][0]["text"] for body in asked] == ["heard twice"]
    page.evaluate("() => riffstream.player.steer({ bpm: 97 })")
    page.wait_for_function("riffstream.player.now.state.bpm === 97", timeout=PATIENCE_MS)
    hear.click()
    page.wait_for_function(f"{behind} < 1")
    assert len(asked) == 2, "at another tempo it is another clip"
    assert isinstance(asked[1]["seed"], int), "of the same seed"
    cue(page, "another cue")
    hear.click()
    page.wait_for_function(f"{behind} < 1")
    assert [body["prompts"][0]["text"] for body in asked[2:]] == ["another cue"]
    assert "seed" not in asked[2]


def test_a_cue_is_heard_on_headphones_while_the_speakers_keep_their_level(
    served: Served, browser: Browser, need_tool: Callable[[str], str]
) -> None:
    with microphone(browser, need_tool, "--use-fake-ui-for-media-stream") as own, opened(own) as open_page:
        page: Page = open_page(served.url)
        listening.play(page)
        page.evaluate(
            """() => { window.sinks = [];
                 const set = HTMLMediaElement.prototype.setSinkId;
                 HTMLMediaElement.prototype.setSinkId = function (id) {
                   sinks.push(id);
                   return set.call(this, id);
                 }; }"""
        )
        cue(page, "on headphones")
        output = page.get_by_label("Output for listening ahead")
        output.select_option("other output…")
        expect(output.locator("option:checked")).to_have_text("Fake Audio Output 1")
        hear = page.get_by_role("button", name="Hear the cue")
        hear.click()
        page.wait_for_function("sinks.length === 1")
        assert page.evaluate("() => sinks[0]") == output.input_value() != ""
        assert page.evaluate("() => riffstream.player.output.fades.get('beside') ?? 1") == 1
        expect(hear).to_have_attribute("aria-pressed", "false", timeout=15_000)  # to its end
        page.reload()
        cue(page, "again")
        expect(output.locator("option:checked")).to_have_text("Fake Audio Output 1")  # this browser remembers
