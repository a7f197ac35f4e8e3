// @ts-check
/** The way to the cue, whose line is fetched with the first prompt that waits. */
import { byId } from "./dom.js";
import { lazily } from "./lazily.js";

/** @param {import("./app.js").App} app */
export function mountCueing(app) {
  const line = byId("cue", HTMLElement);
  const box = byId("prompt", HTMLInputElement);
  const cue = lazily(async () => (await import("./cue.js")).mountCue(app, line));
  box.addEventListener("keydown", async (event) => {
    if (event.key !== "Enter" || !event.shiftKey || event.isComposing) return;
    event.preventDefault(); // not "play this"
    const given = box.value.trim();
    if (given) (await cue())?.take(given);
  });
  const cued = () => !line.hidden;
  return {
    drop: async () => cued() && (await cue())?.fire(),
    /** @returns {boolean} whether there was one */
    clearCue: () => {
      if (!cued()) return false;
      cue().then((found) => found?.cancel());
      return true;
    },
  };
}
