import assert from "node:assert/strict";
import { test } from "node:test";
import { barAt, counter, dropAt } from "../src/cue.js";
import { SAMPLE_RATE } from "../src/protocol.js";

/** 120 bpm: a beat is half a second. */
const now = { sample_pos: 1000, bar: 6, bar_beat: 1, beat: 25, state: { bpm: 120, beats_per_bar: 4 } };
const at = (beats) => now.sample_pos + beats * 0.5 * SAMPLE_RATE;

test("the place in bars follows the sample clock, the tempo and the metre", () => {
  assert.equal(barAt(now, at(0)), 6.25);
  assert.equal(barAt(now, at(3)), 7);
  assert.equal(barAt({ ...now, state: { bpm: 120, beats_per_bar: 3 }, bar_beat: 0 }, at(3)), 7);
  assert.equal(barAt({ ...now, state: { bpm: 240, beats_per_bar: 4 } }, at(3)), 7.75);
});

test("a drop falls on the next 1, 4 or 8 bars that can be reached", () => {
  assert.equal(dropAt(now, at(0), 1).bar, 8); // bar 7 is too near to be promised
  assert.equal(dropAt(now, at(2.4), 1).bar, 8); // 4.6 beats before it: a bar, and 0.3 s
  assert.equal(dropAt(now, at(2.5), 1).bar, 9);
  assert.equal(dropAt(now, at(0), 4).bar, 8);
  assert.equal(dropAt(now, at(2.4), 4).bar, 8);
  assert.equal(dropAt(now, at(3), 4).bar, 12);
  assert.equal(dropAt(now, at(0), 8).bar, 8);
  assert.equal(dropAt(now, at(8), 8).bar, 16);
});

test("it is asked for two bars ahead, or just before the bar line ahead of its own, and counts down", () => {
  const target = 12; // 23 beats from here
  assert.deepEqual(dropAt(now, at(0), 4, target), { bar: 12, beats: 23, due: false });
  assert.equal(dropAt(now, at(14.3), 4, target).due, false);
  assert.equal(dropAt(now, at(14.4), 4, target).due, true);
  assert.equal(dropAt(now, at(18.3), 4, target, false).due, false); // a station that takes the next bar line
  assert.equal(dropAt(now, at(18.4), 4, target, false).due, true);
  assert.deepEqual([7, 4, 3.5, 1, 0.2, 0, -1].map((beats) => counter(beats, 4)), [null, 4, 4, 1, 1, 0, 0]);
});
