// @ts-check
/**
 * Columns of the moving spectrogram, kept by their place on the sample clock, so that the picture moves with what is
 * heard and not with when something arrived or was drawn. No DOM.
 */

export const ROWS = 256;
export const COLUMN_SAMPLES = 480; // 10 ms
export const COLUMNS = 2048; // 20.48 s of history

const LOWEST_HZ = 40;
const HIGHEST_HZ = 16000;
const FLOOR_DB = -88;
const CEILING_DB = -14;

/**
 * Which bins feed a row, low frequencies first; rows are even in octaves.
 * @param {number} bins
 * @param {number} sampleRate
 */
export function rowBins(bins, sampleRate) {
  const edges = new Float32Array(ROWS + 1);
  const perHz = (2 * bins) / sampleRate;
  for (let r = 0; r <= ROWS; r++) edges[r] = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (r / ROWS) * perHz;
  return edges;
}

/**
 * A row's level, 0..255.
 * @param {number} db
 * @param {number} row
 */
export function rowLevel(db, row) {
  // A tilt of 3 dB an octave undoes music's usual slope, so that cymbals are seen beside basses.
  const tilted = db + (3 * 8.64 * row) / ROWS - 8;
  const value = ((tilted - FLOOR_DB) * 255) / (CEILING_DB - FLOOR_DB);
  return value > 255 ? 255 : value > 0 ? value : 0;
}

/**
 * The value of a row from a spectrum: the highest of its bins, or between two bins where it is narrower than one.
 * @param {Float32Array} values dB or power
 * @param {number} from
 * @param {number} to
 */
export function rowValue(values, from, to) {
  if (to - from < 1) {
    const whole = Math.floor(from);
    return values[whole] + (from - whole) * (values[whole + 1] - values[whole]);
  }
  let most = values[Math.floor(from)];
  for (let b = Math.ceil(from); b < to; b++) if (values[b] > most) most = values[b];
  return most;
}

export class SpectrumRing {
  constructor() {
    /** Levels 0..255, column after column, low rows first. */
    this.levels = new Uint8Array(COLUMNS * ROWS);
    this.latest = -1; // number of the newest column, on the sample clock
    this.epoch = 0; // rises when what was stored is void
  }

  reset() {
    this.levels.fill(0);
    this.latest = -1;
    this.epoch++;
  }

  /**
   * Store columns; those between the newest stored one and the first of these stay dark.
   * @param {number} first number of the first column
   * @param {Uint8Array} levels ROWS for each
   */
  put(first, levels) {
    const count = levels.length / ROWS;
    const last = first + count - 1;
    // After a jump of the clock there is no history to keep; a second back is only a repeat.
    if (this.latest >= 0 && (first > this.latest + COLUMNS / 2 || last < this.latest - 100)) this.reset();
    if (this.latest < 0) this.latest = first - 1;
    for (let gap = this.latest + 1; gap < first; gap++) this.levels.fill(0, (gap % COLUMNS) * ROWS, (gap % COLUMNS) * ROWS + ROWS);
    for (let c = 0; c < count; c++) {
      this.levels.set(levels.subarray(c * ROWS, (c + 1) * ROWS), ((first + c) % COLUMNS) * ROWS);
    }
    if (first <= this.latest) this.epoch++; // some that were drawn already are different now
    this.latest = Math.max(this.latest, last);
  }

  /**
   * A copy of the columns from `first` up to, not including, `end`; null unless all of them are still, and already, here.
   * @param {number} first
   * @param {number} end
   */
  between(first, end) {
    if (end <= first || end > this.latest + 1 || first <= this.latest - COLUMNS) return null;
    const levels = new Uint8Array((end - first) * ROWS);
    for (let c = first; c < end; c++) levels.set(this.levels.subarray((c % COLUMNS) * ROWS, (c % COLUMNS) * ROWS + ROWS), (c - first) * ROWS);
    return levels;
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
 * The last bar line before `now`, and the beats of a bar.
 * @param {{beat: number, bar_beat?: number, state: {beats_per_bar?: number}}} now
 * @returns {{line: number, bar: number}}
 */
export function barLine(now) {
  const bar = now.state.beats_per_bar ?? 4;
  return { line: Math.round(now.beat - (now.bar_beat ?? now.beat % bar)), bar };
}

/**
 * Beats between two clock positions.
 * @param {{beat: number, bar_beat?: number, sample_pos: number, state: {bpm: number|null, beats_per_bar?: number}}|null} now
 * @param {number} from
 * @param {number} to
 * @param {number} sampleRate
 * @returns {{samplePos: number, beat: number, inBar: number}[]} inBar: 0 on a bar line
 */
export function beatsBetween(now, from, to, sampleRate) {
  if (!now?.state.bpm) return [];
  const each = (60 / now.state.bpm) * sampleRate;
  const first = Math.ceil(now.beat + (from - now.sample_pos) / each - 1e-6) + 0; // Math.ceil(-0.5) is -0
  const { line, bar } = barLine(now);
  const beats = [];
  for (let beat = first; ; beat++) {
    const samplePos = now.sample_pos + (beat - now.beat) * each;
    if (samplePos > to || beats.length > 400) return beats;
    beats.push({ samplePos, beat, inBar: (((beat - line) % bar) + bar) % bar });
  }
}
