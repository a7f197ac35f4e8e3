import assert from "node:assert/strict";
import { test } from "node:test";
import { unknownWords } from "../src/ui/unknown.js";

const state = (score, prompts = [{ text: "asdfgh", weight: 1 }]) => ({ prompts, likeness: { text: "asdfgh", style: "boom bap", score } });

test("words that the model does not know are named with the nearest style", () => {
  assert.equal(unknownWords(state(0.2)), "The model does not know these words; nearest: boom bap");
  assert.equal(unknownWords(state(0.2, [{ text: "jazz" }, { text: "asdfgh" }])), "The model does not know “asdfgh”; nearest: boom bap");
});

test("nothing is said about known words, or where nothing is known about them", () => {
  assert.equal(unknownWords(state(0.38)), "");
  assert.equal(unknownWords({ prompts: [], likeness: null }), "");
  assert.equal(unknownWords(null), "");
});
