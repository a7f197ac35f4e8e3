// @ts-check
/// <reference path="./worklet.d.ts" />
/**
 * The live input on the audio thread: mono 16-bit frames of 40 ms at 48 kHz, with their level, for the page.
 *
 * Threading model
 *   Audio thread   process(), every 128 samples; it allocates one buffer for each frame.
 *   Port           {frame, level} to the page.
 */
import { InputFrames } from "./input-frames.js";

class RiffstreamInput extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frames = new InputFrames(sampleRate, (frame, level) => this.port.postMessage({ frame, level }, [frame]));
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    this.frames.push(inputs[0]);
    return true;
  }
}

registerProcessor("riffstream-input", RiffstreamInput);
