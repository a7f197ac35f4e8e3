// @ts-check
/** What follows on the station, in words. No DOM. */
import { promptLine, SAMPLE_RATE } from "./protocol.js";

/** A journey's next stop is worth a line from here on, s. */
const FAR_S = 600;

/** @param {number} seconds */
export function away(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 90) return `in ${Math.round(seconds)} s`;
  return `in ${Math.round(seconds / 60)} min`;
}

/**
 * The next prompts.
 * @param {any} now       the station's `now` that belongs to the audible sample
 * @param {number} position the audible sample
 * @returns {{name: string, words: string, share: number, by: "journey"|"steer", at: number}|null} share: 0..1 of a transition,
 *   or of the time before it since `now`
 */
export function nextUp(now, position) {
  const found = (now?.coming ?? []).find((/** @type {any} */ each) => each.prompts && (each.alone_at ?? each.at) > position);
  if (!found || now.state.paused) return null;
  const name = promptLine(found.prompts);
  const toGo = (/** @type {number} */ sample) => (sample - position) / SAMPLE_RATE;
  if (toGo(found.at) > FAR_S) return null;
  const { by, at } = found;
  if (at > position) {
    const whole = at - now.sample_pos;
    return { name, by, at, words: away(toGo(at)), share: whole > 0 ? Math.min(1, Math.max(0, 1 - (at - position) / whole)) : 1 };
  }
  return { name, by, at, words: `alone ${away(toGo(found.alone_at))}`, share: (position - at) / (found.alone_at - at) };
}
