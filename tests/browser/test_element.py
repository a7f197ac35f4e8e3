"""``<riff-stream>`` as an author of pages uses it: style, states, attributes, events, sound and beats."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, Served
from tests.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser
ELEMENT = "document.querySelector('riff-stream')"

Embed = Callable[..., Page]


@pytest.fixture
def embed(served: Served, open_page: Open, other_origin: tuple[Path, str]) -> Embed:
    """``embed(html)``: a page of another site that loads the element before or after its own elements."""
    folder, origin = other_origin

    def write(body: str, **options: object) -> Page:
        script = f'<script type="module" src="{served.url}/riff-stream.js"></script>'
        (folder / "index.html").write_text(f"<!doctype html><meta charset=utf-8><title>a page</title>{body}{script}")
        return open_page(f"{origin}/index.html", **options)

    return write


def events(page: Page, *names: str) -> None:
    """Note these events of the first element from now on, in ``window.seen``."""
    page.evaluate(
        f"""(names) => {{ window.seen = []; for (const name of names)
             {ELEMENT}.addEventListener(name, (event) => seen.push([name, event.detail])); }}""",
        list(names),
    )


def test_it_takes_the_style_of_its_page(embed: Embed) -> None:
    page = embed(
        """<style>riff-stream { --riff-accent: rgb(1, 2, 3); --riff-bg: rgb(250, 250, 250); --riff-radius: 3px }
           riff-stream::part(title) { text-transform: uppercase } riff-stream::part(button) { width: 60px }</style>
           <riff-stream controls label="The shop" theme="auto"></riff-stream>""",
        color_scheme="light",
    )
    read = f"""([name, key]) => getComputedStyle({ELEMENT}.shadowRoot.querySelector(name))[key]"""
    assert page.evaluate(read, ["button", "backgroundColor"]) == "rgb(1, 2, 3)"
    assert page.evaluate(read, ["button", "width"]) == "60px"
    assert page.evaluate(read, ["#now", "textTransform"]) == "uppercase"
    host = f"getComputedStyle({ELEMENT})"
    assert page.evaluate(f"{host}.backgroundColor") == "rgb(250, 250, 250)"
    assert page.evaluate(f"{host}.borderTopLeftRadius") == "3px"
    assert page.evaluate(f"{host}.color") == "rgb(29, 16, 38)"  # theme="auto" in a light system
    expect(page.get_by_role("button", name="Play The shop")).to_be_visible()
    expect(page.locator("riff-stream #state")).to_have_text("press to listen")


def test_a_wrong_station_is_told_and_not_asked_for_again(embed: Embed) -> None:
    page = embed("<riff-stream station='nope' controls preload='none'></riff-stream>")
    page.wait_for_function(f"() => {ELEMENT}.play")
    events(page, "error", "play", "pause")
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.get_by_role("button", name="Play").click()
    expect(page.locator("riff-stream #state")).to_have_text("no such station")
    expect(page.get_by_role("button", name="Play")).to_have_attribute("aria-pressed", "false")
    page.wait_for_timeout(1500)
    seen = page.evaluate("() => seen")
    faults = [detail for name, detail in seen if name == "error"]
    assert [(fault["code"], fault["fatal"]) for fault in faults] == [("not_found", True)], seen
    assert "nope" in faults[0]["message"]
    assert len(sockets) <= 2, sockets
    page.evaluate(f"{ELEMENT}.labels = {{missing: 'Diesen Sender gibt es nicht'}}")
    expect(page.locator("riff-stream #state")).to_have_text("Diesen Sender gibt es nicht")


def test_no_socket_and_no_worker_before_it_is_seen_or_played(embed: Embed) -> None:
    count = """const made = { sockets: 0, workers: 0 }; window.made = made;
      const Before = window.Worker;
      window.Worker = class extends Before { constructor(...a) { super(...a); made.workers++; } };"""
    page = embed(
        """<riff-stream id=none controls preload=none></riff-stream><div style="height: 5000px"></div>
           <riff-stream id=far controls visual></riff-stream><riff-stream id=hid hidden></riff-stream>""",
        script=count,
    )
    page.wait_for_function("() => document.querySelector('#far').play")
    page.wait_for_timeout(500)
    assert page.evaluate("() => made.workers") == 0
    page.evaluate("() => document.querySelector('#far').scrollIntoView()")
    page.wait_for_function("() => document.querySelector('#far').now")
    assert page.evaluate("() => made.workers") == 1
    page.evaluate("() => document.querySelector('#hid').play()")
    page.wait_for_function("() => document.querySelector('#hid').now")


def test_attributes_and_events_are_those_of_audio(embed: Embed) -> None:
    page = embed("<riff-stream controls visual muted volume='0.25' poster='wall.png'></riff-stream>")
    page.wait_for_function(f"() => {ELEMENT}.now")
    assert page.evaluate(f"() => [{ELEMENT}.muted, {ELEMENT}.volume, {ELEMENT}.paused]") == [True, 0.25, True]
    assert "wall.png" in page.evaluate(f"getComputedStyle({ELEMENT}).backgroundImage")
    events(page, "play", "playing", "waiting", "pause", "volumechange")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"() => {ELEMENT}.hasAttribute('playing')")
    assert page.evaluate(f"() => {ELEMENT}.output.gain.value") == pytest.approx(0, abs=1e-6)
    page.evaluate(f"() => {{ {ELEMENT}.muted = false; {ELEMENT}.setAttribute('volume', '0.5'); }}")
    page.wait_for_function(f"() => Math.abs({ELEMENT}.output.gain.value - 0.25) < 0.01")  # loudness follows power
    page.get_by_role("button", name="Pause").click()
    page.wait_for_function(f"() => {ELEMENT}.paused && !{ELEMENT}.hasAttribute('playing')")
    names = [name for name, _ in page.evaluate("() => seen")]
    assert names[0] == "play"
    assert names.count("play") == names.count("pause") == 1, names
    assert names.index("play") < names.index("playing") < names.index("pause")
    assert names.count("volumechange") == 2
    for wrong in ("'loud'", "NaN"):
        assert page.evaluate(
            f"() => {{ try {{ {ELEMENT}.volume = {wrong}; }} catch (error) {{ return error.message; }} }}"
        )
    page.evaluate(f"() => {ELEMENT}.volume = 7")
    assert page.evaluate(f"() => {ELEMENT}.volume") == 1


def test_pages_build_on_its_sound_levels_and_beats(embed: Embed) -> None:
    page = embed("<riff-stream controls preload=auto></riff-stream>")
    page.wait_for_function(f"() => {ELEMENT}.now")
    assert page.evaluate(f"() => [{ELEMENT}.output, {ELEMENT}.stream]") == [None, None]
    page.evaluate(
        f"""() => {{ window.beats = []; {ELEMENT}.addEventListener("beat", ({{ detail }}) =>
             beats.push({{ ...detail, late: {ELEMENT}.output.context.currentTime - detail.time }})); }}"""
    )
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => beats.length > 6", timeout=PATIENCE_MS)
    beats = page.evaluate("() => beats")
    numbers = [beat["beat"] for beat in beats]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    spb = 60 / beats[0]["bpm"]
    for one, two in itertools.pairwise(beats):
        assert two["time"] - one["time"] == pytest.approx(spb, abs=0.03)
        assert (two["bar_beat"] - one["bar_beat"]) % 4 == 1
    assert max(abs(beat["late"]) for beat in beats) < 0.25, [(b["beat"], b["late"], b["time"]) for b in beats]
    # The tone is a few bands of the spectrum, whatever the volume is.
    page.evaluate(f"() => {{ {ELEMENT}.volume = 0; {ELEMENT}.levels(16); }}")
    page.wait_for_function(f"() => Math.max(...{ELEMENT}.levels(16)) > 0.3")
    levels = page.evaluate(f"() => Array.from({ELEMENT}.levels(16))")
    assert len(levels) == 16
    assert min(levels) < max(levels) / 2
    assert page.evaluate(f"() => {{ try {{ {ELEMENT}.levels(0); }} catch (error) {{ return error.message; }} }}") == (
        "bins is 0; allowed: 1 to 256"
    )
    page.evaluate(f"() => {{ {ELEMENT}.volume = 1; }}")
    # A page's own recorder hears it.
    size = page.evaluate(
        f"""() => new Promise((resolve, reject) => {{
             const recorder = new MediaRecorder({ELEMENT}.stream);
             recorder.ondataavailable = ({{ data }}) => resolve(data.size);
             recorder.onerror = ({{ error }}) => reject(error);
             recorder.start();
             setTimeout(() => recorder.stop(), 1500); }})"""
    )
    assert size > 2000


def test_a_title_changes_when_its_sound_is_heard(embed: Embed, served: Served) -> None:
    page = embed("<riff-stream controls preload=auto></riff-stream>")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"() => {ELEMENT}.state === 'playing'")
    page.evaluate(
        f"""() => {{ window.at = []; const {{ player, line }} = {ELEMENT};
             new MutationObserver(() => at.push([line.textContent, player.position, player.now.sample_pos]))
               .observe(line, {{ childList: true, characterData: true, subtree: true }}); }}"""
    )
    body = json.dumps({"op": "add", "prompts": [{"text": "heard in time"}], "bars": 1}).encode()
    request = urllib.request.Request(
        f"{served.url}/api/stations/main/queue", body, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=30).close()
    page.wait_for_function("() => at.some(([text]) => text === 'heard in time')", timeout=PATIENCE_MS)
    _, position, began = next(each for each in page.evaluate("() => at") if each[0] == "heard in time")
    assert -2400 < position - began < 48_000, (position, began)


def test_properties_set_before_it_is_on_the_page_or_defined_are_kept(embed: Embed) -> None:
    page = embed(
        """<riff-stream id=early controls></riff-stream><riff-stream id=marked muted volume="0.5"></riff-stream>
           <script>Object.assign(document.querySelector("#early"),
             { muted: true, volume: 0.2, labels: { idle: "Los" } })</script>"""
    )
    page.wait_for_function("() => document.querySelector('#early').player")
    sound = """(id) => { const { muted, volume, player } = document.querySelector(id);
                         return [muted, volume, player.output.volume]; }"""
    assert page.evaluate(sound, "#early") == [True, 0.2, 0]
    assert page.evaluate(sound, "#marked") == [True, 0.5, 0]
    expect(page.locator("#early #state")).to_have_text("Los")
    page.evaluate(
        """() => { const made = document.createElement("riff-stream"); made.id = "made"; made.muted = true;
             made.volume = 0.3; document.body.append(made); }"""
    )
    assert page.evaluate(sound, "#made") == [True, 0.3, 0]
    page.evaluate("() => { made.muted = false; document.body.prepend(made); }")  # moved: it keeps what was set
    assert page.evaluate(sound, "#made") == [False, 0.3, 0.3]


def test_a_steer_connects_an_element_that_nobody_has_seen(embed: Embed) -> None:
    page = embed(
        "<riff-stream preload=none></riff-stream><div style='height: 5000px'></div><riff-stream></riff-stream>"
    )
    page.wait_for_function(f"() => {ELEMENT}.player")
    asked = """(index) => Promise.race([
      document.querySelectorAll("riff-stream")[index].steer({ bpm: 99 }).catch((error) => error.code),
      new Promise((resolve) => setTimeout(() => resolve("nothing"), 15000))])"""
    for index in (0, 1):
        assert page.evaluate(asked, index) == "forbidden"  # of another site: the server's answer


def test_a_poster_needs_no_picture_of_the_sound(embed: Embed) -> None:
    page = embed("<riff-stream controls poster='wall.png'></riff-stream>")
    page.wait_for_function(f"() => {ELEMENT}.player")
    assert "wall.png" in page.evaluate(f"getComputedStyle({ELEMENT}).backgroundImage")
    page.evaluate(f"() => {ELEMENT}.removeAttribute('poster')")
    assert page.evaluate(f"getComputedStyle({ELEMENT}).backgroundImage") == "none"
