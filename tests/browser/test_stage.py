"""The second screen: a DJ's page opens and controls it, and it goes on without that page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.conftest import Open, Served

pytestmark = pytest.mark.browser


def test_the_djs_page_controls_the_second_screen(served: Served, open_page: Open) -> None:
    dj = open_page(served.url)
    dj.get_by_role("tab", name="Scenes").click()
    controls = dj.get_by_role("group", name="Second screen")
    expect(controls.get_by_role("button", name="Blackout")).to_be_disabled()
    with dj.context.expect_page() as opened:
        dj.get_by_role("button", name="Open stage").click()
    stage = opened.value
    assert stage.url == f"{served.url}/stage/main"
    expect(stage.locator("#stage-code")).to_be_visible()
    assert stage.evaluate("() => document.querySelector('#stage-code').decode().then(() => true)")
    expect(dj.locator("#stage-status")).to_have_text("It is open.")
    assert violations(stage) == []
    controls.get_by_role("checkbox", name="QR code").uncheck()
    expect(stage.locator("#stage-code")).to_be_hidden()
    size = "parseFloat(getComputedStyle(document.querySelector('#now')).fontSize)"
    before = stage.evaluate(f"() => {size}")
    controls.get_by_label("Text size").fill("2")
    stage.wait_for_function(f"(px) => Math.abs({size} - 2 * px) < 1", arg=before)
    controls.get_by_label("Picture of the second screen").select_option("bars")
    stage.wait_for_function("() => riffstream.picture.look() === 'bars'")
    stage.evaluate("() => { window.sets = []; riffstream.picture.setLook = (look) => sets.push(look); }")
    controls.get_by_label("Text size").fill("1.5")
    stage.wait_for_function(f"(px) => Math.abs({size} - 1.5 * px) < 1", arg=before)
    assert stage.evaluate("() => sets") == []  # a look is made anew, and draws all it shows again
    dj.locator("h1").click()
    dj.keyboard.press("b")
    expect(stage.locator("#blackout")).to_be_visible()
    expect(dj.locator("#stage-status")).to_have_text("It is dark.")
    dj.keyboard.press("b")
    expect(stage.locator("#blackout")).to_be_hidden()
    dj.evaluate("() => riffstream.player.steer({prompts: [{text: 'church bells', weight: 1}]})")
    expect(stage.locator("#now")).to_have_text("church bells")
    assert stage.evaluate("() => riffstream.player.output.gain?.gain.value ?? 0") == pytest.approx(0, abs=1e-6)
    # It keeps its settings, and needs no other page.
    dj.close()
    stage.reload()
    expect(stage.locator("#stage-code")).to_be_hidden()
    expect(stage.locator("#now")).to_have_text("church bells")


def test_a_stage_of_no_station_is_not_there(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    answer = page.goto(f"{served.url}/stage/nope")
    assert answer is not None
    assert answer.status == 404
