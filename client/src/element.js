// @ts-check
/** The way of a browser that is told to play the MP3 stream: an <audio> element. Fetched when it is asked for. */
import { SAMPLE_RATE } from "./protocol.js";
import { COLUMN_SAMPLES, ROWS, rowBins, rowLevel, rowValue } from "./spectrum.js";

/** What the server has committed beyond what its clock calls audible: its send lead and the buffer that it reckons with. */
const LIVE_LEAD_S = 0.45;

export class ElementSource {
  /**
   * @param {AudioContext} context
   * @param {AudioNode} destination
   * @param {() => void} onChange   it plays, waits or stalls
   * @param {() => boolean} wanted
   */
  constructor(context, destination, onChange, wanted) {
    const element = new Audio();
    element.crossOrigin = "anonymous";
    for (const name of ["playing", "waiting", "stalled"]) element.addEventListener(name, onChange);
    element.addEventListener("error", () => {
      if (wanted()) setTimeout(() => wanted() && this.play(element.src), 2000);
    });
    const analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0, minDecibels: -95, maxDecibels: -15 });
    context.createMediaElementSource(element).connect(analyser).connect(destination);
    this.ear = new Ear(analyser);
    this.element = element;
    this.onChange = onChange;
  }

  /** @param {string} url */
  play(url) {
    this.element.src = url;
    this.element.play().catch(this.onChange);
  }

  stop() {
    this.element.removeAttribute("src");
    this.element.load();
  }

  get audible() {
    return !this.element.paused && this.element.readyState > 2;
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
