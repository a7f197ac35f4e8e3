import assert from "node:assert/strict";
import { test } from "node:test";
import { sameLine, snapshot } from "../src/ui/history.js";

const at = (rev, text, seed, more = {}) => ({ rev, state: { prompts: [{ text, weight: 1 }], seed, steered: true, bpm: 100, ...more } });

test("a seed that walks from clip to clip is the same line, one that somebody set is another", () => {
  assert.ok(sameLine(at(3, "piano", 17), at(3, "piano", 18)));
  assert.ok(sameLine(at(3, "piano", 17), at(4, "piano", 19))); // paused and resumed
  assert.ok(!sameLine(at(3, "piano", 17), at(4, "piano", 3000000000)));
});

test("another prompt or tempo is another line; a ramp on its way is not", () => {
  assert.ok(!sameLine(at(3, "piano", 17), at(4, "flute", 18)));
  assert.ok(!sameLine(at(3, "piano", 17), at(4, "piano", 18, { bpm: 120 })));
  assert.ok(sameLine(at(4, "piano", 17, { bpm: 110 }), at(4, "piano", 18, { bpm: 120 })));
});

test("a journey is one line for each of its prompts", () => {
  const journey = (rev, text, seed) => at(rev, text, seed, { steered: false });
  assert.ok(sameLine(journey(0, "piano", 1), journey(0, "piano", 900000)));
  assert.ok(!sameLine(journey(0, "piano", 1), journey(0, "flute", 1)));
  assert.ok(!sameLine(journey(3, "piano", 1), at(3, "piano", 1)));
});

test("a tempo that the words chose is chosen again when it is asked back", () => {
  assert.equal(snapshot(at(1, "techno", 0).state).bpm, 100);
  assert.equal(snapshot(at(1, "waltz", 0, { beats_per_bar: 3, beats_per_bar_reason: null }).state).beats_per_bar, 3);
  assert.equal(snapshot(at(1, "waltz", 0, { beats_per_bar: 3, beats_per_bar_reason: "waltz" }).state).beats_per_bar, null);
  assert.equal(snapshot(at(1, "techno", 0, { bpm_reason: "techno: 128 to 142 bpm" }).state).bpm, null);
});
