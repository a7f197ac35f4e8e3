// @ts-check
/** The line under the headline about the music that follows, with a hair line that fills until then. */
import { nextUp } from "../coming.js";
import { byId } from "./dom.js";

const EVERY_MS = 500;

/**
 * @param {import("./app.js").App} app
 * @param {(name: string, at: number) => void} announce shows another listener's change with its exact countdown
 */
export function mountComing(app, announce) {
  const line = byId("then", HTMLElement);
  const name = byId("then-name", HTMLElement);
  const words = byId("then-when", HTMLElement);
  function show() {
    if (document.hidden) return;
    const latest = app.player.now; // a change is announced before its time, and so read ahead of the music
    const at = app.player.onAir ?? latest?.sample_pos ?? 0;
    const steer = nextUp(latest, at);
    if (steer?.by === "steer" && app.player.position !== null) announce(steer.name, steer.at);
    const found = steer?.by === "steer" ? null : nextUp(app.heard() ?? latest, at);
    line.hidden = !found;
    if (!found) return;
    if (name.textContent !== found.name) name.textContent = found.name;
    if (words.textContent !== found.words) words.textContent = found.words;
    line.style.setProperty("--share", found.share.toFixed(3));
  }
  app.onChange(show);
  app.player.addEventListener("now", show);
  setInterval(show, EVERY_MS);
}
