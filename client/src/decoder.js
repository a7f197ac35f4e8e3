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

export class OpusDecoder {
  /** @param {OnPcm} onPcm */
  constructor(onPcm) {
    this.onPcm = onPcm;
    this.errors = 0;
    this.restart = false;
    /** @type {AudioDecoder|null} */
    this.decoder = null;
  }

  /** @param {Frame} frame */
  push(frame) {
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
      output: (data) => {
        const left = new Float32Array(data.numberOfFrames);
        const right = new Float32Array(data.numberOfFrames);
        data.copyTo(left, { planeIndex: 0, format: "f32-planar" });
        if (data.numberOfChannels > 1) data.copyTo(right, { planeIndex: 1, format: "f32-planar" });
        else right.set(left);
        const samplePos = Math.round((data.timestamp * SAMPLE_RATE) / 1e6);
        data.close();
        this.onPcm(samplePos, left, right, this.restart);
        this.restart = false;
      },
      // A decode error closes the decoder for good; the next frame opens a new one.
      error: () => {
        this.errors++;
        this.decoder = null;
      },
    });
    decoder.configure({ codec: "opus", sampleRate: SAMPLE_RATE, numberOfChannels: 2 });
    this.decoder = decoder;
    return decoder;
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
 */
export function decoderFor(codec, onPcm) {
  if (codec === CODECS.opus) return new OpusDecoder(onPcm);
  if (codec === CODECS.pcm_s16) return new PcmDecoder(onPcm);
  throw new RangeError(`codec ${codec} is not one that this client decodes`);
}
