// @ts-check
/** The desk: levels, tone and width of the music that plays, at once and for everybody. No clip is made for it. */
import { deskEveryMs, make, slide } from "./dom.js";
import { lazily } from "./lazily.js";
import { NEUTRAL, toggled, words } from "./mixing.js";
import { handed } from "./steering.js";

/** @type {{name: "drums"|"tonal"|"low"|"mid"|"high"|"tilt"|"width"|"filter", label: string, help: string, min: number, max: number, step: number}[]} */
const FADERS = [
  { name: "drums", label: "Drums", help: "hits: drums and other short sounds", min: -60, max: 12, step: 1 },
  { name: "tonal", label: "Tonal sound", help: "notes: everything but the drums", min: -60, max: 12, step: 1 },
  { name: "filter", label: "Filter", help: "left: only low sounds pass; right: only high ones", min: -1, max: 1, step: 0.01 },
  { name: "low", label: "Low", help: "below 250 Hz", min: -60, max: 12, step: 1 },
  { name: "mid", label: "Mid", help: "250 Hz to 2.5 kHz", min: -60, max: 12, step: 1 },
  { name: "high", label: "High", help: "above 2.5 kHz", min: -60, max: 12, step: 1 },
  { name: "tilt", label: "Tilt", help: "left: darker; right: brighter", min: -3, max: 3, step: 0.1 },
  { name: "width", label: "Width", help: "left: mono; right: wide", min: 0, max: 2, step: 0.05 },
];

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 * @param {{load: (panel: string) => Promise<void>, fireScene: (slot: number) => void}} acts what a MIDI device may do besides
 */
export function mountDesk(app, panel, acts) {
  const { player } = app;
  /** @returns {import("./mixing.js").Mix} */
  const mix = () => ({ ...NEUTRAL, ...app.state()?.mix });
  const every = () => deskEveryMs(player);
  const grid = make("div", { className: "grid" });

  for (const { name, label, help, min, max, step } of FADERS) {
    let touched = -Infinity;
    const output = make("output", { for: `desk-${name}` });
    const input = make("input", {
      type: "range", id: `desk-${name}`, className: "steers", min, max, step, title: "Double click: neutral",
      oninput: () => {
        touched = performance.now();
        show();
        hand.changed();
      },
      ondblclick: () => {
        if (input.disabled) return;
        slide(input, NEUTRAL[name]);
        input.dispatchEvent(new Event("input"));
      },
    });
    const hand = handed(app, () => app.steer({ mix: { [name]: Number(input.value) } }, `${label.toLowerCase()} ${output.textContent}`, true), every);
    const show = () => {
      output.textContent = words(name, Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    app.onChange(() => {
      // A fader under somebody's hand, or whose change is not heard yet, does not move by itself.
      if (hand.ahead() || (document.activeElement === input && performance.now() - touched < 1000)) return;
      slide(input, mix()[name]);
      show();
    });
    grid.append(make("div", { className: "control" },
      make("div", { className: "top" }, make("label", { for: `desk-${name}`, textContent: label }), output),
      input,
      make("small", { textContent: help })));
  }

  /**
   * @param {string} text
   * @param {string} label what screen readers say
   * @param {() => boolean} pressed
   * @param {() => Partial<import("./mixing.js").Mix>} change
   */
  const button = (text, label, pressed, change) => {
    const element = make("button", {
      type: "button", className: "ghost steers", textContent: text, "aria-label": label, "aria-pressed": "false",
      onclick: () => app.steer({ mix: change() }, label.toLowerCase(), true),
    });
    app.onChange(() => element.setAttribute("aria-pressed", String(pressed())));
    return element;
  };
  /** @param {"mute"|"solo"} what @param {string} stem */
  const stem = (what, stem) => {
    const word = what === "mute" ? "Mute" : "Solo";
    return button(`${word} ${stem}`, `${word} ${stem}`, () => mix()[what].includes(stem), () => ({ [what]: toggled(mix()[what], stem) }));
  };
  grid.append(make("div", { className: "control" },
    make("div", { className: "top" }, make("span", { textContent: "Moments" })),
    make("div", { className: "row", role: "group", "aria-label": "Mute, solo, hold and fade, for everybody" },
      stem("mute", "drums"), stem("solo", "drums"), stem("mute", "bass"), stem("solo", "bass"),
      button("Hold", "Hold the last bar", () => mix().hold, () => ({ hold: !mix().hold })),
      button("Fade", "Fade to silence", () => mix().fade, () => ({ fade: !mix().fade })),
      make("button", {
        type: "button", className: "ghost steers", textContent: "Neutral", title: "All settings of the desk back to neutral",
        onclick: () => app.steer({ mix: null }, "neutral desk", true),
      })),
    make("small", { textContent: "for everybody who listens; hold repeats the last bar" })));
  const midi = make("div", { className: "control midi" });
  const devices = lazily(() => import("./midi.js"));
  const connect = make("button", {
    type: "button", className: "ghost", textContent: "Connect MIDI",
    onclick: async () => {
      connect.disabled = true; // the browser asks its user, which takes a while
      await (await devices())?.mountMidi(midi, acts);
      connect.disabled = false;
    },
  });
  midi.append(make("div", { className: "row" }, connect), make("small", { textContent: "knobs, faders and pads of a controller move the controls of this page" }));
  panel.append(grid, midi);
}
