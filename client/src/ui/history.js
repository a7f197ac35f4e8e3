// @ts-check
/** What has been played, newest first, to go back to. */
import { promptLine } from "../protocol.js";
import { make } from "./dom.js";

const KEPT = 100;
const FIELDS = /** @type {const} */ (["prompts", "negative", "seed", "seed_image", "denoising", "guidance", "bpm", "key"]);

/** @param {any} state @returns {any} what a steer needs to come back to it */
export function snapshot(state) {
  return Object.fromEntries(FIELDS.map((field) => [field, state[field] ?? null]));
}

/**
 * What makes two states the same line of the history: a journey moves its weights and seeds by itself all the time.
 * @param {any} state
 */
export function sameness(state) {
  const { prompts, seed, ...rest } = snapshot(state);
  return JSON.stringify([prompts.map((/** @type {any} */ p) => p.text), state.steered ? seed : null, state.steered ? rest : null]);
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 * @param {HTMLButtonElement} undoButton
 */
export function mountHistory(app, panel, undoButton) {
  const { player } = app;
  /** @type {{at: Date, state: any}[]} */
  const entries = [];
  const list = make("ol", { className: "history", reversed: true });
  panel.append(make("h3", { textContent: "Played" }), list);

  /** @param {{state: any}} entry */
  const back = (entry) =>
    entry.state.steered ? app.steer(snapshot(entry.state), promptLine(entry.state.prompts)) : player.operate("reset").catch(() => {});
  const undo = () => {
    if (entries.length > 1 && player.maySteer) back(entries[1]);
  };
  undoButton.addEventListener("click", undo);

  app.onChange(() => {
    const state = app.state();
    if (!state) return;
    const latest = entries[0];
    const same = latest && sameness(latest.state) === sameness(state);
    if (same) latest.state = state;
    else {
      entries.unshift({ at: new Date(), state });
      entries.length = Math.min(entries.length, KEPT);
      list.replaceChildren(...entries.map((entry, index) =>
        make("li", {},
          make("time", { dateTime: entry.at.toISOString(), textContent: entry.at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }) }),
          make("span", { textContent: promptLine(entry.state.prompts) }),
          index === 0
            ? make("span", { className: "quiet", textContent: "now" })
            : make("button", {
                type: "button", className: "ghost steers", textContent: entry.state.steered ? "Play again" : "Journey",
                "aria-label": `${entry.state.steered ? "Play again" : "Journey, which played"}: ${promptLine(entry.state.prompts)}`, onclick: () => back(entry),
              }))));
    }
    undoButton.hidden = entries.length < 2;
  });
  return { undo };
}
