// @ts-check
/** A sentence about prompts whose words the model does not know. */

/** Below this score a prompt's words are unknown (see docs/tempo.md). */
const KNOWN = 0.38;

/**
 * @param {any} state
 * @returns {string} "" if the words are known, or if nothing is known about them
 */
export function unknownWords(state) {
  const likeness = state?.likeness;
  if (!likeness || likeness.score >= KNOWN) return "";
  const words = (state.prompts ?? []).length > 1 ? `“${likeness.text}”` : "these words";
  return `The model does not know ${words}; nearest: ${likeness.style}`;
}
