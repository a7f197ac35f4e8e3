// @ts-check
/// <reference path="./worklet.d.ts" />
/**
 * The audio thread. It obeys the callback contract: it never waits, never logs, allocates nothing while it plays, and
 * always fills its output.
 *
 * Threading model
 *   Audio thread   process(), every 128 samples.
 *   Port           {pcm} from the decoding worker, {control} from the page; one report about every 50 ms to the page.
 */
import { Pacer } from "./pacer.js";
import { Ring } from "./ring.js";

const RING_SAMPLES = 1 << 19; // 10.9 s
const FAR_BEHIND = 1.5 * 48000;
const REPORT_BLOCKS = 19; // 19 * 128 / 48000 = 51 ms

class RiffstreamPlayer extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Ring(RING_SAMPLES);
    this.pacer = new Pacer(sampleRate);
    this.playing = true;
    this.blocks = 0;
    this.seenUnderruns = 0;
    /** @type {MessagePort|null} */
    this.source = null;
    this.port.onmessage = (event) => this.control(event.data);
  }

  /** @param {any} message */
  control(message) {
    if (message.type === "port") {
      this.source?.close();
      this.source = message.port;
      message.port.onmessage = (/** @type {MessageEvent} */ event) => {
        const { samplePos, left, right, restart } = event.data;
        if (restart) this.restart();
        this.ring.push(samplePos, left, right);
      };
    } else if (message.type === "play") {
      this.playing = message.playing;
    } else if (message.type === "frame") {
      this.pacer.setFrame(message.frameMs);
    } else if (message.type === "restart") {
      this.restart();
    }
  }

  restart() {
    this.ring.reset();
    this.pacer.open = false;
  }

  /**
   * @param {Float32Array[][]} _inputs
   * @param {Float32Array[][]} outputs
   */
  process(_inputs, outputs) {
    const left = outputs[0][0];
    const right = outputs[0][1] ?? left;
    // Far behind, after a stall of this machine or a resumed connection: better one seam than to hear changes late for
    // minutes. At rest nobody hears the seam.
    if (this.ring.fill > this.pacer.target + (this.pacer.open ? FAR_BEHIND : FAR_BEHIND / 3)) this.ring.skipTo(this.pacer.target);
    const rate = this.pacer.update(this.ring.fill, left.length);
    this.ring.pull(left, right, rate, this.playing && this.pacer.open);
    if (this.ring.underruns !== this.seenUnderruns) {
      this.seenUnderruns = this.ring.underruns;
      this.pacer.underrun();
    }
    if (++this.blocks >= REPORT_BLOCKS) {
      this.blocks = 0;
      this.port.postMessage({
        position: this.ring.position,
        contextTime: currentTime,
        bufferMs: (1000 * Math.max(0, this.ring.fill)) / sampleRate,
        targetMs: this.pacer.targetMs,
        rate,
        underruns: this.ring.underruns,
        overruns: this.ring.overruns,
        skips: this.ring.skips,
        audible: this.ring.gain > 0,
      });
    }
    return true;
  }
}

registerProcessor("riffstream-player", RiffstreamPlayer);
