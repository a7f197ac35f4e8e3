// @ts-check
/** The prompt mixer: several prompts with faders, blended into one. */
import { promptLine } from "../protocol.js";
import { make } from "./dom.js";

const MOST = 8;

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountMixer(app, panel) {
  /** @type {{text: HTMLInputElement, weight: HTMLInputElement, row: HTMLElement}[]} */
  let rows = [];
  const list = make("div", { className: "mix" });

  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  const send = () => {
    // Faders move in bursts; the last position is the one that counts.
    clearTimeout(timer);
    timer = setTimeout(() => {
      const prompts = rows
        .map(({ text, weight }) => ({ text: text.value.trim(), weight: Number(weight.value) }))
        .filter((p) => p.text && p.weight > 0);
      if (prompts.length) app.steer({ prompts }, promptLine(prompts));
    }, 250);
  };

  /** @param {string} text @param {number} weight */
  const add = (text = "", weight = 1) => {
    if (rows.length >= MOST) return;
    const number = rows.length + 1;
    const share = make("output", { textContent: weight.toFixed(2) });
    const entry = {
      text: make("input", { type: "text", className: "steers", value: text, maxLength: 300, placeholder: "a prompt", "aria-label": `Prompt ${number}`, onchange: send }),
      weight: make("input", {
        type: "range", className: "steers", min: "0", max: "1", step: "0.01", value: String(weight), "aria-label": `Weight of prompt ${number}`,
        oninput: () => (share.textContent = Number(entry.weight.value).toFixed(2)),
        onchange: send,
      }),
      row: make("div", { className: "mix-row" }),
    };
    const remove = make("button", {
      type: "button", className: "ghost steers", textContent: "×", "aria-label": `Remove prompt ${number}`,
      onclick: () => {
        rows = rows.filter((other) => other !== entry);
        entry.row.remove();
        send();
      },
    });
    entry.row.append(entry.text, entry.weight, share, remove);
    rows.push(entry);
    list.append(entry.row);
  };

  const controls = make("div", { className: "row" },
    make("button", { type: "button", className: "ghost steers", textContent: "Add a prompt", onclick: () => { add("", 0.5); rows.at(-1)?.text.focus(); } }),
    make("button", { type: "button", className: "primary steers", textContent: "Play the mix", onclick: send }));
  panel.append(list, controls);

  let shown = "";
  app.onChange(() => {
    const prompts = app.state()?.prompts ?? [];
    const key = JSON.stringify(prompts);
    // Weights that a journey moves by itself would fight with the hand on a fader.
    if (key === shown || panel.contains(document.activeElement)) return;
    shown = key;
    rows = [];
    list.replaceChildren();
    for (const { text, weight } of prompts) add(text, Math.min(1, weight));
    if (prompts.length < 2) add("", 0);
  });
}
