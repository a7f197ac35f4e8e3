// @ts-check
/** The sleep and focus timer: its button, its dialog, and what is left. */
import { clockText, nextTime, SleepTimer } from "../sleep.js";
import { make, toast } from "./dom.js";

const MINUTES = [15, 30, 45, 60, 90];
const MOST_MINUTES = 24 * 60;

/**
 * @param {import("../player.js").Player} player
 * @param {HTMLButtonElement} button
 * @param {HTMLDialogElement} dialog
 * @returns {{open: () => void, sleep: (minutes: number) => void}}
 */
export function mountTimer(player, button, dialog) {
  const timer = new SleepTimer({ fade: (level) => player.output.setFade("timer", level), pause: () => player.pause(), play: () => player.play() });
  const left = make("p", { className: "quiet", role: "status" });
  const off = make("button", { type: "button", className: "ghost", textContent: "Timer off", onclick: () => set(() => timer.stop()) });

  /** @param {() => void} change */
  function set(change) {
    change();
    show();
    dialog.close();
  }
  /** @param {number} minutes */
  const sleep = (minutes) => set(() => timer.end(Date.now() + minutes * 60000));
  const time = make("input", { type: "time", className: "field", "aria-label": "Play until" });
  const untilTime = make("form", {
    className: "row",
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const until = nextTime(time.value, Date.now());
      if (until === null) return time.focus();
      set(() => timer.end(until));
    },
  }, time, make("button", { className: "ghost", textContent: "Play until then" }));
  dialog.append(
    make("h2", { id: "timer-title", textContent: "Timer" }),
    make("p", { className: "quiet", textContent: "The sound fades over the last 30 seconds, on this page only." }),
    make("div", { className: "row", role: "group", "aria-label": "End after" },
      ...MINUTES.map((n) => make("button", { type: "button", className: "ghost", textContent: `${n} min`, onclick: () => sleep(n) }))),
    untilTime,
    make("div", { className: "row" },
      make("button", {
        type: "button", className: "ghost", textContent: "25 min music, 5 min rest",
        onclick: () => set(() => timer.alternate(25 * 60000, 5 * 60000, Date.now())),
      }), off),
    left,
    make("form", { method: "dialog" }, make("button", { className: "icon", textContent: "✕", "aria-label": "Close" })));

  function show() {
    const rest = timer.turns && !timer.turns.working;
    const text = timer.on ? clockText(timer.left(Date.now())) : "";
    button.setAttribute("aria-pressed", String(timer.on));
    button.title = timer.on ? `Timer: ${text} ${rest ? "of rest" : "left"} (z)` : "Timer (z)";
    button.dataset.left = text;
    left.textContent = timer.on ? `${text} ${rest ? "of rest" : "left"}` : "";
    off.hidden = !timer.on;
  }
  function tick() {
    const was = timer.on;
    timer.tick(Date.now());
    if (was && !timer.on) toast("The timer has ended the music. Good night.");
    if (was) show();
  }
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);
  show();
  return {
    open: () => {
      show();
      dialog.showModal();
    },
    sleep: (minutes) => minutes > 0 && minutes <= MOST_MINUTES && sleep(minutes),
  };
}
