// @ts-check
/** Magnitudes of a windowed real signal: an in-place radix-2 transform of half the length. No allocation per call. */

export class Spectrum {
  /** @param {number} size window length in samples, a power of two from 8 */
  constructor(size) {
    if (size < 8 || (size & (size - 1)) !== 0) throw new RangeError("size must be a power of two from 8");
    const half = size / 2;
    this.size = size;
    this.re = new Float32Array(half);
    this.im = new Float32Array(half);
    /** Squared magnitude of each bin; 1 for a full-scale sine at a bin's centre. */
    this.power = new Float32Array(half);
    this.cos = Float32Array.from({ length: half }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.sin = Float32Array.from({ length: half }, (_, i) => Math.sin((2 * Math.PI * i) / size));
    // Hann; its mean is a half, and a sine's energy is halved between two bins: 4 / size brings a full sine to 1.
    this.window = Float32Array.from({ length: size }, (_, i) => (2 - 2 * Math.cos((2 * Math.PI * (i + 0.5)) / size)) / size);
    const bits = Math.log2(half);
    this.order = Uint16Array.from({ length: half }, (_, i) => {
      let reversed = 0;
      for (let b = 0; b < bits; b++) reversed |= ((i >> b) & 1) << (bits - 1 - b);
      return reversed;
    });
  }

  /**
   * @param {Float32Array} ring samples, of a power of two
   * @param {number} start index of the window's first sample; wraps around
   * @returns {Float32Array} `power`
   */
  measure(ring, start) {
    const { re, im, window, order, cos, sin, power } = this;
    const mask = ring.length - 1;
    const half = this.size / 2;
    // Even samples as real parts, odd ones as imaginary: one transform of half the length does for both.
    for (let i = 0; i < half; i++) {
      const at = order[i];
      re[at] = ring[(start + 2 * i) & mask] * window[2 * i];
      im[at] = ring[(start + 2 * i + 1) & mask] * window[2 * i + 1];
    }
    for (let width = 1; width < half; width *= 2) {
      const stride = half / width; // of a table for `size`
      for (let block = 0; block < half; block += 2 * width) {
        for (let k = 0; k < width; k++) {
          const c = cos[k * stride];
          const s = -sin[k * stride];
          const a = block + k;
          const b = a + width;
          const x = re[b] * c - im[b] * s;
          const y = re[b] * s + im[b] * c;
          re[b] = re[a] - x;
          im[b] = im[a] - y;
          re[a] += x;
          im[a] += y;
        }
      }
    }
    for (let k = 0; k < half; k++) {
      const j = k === 0 ? 0 : half - k;
      const evenRe = (re[k] + re[j]) / 2;
      const evenIm = (im[k] - im[j]) / 2;
      const oddRe = (im[k] + im[j]) / 2;
      const oddIm = (re[j] - re[k]) / 2;
      const x = evenRe + oddRe * cos[k] + oddIm * sin[k];
      const y = evenIm + oddIm * cos[k] - oddRe * sin[k];
      power[k] = x * x + y * y;
    }
    return power;
  }
}
