// @ts-check
/// <reference path="./worklet.d.ts" />
/**
 * The audio thread. It obeys the callback contract: it never waits, never logs, allocates nothing while it plays but its
 * reports, and always fills its output.
 *
 * Threading model
 *   Audio thread   process(), every 128 samples.
 *   Port           {pcm} from the decoding worker, {control} from the page; one report about every 50 ms to the page.
 */
import { Playback } from "./playback.js";

const REPORT_BLOCKS = 19; // 19 * 128 / 48000 = 51 ms

class RiffstreamPlayer extends AudioWorkletProcessor {
  constructor() {
    super();
    this.playback = new Playback(sampleRate);
    this.blocks = 0;
    this.port.onmessage = (event) => this.playback.control(event.data);
  }

  /**
   * @param {Float32Array[][]} _inputs
   * @param {Float32Array[][]} outputs
   */
  process(_inputs, outputs) {
    const { playback } = this;
    const left = outputs[0][0];
    playback.pace(left.length, 0);
    playback.pull(left, outputs[0][1] ?? left);
    if (++this.blocks >= REPORT_BLOCKS) {
      this.blocks = 0;
      this.port.postMessage(playback.report(currentTime, 0, playback.ring.gain > 0));
    }
    return true;
  }
}

registerProcessor("riffstream-player", RiffstreamPlayer);
