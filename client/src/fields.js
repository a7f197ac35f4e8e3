// @ts-check
// Made from riffstream/protocol/ by python -m tests.protocol_types; do not edit.

/** Fields of a steer that a caller may set. */
export const STEER_FIELDS = Object.freeze([
  "prompts", "negative", "seed", "seed_image", "denoising", "guidance", "bpm", "beats_per_bar", "key", "form",
  "chords", "parts", "energy", "density", "brightness", "mix", "at", "bar", "ramp_s", "if_rev",
]);
