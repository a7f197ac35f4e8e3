// @ts-check
/** The way to the cue, whose line is fetched with the first prompt that waits. */
import { byId, toast } from "./dom.js";

/** @param {import("./app.js").App} app */
export function mountCueing(app) {
  const line = byId("cue", HTMLElement);
  /** @type {ReturnType<typeof import("./cue.js").mountCue>|null} */
  let cue = null;
  byId("prompt", HTMLInputElement).addEventListener("keydown", async (event) => {
    if (event.key !== "Enter" || !event.shiftKey || event.isComposing) return;
    event.preventDefault(); // not "play this"
    try {
      const { mountCue } = await import("./cue.js");
      cue ??= mountCue(app, line);
      cue.take();
    } catch (error) {
      toast(`This part did not load: ${error.message}`, { error: true });
    }
  });
  return {
    drop: () => cue?.fire(),
    /** @returns {boolean} whether there was one */
    clearCue: () => {
      const cued = !line.hidden;
      if (cued) cue?.cancel();
      return cued;
    },
  };
}
