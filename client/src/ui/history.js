// @ts-check
/** What has been played, newest first, to go back to. */
import { STEER_FIELDS } from "../fields.js";
import { promptLine } from "../protocol.js";
import { make } from "./dom.js";

const KEPT = 100;
const TIME = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
/** What a steer takes from a state. */
export const FIELDS = STEER_FIELDS.filter((field) => !["at", "ramp_s", "if_rev"].includes(field));

/** @param {any} state @returns {any} what a steer needs to come back to it */
export function snapshot(state) {
  const fields = Object.fromEntries(FIELDS.map((field) => [field, state[field] ?? null]));
  // A tempo that the words chose is chosen again, and a form that the model cannot follow stays chosen.
  const metre = state.beats_per_bar_reason ? null : fields.beats_per_bar;
  return { ...fields, bpm: state.bpm_reason ? null : fields.bpm, beats_per_bar: metre, form: state.form_reason ? null : fields.form };
}

/** How far a seed may walk by itself from clip to clip; a seed that somebody set is farther away. */
const WALK = 1000;

/** Changes of the desk that follow each other within this time, ms, are one move of a hand: one line, one undo. */
const GESTURE_MS = 2000;

/** @typedef {{rev: number, state: any}} Heard   a station's state, and the revision of the change that made it */

/**
 * Whether two states are the same line of the history. A journey moves its weights and seeds by itself all the time, and
 * after a steer the seed goes on walking, under the steer's revision.
 * @param {Heard} a
 * @param {Heard} b
 */
export function sameLine(a, b) {
  if (!a.state.steered !== !b.state.steered) return false;
  const texts = (/** @type {any} */ { prompts }) => JSON.stringify(prompts.map((/** @type {any} */ p) => p.text));
  if (texts(a.state) !== texts(b.state)) return false;
  return !a.state.steered || a.rev === b.rev || (sameButSeed(a.state, b.state) && Math.abs(a.state.seed - b.state.seed) < WALK);
}

/** @param {any} a @param {any} b */
function sameButSeed(a, b) {
  return JSON.stringify({ ...snapshot(a), seed: 0 }) === JSON.stringify({ ...snapshot(b), seed: 0 });
}

/** Whether two states differ in nothing but the desk. @param {any} a @param {any} b */
export function sameButDesk(a, b) {
  return sameButSeed({ ...a, mix: null }, { ...b, mix: null });
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 * @param {HTMLButtonElement} undoButton
 */
export function mountHistory(app, panel, undoButton) {
  const { player } = app;
  /** @typedef {Heard & {at: Date, before: Entry|null, line: HTMLElement|null, turned: number}} Entry  turned: when the desk last moved, ms; before: what an undo goes back to */
  /** @type {Entry[]} */
  const entries = [];
  /** @type {Entry|null} what was asked back and is not heard yet */
  let awaited = null;
  let changed = false;
  const list = make("ol", { className: "history", reversed: true });
  panel.append(make("h3", { textContent: "Played" }), list);

  /** @param {Entry} entry */
  async function back(entry) {
    awaited = entry;
    const asked = entry.state.steered ? app.steer(snapshot(entry.state), promptLine(entry.state.prompts)) : player.operate("reset").catch(() => null);
    if (!(await asked) && awaited === entry) awaited = null;
  }
  // Again and again it goes further back, and never forth to what it undid.
  const undo = () => {
    const target = (awaited ?? entries[0])?.before;
    if (target && player.maySteer) back(target);
  };
  undoButton.addEventListener("click", undo);

  /** Take in what is heard now. @param {Heard} heard */
  function add({ rev, state }) {
    const latest = entries[0];
    if (latest && sameLine(latest, { rev, state })) {
      Object.assign(latest, { rev, state });
      return;
    }
    const turning = latest && sameButDesk(latest.state, state);
    if (turning && !awaited && performance.now() - latest.turned < GESTURE_MS) {
      Object.assign(latest, { rev, state, turned: performance.now() });
      return;
    }
    const returned = awaited && (awaited.state.steered ? sameButSeed(awaited.state, state) : !state.steered);
    const before = returned ? /** @type {Entry} */ (awaited).before : latest ?? null;
    if (returned) awaited = null;
    entries.unshift({ rev, state, at: new Date(), before, line: null, turned: turning && !returned ? performance.now() : -Infinity });
    for (const old of entries.splice(KEPT)) old.before = null; // nothing older is kept
    changed = true;
  }

  /** @param {Entry} entry */
  const lineOf = (entry) =>
    (entry.line ??= make("li", {},
      make("time", { dateTime: entry.at.toISOString(), textContent: TIME.format(entry.at) }),
      make("span", { dir: "auto", textContent: promptLine(entry.state.prompts) }),
      make("span", { className: "quiet", textContent: "now" }),
      make("button", {
        type: "button", className: "ghost steers", textContent: entry.state.steered ? "Play again" : "Journey",
        "aria-label": `${entry.state.steered ? "Play again" : "Journey, which played"}: ${promptLine(entry.state.prompts)}`, onclick: () => back(entry),
      })));

  app.onChange(() => {
    const current = app.heard() ?? player.now ?? player.welcome;
    if (current?.state) add(current);
    undoButton.hidden = !(awaited ?? entries[0])?.before;
    if (!changed) return;
    changed = false;
    list.replaceChildren(...entries.map(lineOf));
    entries.forEach(({ line }, index) => {
      const [word, button] = [...(line?.children ?? [])].slice(2).map((child) => /** @type {HTMLElement} */ (child));
      word.hidden = index > 0;
      button.hidden = index === 0;
    });
  });
  return { undo, add };
}
