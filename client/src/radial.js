// @ts-check
/** A look: the spectrogram as a record. Time runs round clockwise, low notes lie inside, and a hand shows the present. */
import { beatsBetween, COLUMN_SAMPLES, COLUMNS, ROWS } from "./spectrum.js";

/** Columns of a turn: 8 s. */
export const TURN = 800;
/** Radius of the hole, as a share of the disc's. */
const HUB = 0.22;
const FULL = 2 * Math.PI;

/** Where a place on the sample clock lies, radians clockwise from 12 o'clock. @param {number} samplePos */
export const angleOf = (samplePos) => (FULL * ((((samplePos / COLUMN_SAMPLES) % TURN) + TURN) % TURN)) / TURN;

export class Radial {
  /** @param {import("./visualiser.js").Visualiser2D} flat whose canvas, colours and store of columns it uses */
  constructor(flat) {
    this.flat = flat;
    this.disc = document.createElement("canvas");
    this.context = /** @type {CanvasRenderingContext2D} */ (this.disc.getContext("2d"));
    this.drawn = -1; // newest column on the disc
    this.key = ""; // of what the disc was drawn for
    this.disc.addEventListener("contextrestored", () => (this.key = ""));
  }

  /** @param {import("./visualiser.js").Scene} scene */
  draw({ ring, position, now, sampleRate }) {
    const { flat } = this;
    const ratio = flat.begin();
    if (ring.latest < 0) return;
    const repaint = flat.epoch;
    flat.storeColumns(ring);
    const { width, height } = flat.canvas;
    const radius = Math.floor(0.47 * Math.min(width, height));
    const column = Math.min(ring.latest, Math.floor(position / COLUMN_SAMPLES));
    const key = `${radius} ${flat.epoch} ${flat.look.back}`;
    if (key !== this.key || repaint !== flat.epoch || column < this.drawn) {
      this.key = key;
      this.disc.width = this.disc.height = 2 * radius; // it clears it, too
      this.drawn = -1;
    }
    for (let each = Math.max(0, this.drawn + 1, column - TURN + 1, ring.latest - COLUMNS + 1); each <= column; each++) this.wedge(each, radius);
    this.drawn = column;

    const { context } = flat;
    const [x, y] = [width / 2, height / 2];
    context.drawImage(this.disc, Math.round(x - radius), Math.round(y - radius));
    const hand = angleOf(position) - FULL / 4;
    // The older, the dimmer: round to what lies just before the hand, which is a turn old.
    const age = context.createConicGradient(hand, x, y);
    const back = flat.look.back;
    age.addColorStop(0, `${back}d8`);
    age.addColorStop(0.7, `${back}00`);
    context.globalCompositeOperation = flat.clear ? "destination-out" : "source-over";
    context.fillStyle = age;
    context.beginPath();
    context.arc(x, y, radius + 1, 0, FULL);
    context.fill();
    context.globalCompositeOperation = "source-over";
    for (const { samplePos, inBar } of beatsBetween(now, position - TURN * COLUMN_SAMPLES, position, sampleRate)) {
      const at = angleOf(samplePos) - FULL / 4;
      const [from, to] = [radius * HUB, radius * (inBar === 0 ? 1 : HUB + 0.06)];
      this.line(at, from, to, `rgba(${flat.look.ink},${inBar === 0 ? 0.2 : 0.35})`, ratio);
    }
    this.line(hand, radius * HUB, radius, flat.look.head, 2 * ratio);
  }

  /** @param {number} angle @param {number} from @param {number} to @param {string} colour @param {number} wide */
  line(angle, from, to, colour, wide) {
    const { context, canvas } = this.flat;
    const [x, y] = [canvas.width / 2, canvas.height / 2];
    context.strokeStyle = colour;
    context.lineWidth = wide;
    context.beginPath();
    context.moveTo(x + from * Math.cos(angle), y + from * Math.sin(angle));
    context.lineTo(x + to * Math.cos(angle), y + to * Math.sin(angle));
    context.stroke();
  }

  /** One column at its angle, over what lay there a turn ago. @param {number} column @param {number} radius */
  wedge(column, radius) {
    const { context, flat } = this;
    const wide = Math.ceil((1.5 * FULL * radius) / TURN) + 1;
    const tall = radius * (1 - HUB);
    context.setTransform(1, 0, 0, 1, radius, radius);
    context.rotate(angleOf(column * COLUMN_SAMPLES));
    if (flat.clear) context.clearRect(-wide / 2, -radius, wide, tall);
    context.drawImage(flat.store, column % COLUMNS, 0, 1, ROWS, -wide / 2, -radius, wide, tall);
  }
}
