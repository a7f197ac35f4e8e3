// @ts-check
/**
 * What stands between what arrives and what is heard: the ring, how it is paced, and what is told of it. The audio thread
 * and the scheduler both play through it. No DOM.
 */
import { Pacer } from "./pacer.js";
import { Ring } from "./ring.js";

const RING_SAMPLES = 1 << 19; // 10.9 s
const FAR_BEHIND_S = 1.5;

export class Playback {
  /** @param {number} sampleRate */
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.ring = new Ring(RING_SAMPLES);
    this.pacer = new Pacer(sampleRate);
    this.playing = true;
    this.rate = 1;
    this.seenUnderruns = 0;
    /** @type {MessagePort|null} */
    this.source = null;
  }

  /** What the page says: {port}, {play}, {frame} or {restart}. @param {any} message */
  control(message) {
    if (message.type === "port") {
      this.source?.close();
      this.source = message.port;
      message.port.onmessage = (/** @type {MessageEvent} */ event) => this.push(event.data);
    } else if (message.type === "play") this.playing = message.playing;
    else if (message.type === "frame") this.pacer.setFrame(message.frameMs);
    else if (message.type === "restart") this.restart();
  }

  /** @param {{samplePos: number, left: Float32Array, right: Float32Array, restart: boolean}} data */
  push({ samplePos, left, right, restart }) {
    if (restart) this.restart();
    this.ring.push(samplePos, left, right);
  }

  restart() {
    this.ring.reset();
    this.pacer.open = false;
  }

  /**
   * Before each block: how it is to be read.
   * @param {number} block samples
   * @param {number} ahead samples that were read and are not heard yet
   * @returns {boolean} whether there is to be sound; false while the buffer fills
   */
  pace(block, ahead) {
    const { ring, pacer } = this;
    const far = FAR_BEHIND_S * this.sampleRate;
    // Far behind, after a stall of this machine or a resumed connection: better one seam than to hear changes late for
    // minutes. At rest nobody hears the seam.
    if (ring.fill + ahead > pacer.target + (pacer.open ? far : far / 3)) ring.skipTo(pacer.target - ahead);
    this.rate = pacer.update(ring.fill + ahead, block);
    return this.playing && pacer.open;
  }

  /** The block itself. @param {Float32Array} left @param {Float32Array} right */
  pull(left, right) {
    this.ring.pull(left, right, this.rate, this.playing && this.pacer.open);
    if (this.ring.underruns !== this.seenUnderruns) {
      this.seenUnderruns = this.ring.underruns;
      this.pacer.underrun();
    }
  }

  /**
   * @param {number} contextTime s
   * @param {number} ahead samples that were read and are not heard yet
   * @param {boolean} audible
   * @returns {import("./output.js").Report}
   */
  report(contextTime, ahead, audible) {
    const { ring, pacer, rate } = this;
    return {
      position: ring.position === null ? null : ring.position - ahead * rate,
      contextTime,
      bufferMs: (1000 * Math.max(0, ring.fill + ahead)) / this.sampleRate,
      targetMs: pacer.targetMs,
      rate,
      underruns: ring.underruns,
      overruns: ring.overruns,
      skips: ring.skips,
      audible,
    };
  }
}
