// @ts-check
/** The 2D view: a spectrogram of what is heard now, flowing past a playhead; beats, bars and prompt changes on it. */
import { paletteWords } from "./palette.js";
import { COLUMN_SAMPLES, COLUMNS, place, ROWS, beatsBetween } from "./spectrum.js";

export const PLAYHEAD = 0.74;

/** @typedef {{samplePos: number, label: string, pending: boolean}} Marker */

export class Visualiser2D {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
    this.store = document.createElement("canvas");
    this.store.width = COLUMNS;
    this.store.height = ROWS;
    this.storeContext = /** @type {CanvasRenderingContext2D} */ (this.store.getContext("2d", { alpha: false }));
    this.column = new ImageData(1, ROWS);
    this.words = new Uint32Array(this.column.data.buffer);
    /** @type {import("./palette.js").Theme} */
    this.theme = "dark";
    this.colours = paletteWords(this.theme);
    this.stale = true; // the stored columns have other colours than asked for
  }

  /** @param {import("./palette.js").Theme} theme */
  setTheme(theme) {
    this.theme = theme;
    this.colours = paletteWords(theme);
    this.stale = true;
  }

  resize() {
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (width !== this.canvas.width || height !== this.canvas.height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    return ratio;
  }

  /**
   * @param {import("./spectrum.js").SpectrumRing} ring
   * @param {number} count
   */
  storeColumns(ring, count) {
    for (let back = Math.min(count, COLUMNS) - 1; back >= 0; back--) {
      const at = (((ring.latest - back) % COLUMNS) + COLUMNS) % COLUMNS;
      const levels = ring.levels.subarray(at * ROWS, (at + 1) * ROWS);
      for (let r = 0; r < ROWS; r++) this.words[ROWS - 1 - r] = this.colours[levels[r]];
      this.storeContext.putImageData(this.column, at, 0);
    }
  }

  /**
   * Draw one picture.
   * @param {import("./spectrum.js").SpectrumRing|null} ring
   * @param {number} fresh columns that came since the last call
   * @param {number} position sample clock of what is heard
   * @param {any} now the station's last `now`
   * @param {Marker[]} markers
   * @param {number} sampleRate
   */
  draw(ring, fresh, position, now, markers, sampleRate) {
    const ratio = this.resize();
    const { width, height } = this.canvas;
    const context = this.context;
    const dark = this.theme === "dark";
    context.fillStyle = dark ? "#0c0b12" : "#f7f5fb";
    context.fillRect(0, 0, width, height);
    if (!ring || ring.latest < 0) return;
    if (this.stale) {
      this.stale = false;
      fresh = COLUMNS;
    }
    this.storeColumns(ring, fresh);

    // A narrow screen shows less time, so that a beat keeps a width that the eye can follow.
    const shown = Math.min(COLUMNS - 8, Math.max(300, Math.round((width / ratio / 1200) * 900)));
    const span = (shown / PLAYHEAD) * COLUMN_SAMPLES;
    const perColumn = (width * PLAYHEAD) / shown;
    const offset = (position / COLUMN_SAMPLES - ring.latest - 1) * perColumn; // smooth between columns
    const end = (ring.latest % COLUMNS) + 1;
    const right = width * PLAYHEAD - offset;
    context.imageSmoothingQuality = "low";
    const first = Math.min(end, shown + 2);
    context.drawImage(this.store, end - first, 0, first, ROWS, right - first * perColumn, 0, first * perColumn, height);
    if (first < shown + 2) {
      const rest = shown + 2 - first;
      context.drawImage(this.store, COLUMNS - rest, 0, rest, ROWS, right - (first + rest) * perColumn, 0, rest * perColumn + 1, height);
    }
    // What is not heard yet is not known: cover the sliver past the playhead.
    context.fillStyle = dark ? "#0c0b12" : "#f7f5fb";
    context.fillRect(width * PLAYHEAD, 0, width, height);

    const from = position - span * PLAYHEAD;
    const to = position + span * (1 - PLAYHEAD);
    const ink = dark ? "255,246,230" : "40,16,60";
    for (const { samplePos, beat } of beatsBetween(now, from, to, sampleRate)) {
      const x = Math.round(place(samplePos, position, PLAYHEAD, span) * width);
      const bar = beat % 4 === 0;
      context.fillStyle = `rgba(${ink},${bar ? 0.2 : 0.07})`;
      context.fillRect(x, 0, bar ? ratio : Math.max(1, ratio / 2), height);
    }
    context.font = `500 ${12 * ratio}px ui-sans-serif, system-ui, sans-serif`;
    context.textBaseline = "top";
    for (const marker of markers) {
      const x = Math.round(place(marker.samplePos, position, PLAYHEAD, span) * width);
      if (x < -600 || x > width) continue;
      context.fillStyle = dark ? "#ffd08a" : "#8a1c6e";
      context.globalAlpha = marker.pending ? 0.6 : 0.9;
      context.fillRect(x, 0, 1.5 * ratio, height);
      const label = marker.label.length > 44 ? marker.label.slice(0, 43) + "…" : marker.label;
      context.fillText(label, x + 7 * ratio, 12 * ratio);
      context.globalAlpha = 1;
    }
    context.fillStyle = dark ? "rgba(255,246,230,.85)" : "rgba(42,10,46,.8)";
    context.fillRect(Math.round(width * PLAYHEAD), 0, 1.5 * ratio, height);
  }
}
