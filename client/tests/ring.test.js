import assert from "node:assert/strict";
import { test } from "node:test";
import { Ring } from "../src/ring.js";

const ramp = (from, count) => Float32Array.from({ length: count }, (_, i) => (from + i) / 1e5);

test("what goes in comes out unchanged at rate 1, after the fade in", () => {
  const ring = new Ring(4096);
  ring.push(1000, ramp(1000, 2000), ramp(1000, 2000));
  const left = new Float32Array(1024);
  const right = new Float32Array(1024);
  ring.pull(left, right, 1, true);
  for (let i = 300; i < 1024; i++) assert.equal(left[i], Math.fround((1000 + i) / 1e5));
  assert.deepEqual(left, right);
  assert.equal(ring.position, 2024);
});

test("an empty ring gives silence, counts one underrun, and recovers", () => {
  const ring = new Ring(4096);
  ring.push(0, ramp(0, 512), ramp(0, 512));
  const out = new Float32Array(2048);
  ring.pull(out, new Float32Array(2048), 1, true);
  assert.equal(ring.underruns, 1);
  assert.ok(Math.abs(out[2047]) < 1e-6, "silence at the end");
  let jump = 0;
  for (let i = 1; i < out.length; i++) jump = Math.max(jump, Math.abs(out[i] - out[i - 1]));
  assert.ok(jump < 2e-3, `no click when it runs dry: ${jump}`);
  ring.push(4000, ramp(4000, 1024), ramp(4000, 1024));
  ring.pull(out, new Float32Array(2048), 1, true);
  assert.equal(ring.underruns, 2);
  assert.ok(ring.position >= 4000);
});

test("repeated samples are dropped and a gap moves the clock", () => {
  const ring = new Ring(4096);
  ring.push(0, ramp(0, 1000), ramp(0, 1000));
  ring.push(500, ramp(500, 1000), ramp(500, 1000));
  assert.equal(ring.fill, 1500);
  ring.push(2500, ramp(2500, 100), ramp(2500, 100));
  assert.equal(ring.fill, 1600);
  const out = new Float32Array(1590);
  ring.pull(out, new Float32Array(1590), 1, true);
  assert.equal(Math.round(ring.position), 2590);
});

test("overflow keeps the newest and is counted", () => {
  const ring = new Ring(1024);
  ring.push(0, ramp(0, 3000), ramp(0, 3000));
  assert.equal(ring.overruns, 1);
  assert.equal(ring.fill, 1024);
  assert.equal(ring.position, 1976);
});

test("reading a sine a little fast keeps it a sine", () => {
  const ring = new Ring(16384);
  const tone = Float32Array.from({ length: 12000 }, (_, i) => Math.sin((2 * Math.PI * 440 * i) / 48000));
  ring.push(0, tone, tone);
  const out = new Float32Array(8000);
  ring.pull(out, new Float32Array(8000), 1.003, true);
  let worst = 0;
  for (let i = 300; i < 8000; i++) {
    worst = Math.max(worst, Math.abs(out[i] - Math.sin((2 * Math.PI * 440 * 1.003 * i) / 48000)));
  }
  assert.ok(worst < 1e-4, `worst error ${worst}`);
});

test("back at rate 1 the samples are soon those that went in, and nothing jumps on the way", () => {
  const ring = new Ring(16384);
  const tone = Float32Array.from({ length: 12000 }, (_, i) => Math.sin((2 * Math.PI * 441 * i) / 48000));
  ring.push(0, tone, tone);
  const out = new Float32Array(5000);
  const other = new Float32Array(5000);
  ring.pull(out.subarray(0, 1001), other, 1.003, true);
  assert.notEqual(ring.read % 1, 0);
  ring.pull(out.subarray(1001), other, 1, true);
  assert.equal(ring.read % 1, 0);
  assert.deepEqual(out.subarray(4000), tone.subarray(ring.read - 1000, ring.read));
  let jump = 0;
  for (let i = 300; i < out.length; i++) jump = Math.max(jump, Math.abs(out[i] - out[i - 1]));
  assert.ok(jump < 0.0581, `largest step ${jump}; the tone's own is 0.0577`);
});

test("any block size gives the same samples", () => {
  const whole = new Float32Array(3000);
  const parts = new Float32Array(3000);
  for (const [target, sizes] of [
    [whole, [3000]],
    [parts, [1, 127, 128, 1000, 1744]],
  ]) {
    const ring = new Ring(8192);
    ring.push(0, ramp(0, 5000), ramp(0, 5000));
    let at = 0;
    for (const size of sizes) {
      ring.pull(target.subarray(at, at + size), new Float32Array(size), 1.001, true);
      at += size;
    }
  }
  assert.deepEqual(whole, parts);
});

test("a capacity that is no power of two is refused", () => {
  assert.throws(() => new Ring(1000), /power of two/);
});

test("a skip to live does not click, and the clock follows", () => {
  const ring = new Ring(16384);
  const tone = Float32Array.from({ length: 12000 }, (_, i) => Math.sin((2 * Math.PI * 441 * i) / 48000));
  ring.push(0, tone, tone);
  const out = new Float32Array(4000);
  ring.pull(out.subarray(0, 2000), new Float32Array(2000), 1, true);
  ring.skipTo(5000);
  assert.equal(ring.position, 7000);
  ring.pull(out.subarray(2000), new Float32Array(2000), 1, true);
  let jump = 0;
  for (let i = 1; i < out.length; i++) jump = Math.max(jump, Math.abs(out[i] - out[i - 1]));
  assert.ok(jump < 0.07, `largest step ${jump}; the tone's own is 0.058`);
  ring.skipTo(5000);
  assert.equal(ring.skips, 1, "nothing to skip");
});
