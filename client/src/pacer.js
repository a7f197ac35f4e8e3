// @ts-check
/**
 * Decides how much to hold back and how fast to read: a target that begins at 200 ms and adapts to the line, and a rate
 * within 0.5 % of 1 that leads the fill towards it. Real sound cards drift by some 200 parts in a million.
 *
 * Every second the pacer notes how far the fill fell below its average. The target follows the worst second of the last
 * minute, so that a calm line has changes audible after 80 ms in place of 200.
 */

/** Target at the start and after an underrun. */
export const TARGET_START_MS = 200;
export const TARGET_MIN_MS = 80;
export const TARGET_MAX_MS = 600;
const MAX_RATE_OFFSET = 0.005;
/** How far from the target the average fill may be without anything being done about it. */
const CLOSE = 0.15;
/** Half a minute without an underrun takes 10 ms off the lowest target that the last underrun left behind. */
const CALM_MS = 30000;
/** Seconds whose dips the target covers. */
const MEMORY = 60;
/** Seconds of observation before the target falls, and its fall a second: a little slower than the reading rate can follow. */
const LEAST_SEEN = 3;
const FALL_MS = 4;
/** The target covers a dip one and a half times as deep as the worst one, and leaves this much over. */
const DEEPER = 1.5;
const SPARE_MS = 25;

export class Pacer {
  /** @param {number} sampleRate */
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.startMs = TARGET_START_MS;
    this.minMs = TARGET_MIN_MS;
    this.targetMs = TARGET_START_MS;
    this.floorMs = 0; // set by an underrun, falls slowly
    this.calmMs = 0;
    this.average = -1; // smoothed fill, samples
    this.rate = 1;
    this.open = false;
    this.dips = new Float64Array(MEMORY); // ms, one for each second
    this.seconds = 0; // seconds observed since the buffer opened
    this.played = 0; // samples of the current second
    this.lowest = Infinity; // fill in the current second, samples
  }

  /** Frames of `frameMs` arrive at a stroke: hold back one of them and as much for the network. @param {number} frameMs */
  setFrame(frameMs) {
    this.startMs = Math.min(TARGET_MAX_MS, Math.max(TARGET_START_MS, frameMs + 100));
    this.minMs = Math.min(this.startMs, Math.max(TARGET_MIN_MS, 2 * frameMs));
    this.targetMs = Math.max(this.targetMs, this.startMs);
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
      if (fill >= this.target) {
        this.open = true;
        this.seconds = this.played = 0;
        this.lowest = Infinity;
      }
      this.rate = 1;
      return this.rate;
    }
    // Frames arrive in bursts; a two-second average sees through them.
    this.average += (fill - this.average) * (block / (2 * this.sampleRate));
    this.watch(fill, block);
    const error = (this.average - this.target) / this.target;
    // Near the target the rate is exactly 1, and the samples come out as they went in. Wide enough for how far a start may
    // miss it: frames of 60 ms make the average anything from 170 to 230 of 200.
    const wanted = Math.abs(error) < CLOSE ? 0 : Math.max(-1, Math.min(1, 3 * error)) * MAX_RATE_OFFSET;
    this.rate += (1 + wanted - this.rate) * Math.min(1, block / 12800);
    if (wanted === 0 && Math.abs(this.rate - 1) < 1e-5) this.rate = 1;
    return this.rate;
  }

  /** Note the dips of the fill, and move the target once a second. @param {number} fill @param {number} block */
  watch(fill, block) {
    this.lowest = Math.min(this.lowest, fill);
    this.played += block;
    if (this.played < this.sampleRate) return;
    this.calmMs += (1000 * this.played) / this.sampleRate;
    this.dips[this.seconds++ % MEMORY] = (1000 * Math.max(0, this.average - this.lowest)) / this.sampleRate;
    this.played = 0;
    this.lowest = Infinity;
    if (this.calmMs > CALM_MS) {
      this.floorMs -= 10;
      this.calmMs = 0;
    }
    let worst = 0;
    for (let i = Math.min(this.seconds, MEMORY) - 1; i >= 0; i--) worst = Math.max(worst, this.dips[i]);
    const wanted = Math.max(this.minMs, this.floorMs, Math.min(TARGET_MAX_MS, DEEPER * worst + SPARE_MS));
    if (wanted > this.targetMs) this.targetMs = wanted;
    else if (this.seconds >= LEAST_SEEN) this.targetMs = Math.max(wanted, this.targetMs - FALL_MS);
  }

  /** The ring ran dry: hold back more, and wait until it is there. */
  underrun() {
    this.targetMs = this.floorMs = Math.min(TARGET_MAX_MS, Math.max(this.startMs, this.targetMs * 1.5));
    this.calmMs = 0;
    this.open = false;
  }
}
