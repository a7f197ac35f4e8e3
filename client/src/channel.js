// @ts-check
/** A channel to the other pages of this origin. */

/**
 * @param {string} name
 * @returns {BroadcastChannel|null} null: this browser has none, or a sandboxed frame may not have one
 */
export function openChannel(name) {
  try {
    return typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(name);
  } catch {
    return null;
  }
}
