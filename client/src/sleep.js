// @ts-check
/** The timer that ends the sound: after a time, or in turns of work and rest. By the wall clock, so that a sleeping tab keeps it. */

/** The sound fades before it ends, ms. */
export const FADE_MS = 30000;

/**
 * @typedef {object} Acts
 * @property {(level: number) => void} fade   0..1, of the listener's own volume
 * @property {() => void} pause
 * @property {() => void} play
 */

export class SleepTimer {
  /** @param {Acts} acts */
  constructor(acts) {
    this.acts = acts;
    this.until = 0; // wall clock, ms; 0: off
    /** @type {{workMs: number, restMs: number, working: boolean}|null} */
    this.turns = null;
  }

  get on() {
    return this.until > 0;
  }

  /** End the sound at a time. @param {number} until wall clock, ms */
  end(until) {
    this.stop();
    this.until = until;
  }

  /** Play and rest in turns, until it is stopped. @param {number} workMs @param {number} restMs @param {number} now */
  alternate(workMs, restMs, now) {
    this.stop();
    this.turns = { workMs, restMs, working: true };
    this.until = now + workMs;
    this.acts.play();
  }

  stop() {
    this.until = 0;
    this.turns = null;
    this.acts.fade(1);
  }

  /** Time left in ms, of this turn where there are turns; 0 when off. @param {number} now */
  left(now) {
    return this.until ? Math.max(0, this.until - now) : 0;
  }

  /** Once a second, and when the page comes back. @param {number} now wall clock, ms */
  tick(now) {
    if (!this.until) return;
    const left = this.until - now;
    const { turns } = this;
    if (turns && !turns.working) {
      if (left > 0) return;
      turns.working = true;
      this.until = now + turns.workMs;
      this.acts.fade(1);
      this.acts.play();
      return;
    }
    if (left > 0) {
      this.acts.fade(Math.min(1, left / FADE_MS));
      return;
    }
    this.acts.pause();
    if (!turns) return this.stop();
    turns.working = false;
    this.until = now + turns.restMs;
  }
}

/**
 * The next moment of a time of day.
 * @param {string} time "HH:MM", local
 * @param {number} now ms
 * @returns {number|null} ms; null where `time` is none
 */
export function nextTime(time, now) {
  const parts = /^(\d{1,2}):(\d{2})$/.exec(time);
  if (!parts || Number(parts[1]) > 23 || Number(parts[2]) > 59) return null;
  const date = new Date(now);
  date.setHours(Number(parts[1]), Number(parts[2]), 0, 0);
  if (date.getTime() <= now) date.setDate(date.getDate() + 1);
  return date.getTime();
}

/** "25:00", or "1:05:00" from an hour up. @param {number} ms */
export function clockText(ms) {
  const seconds = Math.ceil(ms / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
