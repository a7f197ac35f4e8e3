// @ts-check
/** Places and times of the ambient view. No DOM. */

/** Speed of the words, pixels a second: no picture of them stays on a display. */
const SPEED = 1;
/** Direction, radians: one whose ratio is not simple, so that the path crosses all of its room. */
const SLOPE = 0.59;
const NIGHT = { from: 22, to: 6 };

/** Up and down between 0 and `room`. @param {number} way @param {number} room */
const bounce = (way, room) => (room <= 0 ? 0 : room - Math.abs((way % (2 * room)) - room));

/**
 * Where the words stand after some time: slowly about the room that they have, never far from where they were a second ago.
 * @param {number} seconds
 * @param {number} wide room to the right, px
 * @param {number} high room to the top, px
 * @returns {[number, number]} px to the right, px to the top
 */
export function drift(seconds, wide, high) {
  const way = SPEED * Math.max(0, seconds);
  return [bounce(way * Math.cos(SLOPE), wide), bounce(way * Math.sin(SLOPE), high)];
}

/** Whether a display in a dark room should be dimmed. @param {Date} time */
export const isNight = (time) => time.getHours() >= NIGHT.from || time.getHours() < NIGHT.to;

/**
 * When a picture that changes by itself changes: on the first bar line after its time.
 * @param {number} everyS
 */
export class Cycle {
  /** @param {number} everyS */
  constructor(everyS) {
    this.everyMs = 1000 * everyS;
    this.since = 0;
    this.on = false;
  }

  /** @param {boolean} on @param {number} atMs a clock of the page */
  set(on, atMs) {
    this.on = on;
    this.since = atMs;
  }

  /**
   * Once a picture.
   * @param {number} atMs
   * @param {() => boolean} onBarLine whether a bar began since the last picture
   * @returns {boolean} whether to change now
   */
  due(atMs, onBarLine) {
    if (!this.on || atMs - this.since < this.everyMs || !onBarLine()) return false;
    this.since = atMs;
    return true;
  }
}
