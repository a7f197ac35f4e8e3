// @ts-check
/** The 2D view: a spectrogram of what is heard now, flowing past a playhead; beats, bars and prompt changes on it. */
import { backOf, markOf, paletteWords, toneOf } from "./palette.js";
import { COLUMN_SAMPLES, COLUMNS, place, ROWS, beatsBetween } from "./spectrum.js";

export const PLAYHEAD = 0.8;

export const LOOKS = /** @type {const} */ (["spectrogram", "landscape", "radial", "bars"]);
/** @typedef {typeof LOOKS[number]} Look */

/** @typedef {{samplePos: number, label: string, pending: boolean}} Marker */

/**
 * @typedef {object} Scene
 * @property {import("./spectrum.js").SpectrumRing} ring
 * @property {number} position          sample clock of what is heard
 * @property {any} now                  the station's `now` that belongs to it
 * @property {Marker[]} markers
 * @property {number} sampleRate
 */

const TONES = {
  dark: { ink: "255,246,230", head: "rgba(255,246,230,.9)", veil: 0.55 },
  light: { ink: "40,16,60", head: "rgba(42,10,46,.8)", veil: 0.6 },
};
/** Two themes have marks of their own; a palette's is its colour of loud sound. @type {Record<string, string>} */
const MARKS = { dark: "#ffd08a", light: "#8a1c6e" };

/** @param {import("./palette.js").Colours} name */
const lookOf = (name) => ({ ...TONES[toneOf(name)], back: backOf(name), marker: MARKS[name] ?? markOf(name) });

export class Visualiser2D {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {boolean} [clear] silence is transparent, for a layer over a video
   */
  constructor(canvas, clear = false) {
    this.canvas = canvas;
    this.clear = clear;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: clear }));
    this.store = document.createElement("canvas");
    this.store.width = COLUMNS;
    this.store.height = ROWS;
    this.storeContext = /** @type {CanvasRenderingContext2D} */ (this.store.getContext("2d", { alpha: clear }));
    this.column = new ImageData(1, ROWS);
    this.words = new Uint32Array(this.column.data.buffer);
    this.look = lookOf("dark");
    this.colours = paletteWords("dark", clear);
    this.stored = -1; // newest column in the store
    this.epoch = -1; // of the ring, when it was stored
    this.store.addEventListener("contextrestored", () => (this.epoch = -1)); // what it held is gone
  }

  /** @param {import("./palette.js").Colours} name */
  setTheme(name) {
    this.look = lookOf(name);
    this.colours = paletteWords(name, this.clear);
    this.epoch = -1;
  }

  /** Begin a picture: nothing but the background. @returns {number} device pixels of a CSS pixel */
  begin() {
    const ratio = this.resize();
    const { width, height } = this.canvas;
    if (this.clear) this.context.clearRect(0, 0, width, height);
    else {
      this.context.fillStyle = this.look.back;
      this.context.fillRect(0, 0, width, height);
    }
    return ratio;
  }

  resize() {
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (width !== this.canvas.width || height !== this.canvas.height) Object.assign(this.canvas, { width, height });
    return ratio;
  }

  /** @param {import("./spectrum.js").SpectrumRing} ring */
  storeColumns(ring) {
    if (ring.epoch !== this.epoch) {
      this.epoch = ring.epoch;
      this.stored = -1;
    }
    for (let column = Math.max(this.stored + 1, ring.latest - COLUMNS + 1); column <= ring.latest; column++) {
      const at = (column + COLUMNS) % COLUMNS;
      const levels = ring.levels.subarray(at * ROWS, (at + 1) * ROWS);
      for (let r = 0; r < ROWS; r++) this.words[ROWS - 1 - r] = this.colours[levels[r]];
      this.storeContext.putImageData(this.column, at, 0);
    }
    this.stored = ring.latest;
  }

  /**
   * Draw one picture.
   * @param {Scene} scene
   */
  draw({ ring, position, now, markers, sampleRate }) {
    const ratio = this.begin();
    const { width, height } = this.canvas;
    const { context, look } = this;
    if (ring.latest < 0) return;
    this.storeColumns(ring);

    // A narrow screen shows less time, so that a beat keeps a width that the eye can follow: 3.6 to 14 s in all.
    const span = Math.min(14, Math.max(3.6, width / ratio / 120)) * sampleRate;
    const head = Math.round(width * PLAYHEAD);
    const from = position - span * PLAYHEAD;
    const to = position + span * (1 - PLAYHEAD);
    const first = Math.max(0, Math.floor(from / COLUMN_SAMPLES), ring.latest - COLUMNS + 1);
    const last = Math.min(ring.latest, Math.ceil(to / COLUMN_SAMPLES));
    const perColumn = (width * COLUMN_SAMPLES) / span;
    for (let column = first; column <= last; ) {
      const at = column % COLUMNS;
      const count = Math.min(COLUMNS - at, last - column + 1);
      const x = place((column - 0.5) * COLUMN_SAMPLES, position, PLAYHEAD, span) * width;
      context.drawImage(this.store, at, 0, count, ROWS, x, 0, count * perColumn, height);
      column += count;
    }
    // Past the playhead lies what is buffered but not heard yet.
    context.fillStyle = look.back;
    context.globalAlpha = look.veil;
    if (this.clear) context.clearRect(head, 0, width - head, height);
    else context.fillRect(head, 0, width - head, height);
    context.globalAlpha = 1;

    for (const { samplePos, inBar } of beatsBetween(now, from, to, sampleRate)) {
      const x = Math.round(place(samplePos, position, PLAYHEAD, span) * width);
      const bar = inBar === 0;
      context.fillStyle = `rgba(${look.ink},${bar ? 0.22 : 0.08})`;
      context.fillRect(x, 0, Math.max(1, bar ? ratio : ratio / 2), height);
    }
    this.drawMarkers(markers, (samplePos) => Math.round(place(samplePos, position, PLAYHEAD, span) * width), ratio);
    context.fillStyle = look.head;
    context.fillRect(head, 0, 1.5 * ratio, height);
  }

  /**
   * @param {Marker[]} markers
   * @param {(samplePos: number) => number} across
   * @param {number} ratio
   */
  drawMarkers(markers, across, ratio) {
    const { context, canvas, look } = this;
    context.font = `600 ${12.5 * ratio}px ui-sans-serif, system-ui, sans-serif`;
    context.textBaseline = "middle";
    const tall = 22 * ratio;
    for (const [index, marker] of markers.entries()) {
      const x = across(marker.samplePos);
      if (x < -600 * ratio || x > canvas.width) continue;
      const label = marker.label.length > 44 ? `${marker.label.slice(0, 43)}…` : marker.label;
      const wide = context.measureText(label).width + 14 * ratio;
      // Neighbours stand on two lines, so that changes in quick succession can be read.
      const y = (12 + (index % 2) * 28) * ratio;
      context.globalAlpha = marker.pending ? 0.75 : 1;
      context.fillStyle = look.marker;
      if (marker.pending) for (let dash = 0; dash < canvas.height; dash += 10 * ratio) context.fillRect(x, dash, 1.5 * ratio, 5 * ratio);
      else context.fillRect(x, 0, 1.5 * ratio, canvas.height);
      context.fillRect(x, y, wide, tall);
      context.fillStyle = look.back;
      context.fillText(label, x + 7 * ratio, y + tall / 2);
      context.globalAlpha = 1;
    }
  }
}
