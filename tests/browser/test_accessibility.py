"""Keyboard, names, contrast and motion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import listening
from tests.browser.conftest import Open, Served, opened
from tests.conftest import ROOT

pytestmark = pytest.mark.browser
PANELS = ["Sound", "Desk", "Parts", "Mix", "Pad", "Seeds", "Scenes", "Queue"]
CONTROLS = {"button", "slider", "textbox", "combobox", "tab", "radio", "link", "spinbutton", "searchbox", "application"}

# Contrast of every visible text with the colour behind it (WCAG 2: 4.5, or 3 for large text), where that is plain.
_CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); const unit = c.startsWith("color(") ? 255 : 1;
    return [unit * m[0], unit * m[1], unit * m[2], m[3] ?? 1]; };
  const linear = (x) => ((x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.textContent.trim()) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest(".stage, .sr, .skip, :disabled, option, script, noscript")) continue;
    let back = null;
    for (let e = element; e && !back; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour[3] === 1) back = colour;
    }
    const style = getComputedStyle(element);
    const [a, b] = [luminance(parse(style.color)), luminance(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${node.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""


@pytest.fixture(scope="module")
def page(served: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser) as open_page:
        page = open_page(served.url)
        expect(page.locator("#status")).to_have_text("ready")
        yield page


def _tree(page: Page) -> list[dict[str, Any]]:
    """What a screen reader is told: nodes with their role and name."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        {
            "role": node["role"]["value"],
            "name": node.get("name", {}).get("value", ""),
            "props": node.get("properties", []),
        }
        for node in nodes
        if not node.get("ignored") and "role" in node
    ]


def test_every_control_has_a_name(page: Page) -> None:
    seen = set()
    for panel in PANELS:
        page.get_by_role("tab", name=panel).click()
        for node in _tree(page):
            if node["role"] in CONTROLS:
                assert node["name"].strip(), f"a {node['role']} without a name on {panel}"
                seen.add((node["role"], node["name"]))
    names = {name for _, name in seen}
    for expected in (
        "Play",
        "What should it play?",
        "Random prompt",
        "Tempo",
        "Key",
        "Volume",
        "Seed",
        "About and keyboard help",
    ):
        assert expected in names, f"{expected!r} is not in the tree: {sorted(names)}"
    roles = [node["role"] for node in _tree(page)]
    assert "main" in roles
    assert "heading" in roles
    assert "status" in roles


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_contrast_is_enough(page: Page, theme: str) -> None:
    page.evaluate(
        "(theme) => document.documentElement.dataset.theme === theme || document.querySelector('#theme').click()", theme
    )
    for panel in PANELS:
        page.get_by_role("tab", name=panel).click()
        _settle(page)
        assert page.evaluate(_CONTRAST) == [], panel


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_axe_finds_nothing(page: Page, width: int) -> None:
    folder = Path(os.environ.get("AXE", ROOT / ".venv" / "axe"))
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        pytest.skip("axe-core is not there; npm install --prefix .venv/axe axe-core@4 brings it")
    page.evaluate(script.read_text())
    page.set_viewport_size({"width": width, "height": 740})
    for panel in PANELS:
        page.get_by_role("tab", name=panel).click()
        expect(page.get_by_role("tabpanel", name=panel)).not_to_be_empty()
    for theme in ("dark", "light"):
        page.evaluate(
            "(theme) => document.documentElement.dataset.theme === theme || riffstream.picture.toggleTheme()", theme
        )
        # All panels at once: axe takes as long for the page around them as for them. The numbers and a dialog follow.
        page.evaluate("() => document.querySelectorAll('.panel').forEach((panel) => (panel.hidden = false))")
        _axe(page)
        page.evaluate("() => document.querySelectorAll('.panel').forEach((panel, i) => (panel.hidden = i > 0))")
    page.locator("#debug").click()
    expect(page.get_by_role("region", name="Debug", exact=True).locator("dt").first).to_be_visible()
    _axe(page)
    page.locator("#debug").click()
    page.locator("#share").click()
    expect(page.get_by_role("dialog", name="Share this sound")).to_be_visible()
    _axe(page)
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Sound").click()
    page.set_viewport_size({"width": 1000, "height": 700})


def _settle(page: Page) -> None:
    """Wait until colours have passed over from one theme, or one state, to the other."""
    page.evaluate("() => new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)))")
    page.wait_for_function(
        "() => document.getAnimations().every((a) => !(a instanceof CSSTransition) || a.playState === 'finished')"
    )


def _axe(page: Page) -> None:
    _settle(page)
    found = page.evaluate("() => axe.run()")["violations"]
    assert not found, [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found]


