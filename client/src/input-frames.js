// @ts-check
/** Frames of a live input: mono, 48 kHz, 16 bits, and the binary message for the server. No DOM. */
import { CODECS, HEADER_BYTES, SAMPLE_RATE, VERSION } from "./protocol.js";

export const FRAME = 1920; // 40 ms

/** Mixes channels to one, resamples to 48 kHz and cuts frames. */
export class InputFrames {
  /**
   * @param {number} rate of the device, Hz
   * @param {(frame: ArrayBuffer, level: number) => void} onFrame a frame and the root mean square of its samples, 0 to 1
   */
  constructor(rate, onFrame) {
    this.step = rate / SAMPLE_RATE; // input samples for each output sample
    this.onFrame = onFrame;
    this.at = 0; // position of the next output sample in the block, input samples; -1 is the last sample of the block before
    this.last = 0;
    this.frame = new Int16Array(FRAME);
    this.count = 0;
    this.power = 0;
  }

  /** @param {Float32Array[]} channels of one block; none while nothing is connected */
  push(channels) {
    const length = channels?.[0]?.length ?? 0;
    if (!length) return;
    const share = 1 / channels.length;
    const sample = (/** @type {number} */ i) => {
      if (i < 0) return this.last;
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      return sum * share;
    };
    for (; this.at <= length - 1; this.at += this.step) {
      const low = Math.floor(this.at);
      const part = this.at - low;
      this.put(part ? sample(low) * (1 - part) + sample(low + 1) * part : sample(low));
    }
    this.last = sample(length - 1);
    this.at -= length;
  }

  /** @param {number} value */
  put(value) {
    const bounded = Math.max(-1, Math.min(1, value)) || 0; // NaN is silence
    this.power += bounded * bounded;
    this.frame[this.count++] = Math.round(bounded * 32767);
    if (this.count < FRAME) return;
    this.onFrame(/** @type {ArrayBuffer} */ (this.frame.buffer), Math.sqrt(this.power / FRAME));
    this.frame = new Int16Array(FRAME);
    this.count = this.power = 0;
  }
}

/**
 * The binary message of a frame.
 * @param {ArrayBuffer} frame mono 16-bit samples
 * @param {number} samplePos what the performer heard at its first sample, on the station's clock; 0: unknown
 */
export function packInput(frame, samplePos) {
  const data = new Uint8Array(HEADER_BYTES + frame.byteLength);
  const view = new DataView(data.buffer);
  view.setUint8(0, VERSION);
  view.setUint8(1, 1); // audio
  view.setUint8(2, CODECS.pcm_s16);
  view.setBigUint64(8, BigInt(Math.max(0, Math.round(samplePos))), true);
  view.setUint32(16, frame.byteLength / 2, true);
  data.set(new Uint8Array(frame), HEADER_BYTES); // little-endian, as all machines with browsers are
  return data.buffer;
}
