// @ts-check
/**
 * Decides how much to hold back and how fast to read: an adaptive target between 200 and 600 ms, and a rate within
 * 0.5 % of 1 that leads the fill towards it. Real sound cards drift by some 200 parts in a million.
 */

export const TARGET_MIN_MS = 200;
export const TARGET_MAX_MS = 600;
const MAX_RATE_OFFSET = 0.005;
/** How far from the target the average fill may be without anything being done about it. */
const CLOSE = 0.15;
/** Half a minute without trouble takes 10 ms off the target again. */
const CALM_MS = 30000;

export class Pacer {
  /** @param {number} sampleRate */
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.minMs = TARGET_MIN_MS;
    this.targetMs = TARGET_MIN_MS;
    this.calmMs = 0;
    this.average = -1; // smoothed fill, samples
    this.rate = 1;
    this.open = false;
  }

  /** Frames of `frameMs` arrive at a stroke: hold back one of them and some for the network. @param {number} frameMs */
  setFrame(frameMs) {
    this.minMs = Math.min(TARGET_MAX_MS, Math.max(TARGET_MIN_MS, frameMs + 100));
    this.targetMs = Math.max(this.targetMs, this.minMs);
  }

  get target() {
    return (this.targetMs * this.sampleRate) / 1000;
  }

  /**
   * Once a block.
   * @param {number} fill samples waiting
   * @param {number} block samples just played
   * @returns {number} the rate to read the next block at
   */
  update(fill, block) {
    if (!this.open) {
      this.average = fill;
      if (fill >= this.target) this.open = true;
      this.rate = 1;
      return this.rate;
    }
    // Frames arrive in bursts of some 200 ms; a two-second average sees through them.
    this.average += (fill - this.average) * (block / (2 * this.sampleRate));
    const error = (this.average - this.target) / this.target;
    // Near the target the rate is exactly 1, and the samples come out as they went in. Wide enough for how far a start may
    // miss it: frames of 60 ms make the average anything from 170 to 230 of 200.
    const wanted = Math.abs(error) < CLOSE ? 0 : Math.max(-1, Math.min(1, error)) * MAX_RATE_OFFSET;
    this.rate += (1 + wanted - this.rate) * Math.min(1, block / 12800);
    if (wanted === 0 && Math.abs(this.rate - 1) < 1e-5) this.rate = 1;
    this.calmMs += (1000 * block) / this.sampleRate;
    if (this.calmMs > CALM_MS && this.targetMs > this.minMs) {
      this.targetMs = Math.max(this.minMs, this.targetMs - 10);
      this.calmMs = 0;
    }
    return this.rate;
  }

  /** The ring ran dry: hold back more, and wait until it is there. */
  underrun() {
    this.targetMs = Math.min(TARGET_MAX_MS, this.targetMs * 1.5);
    this.calmMs = 0;
    this.open = false;
  }
}
