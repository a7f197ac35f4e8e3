// @ts-check
/** The seed library as a list: filters, and one tile for each style. No DOM. */

/** A part below this level rests, as on the server. */
const QUIET = 0.3;

/**
 * @typedef {object} Seed
 * @property {string} name
 * @property {string} [title]
 * @property {string} [style]
 * @property {string} [caption]
 * @property {string[]} [captions]
 * @property {string[]} [tags]
 * @property {number|null} [bpm]
 * @property {number} [beats]
 * @property {Record<string, number>} [parts]
 * @property {number|null} [energy]
 * @property {string} [preview]
 * @property {string} [audio]
 * @property {string} [remove_key]
 * @property {string[]} [notes] remarks on an uploaded file
 *
 * @typedef {object} Wanted
 * @property {string} text words of which each is in a name or a description
 * @property {string} line "drums", "no drums", ... of LINES; "" is any
 * @property {string} energy a key of ENERGIES; "" is any
 * @property {string} metre "8" or "6" beats; "" is any
 */

/** Choices of line-up: words, part, whether it plays. @type {[string, string, boolean][]} */
export const LINES = [
  ["with drums", "drums", true], ["without drums", "drums", false], ["with bass", "bass", true], ["without bass", "bass", false],
  ["with a melody", "lead", true], ["without melody", "lead", false], ["with pads", "pad", true],
];

/** Ranges of energy. @type {Record<string, [number, number]>} */
export const ENERGIES = { soft: [0, 0.35], medium: [0.35, 0.65], loud: [0.65, 1.01] };

/** @param {Seed} seed @param {Wanted} wanted */
export function matches(seed, wanted) {
  const own = [seed.name, seed.title, seed.style, seed.caption, ...(seed.captions ?? []), ...(seed.tags ?? [])].join(" ").toLowerCase();
  if (!wanted.text.toLowerCase().split(/\s+/).every((word) => own.includes(word))) return false;
  if (wanted.metre && String(seed.beats ?? 8) !== wanted.metre) return false;
  const line = LINES.find(([words]) => words === wanted.line);
  if (line) {
    const level = seed.parts?.[line[1]];
    if (level === undefined || (level >= QUIET) !== line[2]) return false;
  }
  const range = ENERGIES[wanted.energy];
  return !range || (typeof seed.energy === "number" && seed.energy >= range[0] && seed.energy < range[1]);
}

/**
 * One group for each style, in the order of their first seeds; each upload is a group of its own.
 * @param {Seed[]} seeds
 * @param {string} chosen the seed that plays stands first in its group
 * @returns {Seed[][]}
 */
export function groups(seeds, chosen) {
  /** @type {Map<string, Seed[]>} */
  const found = new Map();
  for (const seed of seeds) {
    const key = seed.style && seed.style !== "upload" ? `style ${seed.style}` : `seed ${seed.name}`;
    const group = found.get(key);
    if (!group) found.set(key, [seed]);
    else if (seed.name === chosen) group.unshift(seed);
    else group.push(seed);
  }
  return [...found.values()];
}
