// @ts-check
/** A prompt that waits for its drop: on the next bar, or on the next of every 4 or 8 bars. No DOM. */
import { SAMPLE_RATE } from "./protocol.js";

/** No change is heard sooner than this after it was asked for, s. */
const LEAST_S = 0.3;

/**
 * The musical place at a sample: bars since the station began, with a fraction.
 * @param {any} now  the `now` message of what is heard
 * @param {number} position  sample clock
 */
export function barAt(now, position) {
  const perBar = now.state.beats_per_bar ?? 4;
  const beats = (now.bar_beat ?? 0) + (((position - now.sample_pos) / SAMPLE_RATE) * (now.state.bpm ?? 120)) / 60;
  return (now.bar ?? 0) + beats / perBar;
}

/**
 * Where a drop falls, and how far it is.
 * @param {any} now  the `now` message of what is heard
 * @param {number} position  sample clock
 * @param {number} every  1, 4 or 8 bars
 * @param {number|null} [target]  the bar of a drop that was decided on; null: the next one that can be reached
 * @param {boolean} [named]  the station keeps to a bar that is named; else it takes the next bar line
 * @returns {{bar: number, beats: number, due: boolean}} its bar, the beats until then, and whether it is time to ask the station for it
 */
export function dropAt(now, position, every, target = null, named = true) {
  const perBar = now.state.beats_per_bar ?? 4;
  const here = barAt(now, position);
  const ahead = perBar + (LEAST_S * (now.state.bpm ?? 120)) / 60;
  const bar = target ?? Math.ceil((here + ahead / perBar - 1e-9) / every) * every;
  const beats = (bar - here) * perBar;
  return { bar, beats, due: beats <= ahead + (named ? perBar : 0) + 1e-9 };
}

/** The counter of the last bar: 4 3 2 1. @param {number} beats until the drop @param {number} perBar */
export const counter = (beats, perBar) => (beats <= 0 ? 0 : beats <= perBar + 1e-9 ? Math.ceil(beats - 1e-9) : null);