def test_nothing_hangs_over_the_edge(page: Page) -> None:
    for width in (320, 360, 768, 1280, 2560):
        page.set_viewport_size({"width": width, "height": 740})
        for panel in PANELS:
            page.get_by_role("tab", name=panel).click()
            wide = page.evaluate("() => document.documentElement.scrollWidth")
            assert wide <= width, f"{panel} is {wide} px wide on a screen of {width}"
    page.set_viewport_size({"width": 1000, "height": 700})


def test_high_contrast_keeps_sliders_and_choices_visible(page: Page) -> None:
    style = "(element, name) => getComputedStyle(element)[name]"
    tabs = page.locator("main > .tabs")  # those of a dialog are not shown
    chosen = tabs.locator('[role="tab"][aria-selected="true"]')
    page.emulate_media(forced_colors="active")
    try:
        assert page.locator("#volume").evaluate(style, "appearance") == "auto"
        other = tabs.locator('[role="tab"][aria-selected="false"]').first
        colour = "(element) => getComputedStyle(element).backgroundColor"
        assert chosen.evaluate(colour) != other.evaluate(colour)
    finally:
        page.emulate_media(forced_colors="none")
    assert page.locator("#volume").evaluate(style, "appearance") == "none"


def test_text_of_any_direction_is_set_in_its_own_and_the_pad_is_not_selected(page: Page) -> None:
    for name in ("now", "next", "prompt"):
        assert page.locator(f"#{name}").get_attribute("dir") == "auto"
    page.get_by_role("tab", name="Pad").click()
    assert page.locator(".pad").evaluate("(pad) => getComputedStyle(pad).userSelect") == "none"


def test_keyboard_alone_does_everything(page: Page) -> None:
    page.reload()
    expect(page.locator("#status")).to_have_text("ready")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the prompt"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="About riffstream")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("3")
    expect(page.get_by_role("radio", name="bar")).to_be_checked()
    page.keyboard.press("/")
    page.keyboard.type("typed with r and 2")
    page.keyboard.press("Enter")
    listening.wait_for_sound(page)  # a prompt that is sent also presses play
    expect(page.locator("#now")).to_have_text("typed with r and 2")
    page.keyboard.press("Escape")
    before = page.get_by_label("Tempo", exact=True).input_value()
    page.keyboard.press("Shift+ArrowUp")
    page.wait_for_function("(bpm) => riffstream.app.state().bpm === bpm", arg=int(before) + 2)
    page.get_by_role("tab", name="Sound").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tabpanel", name="Desk")).to_be_visible()
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("d")
    expect(page.get_by_role("region", name="Debug", exact=True)).to_be_visible()
    page.keyboard.press("d")
    page.keyboard.press("Space")
    expect(page.locator("#status")).to_have_text("paused")


def test_a_prompt_typed_before_the_welcome_is_a_prompt(served: Served, open_page: Open) -> None:
    """On a slow line. What is typed must not become shortcuts: each of its spaces would press play, or pause."""
    page = open_page(served.url)
    late: list[Route] = []
    page.route("**/stream-worker.js", lambda route: late.append(route))
    page.reload()
    expect(page.locator("#status")).to_have_text("connecting")
    theme = page.evaluate("() => document.documentElement.dataset.theme")
    page.keyboard.press("/")
    page.keyboard.type("typed with r and 2")
    expect(page.get_by_label("What should it play?")).to_have_value("typed with r and 2")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    assert page.evaluate("() => riffstream.player.welcome") is None
    for each in late:  # the page names it beforehand, and the worker asks for it
        each.continue_()
    page.unroute("**/stream-worker.js")
    listening.wait_for_sound(page)
    expect(page.locator("#now")).to_have_text("typed with r and 2")
    assert page.evaluate("() => document.documentElement.dataset.theme") == theme
    expect(page.get_by_role("radio", name="now")).to_be_checked()


def test_reduced_motion_is_respected(served: Served, open_page: Open) -> None:
    count = """const canvas = CanvasRenderingContext2D.prototype; const draw = canvas.drawImage; window.drawn = 0;
      canvas.drawImage = function (...args) { window.drawn++; return draw.apply(this, args); };"""
    page = open_page(served.url, reduced_motion="reduce", script=count)
    expect(page.get_by_role("button", name="3D")).to_be_disabled()
    listening.play(page)
    page.evaluate("() => (window.drawn = 0)")
    page.wait_for_timeout(2000)
    drawn = page.evaluate("() => window.drawn")
    assert 1 <= drawn <= 20, f"{drawn} pictures in 2 s (two parts each at most)"
