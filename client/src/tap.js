// @ts-check
/** Tempo from taps of a hand. */

const PAUSE_MS = 2500; // after so long a new count begins
const KEPT = 12;
const LEAST = 3;

export class TapTempo {
  constructor() {
    /** @type {number[]} */
    this.times = [];
  }

  /**
   * @param {number} now ms
   * @returns {number|null} beats a minute, the median of the last taps; null before the third
   */
  tap(now) {
    if (now - (this.times.at(-1) ?? -Infinity) > PAUSE_MS) this.times = [];
    this.times.push(now);
    this.times.splice(0, this.times.length - KEPT);
    if (this.times.length < LEAST) return null;
    const gaps = this.times.slice(1).map((time, index) => time - this.times[index]).sort((a, b) => a - b);
    const middle = gaps.length >> 1;
    const gap = gaps.length % 2 ? gaps[middle] : (gaps[middle - 1] + gaps[middle]) / 2;
    return gap > 0 ? 60000 / gap : null;
  }
}
