// @ts-check
/**
 * `<riff-stream>`: a station on any page, from one script tag.
 *
 *   <script type="module" src="https://example.org/riff-stream.js"></script>
 *   <riff-stream station="main" controls visual></riff-stream>
 *
 * Attributes
 *   src       address of the server, with a path prefix if it has one; by default where this script came from
 *   station   which station; "main" by default; "new": a private one for this element, made when it is played
 *   prompt    music of a private station; a change steers it
 *   bpm       tempo of a private station, beats per minute; a change steers it
 *   controls  show the play button and what is playing
 *   visual    show the moving spectrogram
 *   autoplay  start without a click, where the browser allows it, else at the first click or key on the page
 *   preload   "metadata" (default): connect when the element is visible; "auto": at once; "none": when it is played
 *   muted     silent; changes with the property
 *   volume    0 to 1; changes with the property
 *   playing   set by the element while sound comes out
 *   poster    address of a picture behind it
 *   label     name of the player, for screen readers and until the music is known
 *   theme     "dark" (default), "light" or "auto", as the reader's system
 *   transport "auto" (default), "opus", "pcm", "buffers" or "mp3"
 *   several   play beside the other players of this site; else one that starts silences the others
 *   steer     this page will change the music: changes are heard half a second sooner, at some cost to the server
 * Properties  state, paused, now (what is heard), queue, volume, muted, labels (words of the states), output (AudioNode), stream (MediaStream)
 * Methods     play(), pause(), steer(change), tune(station), levels(bins)
 * Events      statechange, now, queue, applied, rejected, beat, error (CustomEvent; the message is in `detail`);
 *             play, playing, waiting, pause, volumechange, as those of <audio>
 * Style       ::part(bar), ::part(button), ::part(title), ::part(state), ::part(canvas); the variables --riff-accent,
 *             --riff-accent-ink, --riff-bg, --riff-ink, --riff-radius, --riff-font
 */
import { BeatClock } from "./src/beat-clock.js";
import { Heard } from "./src/heard.js";
import { NEW, Own } from "./src/own.js";
import { Player } from "./src/player.js";
import { promptLine, SAMPLE_RATE } from "./src/protocol.js";
import { SHEET } from "./src/sheet.js";
import { ELSEWHERE, SOUNDING, STATUS } from "./src/states.js";
import { COLUMN_SAMPLES, ROWS, SpectrumRing } from "./src/spectrum.js";
import { Visualiser2D } from "./src/visualiser.js";

/** What the reader is told where the player's own words are those of a page. */
const WORDS = { idle: "press to listen", paused: "paused, press to listen", reconnecting: "connection lost, trying again", blocked: "press to let the sound out" };
/** States that do not end by themselves: the element tells them once. */
const FATAL = new Set(["forbidden", "missing", "unsupported"]);
/** States that are a fault, and their codes. @type {Record<string, string>} */
const FAULTS = { forbidden: "unauthorised", missing: "not_found", unsupported: "unsupported", reconnecting: "disconnected", full: "busy", nosocket: "no_socket", restarting: "restarting" };
const NO_QUEUE = Object.freeze({ items: [], loop: false, playing: null, until: null });
/** A fault that may pass is told after this time, ms. */
const LASTS_MS = 1000;
/** A timer may come a little late; a beat is told no earlier than this before its time, ms. */
const TIMER_MS = 4;

