// @ts-check
/** Settings of the desk, free of the DOM: their neutral values, their names in a link, and their words. */

/**
 * @typedef {{drums: number, tonal: number, low: number, mid: number, high: number, tilt: number, width: number, filter: number,
 *   hold: boolean, fade: boolean, mute: string[], solo: string[]}} Mix
 */

/** @type {Readonly<Mix>} */
export const NEUTRAL = Object.freeze({
  drums: 0, tonal: 0, low: 0, mid: 0, high: 0, tilt: 0, width: 1, filter: 0, hold: false, fade: false, mute: [], solo: [],
});
const LEVELS = ["drums", "tonal", "low", "mid", "high"];
const NUMBERS = [...LEVELS, "tilt", "width", "filter"];
const OFF_DB = -60;

/** @param {number} value @param {number} digits */
const signed = (value, digits) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`;

/**
 * A setting in words.
 * @param {string} name
 * @param {number} value
 */
export function words(name, value) {
  if (LEVELS.includes(name)) return value <= OFF_DB ? "off" : `${signed(value, 0)} dB`;
  if (name === "tilt") return `${signed(value, 1)} dB an octave`;
  if (name === "width") return value === 0 ? "mono" : `${Math.round(100 * value)} %`;
  return value === 0 ? "open" : `${value < 0 ? "low" : "high"}-pass ${Math.round(100 * Math.abs(value))} %`;
}

/**
 * The settings in a link: `low:-12,mute:drums`; empty for a neutral desk. Hold and fade are moments, not settings.
 * @param {Partial<Mix>|null|undefined} mix
 */
export function mixText(mix) {
  const numbers = NUMBERS.filter((name) => (mix?.[/** @type {"low"} */ (name)] ?? NEUTRAL[/** @type {"low"} */ (name)]) !== NEUTRAL[/** @type {"low"} */ (name)])
    .map((name) => `${name}:${mix?.[/** @type {"low"} */ (name)]}`);
  const stems = /** @type {("mute"|"solo")[]} */ (["mute", "solo"]).flatMap((name) => (mix?.[name] ?? []).map((stem) => `${name}:${stem}`));
  return [...numbers, ...stems].join(",");
}

/**
 * The reverse of `mixText`; null where nothing can be understood.
 * @param {string} text
 * @returns {Partial<Mix>|null}
 */
export function readMix(text) {
  /** @type {any} */
  const mix = {};
  for (const part of text.split(",").slice(0, 20)) {
    const [name, value] = part.split(":");
    if (NUMBERS.includes(name) && value && Number.isFinite(Number(value))) mix[name] = Number(value);
    if ((name === "mute" || name === "solo") && (value === "drums" || value === "bass")) mix[name] = [...new Set([...(mix[name] ?? []), value])];
  }
  return Object.keys(mix).length ? mix : null;
}

/**
 * A list with or without a stem.
 * @param {string[]} stems
 * @param {string} stem
 */
export const toggled = (stems, stem) => (stems.includes(stem) ? stems.filter((each) => each !== stem) : [...stems, stem].sort());
