// @ts-check
/** Levels of the arrangement: energy, density, brightness, and a fader with a switch for each part. For models with conditions. */
import { make, slide } from "./dom.js";
import { handed } from "./steering.js";

/** @typedef {"energy"|"density"|"brightness"} LevelName */

const LEVELS = /** @type {const} */ ({
  energy: ["Energy", "left: calm; right: driving"],
  density: ["Density", "left: few notes; right: many"],
  brightness: ["Brightness", "left: dark; right: bright"],
});
export const PARTS = /** @type {const} */ (["drums", "bass", "chords", "pad", "arp", "lead"]);
/** Where a fader rests while the plan and the words decide. */
const MIDDLE = 0.5;
/** A part that somebody turns on against the words: the level of a part that clearly plays. */
const PLAYS = 0.7;
const percent = (/** @type {number} */ level) => `${Math.round(100 * level)} %`;

/**
 * Why the levels cannot be moved; "" where they can.
 * @param {{conditions?: boolean, model?: string}|undefined} caps
 */
export function noLevels(caps) {
  if (!caps) return "";
  return caps.conditions ? "" : `The model${caps.model ? ` ${caps.model}` : ""} takes words alone: it follows no levels and no parts.`;
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountLevels(app, panel) {
  const { player } = app;
  const reason = make("p", { className: "readonly", id: "no-levels", hidden: true });
  const grid = make("div", { className: "grid" });
  const locked = () => !player.maySteer || !player.welcome?.caps?.conditions;

  /**
   * A fader from 0 to 1 with a way back to the plan.
   * @param {string} name of its field
   * @param {string} label
   * @param {string} help
   * @param {() => number|null} heard the level that the station reports; null: the plan decides
   * @param {(level: number|null) => void} send
   * @param {ReturnType<typeof handed>} hand
   * @param {() => string|null} [resting] the words that let it rest while nobody sets a level; with a button that silences it
   */
  function fader(name, label, help, heard, send, hand, resting) {
    const id = `level-${name}`;
    const output = make("output", { for: id });
    const input = make("input", {
      type: "range", id, min: 0, max: 1, step: 0.01, "aria-label": `${label} level`, "aria-describedby": reason.id,
      oninput: () => {
        touched = performance.now();
        show(Number(input.value));
        send(Number(input.value));
        hand.changed();
      },
    });
    let touched = -Infinity;
    const hint = make("small", { textContent: help });
    /** @param {number|null} level */
    const show = (level) => {
      const words = level === null ? (resting?.() ?? null) : null;
      slide(input, level ?? (words ? 0 : MIDDLE));
      output.textContent = words ? "rests" : level === null ? "auto" : percent(level);
      output.className = level === null ? "auto" : "";
      input.setAttribute("aria-valuetext", words ? `rests: the words say “${words}”` : level === null ? "left to the plan and the words" : percent(level));
      hint.textContent = words ? `rests: the words say “${words}”` : help;
      auto.hidden = level === null;
      off?.setAttribute("aria-pressed", String(level === 0 || Boolean(words)));
    };
    /** @param {number|null} level */
    const set = (level) => {
      show(level);
      send(level);
      hand.changed();
    };
    const auto = make("button", {
      type: "button", className: "plain", textContent: "auto", hidden: true, "aria-label": `${label}, auto: left to the plan and the words`,
      onclick: () => set(null),
    });
    const off = resting
      ? make("button", {
          type: "button", className: "ghost", textContent: "Off", "aria-label": `${label} off`, "aria-pressed": "false",
          onclick: () => set(off?.getAttribute("aria-pressed") !== "true" ? 0 : resting?.() ? PLAYS : null),
        })
      : null;
    app.onChange(() => {
      for (const each of [input, auto, off]) if (each) each.disabled = locked();
      if (hand.ahead() || (document.activeElement === input && performance.now() - touched < 4000)) return;
      show(heard());
    });
    grid.append(make("div", { className: "control" },
      make("div", { className: "top" }, make("label", { for: id, textContent: label }), auto, output),
      off ? make("div", { className: "row" }, input, off) : input,
      hint));
  }

  for (const name of /** @type {LevelName[]} */ (Object.keys(LEVELS))) {
    const [label, help] = LEVELS[name];
    /** @type {number|null} */
    let level = null;
    fader(name, label, help, () => app.state()?.[name] ?? null, (value) => (level = value),
      handed(app, () => app.steer({ [name]: level }, level === null ? `${name} on its own` : `${name} ${percent(level)}`)));
  }
  /** Parts that were moved and are not sent yet. They go out together: a later change replaces a waiting one. */
  /** @type {Record<string, number|null>} */
  let moved = {};
  const hand = handed(app, async () => {
    const parts = moved;
    moved = {};
    const words = Object.entries(parts).map(([part, level]) => (level === null ? `${part} on its own` : level === 0 ? `no ${part}` : `${part} ${percent(level)}`));
    return words.length ? app.steer({ parts }, words.join(", ")) : null;
  });
  for (const part of PARTS) {
    fader(part, part[0].toUpperCase() + part.slice(1), "left: quiet or silent", () => app.state()?.parts?.[part] ?? null,
      (level) => (moved[part] = level), hand, () => app.state()?.rests?.[part] ?? null);
  }
  panel.append(reason, grid);
  app.onChange(() => {
    const why = noLevels(player.welcome?.caps);
    if (reason.textContent !== why) reason.textContent = why;
    reason.hidden = !why;
  });
}
