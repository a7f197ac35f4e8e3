// @ts-check
/**
 * `<riff-stream>`: a station on any page, from one script tag.
 *
 *   <script type="module" src="https://example.org/riff-stream.js"></script>
 *   <riff-stream station="main" controls visual></riff-stream>
 *
 * Attributes
 *   src       address of the server, with a path prefix if it has one; by default where this script came from
 *   station   which station; "main" by default
 *   controls  show the play button and what is playing
 *   visual    show the moving spectrogram
 *   autoplay  start without a click, where the browser allows it
 *   theme     "dark" (default) or "light"
 *   transport "auto" (default), "opus", "pcm", "buffers" or "mp3"
 *   several   play beside the other players of this site; else one that starts silences the others
 *   steer     this page will change the music: changes are heard half a second sooner, at some cost to the server
 * Properties  state, now (the station's last `now`), volume (0..1)
 * Methods     play(), pause(), steer(change), tune(station)
 * Events      statechange, now, applied, rejected (CustomEvent; the message is in `detail`)
 */
import { Player } from "./src/player.js";
import { promptLine, SAMPLE_RATE } from "./src/protocol.js";
import { ELSEWHERE, STATUS } from "./src/states.js";
import { SpectrumRing } from "./src/spectrum.js";
import { Visualiser2D } from "./src/visualiser.js";

const SHEET = `
:host { display: block; min-height: 64px; border-radius: 12px; overflow: hidden; background: #0c0b12; color: #f4efe8;
  font: 15px/1.4 ui-sans-serif, system-ui, sans-serif; position: relative; }
:host([theme="light"]) { background: #f7f5fb; color: #1d1026; }
:host([visual]) { height: 220px; }
:host([hidden]) { display: none; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.controls { position: absolute; inset: auto 0 0 0; display: flex; gap: 12px; align-items: center; padding: 10px 14px;
  background: linear-gradient(transparent, rgb(12 11 18 / 78%)); }
:host([theme="light"]) .controls { background: linear-gradient(transparent, rgb(247 245 251 / 84%)); }
button { width: 44px; height: 44px; flex: none; border: 0; border-radius: 50%; background: #ffb070; color: #1b0f08; cursor: pointer; }
:host([theme="light"]) button { background: #8a1c6e; color: #fff; }
button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
svg { width: 24px; height: 24px; fill: currentColor; display: block; margin: auto; }
button[aria-pressed="true"] .on, button[aria-pressed="false"] .off { display: none; }
p { margin: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }
small { display: block; opacity: .75; }
[hidden] { display: none; }`;

