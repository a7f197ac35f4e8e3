// @ts-check
/** What is heard: messages come ahead of their sound, and count from their sample on. No DOM. */

/** Messages that are kept for a player that stands still; the newest replace the others. */
const MOST = 500;

export class Heard {
  constructor() {
    /** @type {any} the `now` that belongs to what is heard */
    this.now = null;
    /** @type {any[]} */
    this.coming = [];
  }

  /** @param {any} now a message of the server */
  add(now) {
    this.coming.push(now);
    if (this.coming.length > MOST) this.coming.shift();
  }

  /**
   * Go on to a position.
   * @param {number|null} position sample clock; null: nothing sounds, and the newest message counts
   * @returns {any[]} the messages that became true, oldest first
   */
  follow(position) {
    let due = 0;
    while (due < this.coming.length && (position === null || this.coming[due].sample_pos <= position)) due++;
    const passed = this.coming.splice(0, due);
    if (due) this.now = passed[due - 1];
    return passed;
  }

  reset() {
    this.now = null;
    this.coming = [];
  }
}
