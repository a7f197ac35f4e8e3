// @ts-check
/** The beats of what is heard, each once and in order, a little ahead of their time. No DOM. */
import { beatsBetween } from "./spectrum.js";

/** Beats are told so early, s, so that a timer can meet their time. */
const AHEAD_S = 0.12;
/** After a longer gap than this, s, the missed beats are not made up for. */
const GAP_S = 1;

export class BeatClock {
  /** @param {number} sampleRate */
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.until = -Infinity; // beats up to here were told; none before the first call
  }

  /**
   * Beats that are due soon.
   * @param {any} now the `now` message of what is heard
   * @param {number|null} position sample clock of what is heard
   * @returns {{beat: number, bar: number, bar_beat: number, bpm: number, in_s: number}[]} `in_s`: seconds until it sounds
   */
  due(now, position) {
    if (position === null || !now?.state?.bpm) return [];
    const { sampleRate } = this;
    const to = position + AHEAD_S * sampleRate;
    if (this.until < position - GAP_S * sampleRate || this.until > to + GAP_S * sampleRate) this.until = position;
    const from = this.until;
    if (to <= from) return [];
    this.until = to;
    return beatsBetween(now, from, to, sampleRate)
      .filter(({ samplePos }) => samplePos >= from && samplePos < to)
      .map(({ samplePos, beat, inBar }) => ({
        beat,
        bar: (now.bar ?? 0) + Math.round((beat - inBar - (now.beat - (now.bar_beat ?? 0))) / (now.state.beats_per_bar ?? 4)),
        bar_beat: inBar,
        bpm: now.state.bpm,
        in_s: (samplePos - position) / sampleRate,
      }));
  }
}
