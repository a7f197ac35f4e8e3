// @ts-check
/** A look: the spectrum of the present as bars, with caps that fall, over their reflection. */
import { beatsBetween, COLUMN_SAMPLES, COLUMNS, ROWS } from "./spectrum.js";

/** Columns that a bar's level is the loudest of. */
const HOLD = 4;
/** Columns that a cap takes to fall from the top to the bottom. */
const FALL = 120;
/** Where the bars stand, as a share of the height. */
const FLOOR = 0.66;

/**
 * Levels of bars, and of the caps above them. They depend on the place alone, so that a page that draws few pictures shows the same.
 * @param {import("./spectrum.js").SpectrumRing} ring
 * @param {number} column the present one
 * @param {number} count of bars, a divisor of ROWS
 * @returns {{levels: Float32Array, caps: Float32Array}} 0 to 1
 */
export function barLevels(ring, column, count) {
  const levels = new Float32Array(count);
  const caps = new Float32Array(count);
  const rows = ROWS / count;
  for (let age = 0; age < FALL; age++) {
    const at = column - age;
    if (at < 0 || at > ring.latest || at <= ring.latest - COLUMNS) continue;
    const start = (at % COLUMNS) * ROWS;
    for (let bar = 0; bar < count; bar++) {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum += ring.levels[start + bar * rows + row];
      const level = sum / rows / 255;
      if (age < HOLD) levels[bar] = Math.max(levels[bar], level);
      caps[bar] = Math.max(caps[bar], level - age / FALL);
    }
  }
  return { levels, caps };
}

export class Bars {
  /** @param {import("./visualiser.js").Visualiser2D} flat whose canvas and colours it uses */
  constructor(flat) {
    this.flat = flat;
  }

  /** @param {import("./visualiser.js").Scene} scene */
  draw({ ring, position, now, sampleRate }) {
    const { flat } = this;
    const ratio = flat.begin();
    if (ring.latest < 0) return;
    const { context, look } = flat;
    const { width, height } = flat.canvas;
    const count = width / ratio < 700 ? 32 : 64;
    const { levels, caps } = barLevels(ring, Math.min(ring.latest, Math.floor(position / COLUMN_SAMPLES)), count);
    const each = width / (count + 2);
    const wide = Math.max(1, Math.round(each * 0.72));
    const floor = Math.round(height * FLOOR);
    const room = floor - 0.06 * height;
    for (let bar = 0; bar < count; bar++) {
      const x = Math.round((bar + 1) * each + (each - wide) / 2);
      const tall = Math.round(levels[bar] * room);
      context.fillStyle = this.colour(0.25 + 0.75 * levels[bar]);
      context.fillRect(x, floor - tall, wide, tall);
      context.globalAlpha = 0.22;
      context.fillRect(x, floor + 2 * ratio, wide, Math.round(0.45 * tall));
      context.globalAlpha = 1;
      context.fillStyle = look.head;
      if (caps[bar] > 0.02) context.fillRect(x, floor - Math.round(caps[bar] * room) - 3 * ratio, wide, 2 * ratio);
    }
    // The floor lights up on the beat, more on a bar line.
    const beat = beatsBetween(now, position - sampleRate, position, sampleRate).at(-1);
    const glow = beat ? (beat.inBar === 0 ? 0.9 : 0.5) * Math.exp((-5 * (position - beat.samplePos)) / sampleRate) : 0;
    context.fillStyle = `rgba(${look.ink},${(0.12 + glow * 0.88).toFixed(3)})`;
    context.fillRect(Math.round(each), floor, Math.round(count * each), ratio);
  }

  /** @param {number} level 0 to 1 */
  colour(level) {
    const word = this.flat.colours[Math.min(255, Math.round(255 * level))];
    return `rgb(${word & 255} ${(word >> 8) & 255} ${(word >> 16) & 255} / ${(word >>> 24) / 255})`;
  }
}
