// @ts-check
/** What has been played, newest first, to go back to; and what comes next: a queue that this page plays through. */
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
          make("time", { dateTime: entry.at.toISOString(), textContent: entry.at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) }),
          make("span", { textContent: promptLine(entry.state.prompts) }),
          index === 0
            ? make("span", { className: "quiet", textContent: "now" })
            : make("button", {
                type: "button", className: "ghost steers", textContent: entry.state.steered ? "Play again" : "Back to the journey",
                "aria-label": `Play again: ${promptLine(entry.state.prompts)}`, onclick: () => back(entry),
              }))));
    }
    undoButton.hidden = entries.length < 2;
  });
  return { undo };
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountQueue(app, panel) {
  /** @type {{text: string, bars: number}[]} */
  let queue = [];
  /** @type {{until: number}|null} musical position at which the next one is due */
  let current = null;
  const list = make("ol", { className: "history" });
  const text = make("input", { type: "text", className: "field steers", maxLength: 300, placeholder: "then play …", "aria-label": "Prompt to play later", list: "suggestions" });
  const bars = make("select", { className: "field steers", "aria-label": "For how long" },
    ...[4, 8, 16, 32].map((n) => make("option", { value: String(n), textContent: `${n} bars`, selected: n === 8 })));
  const form = make("form", {
    className: "row queue-form", autocomplete: "off",
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      if (!text.value.trim()) return text.focus();
      queue.push({ text: text.value.trim(), bars: Number(bars.value) });
      text.value = "";
      show();
    },
  }, text, bars, make("button", { className: "ghost steers", textContent: "Add" }));
  panel.append(make("h3", { textContent: "Coming" }), list, form,
    make("p", { className: "quiet", textContent: "Each plays from the next bar for as many bars as you say, as long as this page is open." }));

  function show() {
    list.replaceChildren(...queue.map((item, index) =>
      make("li", {},
        make("span", { className: "quiet", textContent: `${item.bars} bars` }),
        make("span", { textContent: item.text }),
        make("button", {
          type: "button", className: "ghost steers", textContent: "Remove", "aria-label": `Remove ${item.text}`,
          onclick: () => {
            queue.splice(index, 1);
            show();
          },
        }))));
    list.hidden = queue.length === 0;
  }
  show();

  setInterval(() => {
    const now = app.heard();
    const bpm = now?.state.bpm;
    if (!queue.length || !now || !app.player.maySteer) return;
    const position = app.player.position ?? now.sample_pos;
    const beat = now.beat + (bpm ? ((position - now.sample_pos) / 48000 / 60) * bpm : 0);
    if (current && beat < current.until - 1 && beat > current.until - 4 * 64) return;
    const item = /** @type {{text: string, bars: number}} */ (queue.shift());
    current = { until: Math.ceil(beat / app.beatsPerBar()) * app.beatsPerBar() + item.bars * app.beatsPerBar() };
    app.steer({ prompts: [{ text: item.text, weight: 1 }], at: "bar" }, item.text);
    show();
  }, 250);
}
