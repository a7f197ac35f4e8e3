import assert from "node:assert/strict";
import { test } from "node:test";
import { Pacer, TARGET_MAX_MS, TARGET_MIN_MS } from "../src/pacer.js";

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

test("an underrun raises the target up to its limit, calm lowers it again", () => {
  const pacer = new Pacer(48000);
  for (let i = 0; i < 10; i++) pacer.underrun();
  assert.equal(pacer.targetMs, TARGET_MAX_MS);
  assert.equal(pacer.open, false);
  for (let i = 0; i < (3600 * 48000) / 128; i++) pacer.update(pacer.target, 128);
  assert.equal(pacer.targetMs, TARGET_MIN_MS);
});

test("the rate is exactly 1 near the target", () => {
  const pacer = new Pacer(48000);
  for (let i = 0; i < 1000; i++) pacer.update(pacer.target * 1.05, 128);
  assert.equal(pacer.rate, 1);
});
