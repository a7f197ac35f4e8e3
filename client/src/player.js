// @ts-check
/**
 * The player without a face: chooses a transport, owns the audio graph, speaks for the listener, and tells what is being
 * heard now. The page and the web component are both built on it.
 *
 * Events (CustomEvent, data in `detail`): state, welcome, now, scheduled, applied, superseded, rejected, event, report,
 * columns ({first, levels}: the spectrogram of what is about to be heard).
 */
import { SAMPLE_RATE } from "./protocol.js";

/** What the server has committed beyond what its clock calls audible: its send lead and the buffer that it reckons with. */
const LIVE_LEAD_S = 0.45;

/**
 * @typedef {"idle"|"connecting"|"buffering"|"playing"|"paused"|"behind"|"reconnecting"|"full"|"forbidden"|"restarting"|
 *   "blocked"|"unsupported"} PlayerState   blocked: the browser wants a click before it lets sound out
 * @typedef {"opus"|"pcm"|"mp3"} TransportName
 *
 * @typedef {object} Report   about every 50 ms while sound is wanted
 * @property {number|null} position  sample clock of what leaves the loudspeaker now
 * @property {number} bufferMs
 * @property {number} targetMs
 * @property {number} rate           read rate of the drift correction
 * @property {number} underruns
 * @property {number} overruns
 * @property {number} [skips]        times that it skipped to live
 *
 * @typedef {object} PlayerOptions
 * @property {string} [server]       origin of the server, "https://example.org" (default: the page's own)
 * @property {string} [station]
 * @property {string|null} [token]
 * @property {TransportName|"auto"} [transport]
 * @property {boolean} [steer]        whether changes are likely: the server then sends shorter frames (default: true)
 */

/** @returns {TransportName|null} the best that this browser and page can do */
export function bestTransport() {
  const worklet = typeof AudioContext !== "undefined" && "audioWorklet" in AudioContext.prototype && isSecureContext;
  if (worklet && typeof AudioDecoder !== "undefined") return "opus";
  if (worklet) return "pcm";
  return typeof Audio !== "undefined" && new Audio().canPlayType("audio/mpeg") ? "mp3" : null;
}

/**
 * A module worker, from another origin too: browsers refuse those, but not a small local one that imports it.
 * @param {URL} url
 */
