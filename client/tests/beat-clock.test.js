// @ts-check
/** Each beat is told once, in order and at its time, whatever the steps are; messages count from their sample on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BeatClock } from "../src/beat-clock.js";
import { Heard } from "../src/heard.js";

const RATE = 48000;
const now = { sample_pos: 10 * RATE, beat: 20, bar: 5, bar_beat: 0, state: { bpm: 120, beats_per_bar: 4 } };

test("every beat is told once, at its time, for any steps of the clock", () => {
  for (const step of [480, 2400, 2399, 20000]) {
    const clock = new BeatClock(RATE);
    const found = [];
    for (let position = 10 * RATE; position < 18 * RATE; position += step) {
      for (const each of clock.due(now, position)) found.push({ ...each, at: Math.round(position + each.in_s * RATE) });
    }
    const first = found[0].beat;
    assert.deepEqual(found.map(({ beat }) => beat), found.map((_, index) => first + index), `steps of ${step}`);
    assert.ok(found.length >= 15 && first <= 21, `${found.length} beats from ${first} on`);
    for (const { beat, bar, bar_beat, at, bpm } of found) {
      assert.equal(at, (10 + (beat - 20) / 2) * RATE);
      assert.deepEqual([bar, bar_beat, bpm], [Math.floor(beat / 4), beat % 4, 120]);
    }
  }
});

test("after a pause, and after a jump back, missed beats are not made up for", () => {
  const clock = new BeatClock(RATE);
  clock.due(now, 10 * RATE);
  assert.ok(clock.due(now, 60 * RATE).length <= 1);
  assert.ok(clock.due(now, 11 * RATE).length <= 1);
  assert.deepEqual(clock.due(now, null), []);
  assert.deepEqual(clock.due({ ...now, state: { bpm: null } }, 11 * RATE), []);
  assert.deepEqual(clock.due(null, 11 * RATE), []);
});

test("a message becomes true when its sample is heard, or at once where nothing sounds", () => {
  const heard = new Heard();
  heard.add({ sample_pos: 100 });
  heard.add({ sample_pos: 200 });
  assert.deepEqual(heard.follow(99), []);
  assert.equal(heard.now, null);
  assert.equal(heard.follow(150).length, 1);
  assert.equal(heard.now.sample_pos, 100);
  heard.follow(null);
  assert.equal(heard.now.sample_pos, 200);
});

test("a listener in the first second of a station is told no beats of before", () => {
  const young = { beat: 0, bar: 0, bar_beat: 0, sample_pos: 0, state: { bpm: 120, beats_per_bar: 4 } };
  assert.deepEqual(new BeatClock(RATE).due(young, 0.9 * RATE).map(({ beat }) => beat), [2]);
});
