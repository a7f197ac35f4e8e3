// @ts-check
/**
 * The ambient view: a full screen that nobody touches. Its words get smaller and wander, since displays keep what stands still;
 * it is dimmed at night, and shows a clock to those who want one.
 */
import { drift, isNight } from "../drift.js";
import { byId, keep, recall } from "./dom.js";

const AFTER_MS = 20000;
/** How far the words wander, as shares of the stage. */
const ROOM = { wide: 0.12, high: 0.16 };

/**
 * @param {import("../player.js").Player} player
 * @param {URLSearchParams} query
 */
export function mountAmbient(player, query) {
  const { body } = document;
  const clock = byId("clock", HTMLTimeElement);
  const words = /** @type {HTMLElement} */ (byId("now", HTMLElement).closest(".now"));
  let touched = performance.now();
  let began = 0; // when the words set out; 0: they stand at their place

  function second() {
    const now = performance.now();
    const on = body.classList.contains("kiosk") && player.state === "playing" && now - touched >= AFTER_MS;
    if (on !== began > 0) {
      began = on ? now : 0;
      body.classList.toggle("ambient", on);
      if (!on) words.style.translate = "";
    }
    const time = new Date();
    body.classList.toggle("night", on && isNight(time));
    if (on) {
      const { clientWidth, clientHeight } = /** @type {HTMLElement} */ (words.parentElement);
      const [right, up] = drift((now - began) / 1000, ROOM.wide * clientWidth, ROOM.high * clientHeight);
      words.style.translate = `${right.toFixed(1)}px ${(-up).toFixed(1)}px`;
    }
    if (!clock.hidden) clock.textContent = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  }
  const touch = () => {
    touched = performance.now();
    if (began) second();
  };
  for (const name of ["pointermove", "pointerdown", "keydown", "wheel"]) addEventListener(name, touch, { passive: true });
  document.addEventListener("fullscreenchange", touch);
  /** @param {boolean} on */
  function showClock(on) {
    clock.hidden = !on;
    second();
  }
  showClock(query.has("clock") || recall("clock") === "on");
  setInterval(second, 1000);
  return {
    toggleClock: () => {
      keep("clock", clock.hidden ? "on" : null);
      showClock(clock.hidden);
    },
  };
}
