// @ts-check
/** The way of a browser that is told to play the MP3 stream: an <audio> element. Fetched when it is asked for. */
import { SAMPLE_RATE } from "./protocol.js";
import { COLUMN_SAMPLES, ROWS, rowBins, rowLevel, rowValue } from "./spectrum.js";
import { Watch } from "./watch.js";

/** What the server has committed beyond what its clock calls audible: its send lead and the buffer that it reckons with. */
const LIVE_LEAD_S = 0.45;

/** How long it may stand while it plays, and how long until a new load sounds, ms; then it loads again, from live. */
const STANDS_MS = 4000;
const LOADS_MS = 10000;
/** Waits between loads that fail one after another, ms. */
const RETRY_MS = [250, 1000, 2000, 4000, 8000, 15000];
/** So much sound proves that a load was good, s. */
const GOOD_S = 5;

export class ElementSource {
  /**
   * @param {AudioContext} context
   * @param {AudioNode} destination
   * @param {() => void} onChange   it plays, waits, stalls or was stopped
   * @param {() => boolean} wanted
   */
  constructor(context, destination, onChange, wanted) {
    const element = new Audio();
    element.crossOrigin = "anonymous";
    for (const name of ["playing", "waiting", "stalled"]) element.addEventListener(name, onChange);
    // The stream is endless: an end is a cut.
    for (const name of ["ended", "error"]) element.addEventListener(name, () => this.loadAgain());
    element.addEventListener("pause", () => {
      if (!element.ended && wanted()) this.held = true; // by the system, not by us
      onChange();
    });
    const analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0, minDecibels: -95, maxDecibels: -15 });
    context.createMediaElementSource(element).connect(analyser).connect(destination);
    this.ear = new Ear(analyser);
    this.element = element;
    this.onChange = onChange;
    this.wanted = wanted;
    this.url = "";
    this.held = false; // the browser or the system will not let it play
    this.loads = 0;
    this.failures = 0; // loads in a row that came to nothing
    this.watch = new Watch();
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.retry = undefined;
  }

  /** @param {string} url */
  play(url) {
    this.url = url;
    this.failures = 0;
    this.load();
  }

  load() {
    clearTimeout(this.retry);
    this.retry = undefined;
    this.watch.restart();
    // Each load has an address of its own: of one that it knows, a browser asks for the rest, and throws away as much of
    // the live sound as it had played before the cut.
    const url = new URL(this.url);
    url.searchParams.set("load", String(++this.loads));
    this.element.src = url.href;
    this.wake();
  }

  /** Play, where the browser or the system held it back. */
  wake() {
    if (!this.url) return;
    this.held = false;
    this.element.play().catch((error) => {
      this.held ||= error.name === "NotAllowedError";
      this.onChange();
    });
  }

  /** The load came to its end: begin another one, later and later while they fail. */
  loadAgain() {
    if (!this.wanted() || this.retry !== undefined) return;
    if (this.element.currentTime > GOOD_S) this.failures = 0;
    const wait = RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)];
    this.retry = setTimeout(() => {
      this.retry = undefined;
      if (this.wanted()) this.load();
    }, wait);
    this.onChange();
  }

  /** Look whether it gets on, about once a second while its context runs. @param {number} now ms */
  check(now) {
    const { currentTime } = this.element;
    if (this.held || this.retry !== undefined) return;
    if (this.watch.look(currentTime, now) >= (currentTime > 0 ? STANDS_MS : LOADS_MS)) this.loadAgain();
  }

  stop() {
    clearTimeout(this.retry);
    this.retry = undefined;
    this.url = "";
    this.element.removeAttribute("src");
    this.element.load();
  }

  get audible() {
    return !this.element.paused && this.element.readyState > 2 && this.watch.stoodMs < 1000;
  }

  /**
   * An element does not tell which sample it plays, but how much it holds; what it got last is what was committed.
   * @param {{samplePos: number, at: number}} clock what the server said is audible, and when, ms
   */
  position(clock) {
    const { element } = this;
    if (element.paused || !clock.at || !element.buffered.length) return null;
    const held = element.buffered.end(element.buffered.length - 1) - element.currentTime;
    const live = clock.samplePos / SAMPLE_RATE + (performance.now() - clock.at) / 1000 + LIVE_LEAD_S;
    return Math.max(0, (live - held) * SAMPLE_RATE);
  }
}

/** Fills the spectrogram by listening, where the samples are never seen. */
export class Ear {
  /** @param {AnalyserNode} analyser */
  constructor(analyser) {
    this.analyser = analyser;
    this.db = new Float32Array(analyser.frequencyBinCount);
    this.edges = rowBins(this.db.length, SAMPLE_RATE);
    this.levels = new Uint8Array(ROWS);
  }

  /**
   * Store what is heard now; columns that passed since the last call get the same.
   * @param {import("./spectrum.js").SpectrumRing} ring
   * @param {number} position sample clock
   */
  listen(ring, position) {
    const column = Math.floor(position / COLUMN_SAMPLES);
    if (column <= ring.latest && ring.latest - column <= 100) return; // an estimated clock may step back a little
    this.analyser.getFloatFrequencyData(this.db);
    const { db, edges, levels } = this;
    for (let r = 0; r < ROWS; r++) levels[r] = rowLevel(rowValue(db, edges[r], edges[r + 1]), r);
    const from = column > ring.latest && column - ring.latest <= 100 ? ring.latest + 1 : column;
    for (let c = from; c <= column; c++) ring.put(c, levels);
  }
}
