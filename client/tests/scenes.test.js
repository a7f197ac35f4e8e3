// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";
import { readScenes } from "../src/ui/scenes.js";

const prompts = [{ text: "calm piano", weight: 1 }];

test("scenes are read, filled up to eight, and stripped of what no steer takes", () => {
  const read = readScenes(JSON.stringify([null, { name: "x".repeat(200), change: { prompts, bpm: null, at: "clip", evil: 1 } }]));
  assert.equal(read.length, 8);
  assert.equal(read[0], null);
  assert.deepEqual(read[1].change, { prompts, bpm: null });
  assert.equal(read[1].name.length, 80);
  assert.deepEqual(readScenes(null), Array(8).fill(null));
});

test("anything else is an error with a sentence", () => {
  for (const bad of ["{}", "[1]", JSON.stringify(Array(9).fill(null)), JSON.stringify([{ name: "a" }]), "nonsense"]) {
    assert.throws(() => readScenes(bad), Error);
  }
});