class RiffStream extends HTMLElement {
  static observedAttributes = ["station", "controls", "visual", "theme", "muted", "volume", "poster", "label", "preload", "prompt", "bpm"];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.innerHTML = `<canvas part="canvas" aria-hidden="true" hidden></canvas>
      <div class="controls" part="bar" hidden>
        <button type="button" part="button" aria-pressed="false" aria-label="Play"><svg viewBox="0 0 24 24" aria-hidden="true"><path class="on" d="M8 5.2v13.6L19 12z"/><path class="off" d="M7 5h3.6v14H7zM13.4 5H17v14h-3.6z"/></svg></button>
        <p aria-live="polite"><span id="now" part="title" dir="auto">riffstream</span><small id="state" part="state"></small></p>
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
    this.heard = new Heard();
    this.beats = new BeatClock(SAMPLE_RATE);
    this.looking = false; // somebody asked for levels
    this.listensToBeats = false;
    this.fault = ""; // the last state, for faults
    this.shown = false; // a title was shown
    this.told = ""; // the last state that was announced as an <audio> event
    /** @type {Record<string, string>} */
    this.words = {};
    /** @type {{muted: boolean, volume: number}} */
    this.sound = { muted: false, volume: 1 };
    /** @type {MediaStreamAudioDestinationNode|null} */
    this.destination = null;
  }

  connectedCallback() {
    const player = new Player({
      server: this.getAttribute("src") || undefined,
      station: this.getAttribute("station") ?? "main",
      own: this.music && new Own(this.music),
      transport: /** @type {any} */ (this.getAttribute("transport") ?? "auto"),
      steer: this.hasAttribute("steer") || this.isNew,
      several: this.hasAttribute("several"),
    });
    this.player = player;
    this.visualiser = new Visualiser2D(this.canvas);
    player.addEventListener("state", () => this.showState());
    for (const name of ["applied", "rejected", "queue"]) {
      player.addEventListener(name, (event) => this.announce(name, /** @type {CustomEvent} */ (event).detail));
    }
    player.addEventListener("columns", (event) => {
      const { first, levels } = /** @type {CustomEvent} */ (event).detail;
      this.ring.put(first, levels);
      this.canvas.classList.add("lit");
    });
    const follow = () => this.follow();
    player.addEventListener("now", (event) => {
      this.heard.add(/** @type {CustomEvent} */ (event).detail);
      follow();
    });
    player.addEventListener("report", follow);
    player.addEventListener("welcome", () => {
      this.heard.reset();
      this.showTitle();
    });
    // The network comes or goes; the page comes to the front, out of the browser's cache, or is thawed.
    this.left = new AbortController();
    const { signal } = this.left;
    const nudge = () => player.link.state !== "closed" && player.nudge();
    for (const name of ["online", "offline", "pageshow"]) addEventListener(name, nudge, { signal });
    for (const name of ["resume", "visibilitychange"]) document.addEventListener(name, nudge, { signal });
    addEventListener("pagehide", ({ persisted }) => !persisted && player.dropOwn(), { signal });
    this.light = matchMedia("(prefers-color-scheme: light)");
    this.light.addEventListener("change", () => this.refresh(), { signal });
    player.output.setVolume(this.level);
    this.refresh();
    this.showState();
    for (const name of /** @type {const} */ (["muted", "volume", "labels"])) {
      // A page may set a property before this script has loaded: such a value hides the accessor.
      if (!Object.hasOwn(this, name)) continue;
      const value = /** @type {any} */ (this[name]);
      delete (/** @type {any} */ (this)[name]);
      /** @type {any} */ (this)[name] = value;
    }
    this.load();
    if (this.hasAttribute("autoplay")) this.play();
  }

  /** Whether the element has a private station. */
  get isNew() {
    return this.getAttribute("station") === NEW;
  }
  /** Music of the private station as its attributes say; null without one. */
  get music() {
    const [prompt, bpm] = [this.getAttribute("prompt")?.trim(), Number(this.getAttribute("bpm"))];
    return this.isNew ? { ...(prompt ? { prompts: [prompt] } : {}), ...(bpm ? { bpm } : {}) } : null;
  }

  /** Connect when `preload` says so: a page of many players opens the sockets of those that are seen. */
  load() {
    const { player } = this;
    const preload = this.getAttribute("preload") ?? "metadata";
    this.watcher?.disconnect();
    if (!player || preload === "none") return;
    if (this.isNew && preload !== "auto") return; // a station that nobody hears costs the server as much as one that plays
    if (preload === "auto" || typeof IntersectionObserver === "undefined") return player.connect();
    this.watcher = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.watcher?.disconnect();
      player.connect();
    }, { rootMargin: "200px" });
    this.watcher.observe(this);
  }

  disconnectedCallback() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.left?.abort();
    this.watcher?.disconnect();
    this.removeAttribute("playing");
    this.destination = null;
    this.heard.reset();
    this.player?.close();
    this.player = null;
  }

  /**
   * @param {string} name
   * @param {string|null} before
   * @param {string|null} after
   */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "muted") this.muted = after !== null;
    else if (name === "volume") this.volume = readVolume(after);
    if (!this.player) return;
    if (name === "station") {
      this.heard.reset();
      this.markers.length = 0;
      if (this.player.link.state === "closed" && !this.player.wanted && !this.isNew && !this.player.own) this.player.station = after ?? "main"; // it has not connected yet
      else this.player.tune(after ?? "main", this.music && new Own(this.music));
    } else if (name === "prompt" || name === "bpm") this.steerOwn(name);
    else if (name === "preload") {
      if (this.player.link.state === "closed") this.load();
    } else this.refresh();
  }

  /** An attribute of the private station has changed. @param {"prompt"|"bpm"} name */
  steerOwn(name) {
    const { own } = this.player ?? {};
    const { music } = this;
    if (!own || !music) return;
    own.music = music;
    /** @type {any} */
    const change = name === "bpm" ? { bpm: music.bpm ?? null } : { prompts: music.prompts?.map((text) => ({ text, weight: 1 })) ?? null };
    if (own.made || own.making) this.steer(change); // else it is made with it; "rejected" tells a refusal
    this.showTitle();
  }

  refresh() {
    this.bar.hidden = !this.hasAttribute("controls");
    this.canvas.hidden = !this.hasAttribute("visual");
    this.still = false;
    this.player?.look(!this.canvas.hidden || this.looking);
    const asked = this.getAttribute("theme");
    const light = asked === "light" || (asked === "auto" && this.light?.matches === true);
    this.dataset.theme = light ? "light" : "dark";
    this.visualiser?.setTheme(light ? "light" : "dark");
    const poster = this.getAttribute("poster");
    if (poster && URL.canParse(poster, document.baseURI)) {
      const address = new URL(poster, document.baseURI).href.replaceAll(/["\\\n]/g, encodeURIComponent); // it stands between quotes
      this.style.setProperty("--_poster", `url("${address}")`);
    } else this.style.removeProperty("--_poster");
    this.showButton();
    this.showTitle();
    if (this.canvas.hidden) cancelAnimationFrame(this.frame);
    else if (!this.frame) this.draw();
    if (this.canvas.hidden) this.frame = 0;
  }

  /** What is heard has gone on. */
  follow() {
    const { player } = this;
    if (!player) return;
    const position = player.wanted ? player.position : null;
    for (const now of this.heard.follow(position)) {
      const label = promptLine(now.state.prompts);
      const before = this.line.textContent;
      if (before && before !== label && this.shown) this.markers.push({ samplePos: now.sample_pos, label, pending: false });
      this.markers.splice(0, this.markers.length - 20);
      this.shown = true;
      this.announce("now", now);
    }
    this.showTitle();
    if (this.listensToBeats && player.state === "playing") this.tellBeats(player.position);
  }

  /** @param {number|null} position */
  tellBeats(position) {
    for (const { in_s, ...beat } of this.beats.due(this.heard.now, position)) {
      const context = this.player?.output.context;
      const detail = { ...beat, time: (context?.currentTime ?? 0) + in_s };
      setTimeout(() => this.player && this.announce("beat", detail), Math.max(0, 1000 * in_s - TIMER_MS));
    }
  }

  showTitle() {
    const { player } = this;
    const state = (this.heard.now ?? player?.now ?? player?.welcome)?.state;
    const line = promptLine(state?.prompts) || this.music?.prompts?.[0] || this.getAttribute("label") || "riffstream";
    if (this.line.textContent !== line) this.line.textContent = this.line.title = line;
  }

  showButton() {
    const on = !!this.player?.wanted && this.player.state !== "blocked";
    const label = this.getAttribute("label");
    this.button.setAttribute("aria-pressed", String(on));
    this.button.setAttribute("aria-label", `${on ? "Pause" : "Play"}${label ? ` ${label}` : ""}`);
  }

  /** The words, attributes and events of the player's state. */
  showState() {
    const { player } = this;
    if (!player) return;
    const { state } = player;
    const words = this.words[state] ?? player.own?.refusal?.detail ?? (player.elsewhere ? ELSEWHERE : /** @type {Record<string, string>} */ (WORDS)[state] ?? STATUS[state]);
    if (this.stateLine.textContent !== words) this.stateLine.textContent = words;
    this.showButton();
    this.toggleAttribute("playing", SOUNDING.has(state));
    const detail = player.failure || player.own?.refusal?.detail || player.link.detail;
    this.announce("statechange", { state, detail });
    // The events that authors know from <audio>.
    const kind = SOUNDING.has(state) ? "playing" : player.wanted && state !== "blocked" ? "waiting" : "pause";
    const before = this.told;
    this.told = kind;
    if (kind !== before && !(kind === "pause" && before === "")) {
      if (kind !== "pause" && (before === "" || before === "pause")) this.announce("play", null);
      this.announce(kind, null);
    }
    if (state !== this.fault && state in FAULTS) {
      const fault = { code: FAULTS[state], message: detail || words, fatal: FATAL.has(state) };
      // What may pass by itself is told once it lasts: a line that breaks is often back, or explained, at once.
      if (fault.fatal) this.announce("error", fault);
      else setTimeout(() => this.player?.state === state && this.announce("error", fault), LASTS_MS);
    }
    this.fault = state;
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
    visualiser.draw({ ring, position: position ?? 0, now: this.heard.now, markers: this.markers, sampleRate: SAMPLE_RATE });
  }

  /** A state of the player (docs/player.md). */
  get state() {
    return this.player?.state ?? "idle";
  }
  /** Whether no sound is wanted. */
  get paused() {
    return !this.player?.wanted;
  }
  /** The `now` message of what is heard. */
  get now() {
    return this.heard.now ?? this.player?.now ?? null;
  }
  /** The station's queue. */
  get queue() {
    return this.player?.queue ?? NO_QUEUE;
  }
  /** Words of the states, in place of the element's own: `{ idle: "zum Hören drücken" }`. */
  get labels() {
    return this.words;
  }
  set labels(words) {
    this.words = { ...words };
    this.showState();
  }

  get level() {
    return this.sound.muted ? 0 : this.sound.volume;
  }
  get volume() {
    return this.sound.volume;
  }
  set volume(value) {
    const volume = Math.max(0, Math.min(1, Number(value)));
    if (Number.isNaN(volume)) throw new TypeError(`volume is ${value}; allowed: 0 to 1`);
    this.setSound({ ...this.sound, volume });
  }
  get muted() {
    return this.sound.muted;
  }
  set muted(value) {
    this.setSound({ ...this.sound, muted: Boolean(value) });
  }
  /** @param {{muted: boolean, volume: number}} sound */
  setSound(sound) {
    const { muted, volume } = this.sound;
    if (sound.muted === muted && sound.volume === volume) return;
    this.sound = sound;
    this.player?.output.setVolume(this.level);
    this.announce("volumechange", null);
  }

  /**
   * The sound as a node of its AudioContext, after the volume; null before the first play. Connect it to analysers, effects and
   * recorders of the page. After a fault of the sound device the element makes a new context: take it again at each `playing`.
   */
  get output() {
    return this.player?.output.gain ?? null;
  }
  /** The sound as a MediaStream, for MediaRecorder or WebRTC; null before the first play. */
  get stream() {
    const { gain, context } = this.player?.output ?? {};
    if (!gain || !context) return null;
    if (this.destination?.context !== context) {
      this.destination = context.createMediaStreamDestination();
      gain.connect(this.destination);
    }
    return this.destination.stream;
  }

  /**
   * The spectrum of what is heard, low to high, 40 Hz to 16 kHz, even in octaves; independent of the volume.
   * @param {number} [bins] 1 to 256
   * @returns {Float32Array} 0 to 1 for each
   */
  levels(bins = 32) {
    if (!Number.isInteger(bins) || bins < 1 || bins > ROWS) throw new RangeError(`bins is ${bins}; allowed: 1 to ${ROWS}`);
    const { player, ring } = this;
    const found = new Float32Array(bins);
    if (!player) return found;
    if (!this.looking) {
      this.looking = true;
      player.look(true);
    }
    const { position } = player;
    if (position === null || !player.wanted) return found;
    player.output.element?.ear.listen(ring, position);
    const column = Math.floor(position / COLUMN_SAMPLES);
    const levels = ring.between(column, column + 1);
    if (!levels) return found;
    for (let bin = 0; bin < bins; bin++) {
      const [from, to] = [Math.floor((bin * ROWS) / bins), Math.floor(((bin + 1) * ROWS) / bins)];
      for (let row = from; row < to; row++) found[bin] += levels[row] / 255 / (to - from);
    }
    return found;
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

  /**
   * Beats are worked out once somebody listens to them.
   * @param {string} name
   * @param {any} listener
   * @param {any} [options]
   */
  addEventListener(name, listener, options) {
    if (name === "beat") this.listensToBeats = true;
    super.addEventListener(name, listener, options);
  }

  /** @param {string} name @param {any} detail */
  announce(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** @param {string|null} text */
function readVolume(text) {
  const volume = text === null || text.trim() === "" ? 1 : Number(text);
  return Number.isFinite(volume) ? Math.max(0, Math.min(1, volume)) : 1;
}

if (!customElements.get("riff-stream")) customElements.define("riff-stream", RiffStream);
