// @ts-check
/** The prompt mixer: several prompts with faders, and one bar that shows the blend and can be dragged. */
import { promptLine } from "../protocol.js";
import { make, slide } from "./dom.js";
import { handed } from "./steering.js";

const MOST = 8;
const HUES = ["#ff9d5c", "#b784ff", "#4fc3a1", "#ff6fa3", "#5aa9ff", "#e6c24a", "#9adf6a", "#c98f6f"];

/**
 * Weights after the border between part `index` and the next has moved by `share` of the whole.
 * @param {number[]} weights
 * @param {number} index
 * @param {number} share -1..1
 */
export function moveBorder(weights, index, share) {
  const total = weights.reduce((a, b) => a + b, 0);
  const delta = Math.max(-weights[index], Math.min(weights[index + 1], share * total));
  return weights.map((weight, i) => (i === index ? weight + delta : i === index + 1 ? weight - delta : weight));
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountMixer(app, panel) {
  const { player } = app;
  /** @type {{text: HTMLInputElement, weight: HTMLInputElement, share: HTMLOutputElement, row: HTMLElement}[]} */
  let rows = [];
  let held = false; // a hand is on the bar
  const list = make("div", { className: "mix" });
  const bar = make("div", { className: "blend", "aria-hidden": "true" });

  const parts = () =>
    rows.map(({ text, weight }) => ({ text: text.value.trim(), weight: Number(weight.value) })).filter((p) => p.text && p.weight > 0);
  const hand = handed(app, async () => {
    const prompts = parts();
    return prompts.length ? app.steer({ prompts }, promptLine(prompts)) : null;
  });
  const changed = () => {
    show();
    hand.changed();
  };

  /** The shares of what has a text, in numbers and on the bar. */
  function show() {
    const total = parts().reduce((sum, p) => sum + p.weight, 0) || 1;
    const blended = rows.filter(({ text, weight }) => text.value.trim() && Number(weight.value) > 0);
    for (const { text, weight, share } of rows) share.textContent = text.value.trim() ? `${Math.round((100 * Number(weight.value)) / total)} %` : "";
    if (held && bar.childElementCount === blended.length) {
      blended.forEach(({ weight }, i) => (/** @type {HTMLElement} */ (bar.children[i]).style.flexGrow = weight.value));
      return;
    }
    bar.replaceChildren(...blended.map((entry, i) => {
      const part = make("span", {}, make("b", { textContent: entry.text.value }));
      part.style.flexGrow = entry.weight.value;
      part.style.setProperty("--hue", HUES[rows.indexOf(entry)]);
      if (i < blended.length - 1) part.append(make("s", { onpointerdown: (/** @type {PointerEvent} */ event) => drag(event, blended, i) }));
      return part;
    }));
    bar.hidden = blended.length < 2;
  }

  /** @param {PointerEvent} down @param {typeof rows} blended @param {number} index */
  function drag(down, blended, index) {
    if (!player.maySteer || down.button) return;
    const handle = /** @type {HTMLElement} */ (down.target);
    const start = blended.map(({ weight }) => Number(weight.value));
    const width = bar.clientWidth;
    held = true;
    handle.setPointerCapture(down.pointerId);
    handle.onpointermove = (move) => {
      moveBorder(start, index, (move.clientX - down.clientX) / width).forEach((weight, i) => slide(blended[i].weight, weight));
      changed();
    };
    handle.onpointerup = handle.onpointercancel = () => {
      held = false;
      handle.onpointermove = null;
      show();
    };
  }

  /** @param {string} text @param {number} weight */
  const add = (text = "", weight = 1) => {
    if (rows.length >= MOST) return;
    const number = rows.length + 1;
    const entry = {
      text: make("input", { type: "text", className: "field steers", value: text, maxLength: 300, placeholder: "another prompt", list: "suggestions", "aria-label": `Prompt ${number}`, onchange: changed }),
      weight: make("input", { type: "range", className: "steers", min: "0", max: "1", step: "0.01", "aria-label": `Weight of prompt ${number}`, oninput: changed }),
      share: make("output"),
      row: make("div", { className: "mix-row" }),
    };
    slide(entry.weight, weight);
    const remove = make("button", {
      type: "button", className: "icon steers", textContent: "×", "aria-label": `Remove prompt ${number}`,
      onclick: () => {
        rows = rows.filter((other) => other !== entry);
        entry.row.remove();
        changed();
      },
    });
    entry.row.style.setProperty("--hue", HUES[rows.length]);
    entry.row.append(make("i"), entry.text, entry.weight, entry.share, remove);
    rows.push(entry);
    list.append(entry.row);
    show();
  };

  panel.append(make("div", { className: "mix" }, bar, list,
    make("div", { className: "row" },
      make("button", { type: "button", className: "ghost steers", textContent: "Add a prompt", onclick: () => { add("", 0.5); rows.at(-1)?.text.focus(); } }),
      make("small", { textContent: "Faders and the bar blend as you drag." }))));

  let shown = "";
  app.onChange(() => {
    const prompts = app.state()?.prompts ?? [];
    const key = JSON.stringify(prompts);
    // Weights that a journey moves by itself would fight with the hand on a fader.
    if (key === shown || held || hand.ahead() || panel.contains(document.activeElement)) return;
    shown = key;
    rows = [];
    list.replaceChildren();
    for (const { text, weight } of prompts) add(text, Math.min(1, weight));
    if (prompts.length < 2) add("", 0.5);
  });
}
