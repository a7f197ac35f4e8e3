"""Figures of the player in a real Chromium.

``python -m tests.browser.measure --far 400 [--model mini]``: size and times of the start over a line with a round trip
of 400 ms, and nothing else.

``python -m tests.browser.measure [--model mini] [--seconds 20] [--soak 10]``: first sound after the click (on a new
page and on an old one), what each thread of the page takes of one core while the 2D view plays, and with ``--soak`` how
script heap, nodes, listeners and resident memory grow while the music is changed every 20 seconds. CPU times are the
kernel's, of the renderer's threads; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, CDPSession, Page, expect, sync_playwright

from tests.browser import listening
from tests.browser.conftest import Served
from tests.browser.far import Far

PROMPTS = ["solo piano, gentle and sad", "driving techno with an acid bass line", "string quartet, warm and slow"]
STEER_EVERY_S = 20
TICK = os.sysconf("SC_CLK_TCK")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]


def renderers() -> list[int]:
    """Processes of Chromium's pages among our descendants."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    parents, found = {}, []
    for line in listed.splitlines()[1:]:
        pid, parent, args = line.split(None, 2)
        parents[int(pid)] = int(parent)
        if "--type=renderer" in args:
            found.append(int(pid))

    def ours(pid: int) -> bool:
        while pid > 1:
            if pid == os.getpid():
                return True
            pid = parents.get(pid, 0)
        return False

    return [pid for pid in found if ours(pid)]


def thread_seconds(pid: int) -> dict[str, float]:
    """CPU seconds of a process by the names of its threads."""
    spent: dict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, fields = (task / "comm").read_text().strip(), (task / "stat").read_text().rsplit(") ", 1)[1].split()
        except OSError:  # it has just ended
            continue
        spent[name] += (int(fields[11]) + int(fields[12])) / TICK
    return dict(spent)


def shares(page: Page, seconds: float) -> dict[str, float]:
    """Per cent of one core that each thread of the busiest page takes."""
    before = {pid: thread_seconds(pid) for pid in renderers()}
    begin = time.monotonic()
    page.wait_for_timeout(seconds * 1000)
    passed = time.monotonic() - begin
    spent = {
        pid: {name: value - before[pid].get(name, 0.0) for name, value in thread_seconds(pid).items()} for pid in before
    }
    busiest = max(spent.values(), key=lambda threads: sum(threads.values()))
    return {name: round(100 * value / passed, 2) for name, value in sorted(busiest.items()) if value / passed > 0.001}


def first_sounds(browser: Browser, url: str, times: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the click to the first sound: on new pages, and again on the same page."""
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(times):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        expect(page.locator("#status")).to_have_text("ready", timeout=30_000)
        page.wait_for_timeout(1000)
        for found in (cold, warm):
            listening.play(page)
            found.append(round(float(str(listening.player(page, "firstSoundMs")))))
            page.get_by_role("button", name="Pause", exact=True).click()
            page.wait_for_timeout(700)
        page.close()
    return cold, warm


def far_starts(browser: Browser, port: int, rtt_ms: float, times: int) -> dict[str, Any]:
    """Size and times of the start in a new browser, medians: kilobytes until the page is ready; milliseconds from the
    navigation to "ready", from a click on the ready page to the first sound, and, where the browser lets sound out
    without a click, from the navigation to the first sound."""
    watch = """{ const look = () => document.querySelector("#status")?.textContent === "ready"
      ? (window.readyAt = performance.now()) : requestAnimationFrame(look); look(); }"""
    rows: list[dict[str, float]] = []
    for _ in range(times):
        with Far(port, rtt_ms / 1000) as far:
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            context.add_init_script(watch)
            page = context.new_page()
            page.goto(far.url)
            page.wait_for_function("() => window.readyAt", timeout=60_000)
            size = far.received
            page.wait_for_timeout(2000)
            listening.play(page)
            click = float(str(listening.player(page, "firstSoundMs")))
            row = {"kB": size / 1000, "ready_ms": float(page.evaluate("() => readyAt")), "click_to_sound_ms": click}
            context.close()
        with Far(port, rtt_ms / 1000) as far:
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.goto(f"{far.url}/?autoplay")
            page.wait_for_function("() => riffstream.player.firstSoundMs", timeout=60_000)
            sound = page.evaluate("() => riffstream.player.clicked + riffstream.player.firstSoundMs")
            rows.append({**row, "autoplay_to_sound_ms": float(sound)})
            context.close()
    return {name: round(statistics.median(row[name] for row in rows), 1) for name in rows[0]}


def memory(session: CDPSession, pid: int) -> dict[str, float]:
    """What the page holds once the collector has run."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "heap_mb": metrics["JSHeapUsedSize"] / 1e6,
        "nodes": metrics["Nodes"],
        "listeners": metrics["JSEventListeners"],
        "resident_mb": resident / 1e6,
    }


