// @ts-check
/** The ways of the sound from the server to the loudspeaker. */

/** @typedef {"opus"|"pcm"|"buffers"|"mp3"} TransportName */

/**
 * The best that this browser and page can do; null where that is nothing.
 * @param {string|null} [token] an <audio> element cannot send one
 * @returns {TransportName|null}
 */
export function bestTransport(token = null) {
  if (typeof AudioContext === "undefined") return null;
  const thread = isSecureContext && "audioWorklet" in AudioContext.prototype; // pages on plain http have neither this nor codecs
  if (thread && typeof AudioDecoder !== "undefined") return "opus";
  // Uncompressed samples take 1.5 Mbit/s: not for those who asked their browser to save data.
  if (/** @type {any} */ (navigator).connection?.saveData && !token) return "mp3";
  return thread ? "pcm" : "buffers";
}
