// @ts-check
/** Tells when a clock that should run stands still. No DOM. */

/** What one look can add: a page that slept, or whose timers are slowed down, has not watched in between. */
const MOST_MS = 1500;

export class Watch {
  value = NaN;
  lookedAt = 0;
  stoodMs = 0;

  /** Begin anew: what stood before does not count. */
  restart() {
    this.value = NaN;
    this.stoodMs = 0;
  }

  /**
   * Look at the clock, about once a second.
   * @param {number} value of the clock
   * @param {number} now ms
   * @returns {number} how long it has stood, ms
   */
  look(value, now) {
    if (value === this.value) this.stoodMs += Math.min(MOST_MS, now - this.lookedAt);
    else this.stoodMs = 0;
    this.value = value;
    this.lookedAt = now;
    return this.stoodMs;
  }
}
