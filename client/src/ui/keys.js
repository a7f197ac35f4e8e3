// @ts-check
/** The keyboard, and the page that explains it. */
import { byId, make, slide } from "./dom.js";
import { lazily } from "./lazily.js";

const KEYS = [
  ["space", "play or pause"],
  ["/", "type a prompt"],
  ["r", "random prompt; enter plays it"],
  ["u", "undo the last change"],
  ["m", "mute"],
  ["k", "keep this moment with its last 30 s"],
  ["shift enter, x", "cue the prompt, drop it on a bar"],
  ["b", "blackout of the second screen"],
  ["y", "tap the tempo"],
  ["z", "sleep and focus timer"],
  ["[ ]", "previous or next station"],
  ["+ −", "tempo up or down (also shift ↑ ↓)"],
  ["shift ← →", "key down or up"],
  ["1 2 3 4", "change now, on the beat, bar or clip"],
  ["5 6 7 8", "cut, or a transition of 2, 8 or 32 bars"],
  ["alt 1 to 8", "play a scene; with shift: store what plays"],
  ["v", "another look: spectrogram, landscape, radial, bars"],
  ["p", "other colours"],
  ["a", "another look every 3 minutes"],
  ["c", "clock in full screen"],
  ["t", "light or dark"],
  ["f", "full screen"],
  ["s", "share"],
  ["d", "debug"],
  ["?", "about, and this list"],
];

/** Where alt and a digit is a character: "[" and "|" are typed so on German keyboards of Apple. */
const OPTION_TYPES = /^(Mac|iP)/.test(navigator.platform);
const TEXT = 'input:not([type="range"], [type="radio"], [type="checkbox"]), textarea, [contenteditable]';

/**
 * @param {import("../player.js").Player} player
 * @param {{drop: () => void, blackout: () => void, clearCue: () => boolean, togglePlay: () => void, randomPrompt: () => void, playBox: () => void, undo: () => void, toggleMute: () => void, nextLook: () => void,
 *   nextPalette: () => void, toggleCycle: () => void, toggleClock: () => void, toggleTheme: () => void, toggleFullScreen: () => void,
 *   openTimer: () => void, keepMoment: () => void, stepStation: (step: number) => void,
 *   fireScene: (slot: number) => void, storeScene: (slot: number) => void}} actions
 */
export function mountKeys(player, actions) {
  const dialog = byId("help-dialog", HTMLDialogElement);
  const list = make("dl", { className: "keys" });
  for (const [key, what] of KEYS) list.append(make("dt", {}, make("kbd", { textContent: key })), make("dd", { textContent: what }));
  const heading = make("h3", { textContent: "Keys" });
  dialog.append(make("h2", { id: "help-title", textContent: "About riffstream" }), heading, list,
    make("form", { method: "dialog" }, make("button", { className: "icon", textContent: "✕", "aria-label": "Close" })));
  const about = lazily(async () => {
    const made = (await import("./about.js")).mountAbout(player, dialog);
    heading.before(made.part);
    return made;
  });
  async function help() {
    dialog.showModal();
    (await about())?.load();
  }
  byId("help", HTMLButtonElement).addEventListener("click", help);

  /** @param {"bpm"|"key"} id @param {number} step */
  const nudge = (id, step) => {
    const input = byId(id, HTMLInputElement);
    if (input.disabled) return;
    slide(input, Number(input.value) + step);
    input.dispatchEvent(new Event("input"));
    input.dispatchEvent(new Event("change"));
  };
  /** @type {Record<string, () => void>} */
  const table = {
    " ": actions.togglePlay,
    "/": () => byId("prompt", HTMLInputElement).focus(),
    r: () => {
      // The button that was clicked last keeps the focus, and would take the enter that plays the idea.
      if (document.activeElement instanceof HTMLButtonElement) document.activeElement.blur();
      actions.randomPrompt();
    },
    u: actions.undo,
    x: actions.drop,
    b: actions.blackout,
    Escape: actions.clearCue,
    m: actions.toggleMute,
    k: actions.keepMoment,
    y: () => byId("tap-tempo", HTMLButtonElement).click(),
    z: actions.openTimer,
    "[": () => actions.stepStation(-1),
    "]": () => actions.stepStation(1),
    v: actions.nextLook,
    p: actions.nextPalette,
    a: actions.toggleCycle,
    c: actions.toggleClock,
    t: actions.toggleTheme,
    f: actions.toggleFullScreen,
    s: () => byId("share", HTMLButtonElement).click(),
    d: () => byId("debug", HTMLButtonElement).click(),
    "?": help,
    Enter: actions.playBox,
    "+": () => nudge("bpm", 2),
    "=": () => nudge("bpm", 2), // the same key without shift
    "-": () => nudge("bpm", -2),
  };
  // Arrows alone scroll the page, as everywhere.
  /** @type {Record<string, () => void>} */
  const shifted = {
    ArrowUp: () => nudge("bpm", 2),
    ArrowDown: () => nudge("bpm", -2),
    ArrowRight: () => nudge("key", 1),
    ArrowLeft: () => nudge("key", -1),
  };
  document.querySelectorAll('#when input[type="radio"]').forEach((radio, index) => {
    table[String(index + 1)] = () => (/** @type {HTMLInputElement} */ (radio).checked = true);
  });
  const ramp = byId("ramp", HTMLSelectElement);
  for (let index = 0; index < ramp.length; index++) table[String(5 + index)] = () => !ramp.disabled && (ramp.selectedIndex = index);
  addEventListener("keydown", (event) => {
    if (event.isComposing) return; // the keys are an input method's
    const target = /** @type {HTMLElement} */ (event.target);
    const scene = event.altKey && !event.ctrlKey && !event.metaKey && /^Digit([1-8])$/.exec(event.code);
    if (scene && !document.querySelector("dialog[open]") && !(OPTION_TYPES && target.closest(TEXT))) {
      event.preventDefault();
      (event.shiftKey ? actions.storeScene : actions.fireScene)(Number(scene[1]) - 1);
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (target.closest("input, select, textarea, [contenteditable]")) {
      if (event.key === "Escape" && !actions.clearCue()) target.blur();
      return;
    }
    if ([" ", "Enter"].includes(event.key) && target.closest("button, a, [role=application]")) return; // the focused button's own keys
    const action = event.shiftKey && event.key in shifted ? shifted[event.key] : table[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
