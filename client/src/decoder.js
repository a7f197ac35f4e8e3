// @ts-check
/** Decodes audio frames to float planes: Opus through WebCodecs, PCM directly. Runs in the worker. */
import { CODECS, opusPackets, pcmPlanes, SAMPLE_RATE } from "./protocol.js";

/**
 * @callback OnPcm
 * @param {number} samplePos
 * @param {Float32Array<ArrayBuffer>} left
 * @param {Float32Array<ArrayBuffer>} right
 * @param {boolean} restart whether what came before is to be dropped
 */

/** @typedef {import("./protocol.js").Frame} Frame */

export class PcmDecoder {
  /** @param {OnPcm} onPcm */
  constructor(onPcm) {
    this.onPcm = onPcm;
    this.errors = 0;
  }

  /** @param {Frame} frame */
  push(frame) {
    const [left, right] = pcmPlanes(frame.payload);
    this.onPcm(frame.samplePos, left, right, frame.discontinuity);
  }

  reset() {}
  close() {}
}

const OPUS = { codec: "opus", sampleRate: SAMPLE_RATE, numberOfChannels: 2 };
/** How long a browser may think about whether it knows Opus; one that gives no answer is tried. */
const ANSWER_MS = 500;
/** Frames in a row that fail, and errors within `ERRORS_MS`, of a decoder that does not work. One bad packet is one error. */
const FAILURES = 3;
const ERRORS = 5;
const ERRORS_MS = 3000;
/** How long a decoder that is fed may give nothing. */
const SILENT_MS = 800;
/** After such a pause in what comes, the wait for the decoder starts anew: the page may have been frozen. */
const PAUSE_MS = 1000;

/** Whether this thread decodes Opus, by the browser's own word: some browsers have the class without the codec. */
export async function decodesOpus() {
  if (typeof AudioDecoder === "undefined") return false;
  if (!AudioDecoder.isConfigSupported) return true;
  const tried = new Promise((resolve) => setTimeout(resolve, ANSWER_MS, { supported: true }));
  try {
    return (await Promise.race([AudioDecoder.isConfigSupported(OPUS), tried])).supported === true;
  } catch {
    return false;
  }
}

/**
 * The two planes of decoded sound, whatever layout the decoder chose.
 * @param {AudioData} data
 * @returns {[Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>]}
 * @throws {DOMException|RangeError} where the layout cannot be read
 */
export function decodedPlanes(data) {
  const frames = data.numberOfFrames;
  const channels = data.numberOfChannels;
  const left = new Float32Array(frames);
  const right = new Float32Array(frames);
  try {
    data.copyTo(left, { planeIndex: 0, format: "f32-planar" });
    if (channels > 1) data.copyTo(right, { planeIndex: 1, format: "f32-planar" });
    else right.set(left);
    return [left, right];
  } catch {
    // A browser that does not convert gives its own layout.
  }
  const format = String(data.format);
  const whole = format.startsWith("s16");
  if (!whole && !format.startsWith("f32")) throw new RangeError(`decoded sound comes as ${format}`);
  const planar = format.endsWith("-planar");
  const scale = whole ? 1 / 32768 : 1;
  [left, right].forEach((plane, index) => {
    const channel = Math.min(index, channels - 1);
    const raw = new (whole ? Int16Array : Float32Array)(planar ? frames : frames * channels);
    data.copyTo(raw, { planeIndex: planar ? channel : 0 });
    const [first, step] = planar ? [0, 1] : [channel, channels];
    for (let i = 0; i < frames; i++) plane[i] = raw[first + i * step] * scale;
  });
  return [left, right];
}

export class OpusDecoder {
  /**
   * @param {OnPcm} onPcm
   * @param {(why: string) => void} [onBroken] once, when it is clear that this browser does not decode Opus after all
   * @param {() => number} [now] ms
   */
  constructor(onPcm, onBroken = () => {}, now = () => performance.now()) {
    this.onPcm = onPcm;
    this.onBroken = onBroken;
    this.now = now;
    this.errors = 0;
    this.restart = false;
    this.broken = false;
    this.failures = 0; // without sound in between
    /** @type {number[]} when the latest errors were, ms */
    this.failedAt = [];
    this.waiting = 0; // frames since the last sound
    this.waitingSince = 0;
    this.pushedAt = -Infinity;
    /** @type {AudioDecoder|null} */
    this.decoder = null;
  }

  /** @param {Frame} frame */
  push(frame) {
    if (this.broken) return;
    const now = this.now();
    if (now - this.pushedAt > PAUSE_MS) this.waiting = 0;
    this.pushedAt = now;
    if (!this.waiting++) this.waitingSince = now;
    try {
      this.decode(frame);
    } catch (error) {
      this.fail(String(error.message ?? error));
      return;
    }
    if (this.waiting >= FAILURES && now - this.waitingSince > SILENT_MS) this.breakDown("the Opus decoder gives no sound");
  }

  /** @param {Frame} frame */
  decode(frame) {
    if (frame.discontinuity) this.reset();
    const packets = opusPackets(frame.payload);
    if (!packets.length) return;
    const decoder = this.decoder ?? this.open();
    const each = frame.nSamples / packets.length;
    packets.forEach((data, index) => {
      // The timestamp carries the sample clock through the decoder: microseconds, exact again after rounding.
      const samplePos = frame.samplePos + index * each;
      decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: (samplePos * 1e6) / SAMPLE_RATE, data }));
    });
  }

  open() {
    const decoder = new AudioDecoder({
      output: (data) => this.take(data),
      // A decode error closes the decoder for good; the next frame opens a new one.
      error: (error) => this.decoder === decoder && this.fail(String(error?.message ?? error)),
    });
    this.decoder = decoder;
    decoder.configure(OPUS);
    return decoder;
  }

  /** @param {AudioData} data */
  take(data) {
    const { sampleRate, timestamp } = data;
    /** @type {ReturnType<typeof decodedPlanes>} */
    let planes;
    try {
      if (sampleRate !== SAMPLE_RATE) throw new RangeError(`the Opus decoder gives ${sampleRate} Hz`);
      planes = decodedPlanes(data);
    } catch (error) {
      this.breakDown(String(error.message ?? error));
      return;
    } finally {
      data.close();
    }
    if (this.broken) return;
    this.waiting = 0;
    this.failures = 0;
    this.onPcm(Math.round((timestamp * SAMPLE_RATE) / 1e6), ...planes, this.restart);
    this.restart = false;
  }

  /** @param {string} why */
  fail(why) {
    const now = this.now();
    this.errors++;
    this.failures++;
    this.failedAt = [...this.failedAt.filter((at) => now - at < ERRORS_MS), now];
    this.reset();
    if (this.failures >= FAILURES || this.failedAt.length >= ERRORS) this.breakDown(why);
  }

  /** @param {string} why */
  breakDown(why) {
    if (this.broken) return;
    this.broken = true;
    this.close();
    this.onBroken(why);
  }

  /** What follows does not join what came before. */
  reset() {
    this.close();
    this.restart = true;
  }

  close() {
    if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
    this.decoder = null;
  }
}

/**
 * @param {number} codec the frame's codec number
 * @param {OnPcm} onPcm
 * @param {(why: string) => void} onBroken the decoder does not work in this browser
 */
export function decoderFor(codec, onPcm, onBroken) {
  if (codec === CODECS.opus) return new OpusDecoder(onPcm, onBroken);
  if (codec === CODECS.pcm_s16) return new PcmDecoder(onPcm);
  throw new RangeError(`codec ${codec} is not one that this client decodes`);
}
