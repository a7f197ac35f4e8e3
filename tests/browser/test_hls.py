"""hls.js in Chromium plays a station without a stall, and can change the bit rate."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser.conftest import Open, Served
from tests.conftest import PATIENCE_MS, ROOT

PAGE = """
<audio id="audio" muted></audio>
"""


def test_hls_js_plays_and_switches(open_page: Open, served: Served) -> None:
    folder = Path(os.environ.get("AXE", ROOT / ".venv" / "axe"))
    script = folder / "node_modules" / "hls.js" / "dist" / "hls.min.js"
    if not script.exists():
        pytest.skip("hls.js is not there; npm install --prefix .venv/axe hls.js@1 brings it")
    page = open_page(f"{served.url}/healthz")
    page.set_content(PAGE)
    page.add_script_tag(path=str(script))
    page.evaluate(
        """url => {
          window.faults = [];
          window.levels = [];
          const audio = document.getElementById("audio");
          const hls = (window.hls = new Hls({ enableWorker: false }));
          // A switch of the level aborts the load of a segment, if there is one.
          hls.on(Hls.Events.ERROR, (_, { details }) => details === "aborted" || window.faults.push(details));
          hls.on(Hls.Events.LEVEL_SWITCHED, (_, data) => window.levels.push(data.level));
          hls.loadSource(url);
          hls.attachMedia(audio);
          return new Promise((resolve) => hls.on(Hls.Events.MANIFEST_PARSED, () => resolve(audio.play())));
        }""",
        f"{served.url}/hls/main/master.m3u8",
    )
    playing = """seconds => {
      const { currentTime } = document.getElementById("audio");
      return currentTime - (window.begin ??= currentTime) > seconds;
    }"""
    page.wait_for_function(playing, arg=4, timeout=PATIENCE_MS)
    page.evaluate("() => { window.hls.nextLevel = (window.levels.at(-1) + 1) % 3; }")
    page.wait_for_function("() => window.levels.length > 1", timeout=PATIENCE_MS)
    page.wait_for_function(playing, arg=10, timeout=PATIENCE_MS)
    assert page.evaluate("window.faults") == []
    title = page.evaluate("Object.values(window.hls.latestLevelDetails.dateRanges).at(-1).attr['X-TITLE']")
    assert title
