"""Chords and form on the page, with a model that knows conditions, and without one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from riffstream.diffusion.mini.family import MiniFamily
from riffstream.journey.conditions import SIZE
from tests.browser import listening
from tests.browser.conftest import Open, Served, Start, opened
from tests.browser.test_panels import until
from tests.conftest import PATIENCE_MS, ROOT

pytestmark = pytest.mark.browser

MINI = ROOT / "riffstream" / "models" / "mini"


@pytest.fixture(scope="module")
def conducted(start_for_file: Start, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A server with the embedded model and conditions that have not been trained: they are accepted without effect."""
    if not list((MINI / "denoiser").glob("*.safetensors")):
        pytest.skip("this checkout has no weights of the embedded model")
    family = MiniFamily.load(MINI)
    family.denoiser = family.denoiser.with_conditions(SIZE)
    folder: Path = tmp_path_factory.mktemp("models") / "conducted"
    shutil.copytree(MINI, folder)
    family.save(folder)
    return start_for_file(model=str(folder), limits_steer_interval_s=0, limits_steer_burst=1000)


@pytest.fixture(scope="module")
def page(conducted: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser) as open_page:
        page = open_page(conducted.url)
        listening.play(page)
        yield page


def test_the_page_shows_chord_section_and_what_comes(page: Page) -> None:
    expect(page.locator("#meta")).to_contain_text(re.compile(r"[A-G][#b]?\S*  ·  intro \d/\d+  ·  then (verse|chorus)"))
    expect(page.locator("#plan")).to_contain_text("then")
    expect(page.get_by_label("Form", exact=True)).to_have_value("song")


def test_chords_are_typed_heard_and_left_to_the_plan_again(page: Page, conducted: Served) -> None:
    box = page.get_by_label("Chords", exact=True)
    box.fill("Ebm Db / B")
    box.press("Enter")
    expect(page.locator("#plan")).to_contain_text(re.compile("^(Ebm|Db|B)  ·"), timeout=PATIENCE_MS)
    assert conducted.get("/api/stations/main")["state"]["chords"] == "Ebm Db / B"
    page.get_by_role("button", name="Chords, auto: back to the plan").click()
    expect(page.locator("#plan")).not_to_contain_text(re.compile("^(Ebm|Db)  ·"), timeout=PATIENCE_MS)
    assert conducted.get("/api/stations/main")["state"]["chords"] is None


def test_wrong_chords_are_explained(page: Page) -> None:
    page.get_by_label("Chords", exact=True).fill("Am H7")
    page.get_by_label("Chords", exact=True).press("Enter")
    expect(page.locator("#toasts")).to_contain_text("H7")
    page.get_by_label("Chords", exact=True).fill("")


def test_levels_and_parts_are_moved_and_left_to_the_plan_again(page: Page, conducted: Served) -> None:
    def state() -> dict[str, Any]:
        found: dict[str, Any] = conducted.get("/api/stations/main")["state"]
        return found

    page.get_by_role("tab", name="Parts").click()
    expect(page.locator("#no-levels")).to_be_hidden()
    energy = page.get_by_role("slider", name="Energy level")
    expect(energy).to_have_attribute("aria-valuetext", "left to the plan and the words")
    energy.focus()
    page.keyboard.press("End")
    assert until(lambda: state()["energy"], lambda level: level == 1.0) == 1.0
    # Two parts in one gesture: none of them may be lost on the way.
    page.get_by_role("button", name="Drums off").click()
    page.get_by_role("slider", name="Lead level").focus()
    page.keyboard.press("End")
    parts = until(lambda: state()["parts"] or {}, lambda levels: levels.get("lead") == 1.0)
    assert (parts["drums"], parts["lead"], parts["bass"]) == (0.0, 1.0, None)
    expect(page.get_by_role("button", name="Drums off")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Drums off").click()
    page.get_by_role("button", name="Lead, auto: left to the plan and the words").click()
    page.get_by_role("button", name="Energy, auto: left to the plan and the words").click()
    assert until(lambda: (state()["parts"], state()["energy"]), lambda now: now == (None, None)) == (None, None)
    page.get_by_role("tab", name="Sound").click()


def test_a_part_that_the_words_let_rest_is_shown_and_turned_on(page: Page, conducted: Served) -> None:
    def state() -> dict[str, Any]:
        found: dict[str, Any] = conducted.get("/api/stations/main")["state"]
        return found

    page.evaluate("() => riffstream.app.steer({prompts: [{text: 'rock, no drums'}]}, 'rock')")
    page.get_by_role("tab", name="Parts").click()
    drums, off = page.get_by_role("slider", name="Drums level"), page.get_by_role("button", name="Drums off")
    expect(drums).to_have_attribute("aria-valuetext", "rests: the words say “no drums”", timeout=PATIENCE_MS)
    expect(off).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Bass off")).to_have_attribute("aria-pressed", "false")
    off.click()
    assert until(lambda: (state()["parts"] or {}).get("drums"), lambda level: level == 0.7) == 0.7
    expect(off).to_have_attribute("aria-pressed", "false")
    assert state()["rests"] is None
    page.get_by_role("button", name="Drums, auto: left to the plan and the words").click()
    assert until(lambda: (state()["rests"] or {}).get("drums"), lambda words: words == "no drums") == "no drums"
    expect(off).to_have_attribute("aria-pressed", "true")
    page.evaluate("() => riffstream.app.steer({prompts: null, parts: null}, 'back')")
    assert until(lambda: state()["rests"], lambda rests: rests is None) is None
    page.get_by_role("tab", name="Sound").click()


def test_a_form_is_chosen(page: Page, conducted: Served) -> None:
    page.get_by_label("Form", exact=True).select_option("none")
    expect(page.locator("#plan")).to_have_text("one a bar, from the next bar on", timeout=PATIENCE_MS)
    assert conducted.get("/api/stations/main")["state"]["form"] == "none"


def test_a_model_that_takes_words_alone_has_neither(served: Served, open_page: Open) -> None:
    page = open_page(served.url)
    listening.play(page)
    expect(page.get_by_label("Tempo", exact=True)).to_be_visible()
    expect(page.get_by_label("Chords", exact=True)).to_be_hidden()
    expect(page.get_by_label("Form", exact=True)).to_be_hidden()
    page.get_by_role("tab", name="Parts").click()
    expect(page.locator("#no-levels")).to_contain_text("takes words alone")
    for slider in page.get_by_role("tabpanel", name="Parts").get_by_role("slider").all():
        expect(slider).to_be_disabled()
