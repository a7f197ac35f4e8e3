// @ts-check
/**
 * Columns of the moving spectrogram, kept by their place on the sample clock, so that the picture moves with what is
 * heard and not with when a frame happened to be drawn. No DOM.
 */

export const ROWS = 256;
export const COLUMN_SAMPLES = 480; // 10 ms
export const COLUMNS = 1024; // 10.24 s of history

const LOWEST_HZ = 40;
const HIGHEST_HZ = 16000;

/**
 * Which analyser bins feed a row, low frequencies first; rows are even in octaves, and each spans at least one bin.
 * @param {number} bins
 * @param {number} sampleRate
 */
export function rowBins(bins, sampleRate) {
  const edges = new Float32Array(ROWS + 1);
  const perHz = (2 * bins) / sampleRate;
  for (let r = 0; r <= ROWS; r++) edges[r] = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (r / ROWS) * perHz;
  return edges;
}

export class SpectrumRing {
  /**
   * @param {number} bins analyser bins
   * @param {number} sampleRate
   * @param {number} floorDb
   * @param {number} ceilingDb
   */
  constructor(bins, sampleRate, floorDb = -95, ceilingDb = -18) {
    this.edges = rowBins(bins, sampleRate);
    this.floorDb = floorDb;
    this.scale = 255 / (ceilingDb - floorDb);
    /** Levels 0..255, column after column, low rows first. */
    this.levels = new Uint8Array(COLUMNS * ROWS);
    this.latest = -1; // number of the newest column, on the sample clock
  }

  /**
   * Put what is heard now at its place; columns that passed since the last call get the same.
   * @param {Float32Array<ArrayBuffer>} db analyser output
   * @param {number} position sample clock
   * @returns {number} how many columns are new (the newest ends at `latest`)
   */
  push(db, position) {
    const column = Math.floor(position / COLUMN_SAMPLES);
    let fresh = column - this.latest;
    if (fresh === 0) return 0;
    // After a jump of the clock there is no history to keep.
    if (fresh < 0 || fresh > COLUMNS || this.latest < 0) {
      this.levels.fill(0);
      fresh = 1;
    }
    const base = (column % COLUMNS) * ROWS;
    for (let r = 0; r < ROWS; r++) {
      const from = this.edges[r];
      const to = this.edges[r + 1];
      let level;
      if (to - from < 1) {
        // Below the analyser's resolution: a straight line between its two nearest bins.
        const whole = Math.floor(from);
        level = db[whole] + (from - whole) * (db[whole + 1] - db[whole]);
      } else {
        level = -200;
        for (let b = Math.floor(from); b < to; b++) if (db[b] > level) level = db[b];
      }
      // A tilt of 3 dB an octave undoes music's usual slope, so that cymbals are seen beside basses.
      level += (3 * 8.64 * r) / ROWS - 8;
      const value = (level - this.floorDb) * this.scale;
      this.levels[base + r] = value > 255 ? 255 : value > 0 ? value : 0;
    }
    for (let back = 1; back < fresh; back++) {
      this.levels.copyWithin((((column - back) % COLUMNS) + COLUMNS) % COLUMNS * ROWS, base, base + ROWS);
    }
    this.latest = column;
    return fresh;
  }
}

/**
 * Where a clock position stands across the picture, 0 at its left edge, 1 at its right.
 * @param {number} samplePos
 * @param {number} position what is heard now
 * @param {number} playhead where that stands, 0..1
 * @param {number} span samples from the left edge to the right one
 */
export function place(samplePos, position, playhead, span) {
  return playhead + (samplePos - position) / span;
}

/**
 * Beats between two clock positions.
 * @param {{beat: number, sample_pos: number, state: {bpm: number|null}}|null} now
 * @param {number} from
 * @param {number} to
 * @param {number} sampleRate
 * @returns {{samplePos: number, beat: number}[]}
 */
export function beatsBetween(now, from, to, sampleRate) {
  if (!now?.state.bpm) return [];
  const each = (60 / now.state.bpm) * sampleRate;
  const first = Math.ceil(now.beat + (from - now.sample_pos) / each - 1e-6);
  const beats = [];
  for (let beat = first; ; beat++) {
    const samplePos = now.sample_pos + (beat - now.beat) * each;
    if (samplePos > to || beats.length > 400) return beats;
    beats.push({ samplePos, beat });
  }
}