def soak(page: Page, minutes: float, quiet: bool) -> dict[str, Any]:
    """Play for so long with a change every 20 s and every panel open once; growth an hour by least squares, without the
    first fifth, in which caches and histories fill."""
    for panel in ("Mix", "Pad", "Seeds", "Queue", "Sound"):
        page.get_by_role("tab", name=panel).click()
        page.wait_for_timeout(300)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    pid = max(renderers(), key=lambda each: sum(thread_seconds(each).values()))
    begin, seen = time.monotonic(), list[dict[str, float]]()
    while (passed := time.monotonic() - begin) < 60 * minutes:
        prompt = PROMPTS[len(seen) % len(PROMPTS)]
        page.evaluate("(text) => riffstream.app.steer({prompts: [{text, weight: 1}]}, text)", prompt)
        page.wait_for_timeout(STEER_EVERY_S * 1000)
        seen.append({"s": round(passed), **memory(session, pid)})
        if not quiet:
            print(json.dumps(seen[-1]), file=sys.stderr, flush=True)
    kept = seen[len(seen) // 5 :]
    hours = np.array([each["s"] for each in kept]) / 3600
    report = listening.player(page, "output.report")
    assert isinstance(report, dict)
    return {
        "minutes": minutes,
        "first": kept[0],
        "last": kept[-1],
        "slope_per_hour": {
            name: round(float(np.polyfit(hours, [each[name] for each in kept], 1)[0]), 2)
            for name in kept[0]
            if name != "s"
        },
        "underruns": report["underruns"],
        "skips": report["skips"],
    }


def measure(model: str, seconds: float, soak_minutes: float, quiet: bool, far_ms: float) -> dict[str, Any]:
    """All figures as one dictionary; with ``far_ms`` those of the start over such a round trip alone."""
    found: dict[str, Any] = {"model": model, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        served = Served(
            Path(folder), model=model, limits_steer_interval_s=0, limits_steer_burst=1000, timeline_idle_s=0
        )
        try:
            chromium = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
            found["chromium"] = browser.version
            if far_ms:
                return {**found, "rtt_ms": far_ms, **far_starts(browser, served.port, far_ms, 5)}
            cold, warm = first_sounds(browser, served.url, 3)
            found["first_sound_ms"] = {"new_page": cold, "again": warm, "median_new": statistics.median(cold)}
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(served.url)
            listening.play(page)
            page.wait_for_timeout(5000)
            found["threads_percent_of_a_core"] = shares(page, seconds)
            found["underruns"] = listening.player(page, "output.report.underruns")
            if soak_minutes:
                found["soak"] = soak(page, soak_minutes, quiet)
            browser.close()
        finally:
            served.stop()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seconds", type=float, default=20, help="of the CPU measurement")
    parser.add_argument("--soak", type=float, default=0, help="minutes; 0: none")
    parser.add_argument("--far", type=float, default=0, metavar="MS", help="round trip; 0: none")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    print(json.dumps(measure(given.model, given.seconds, given.soak, given.quiet, given.far), indent=2))
