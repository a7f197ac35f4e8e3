// @ts-check
/** Moods: what one tap asks for. No DOM. */

/**
 * @typedef {object} Mood
 * @property {string} name
 * @property {string[]} prompts     words of the embedded model's styles
 * @property {[number, number]} bpm lowest and highest tempo
 * @property {{energy: number, density: number, brightness: number}} levels  for models that know conditions, 0..1
 */

/** @type {Mood[]} */
export const MOODS = [
  {
    name: "Focus", bpm: [76, 92], levels: { energy: 0.4, density: 0.4, brightness: 0.4 },
    prompts: ["lo-fi hip hop beat to study to", "mellow electric piano groove", "downtempo with warm keys", "marimba and soft percussion", "minimal techno, soft and steady", "felt piano, quiet and steady"],
  },
  {
    name: "Calm", bpm: [66, 80], levels: { energy: 0.25, density: 0.25, brightness: 0.35 },
    prompts: ["ambient piano", "acoustic guitar picking by a campfire", "string quartet, warm and slow", "harp solo, gentle", "slow ballad with strings", "nylon guitar and flute"],
  },
  {
    name: "Sleep", bpm: [56, 66], levels: { energy: 0.08, density: 0.12, brightness: 0.15 },
    prompts: ["ambient pads, calm and wide", "music box lullaby", "soft new age pads", "gentle lullaby with harp", "soft choir, slow and dark", "kalimba, slow and soft"],
  },
  {
    name: "Move", bpm: [122, 132], levels: { energy: 0.9, density: 0.7, brightness: 0.7 },
    prompts: ["deep house", "funky house bass line", "driving techno with an acid bass line", "disco house with piano chords", "afro house percussion", "trance arpeggio, bright and fast"],
  },
  {
    name: "Dinner", bpm: [88, 112], levels: { energy: 0.4, density: 0.45, brightness: 0.45 },
    prompts: ["bossa nova with nylon guitar", "cool jazz trio", "smooth jazz saxophone", "slow rumba with piano", "gypsy jazz guitar, easy", "jazz waltz with vibraphone"],
  },
];

/** How long the words of a mood take to come in, s: a tap is no cut. */
export const RAMP_S = 8;

/**
 * A steer of several fields: words, tempo, and levels where the model knows them.
 * @param {Mood} mood
 * @param {{conditions?: boolean}|undefined} caps of the station
 * @param {string|undefined} playing the words that play: another tap brings others
 * @param {() => number} [random] 0..1
 * @returns {import("./protocol.js").Steer}
 */
export function moodChange(mood, caps, playing, random = Math.random) {
  const others = mood.prompts.filter((text) => text !== playing);
  const text = others[Math.floor(random() * others.length)];
  const [low, high] = mood.bpm;
  return {
    prompts: [{ text, weight: 1 }], bpm: Math.round(low + random() * (high - low)), key: 0, seed_image: null,
    ramp_s: RAMP_S, ...(caps?.conditions ? mood.levels : {}),
  };
}

/**
 * The station of a mood, for those who may not steer: its title or description has the mood's name as a word.
 * @param {Mood} mood
 * @param {{id: string, title?: string, description?: string}[]} stations
 */
export const stationOf = (mood, stations) => stations.find(({ id, title, description }) => new RegExp(`\\b${mood.name}\\b`, "i").test(`${id} ${title ?? ""} ${description ?? ""}`));
