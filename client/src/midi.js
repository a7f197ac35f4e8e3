// @ts-check
/** Knobs, faders and pads of a MIDI device: what a message means, what it is mapped to, and soft takeover. No DOM. */

/** @typedef {{kind: "cc"|"note", channel: number, number: number}} Source */
/** @typedef {Source & {value: number, on: boolean}} Touch   value 0..1; on: pressed, or above the middle */

/**
 * A control change or a note; null for other messages (clock, pitch bend, system exclusive).
 * @param {ArrayLike<number>} data
 * @returns {Touch|null}
 */
export function readMidi(data) {
  const [status, number, level = 0] = [data[0] ?? 0, data[1], data[2]];
  const kind = status >> 4;
  if (number === undefined || number > 127) return null;
  const base = { channel: (status & 15) + 1, number, value: Math.min(127, level) / 127 };
  if (kind === 0xb && number < 120) return { kind: "cc", ...base, on: level >= 64 }; // 120 and above are channel modes
  if (kind === 0x9 || kind === 0x8) return { kind: "note", ...base, on: kind === 0x9 && level > 0 };
  return null;
}

/** @param {Source} source "cc 7, channel 1" */
export const sourceName = ({ kind, channel, number }) => `${kind} ${number}, channel ${channel}`;
const sourceKey = (/** @type {Source} */ { kind, channel, number }) => `${kind}/${channel}/${number}`;

/** How near a knob must come to a control to take it over, of its range. */
const NEAR = 0.025;

/** A knob takes a control over when it meets it, so that nothing jumps. */
export class Takeover {
  constructor() {
    this.holds = false;
    /** @type {number|null} */
    this.last = null; // of the knob
    this.left = -1; // where the knob left the control
  }

  /**
   * @param {number} knob 0..1
   * @param {number} control where the control is, 0..1
   * @returns {boolean} whether the knob moves the control
   */
  moves(knob, control) {
    const before = this.last;
    this.last = knob;
    // Somebody else has moved it: the knob must meet it again.
    if (this.holds && Math.abs(control - this.left) > 2 * NEAR) this.holds = false;
    const near = Math.abs(knob - control) <= NEAR;
    const passed = before !== null && (before - control) * (knob - control) <= 0;
    this.holds ||= near || passed;
    if (this.holds) this.left = knob;
    return this.holds;
  }
}

/** Maps of devices that many have, by their names. */
const SOUND = ["bpm", "key", "denoising", "guidance", "volume", "level-energy", "level-density", "level-brightness"];
const DESK = ["desk-drums", "desk-tonal", "desk-filter", "desk-low", "desk-mid", "desk-high", "desk-tilt", "desk-width"];
const SCENES = Array.from({ length: 8 }, (_, index) => `scene-${index + 1}`);
/** @param {"cc"|"note"} kind @param {number} first @param {string[]} targets */
const row = (kind, first, targets) => targets.map((target, index) => /** @type {[Source, string]} */ ([{ kind, channel: 1, number: first + index }, target]));
/** @type {{name: RegExp, map: [Source, string][]}[]} */
const PRESETS = [
  { name: /nanoKONTROL2/i, map: [...row("cc", 0, DESK), ...row("cc", 16, SOUND), ...row("cc", 32, SCENES), ...row("cc", 41, ["play"])] },
  { name: /APC mini/i, map: [...row("cc", 48, [...DESK, "volume"]), ...row("note", 56, SCENES)] },
];

/** Controls of a device and the controls of the page that they move. */
export class MidiMap {
  /** @param {[Source, string][]} [pairs] */
  constructor(pairs = []) {
    /** @type {Map<string, {source: Source, target: string, takeover: Takeover}>} */
    this.entries = new Map();
    for (const [source, target] of pairs) this.learn(source, target);
  }

  /** The map that a device's name is known for; an empty one for others. @param {string} name */
  static preset(name) {
    return new MidiMap(PRESETS.find((each) => each.name.test(name))?.map ?? []);
  }

  /**
   * What was kept as text; null for what is no map.
   * @param {string|null} text
   */
  static read(text) {
    if (!text) return null;
    try {
      const pairs = JSON.parse(text);
      if (!Array.isArray(pairs)) return null;
      const good = pairs.filter((pair) => Array.isArray(pair) && typeof pair[1] === "string" && ["cc", "note"].includes(pair[0]?.kind) &&
        Number.isInteger(pair[0].channel) && Number.isInteger(pair[0].number));
      return new MidiMap(good);
    } catch {
      return null;
    }
  }

  toString() {
    return JSON.stringify(this.pairs);
  }

  /** @returns {[Source, string][]} */
  get pairs() {
    return [...this.entries.values()].map(({ source, target }) => [source, target]);
  }

  /** One control of the device moves one of the page; the newest choice counts. @param {Source} source @param {string} target */
  learn({ kind, channel, number }, target) {
    const source = { kind, channel, number };
    this.entries.set(sourceKey(source), { source, target, takeover: new Takeover() });
  }

  /** @param {Source} source */
  forget(source) {
    this.entries.delete(sourceKey(source));
  }

  /** @param {Source} source */
  find(source) {
    return this.entries.get(sourceKey(source)) ?? null;
  }
}
