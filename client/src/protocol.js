// @ts-check
/**
 * The binary frame and the messages of riffstream.v1, free of the DOM. The schema's one source is the server's
 * `riffstream/protocol/`; tests read the golden vectors that it shares with us.
 */

export const SUBPROTOCOL = "riffstream.v1";
export const VERSION = 1;
export const SAMPLE_RATE = 48000;
export const HEADER_BYTES = 24;
export const CODECS = Object.freeze({ opus: 1, pcm_s16: 2 });
export const FLAG_DISCONTINUITY = 1;
export const FLAG_SILENCE = 2;

/**
 * @typedef {object} Frame
 * @property {number} version
 * @property {number} kind
 * @property {number} codec
 * @property {boolean} discontinuity  the samples before this frame were skipped
 * @property {boolean} silence
 * @property {number} seq
 * @property {number} samplePos       sample clock of the first sample, 48 kHz
 * @property {number} nSamples        per channel
 * @property {number} rev
 * @property {Uint8Array} payload
 *
 * @typedef {{text: string, weight: number}} PromptPart
 * @typedef {"asap"|"beat"|"bar"|"clip"} When
 *
 * @typedef {object} StationState
 * @property {PromptPart[]} prompts
 * @property {string|null} [negative] words that the music keeps away from
 * @property {number} seed
 * @property {string|null} [seed_image]
 * @property {number} denoising
 * @property {number} guidance
 * @property {number|"auto"|null} bpm
 * @property {string|null} [bpm_reason] why the tempo is what it is; null where somebody set a number
 * @property {number|"auto"|null} [beats_per_bar]
 * @property {string|null} [beats_per_bar_reason] the same for the metre
 * @property {number} key
 * @property {"song"|"dj"|"ambient"|"none"|null} [form]
 * @property {string|null} [form_reason] why it is none although another one was chosen
 * @property {string|null} [chords]      in the sounding key, one a bar
 * @property {Record<string, number|null>|null} [parts] levels, 0 (silent) to 1
 * @property {Record<string, string|null>|null} [rests] parts that rest because the words say so, with these words
 * @property {number|null} [energy]
 * @property {number|null} [density]
 * @property {number|null} [brightness]
 * @property {Partial<import("./ui/mixing.js").Mix>|null} [mix] the desk; null is neutral
 *
 * @typedef {Partial<StationState> & {at?: When, bar?: number|null, ramp_s?: number, if_rev?: number}} Steer
 */

/**
 * @param {ArrayBuffer} buffer one binary WebSocket message
 * @returns {Frame}
 * @throws {RangeError} on a buffer shorter than its header, or of a version that this client does not know
 */
export function parseFrame(buffer) {
  if (buffer.byteLength < HEADER_BYTES) throw new RangeError(`frame of ${buffer.byteLength} bytes has no header`);
  const view = new DataView(buffer);
  const version = view.getUint8(0);
  if (version !== VERSION) throw new RangeError(`frame version ${version}; this client knows ${VERSION}`);
  const flags = view.getUint8(3);
  return {
    version,
    kind: view.getUint8(1),
    codec: view.getUint8(2),
    discontinuity: (flags & FLAG_DISCONTINUITY) !== 0,
    silence: (flags & FLAG_SILENCE) !== 0,
    seq: view.getUint32(4, true),
    // Sample clocks stay far below 2^53 (5,900 years at 48 kHz), so a double holds them exactly.
    samplePos: Number(view.getBigUint64(8, true)),
    nSamples: view.getUint32(16, true),
    rev: view.getUint32(20, true),
    payload: new Uint8Array(buffer, HEADER_BYTES),
  };
}

/**
 * Splits a payload into its Opus packets; each carries a little-endian u16 length.
 * @param {Uint8Array} payload
 * @returns {Uint8Array[]}
 * @throws {RangeError} where a length points past the end
 */
export function opusPackets(payload) {
  const packets = [];
  let at = 0;
  while (at < payload.length) {
    if (at + 2 > payload.length) throw new RangeError("an Opus packet's length is cut off");
    const size = payload[at] | (payload[at + 1] << 8);
    at += 2;
    if (at + size > payload.length) throw new RangeError("an Opus packet is cut off");
    packets.push(payload.subarray(at, at + size));
    at += size;
  }
  return packets;
}

/**
 * Interleaved signed 16-bit stereo to two planes of floats in [-1, 1).
 * @param {Uint8Array} payload
 * @returns {[Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>]}
 */
export function pcmPlanes(payload) {
  const count = payload.length >> 2;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const left = new Float32Array(count);
  const right = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    left[i] = view.getInt16(4 * i, true) / 32768;
    right[i] = view.getInt16(4 * i + 2, true) / 32768;
  }
  return [left, right];
}

/**
 * How a prompt mix reads in one line: the heaviest first, joined by " + ".
 * @param {PromptPart[]} [prompts]
 */
export function promptLine(prompts) {
  return [...(prompts ?? [])]
    .sort((a, b) => b.weight - a.weight)
    .map((p) => p.text)
    .join(" + ");
}

/** Whether a station is a private one, which ends with its page. @param {string} station */
export const isPrivate = (station) => station.startsWith("private-");