function openWorker(url) {
  if (url.origin === location.origin) return new Worker(url, { type: "module" });
  const local = URL.createObjectURL(new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" }));
  const worker = new Worker(local, { type: "module" });
  setTimeout(() => URL.revokeObjectURL(local), 60000);
  return worker;
}

export class Player extends EventTarget {
  /** @param {PlayerOptions} [options] */
  constructor(options = {}) {
    super();
    const server = options.server || location.origin;
    this.server = new URL(server, location.href);
    this.station = options.station ?? "main";
    this.token = options.token ?? null;
    this.steering = options.steer ?? true;
    this.transport = !options.transport || options.transport === "auto" ? bestTransport() : options.transport;
    /** @type {PlayerState} */
    this.state = this.transport ? "idle" : "unsupported";
    /** @type {import("./connection.js").LinkState} */
    this.link = "closed";
    this.detail = "";
    this.wanted = false; // whether the listener asked for sound
    /** @type {any} */
    this.welcome = null;
    /** @type {any} */
    this.now = null;
    /** @type {Report} */
    this.report = { position: null, bufferMs: 0, targetMs: 200, rate: 1, underruns: 0, overruns: 0 };
    this.counters = { bytes: 0, frames: 0, lost: 0, latencyMs: 0, decodeErrors: 0 };
    this.played = 0;
    this.clicked = 0; // when play was asked for, ms
    this.volume = 1;
    this.firstSoundMs = 0; // from the click
    /** @type {AudioContext|null} */
    this.context = null;
    /** @type {AnalyserNode|null} */
    this.analyser = null;
    /** @type {GainNode|null} */
    this.gain = null;
    /** @type {AudioWorkletNode|null} */
    this.node = null;
    /** @type {Promise<void>|undefined} of the worklet */
    this.module = undefined;
    /** @type {Worker|null} */
    this.worker = null;
    /** @type {HTMLAudioElement|null} */
    this.element = null;
    this.lastReportAt = 0; // context time
    /** What the server's clock said is audible, for transports that do not carry it. */
    this.clock = { samplePos: 0, at: 0 };
    /** @type {Map<string, {applied: (value: any) => void, failed: (error: Error) => void, scheduled?: (value: any) => void}>} */
    this.waiting = new Map();
    this.ids = 0;
    this.opened = 0; // number of the link
  }

  /** @param {string} path */
  url(path) {
    return new URL(path, this.server).href;
  }

  get socketUrl() {
    const url = new URL(`/ws/${encodeURIComponent(this.station)}`, this.server);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
  }

  /** Whether this connection may change the music. */
  get maySteer() {
    return this.welcome?.role === "dj" || this.welcome?.role === "owner";
  }

  /** Sample clock of what is heard at this instant; null before the first sound. */
  get position() {
    const { position, rate } = this.report;
    if (this.transport === "mp3") return this.elementPosition();
    if (position === null || !this.context) return null;
    const since = Math.max(0, Math.min(0.5, this.context.currentTime - this.lastReportAt));
    const latency = this.context.outputLatency || this.context.baseLatency || 0;
    return position + (since * rate - latency) * SAMPLE_RATE;
  }

  /** An element does not tell which sample it plays, but how much it holds; what it got last is what was committed. */
  elementPosition() {
    const { element, clock } = this;
    if (!element || element.paused || !clock.at || !element.buffered.length) return null;
    const held = element.buffered.end(element.buffered.length - 1) - element.currentTime;
    const live = clock.samplePos / SAMPLE_RATE + (performance.now() - clock.at) / 1000 + LIVE_LEAD_S;
    return Math.max(0, (live - held) * SAMPLE_RATE);
  }

  /** Connect for looking and steering only; sound comes with `play`. */
  connect() {
    if (this.link !== "closed" || !this.transport) return;
    this.openLink(null);
  }

  /** Whether anybody looks at the spectrogram; drawing one that nobody sees costs power. @param {boolean} on */
  look(on) {
    this.openWorker().postMessage({ type: "look", on });
  }

  /** Start the sound. Call it from a click: browsers keep an AudioContext silent until then. */
  async play() {
    if (!this.transport) return;
    if (this.wanted && this.link !== "closed") {
      this.context?.resume(); // a click may be all that was missing
      return;
    }
    this.clicked = performance.now();
    this.wanted = true;
    this.firstSoundMs = 0;
    this.settle();
    try {
      if ("audioSession" in navigator) /** @type {any} */ (navigator).audioSession.type = "playback";
      if (this.transport === "mp3") this.playElement();
      else await this.playWorklet();
      this.context?.resume(); // settles only once the browser lets it: "blocked" until then
    } catch (error) {
      if (!this.wanted) return;
      this.setState("unsupported", String(error.message ?? error));
      return;
    }
    this.settle();
    setTimeout(() => this.settle(), 500); // by then a browser that wants a click first has not started
  }

  /** Stop the sound; the control connection stays, so that the page goes on showing the station. */
  pause() {
    if (!this.wanted) return;
    this.wanted = false;
    this.node?.port.postMessage({ type: "play", playing: false });
    if (this.element) {
      this.element.removeAttribute("src");
      this.element.load();
    }
    // A listener who does not hear must not cost the server a stream: go back to control messages only.
    this.openLink(null);
    const context = this.context;
    setTimeout(() => {
      if (!this.wanted && context && context === this.context) context.suspend();
    }, 100); // after the fade
    this.settle();
  }

  /** Leave and free everything. */
  close() {
    this.wanted = false;
    this.closeLink();
    const worker = this.worker;
    this.worker = null;
    setTimeout(() => worker?.terminate(), 500); // once its close frame has left
    this.node?.disconnect();
    this.node = null;
    if (this.element) this.element.src = "";
    this.element = null;
    this.context?.close();
    this.context = null;
    this.module = undefined; // a new context needs it anew
    this.clicked = 0;
    this.report.position = null;
    this.setState("idle");
  }

  /** @param {string} station */
  async tune(station) {
    const wanted = this.wanted;
    this.closeLink();
    this.wanted = false;
    this.station = station;
    this.welcome = null;
    this.now = null;
    this.report.position = null;
    if (wanted) await this.play();
    else this.connect();
  }

  /** @param {number} volume 0..1 */
  setVolume(volume) {
    this.volume = volume;
    // Loudness follows power: a squared fader feels even.
    this.gain?.gain.setTargetAtTime(volume * volume, this.context?.currentTime ?? 0, 0.02);
  }

  /**
   * Change the music.
   * @param {import("./protocol.js").Steer} change
   * @param {(message: {rev: number, audible_at: number, audible_in_ms: number}) => void} [onScheduled] when it is accepted
   * @returns {Promise<{rev: number, audible_at: number}>} settles when the change is spliced; its sound follows at
   *   `audible_at` on the sample clock
   */
  steer(change, onScheduled) {
    return this.ask({ type: "steer", ...change }, onScheduled);
  }

  /** @param {"pause"|"resume"|"reset"|"skip"} op */
  operate(op) {
    return this.ask({ type: "transport", op });
  }

  /** @param {object} message @param {(message: any) => void} [onScheduled] */
  ask(message, onScheduled) {
    const id = `${Date.now().toString(36)}-${++this.ids}`;
    /** @type {Promise<any>} */
    const answer = new Promise((applied, failed) => this.waiting.set(id, { applied, failed, scheduled: onScheduled }));
    this.openWorker().postMessage({ type: "send", message: { ...message, id } });
    // A page that only shows the events need not handle the promise as well.
    answer.catch(() => {});
    return answer;
  }

  /** Try to reconnect now. */
  nudge() {
    this.openWorker().postMessage({ type: "nudge" });
  }

  // Audio graph ------------------------------------------------------------------------------------------------------

  openContext() {
    if (this.context) return this.context;
    const context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "balanced" });
    this.gain = new GainNode(context, { gain: this.volume * this.volume });
    this.analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0, minDecibels: -95, maxDecibels: -15 });
    this.analyser.connect(this.gain).connect(context.destination);
    context.onstatechange = () => this.settle();
    this.context = context;
    return context;
  }

  async playWorklet() {
    const context = this.openContext();
    const channel = new MessageChannel();
    // The sound sets out while the audio thread gets ready; the channel holds what comes meanwhile.
    this.openLink(channel.port2);
    if (!this.node) {
      this.module ??= context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
      await this.module;
      if (!this.wanted) return;
    }
    if (!this.node) {
      const node = new AudioWorkletNode(context, "riffstream-player", { numberOfInputs: 0, outputChannelCount: [2] });
      node.port.onmessage = (event) => this.onReport(event.data);
      node.connect(/** @type {AnalyserNode} */ (this.analyser));
      this.node = node;
    }
    this.node.port.postMessage({ type: "restart" });
    this.node.port.postMessage({ type: "port", port: channel.port1 }, [channel.port1]);
    this.node.port.postMessage({ type: "play", playing: true });
    if (this.welcome?.frame_ms) this.node.port.postMessage({ type: "frame", frameMs: this.welcome.frame_ms });
  }

  playElement() {
    const context = this.openContext();
    if (!this.element) {
      const element = new Audio();
      element.crossOrigin = "anonymous";
      for (const name of ["playing", "waiting", "stalled"]) element.addEventListener(name, () => this.settle());
      element.addEventListener("error", () => {
        if (this.wanted) setTimeout(() => this.wanted && this.startElement(), 2000);
      });
      context.createMediaElementSource(element).connect(/** @type {AnalyserNode} */ (this.analyser));
      this.element = element;
    }
    this.startElement();
    this.openLink(null);
  }

  startElement() {
    if (!this.element) return;
    this.element.src = this.url(`/stream/${encodeURIComponent(this.station)}.mp3`);
    this.element.play().catch(() => this.settle());
  }

  /** @param {any} report */
  onReport(report) {
    this.report = report;
    this.lastReportAt = report.contextTime;
    if (report.audible && !this.firstSoundMs && this.clicked) this.firstSoundMs = performance.now() - this.clicked;
    if (report.audible) this.played += 0.05 * SAMPLE_RATE;
    this.settle();
    this.emit("report", report);
    this.worker?.postMessage({
      type: "stats",
      stats: { buffer_ms: Math.round(report.bufferMs), underruns: report.underruns, played: Math.round(this.played) },
    });
  }

  // Link -------------------------------------------------------------------------------------------------------------

  openWorker() {
    if (!this.worker) {
      this.worker = openWorker(new URL("./stream-worker.js", import.meta.url));
      this.worker.onmessage = (event) => this.onWorker(event.data);
    }
    return this.worker;
  }

  /** @param {MessagePort|null} port where decoded sound goes; null for control messages only */
  openLink(port) {
    const codecs = port ? (this.transport === "opus" ? ["opus", "pcm_s16"] : ["pcm_s16"]) : [];
    const options = { url: this.socketUrl, codecs, token: this.token, steer: this.steering };
    this.abandon("the connection was closed");
    this.link = "connecting";
    this.opened++;
    this.openWorker().postMessage({ type: "open", options, port, number: this.opened }, port ? [port] : []);
  }

  closeLink() {
    this.link = "closed";
    this.opened++;
    this.worker?.postMessage({ type: "close" });
    this.abandon("the connection was closed");
  }

  /** Nobody will answer what was asked. @param {string} why */
  abandon(why) {
    for (const { failed } of this.waiting.values()) failed(new Error(why));
    this.waiting.clear();
  }

  /** @param {any} data */
  onWorker(data) {
    if (data.number !== undefined && data.number !== this.opened) return; // about a link that was given up since
    if (data.type === "state") {
      this.link = data.state;
      this.detail = data.detail ?? "";
      if (["reconnecting", "restarting", "full", "forbidden"].includes(data.state)) this.abandon("the connection was lost");
      this.settle();
    } else if (data.type === "columns") {
      this.emit("columns", data);
    } else if (data.type === "counters") {
      this.counters = data;
    } else if (data.type === "message") this.onMessage(data.message);
  }

  /** @param {any} message */
  onMessage(message) {
    if (message.type === "welcome") {
      this.welcome = message;
      this.clock = { samplePos: 0, at: 0 }; // the clock's first answer follows at once
      if (message.frame_ms) this.node?.port.postMessage({ type: "frame", frameMs: message.frame_ms });
    } else if (message.type === "now") this.now = message;
    else if (message.type === "clock") this.clock = { samplePos: message.sample_pos, at: performance.now() };
    const waiter = this.waiting.get(message.id);
    if (message.type === "scheduled") waiter?.scheduled?.(message);
    if (waiter && ["applied", "superseded", "rejected"].includes(message.type)) {
      this.waiting.delete(message.id);
      if (message.type === "applied") waiter.applied(message);
      else waiter.failed(Object.assign(new Error(message.message ?? message.type), message));
    }
    this.emit(message.type, message);
  }

  // State ------------------------------------------------------------------------------------------------------------

  /** Work out what to tell the listener. */
  settle() {
    if (!this.transport) return;
    this.setState(this.currentState(), this.detail);
  }

  /** @returns {PlayerState} */
  currentState() {
    if (this.link === "full" || this.link === "forbidden" || this.link === "restarting") return this.link;
    const audible =
      this.transport === "mp3"
        ? !!this.element && !this.element.paused && this.element.readyState > 2
        : !!(/** @type {any} */ (this.report).audible);
    if (!this.wanted) return this.link === "reconnecting" ? "reconnecting" : this.clicked ? "paused" : "idle";
    if (this.context && this.context.state !== "running" && performance.now() - this.clicked > 400) return "blocked";
    if (audible) {
      // What is buffered plays on while the line is down.
      if (this.link === "reconnecting") return "reconnecting";
      return this.report.bufferMs < 40 && this.transport !== "mp3" ? "behind" : "playing";
    }
    if (this.link === "open") return "buffering";
    return this.link === "reconnecting" ? "reconnecting" : "connecting";
  }

  /** @param {PlayerState} state @param {string} [detail] */
  setState(state, detail = "") {
    if (state === this.state) return;
    this.state = state;
    this.emit("state", { state, detail });
  }

  /** @param {string} name @param {any} detail */
  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
