// @ts-check
/** What has been played, newest first: click to go back to it; undo takes back the last change. */
import { promptLine } from "../protocol.js";
import { make } from "./dom.js";

const KEPT = 100;
const FIELDS = /** @type {const} */ (["prompts", "seed", "seed_image", "denoising", "guidance", "bpm", "key"]);

/** @param {any} state @returns {any} what a steer needs to come back to it */
export function snapshot(state) {
  return Object.fromEntries(FIELDS.map((field) => [field, state[field] ?? null]));
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountHistory(app, panel) {
  /** @type {{rev: number, at: Date, state: any}[]} */
  const entries = [];
  const list = make("ol", { className: "history", reversed: true });
  const undo = make("button", {
    type: "button", className: "ghost steers", textContent: "Undo the last change",
    onclick: () => {
      if (entries.length > 1) back(entries[1]);
    },
  });
  panel.append(make("div", { className: "mix" }, make("div", { className: "row" }, undo), list));

  /** @param {{state: any}} entry */
  const back = (entry) => app.steer(snapshot(entry.state), promptLine(entry.state.prompts));

  app.onChange(() => {
    const state = app.state();
    const rev = app.player.now?.rev ?? app.player.welcome?.rev;
    if (!state || rev === undefined) return;
    const latest = entries[0];
    if (latest && JSON.stringify(snapshot(latest.state)) === JSON.stringify(snapshot(state))) return;
    entries.unshift({ rev, at: new Date(), state });
    entries.length = Math.min(entries.length, KEPT);
    list.replaceChildren(...entries.map((entry, index) =>
      make("li", {},
        make("time", { dateTime: entry.at.toISOString(), textContent: entry.at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) }),
        make("span", { textContent: promptLine(entry.state.prompts) }),
        index === 0
          ? make("span", { className: "quiet", textContent: "now" })
          : make("button", { type: "button", className: "ghost steers", textContent: "Play again", disabled: !app.player.maySteer, onclick: () => back(entry) }))));
  });
}
