// @ts-check
/**
 * Turns the samples on their way to the loudspeaker into columns of the spectrogram, in the worker: a busy page then
 * draws fewer pictures, but never smears them. Low rows come from a long window (pitch), high rows from a short one
 * (attacks), with a soft passage between.
 */
import { Spectrum } from "./fft.js";
import { COLUMN_SAMPLES, ROWS, rowBins, rowLevel, rowValue } from "./spectrum.js";

const LONG = 4096;
const SHORT = 1024;
/** Rows of 350 and 1,400 Hz: below the first only the long window counts, above the second only the short one. */
const PASSAGE = [Math.round((ROWS * Math.log2(350 / 40)) / Math.log2(400)), Math.round((ROWS * Math.log2(1400 / 40)) / Math.log2(400))];
const BATCH = 8;

/** @callback OnColumns
 *  @param {number} first column number
 *  @param {Uint8Array<ArrayBuffer>} levels
 */

export class Columns {
  /**
   * @param {number} sampleRate
   * @param {OnColumns} onColumns
   */
  constructor(sampleRate, onColumns) {
    this.onColumns = onColumns;
    this.long = new Spectrum(LONG);
    this.short = new Spectrum(SHORT);
    this.longEdges = rowBins(LONG / 2, sampleRate);
    this.shortEdges = rowBins(SHORT / 2, sampleRate);
    this.ring = new Float32Array(2 * LONG);
    this.next = -1; // sample clock of the sample that is expected next
    this.column = 0; // next column to be measured; it stands for the sample column * COLUMN_SAMPLES
    this.first = 0;
    /** @type {Uint8Array<ArrayBuffer>} */
    this.batch = new Uint8Array(BATCH * ROWS);
    this.count = 0;
  }

  /**
   * @param {number} samplePos
   * @param {Float32Array} left
   * @param {Float32Array} right
   */
  push(samplePos, left, right) {
    if (samplePos !== this.next) {
      this.flush();
      this.ring.fill(0);
      this.column = Math.ceil(samplePos / COLUMN_SAMPLES);
    }
    const mask = this.ring.length - 1;
    for (let i = 0; i < left.length; i++) {
      this.ring[(samplePos + i) & mask] = 0.5 * (left[i] + right[i]);
      // A window reaches half its length past the column that it stands for.
      if (samplePos + i + 1 === this.column * COLUMN_SAMPLES + LONG / 2) this.measure();
    }
    this.next = samplePos + left.length;
  }

  measure() {
    const centre = this.column * COLUMN_SAMPLES;
    const size = this.ring.length;
    if (this.count === 0) this.first = this.column;
    // Low notes do not move in 10 ms: every other column will do for the long window, which costs the most.
    const low = this.column % 2 === 0 || this.count === 0 ? this.long.measure(this.ring, (centre - LONG / 2 + size) % size) : this.long.power;
    const high = this.short.measure(this.ring, (centre - SHORT / 2 + size) % size);
    const base = this.count * ROWS;
    for (let r = 0; r < ROWS; r++) {
      const mix = Math.min(1, Math.max(0, (r - PASSAGE[0]) / (PASSAGE[1] - PASSAGE[0])));
      let power = 0;
      if (mix < 1) power += (1 - mix) * rowValue(low, this.longEdges[r], this.longEdges[r + 1]);
      if (mix > 0) power += mix * rowValue(high, this.shortEdges[r], this.shortEdges[r + 1]);
      this.batch[base + r] = rowLevel(10 * Math.log10(power + 1e-12), r);
    }
    this.column++;
    if (++this.count === BATCH) this.flush();
  }

  /** Send what is measured. */
  flush() {
    if (this.count) this.onColumns(this.first, this.batch.slice(0, this.count * ROWS));
    this.count = 0;
  }
}
