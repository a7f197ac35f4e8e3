// @ts-check
/** What the server still lets this connection change: its token bucket, mirrored. No DOM. */

export class Bucket {
  /** @param {number} intervalS between changes in the long run @param {number} burst changes at once @param {number} now ms */
  constructor(intervalS, burst, now) {
    this.intervalS = intervalS;
    this.burst = Math.max(1, burst);
    this.tokens = this.burst;
    this.at = now;
  }

  /** @param {number} now ms */
  refill(now) {
    const passed = Math.max(0, now - this.at) / 1000;
    this.at = now;
    this.tokens = this.intervalS > 0 ? Math.min(this.burst, this.tokens + passed / this.intervalS) : this.burst;
  }

  /** A change was sent. @param {number} now ms */
  take(now) {
    this.refill(now);
    this.tokens = Math.max(-1, this.tokens - 1);
  }

  /** How far the next change is: 0 just used, 1 free. @param {number} now ms */
  ready(now) {
    this.refill(now);
    return Math.max(0, Math.min(1, this.tokens));
  }

  /** Seconds until a change passes at once. @param {number} now ms */
  waitS(now) {
    this.refill(now);
    return Math.max(0, 1 - this.tokens) * this.intervalS;
  }
}
