// @ts-check
/** Parts of the page that are fetched when they are first needed. */
import { toast } from "./dom.js";

/**
 * What is fetched when it is first needed; a failure is told, and tried again the next time.
 * @template T
 * @param {() => Promise<T>} load
 * @returns {() => Promise<T|null>}
 */
export function lazily(load) {
  /** @type {Promise<T|null>|null} */
  let loaded = null;
  return () =>
    (loaded ??= load().catch((error) => {
      loaded = null;
      toast(`This part did not load: ${error.message}`, { error: true });
      return null;
    }));
}
