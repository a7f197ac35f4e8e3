// @ts-check
/** What comes next: a queue that this page plays through. */
import { barLine } from "../spectrum.js";
import { make } from "./dom.js";

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
  const text = make("input", { type: "text", className: "field steers", maxLength: 300, placeholder: "Then play …", "aria-label": "Prompt to play later", list: "suggestions" });
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
  const empty = make("p", { className: "empty", textContent: "Nothing is queued: the station goes its own way." });
  panel.append(make("h3", { textContent: "Coming" }), empty, list, form,
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
    empty.hidden = !list.hidden;
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
    const { line, bar } = barLine(now);
    current = { until: line + (Math.ceil((beat - line) / bar) + item.bars) * bar };
    app.steer({ prompts: [{ text: item.text, weight: 1 }], at: "bar" }, item.text);
    show();
  }, 250);
}
