// @ts-check
/** What the second screen shows, and how the DJ's page and that screen tell each other. No DOM. */
import { LOOKS } from "./visualiser.js";

export const CHANNEL = "riffstream-stage";
/** Parts that can be hidden, and the words for them. */
export const PARTS = /** @type {Record<string, string>} */ ({ picture: "picture", now: "words", next: "what comes next", requests: "requests", code: "QR code" });
export const SIZES = /** @type {const} */ ([0.5, 4]);

/**
 * @typedef {object} Settings
 * @property {number} size       of the text, 1: as the page
 * @property {string[]} hidden   names of `PARTS`
 * @property {boolean} blackout
 * @property {import("./visualiser.js").Look} look
 */

/** @type {Settings} */
export const USUAL = Object.freeze({ size: 1, hidden: [], blackout: false, look: "spectrogram" });

/**
 * Settings from a message or from storage; what is not valid is as usual.
 * @param {any} given
 * @returns {Settings}
 */
export function readSettings(given) {
  const size = Number(given?.size);
  return {
    size: Number.isFinite(size) && size > 0 ? Math.max(SIZES[0], Math.min(SIZES[1], size)) : USUAL.size,
    hidden: Array.isArray(given?.hidden) ? Object.keys(PARTS).filter((name) => given.hidden.includes(name)) : [],
    blackout: given?.blackout === true,
    look: LOOKS.find((name) => name === given?.look) ?? USUAL.look,
  };
}
