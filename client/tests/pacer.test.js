import assert from "node:assert/strict";
import { test } from "node:test";
import { Pacer, TARGET_MAX_MS, TARGET_MIN_MS, TARGET_START_MS } from "../src/pacer.js";

/** Plays `seconds` of bursts of 200 ms from a server whose clock is off by `drift`; returns the fills in ms. */
function play(drift, seconds) {
  const pacer = new Pacer(48000);
  let fill = 9600 * 1.2;
  let due = 0;
  const fills = [];
  for (let played = 0; played < seconds * 48000; played += 128) {
    due += 128 * (1 + drift);
    while (due >= 9600) {
      due -= 9600;
      fill += 9600;
    }
    const rate = pacer.update(fill, 128);
    if (pacer.open) fill -= 128 * rate;
    fills.push(fill / 48);
  }
  return { fills, pacer };
}

for (const drift of [0, 200e-6, -200e-6, 2e-3]) {
  test(`the fill stays bounded for an hour at a drift of ${drift}`, () => {
    const { fills } = play(drift, 3600);
    const late = fills.slice(fills.length / 2);
    const least = late.reduce((a, b) => Math.min(a, b));
    const most = late.reduce((a, b) => Math.max(a, b));
    assert.ok(least > 0 && most < 650, `${least} .. ${most} ms`);
  });
}

/**
 * Plays `seconds` of frames of `frameMs`, each late by up to `jitterMs`; a frame that `stall` names comes that much later.
 * @param {{frameMs: number, jitterMs: number, seconds: number, stall?: (at: number) => number}} line
 */
function listen({ frameMs, jitterMs, seconds, stall = () => 0 }) {
  const pacer = new Pacer(48000);
  pacer.setFrame(frameMs);
  const frame = 48 * frameMs;
  let random = 1;
  const next = () => (random = (random * 16807) % 2147483647) / 2147483647;
  let fill = 9600 + frame;
  let number = 0;
  let underruns = 0;
  let arrival = 0;
  for (let at = 0; at < seconds * 48000; at += 128) {
    while (at >= arrival) {
      if (number) fill += frame;
      number++;
      arrival = Math.max(arrival, number * frame + 48 * (jitterMs * next() + stall((number * frame) / 48000)));
    }
    const rate = pacer.update(fill, 128);
    if (pacer.open) fill -= 128 * rate;
    if (fill < 0) {
      fill = 0;
      underruns++;
      pacer.underrun();
    }
  }
  return { underruns, pacer, fill: pacer.average / 48 };
}

test("a calm line brings the buffer from 200 to some 85 ms within half a minute, without an underrun", () => {
  const { underruns, fill, pacer } = listen({ frameMs: 40, jitterMs: 10, seconds: 40 });
  assert.equal(underruns, 0);
  assert.ok(pacer.targetMs < TARGET_MIN_MS + 10, `${pacer.targetMs} ms`);
  assert.ok(fill < 100, `${fill} ms`);
});

for (const jitterMs of [40, 90, 150]) {
  test(`frames up to ${jitterMs} ms late never empty the buffer`, () => {
    const { underruns, pacer } = listen({ frameMs: 40, jitterMs, seconds: 600 });
    assert.equal(underruns, 0);
    assert.ok(pacer.targetMs > jitterMs / 2, `${pacer.targetMs} ms`);
  });
}

test("a stall after a calm minute costs one underrun, and the next ones of its kind none", () => {
  const stalls = [70, 90, 110, 130, 150];
  const stall = (/** @type {number} */ at) => (stalls.some((each) => at >= each && at < each + 0.04) ? 120 : 0);
  const { underruns } = listen({ frameMs: 40, jitterMs: 10, seconds: 170, stall });
  assert.equal(underruns, 1);
});

test("frames of half a second keep the buffer that they need", () => {
  const { underruns, pacer } = listen({ frameMs: 500, jitterMs: 10, seconds: 120 });
  assert.equal(underruns, 0);
  assert.equal(pacer.targetMs, TARGET_MAX_MS);
});

test("an underrun raises the target up to its limit, calm lowers it again", () => {
  const pacer = new Pacer(48000);
  for (let i = 0; i < 10; i++) pacer.underrun();
  assert.equal(pacer.targetMs, TARGET_MAX_MS);
  assert.equal(pacer.open, false);
  for (let i = 0; i < (60 * 48000) / 128; i++) pacer.update(pacer.target, 128);
  assert.ok(pacer.targetMs > TARGET_START_MS, "an underrun is remembered for longer than a minute");
  for (let i = 0; i < (3600 * 48000) / 128; i++) pacer.update(pacer.target, 128);
  assert.equal(pacer.targetMs, TARGET_MIN_MS);
});

test("the rate is exactly 1 near the target", () => {
  const pacer = new Pacer(48000);
  for (let i = 0; i < 1000; i++) pacer.update(pacer.target * 1.05, 128);
  assert.equal(pacer.rate, 1);
});