class RiffStream extends HTMLElement {
  static observedAttributes = ["station", "controls", "visual", "theme"];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.innerHTML = `<canvas aria-hidden="true" hidden></canvas>
      <div class="controls" hidden>
        <button type="button" aria-pressed="false" aria-label="Play"><svg viewBox="0 0 24 24" aria-hidden="true"><path class="on" d="M8 5.2v13.6L19 12z"/><path class="off" d="M7 5h3.6v14H7zM13.4 5H17v14h-3.6z"/></svg></button>
        <p aria-live="polite"><span id="now">riffstream</span><small id="state"></small></p>
      </div>`;
    // A sheet of its own, not a <style> element: a strict content security policy on the embedding page allows it.
    try {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(SHEET);
      root.adoptedStyleSheets = [sheet];
    } catch {
      root.append(Object.assign(document.createElement("style"), { textContent: SHEET })); // an older browser
    }
    this.canvas = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas"));
    this.bar = /** @type {HTMLElement} */ (root.querySelector(".controls"));
    this.button = /** @type {HTMLButtonElement} */ (root.querySelector("button"));
    this.line = /** @type {HTMLElement} */ (root.querySelector("#now"));
    this.stateLine = /** @type {HTMLElement} */ (root.querySelector("#state"));
    this.button.addEventListener("click", () => this.player?.toggle());
    /** @type {Player|null} */
    this.player = null;
    this.frame = 0;
    this.ring = new SpectrumRing();
    /** @type {import("./src/visualiser.js").Marker[]} */
    this.markers = [];
    this.still = false; // the picture of a silent player is drawn
  }

  connectedCallback() {
    const player = new Player({
      server: this.getAttribute("src") || new URL("./", import.meta.url).href,
      station: this.getAttribute("station") ?? "main",
      transport: /** @type {any} */ (this.getAttribute("transport") ?? "auto"),
      steer: this.hasAttribute("steer"),
      several: this.hasAttribute("several"),
    });
    this.player = player;
    this.visualiser = new Visualiser2D(this.canvas);
    player.addEventListener("state", () => {
      this.stateLine.textContent = player.elsewhere ? ELSEWHERE : STATUS[player.state];
      const on = player.wanted && player.state !== "blocked";
      this.button.setAttribute("aria-pressed", String(on));
      this.button.setAttribute("aria-label", on ? "Pause" : "Play");
      this.announce("statechange", { state: player.state, detail: player.link.detail });
    });
    for (const name of ["now", "applied", "rejected"]) {
      player.addEventListener(name, (event) => this.announce(name, /** @type {CustomEvent} */ (event).detail));
    }
    player.addEventListener("columns", (event) => {
      const { first, levels } = /** @type {CustomEvent} */ (event).detail;
      this.ring.put(first, levels);
    });
    let before = "";
    player.addEventListener("now", (event) => {
      const { sample_pos: samplePos, state } = /** @type {CustomEvent} */ (event).detail;
      const label = promptLine(state.prompts);
      if (before && before !== label) this.markers.push({ samplePos, label, pending: false });
      this.markers.splice(0, this.markers.length - 20);
      before = label;
    });
    player.look(this.hasAttribute("visual"));
    const show = () => (this.line.textContent = promptLine((player.now ?? player.welcome)?.state.prompts) || "riffstream");
    player.addEventListener("welcome", show);
    player.addEventListener("now", show);
    // The network comes or goes; the page comes to the front, out of the browser's cache, or is thawed.
    this.left = new AbortController();
    const nudge = () => player.nudge();
    for (const name of ["online", "offline", "pageshow"]) addEventListener(name, nudge, { signal: this.left.signal });
    for (const name of ["resume", "visibilitychange"]) document.addEventListener(name, nudge, { signal: this.left.signal });
    this.refresh();
    player.connect();
    if (this.hasAttribute("autoplay")) this.play();
  }

  disconnectedCallback() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.left?.abort();
    this.player?.close();
    this.player = null;
  }

  /**
   * @param {string} name
   * @param {string|null} before
   * @param {string|null} after
   */
  attributeChangedCallback(name, before, after) {
    if (!this.player || before === after) return;
    if (name === "station") this.player.tune(after ?? "main");
    else this.refresh();
  }

  refresh() {
    this.bar.hidden = !this.hasAttribute("controls");
    this.canvas.hidden = !this.hasAttribute("visual");
    this.still = false;
    this.player?.look(!this.canvas.hidden);
    this.visualiser?.setTheme(this.getAttribute("theme") === "light" ? "light" : "dark");
    if (this.canvas.hidden) cancelAnimationFrame(this.frame);
    else if (!this.frame) this.draw();
    if (this.canvas.hidden) this.frame = 0;
  }

  draw() {
    this.frame = requestAnimationFrame(() => this.draw());
    const { player, visualiser, ring } = this;
    if (!player || !visualiser) return;
    const { position } = player;
    if (position === null || player.state === "paused") {
      if (this.still) return;
      this.still = true;
    } else this.still = false;
    if (position !== null) player.output.element?.ear.listen(ring, position);
    visualiser.draw({ ring, position: position ?? 0, now: player.now, markers: this.markers, sampleRate: SAMPLE_RATE });
  }

  get state() {
    return this.player?.state ?? "idle";
  }
  get now() {
    return this.player?.now ?? null;
  }
  get volume() {
    return this.player?.output.volume ?? 1;
  }
  set volume(value) {
    this.player?.output.setVolume(Math.max(0, Math.min(1, value)));
  }

  async play() {
    await this.player?.play();
  }
  pause() {
    this.player?.pause();
  }
  /** @param {import("./src/protocol.js").Steer} change */
  steer(change) {
    return this.player ? this.player.steer(change) : Promise.reject(new Error("the element is not on a page"));
  }
  /** @param {string} station */
  async tune(station) {
    this.setAttribute("station", station);
  }

  /** @param {string} name @param {any} detail */
  announce(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

if (!customElements.get("riff-stream")) customElements.define("riff-stream", RiffStream);
