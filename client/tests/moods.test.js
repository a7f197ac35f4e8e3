import assert from "node:assert/strict";
import { test } from "node:test";
import { MOODS, moodChange, stationOf } from "../src/moods.js";

test("a mood is words, a tempo of its range, and levels where the model knows them", () => {
  for (const mood of MOODS) {
    for (const random of [() => 0, () => 0.999]) {
      const change = moodChange(mood, { conditions: true }, undefined, random);
      assert.ok(mood.prompts.includes(change.prompts[0].text));
      assert.ok(change.bpm >= mood.bpm[0] && change.bpm <= mood.bpm[1] && Number.isInteger(change.bpm), mood.name);
      assert.ok(change.energy >= 0 && change.energy <= 1);
      assert.equal("energy" in moodChange(mood, { conditions: false }, undefined, random), false);
    }
    assert.equal(mood.prompts.length, 6);
  }
  assert.ok(MOODS.find((m) => m.name === "Sleep").bpm[1] < MOODS.find((m) => m.name === "Move").bpm[0]);
});

test("another tap brings other words", () => {
  const [mood] = MOODS;
  for (const playing of mood.prompts) for (const share of [0, 0.3, 0.6, 0.999]) assert.notEqual(moodChange(mood, undefined, playing, () => share).prompts[0].text, playing);
});

test("a station belongs to a mood by a word of its title or description", () => {
  const [focus] = MOODS;
  const stations = [{ id: "main", title: "Main" }, { id: "desk", title: "Desk", description: "To focus and to read" }, { id: "x", title: "Unfocused" }];
  assert.equal(stationOf(focus, stations)?.id, "desk");
  assert.equal(stationOf(focus, [stations[0], stations[2]]), undefined);
});
