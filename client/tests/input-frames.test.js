// @ts-check
import assert from "node:assert/strict";
import test from "node:test";
import { FRAME, InputFrames, packInput } from "../src/input-frames.js";
import { parseFrame } from "../src/protocol.js";

/** @param {number} rate @param {number} hz @param {number} seconds @param {number[]} gains one for each channel */
function frames(rate, hz, seconds, gains = [1]) {
  /** @type {number[]} */
  const levels = [];
  /** @type {number[]} */
  const samples = [];
  const mixer = new InputFrames(rate, (frame, level) => {
    levels.push(level);
    samples.push(...new Int16Array(frame));
  });
  for (let at = 0; at < rate * seconds; at += 128) {
    const block = Float32Array.from({ length: 128 }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hz * (at + i)) / rate));
    mixer.push(gains.map((gain) => block.map((value) => gain * value)));
  }
  return { samples, levels };
}

for (const rate of [44100, 48000, 96000, 16000]) {
  test(`a tone at ${rate} Hz keeps its pitch, length and level`, () => {
    const { samples, levels } = frames(rate, 440, 2);
    assert.ok(Math.abs(samples.length - 96000) <= FRAME + 480, `${samples.length} samples`);
    let crossings = 0;
    for (let i = 1; i < 48000; i++) crossings += Number(samples[i - 1] < 0 && samples[i] >= 0);
    assert.ok(Math.abs(crossings - 440) <= 1, `${crossings} Hz`);
    for (const level of levels) assert.ok(Math.abs(level - 0.5 / Math.SQRT2) < 0.02);
    const jumps = samples.map((value, i) => Math.abs(value - (samples[i - 1] ?? value)));
    assert.ok(Math.max(...jumps) < 1000, "no clicks at the joins of blocks");
  });
}

test("channels are mixed, and what is too loud or no number is bounded", () => {
  assert.ok(Math.max(...frames(48000, 440, 0.2, [1, -1]).levels) === 0);
  assert.ok(Math.max(...frames(48000, 440, 0.2, [9]).samples) === 32767);
  assert.ok(frames(48000, 440, 0.2, [NaN]).samples.every((value) => value === 0));
});

test("nothing connected is no block", () => {
  const mixer = new InputFrames(48000, () => assert.fail());
  mixer.push([]);
  mixer.push(/** @type {any} */ (undefined));
});

test("the message is a frame of the protocol", () => {
  const frame = Int16Array.from({ length: FRAME }, (_, i) => i);
  const parsed = parseFrame(packInput(/** @type {ArrayBuffer} */ (frame.buffer), 123456.4));
  assert.equal(parsed.codec, 2);
  assert.equal(parsed.kind, 1);
  assert.equal(parsed.samplePos, 123456);
  assert.equal(parsed.nSamples, FRAME);
  assert.deepEqual(new Int16Array(parsed.payload.slice().buffer), frame);
});
