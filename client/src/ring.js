// @ts-check
/**
 * The playback ring: stereo samples with their place on the station's sample clock, read at a rate that may be a hair
 * off 1 so that a sound card's own clock never empties or floods it. No DOM, no allocation after the constructor.
 */

/** Length of every fade, in samples: 5 ms, short enough to keep an attack, long enough not to click. */
const FADE = 240;
/** How much faster than 1 a read goes, at the most, to come back to whole samples: 0.9 cents, for 42 ms at the longest. */
const GLIDE = 0.0005;

export class Ring {
  /** @param {number} capacity in samples per channel; a power of two */
  constructor(capacity) {
    if (capacity < 2 || (capacity & (capacity - 1)) !== 0) throw new RangeError("capacity must be a power of two");
    this.capacity = capacity;
    this.mask = capacity - 1;
    this.left = new Float32Array(capacity);
    this.right = new Float32Array(capacity);
    this.written = 0; // samples written since the reset
    this.read = 0; // fractional read position, same count
    this.origin = 0; // sample clock of count 0
    this.known = false; // whether origin is set
    this.gain = 0; // of the fade, 0..1
    this.underruns = 0;
    this.overruns = 0;
    this.skips = 0;
    this.starved = true; // nothing was there at the last read
    this.lastLeft = 0;
    this.lastRight = 0;
  }

  /** Forget the samples, keep the counters; the next to arrive start a new stretch. */
  reset() {
    this.written = 0;
    this.read = 0;
    this.known = false;
    this.gain = 0;
    this.starved = true;
  }

  /** Samples waiting to be read. */
  get fill() {
    return this.written - Math.ceil(this.read);
  }

  /** Sample clock of the next sample to be heard; null before the first. */
  get position() {
    return this.known ? this.origin + this.read : null;
  }

  /**
   * Append samples. A jump of the sample clock is kept (position follows it); overlapping samples are dropped; when full,
   * the oldest are, and counted.
   * @param {number} samplePos sample clock of the first one
   * @param {Float32Array} left
   * @param {Float32Array} right
   */
  push(samplePos, left, right) {
    let skip = 0;
    if (!this.known || this.fill <= 0) {
      this.origin = samplePos - this.written;
      this.read = this.written;
      this.known = true;
    } else {
      const expected = this.origin + this.written;
      if (samplePos < expected) skip = Math.min(left.length, expected - samplePos);
      // A gap cannot be filled: the samples join, and the clock moves once the old ones are heard.
      else if (samplePos > expected) this.jump(samplePos - expected);
    }
    for (let i = skip; i < left.length; i++) {
      const at = this.written & this.mask;
      this.left[at] = left[i];
      this.right[at] = right[i];
      this.written++;
    }
    const excess = this.written - Math.floor(this.read) - this.capacity;
    if (excess > 0) {
      this.read += excess;
      this.overruns++;
    }
  }

  /**
   * The clock jumped ahead by `samples` between what is stored and what comes: fade the seam and follow the clock.
   * @param {number} samples
   */
  jump(samples) {
    const fade = Math.min(FADE, this.fill);
    for (let i = 1; i <= fade; i++) {
      const at = (this.written - i) & this.mask;
      const gain = (i - 1) / fade;
      this.left[at] *= gain;
      this.right[at] *= gain;
    }
    this.origin += samples;
  }

  /**
   * Drop all but the newest `samples`, to come back to live; what was heard fades into what is.
   * @param {number} samples
   */
  skipTo(samples) {
    const from = Math.floor(this.read);
    const to = this.written - Math.max(FADE, Math.round(samples));
    if (to <= from) return;
    if (this.gain > 0) {
      for (let i = 0; i < FADE; i++) {
        const old = (from + i) & this.mask;
        const at = (to + i) & this.mask;
        const share = i / FADE;
        this.left[at] = share * this.left[at] + (1 - share) * this.left[old];
        this.right[at] = share * this.right[at] + (1 - share) * this.right[old];
      }
    }
    this.read = to;
    this.skips++;
  }

  /**
   * Fill a block; silence where there is nothing, with a fade into and out of it.
   * @param {Float32Array} left
   * @param {Float32Array} right
   * @param {number} rate samples to advance per output sample, 0.99..1.01; at 1 the samples come out as they went in, soon
   *   after another rate
   * @param {boolean} open false holds the samples back and fades to silence (buffering, paused)
   */
  pull(left, right, rate, open) {
    const step = 1 / FADE;
    for (let i = 0; i < left.length; i++) {
      const whole = Math.floor(this.read);
      // Hermite interpolation looks one sample behind and two ahead.
      const available = this.written - whole > 3;
      if (!available || (!open && this.gain <= 0)) {
        if (open && !available && !this.starved) {
          this.underruns++;
          this.starved = true;
        }
        // Nothing to read: let the last value decay, which sounds like a fade and not like a click.
        this.gain = 0;
        this.lastLeft *= 0.97;
        this.lastRight *= 0.97;
        left[i] = this.lastLeft;
        right[i] = this.lastRight;
        continue;
      }
      this.starved = false;
      this.gain = open ? Math.min(1, this.gain + step) : Math.max(0, this.gain - step);
      const t = this.read - whole;
      const a = this.at(this.left, whole, t);
      const b = this.at(this.right, whole, t);
      this.lastLeft = a * this.gain;
      this.lastRight = b * this.gain;
      left[i] = this.lastLeft;
      right[i] = this.lastRight;
      if (rate !== 1 || t === 0) this.read += rate;
      else if (t + GLIDE >= 1) this.read = whole + 2;
      else this.read += 1 + GLIDE;
    }
    return left.length;
  }

  /**
   * Catmull-Rom (cubic Hermite) value between two samples; exact where t is 0.
   * @param {Float32Array} plane
   * @param {number} whole
   * @param {number} t 0..1
   */
  at(plane, whole, t) {
    const p1 = plane[whole & this.mask];
    if (t === 0) return p1;
    const p0 = whole > 0 ? plane[(whole - 1) & this.mask] : p1;
    const p2 = plane[(whole + 1) & this.mask];
    const p3 = plane[(whole + 2) & this.mask];
    return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)));
  }
}
