import assert from "node:assert/strict";
import { test } from "node:test";
import { away, nextUp } from "../src/coming.js";

const RATE = 48000;
const prompts = (...texts) => texts.map((text) => ({ text, weight: 1 }));
const now = (coming, extra = {}) => ({ sample_pos: 0, state: { prompts: prompts("dub"), ...extra }, coming });

test("the next stop has a name, a time and a share", () => {
  const found = nextUp(now([{ by: "form", section: "verse", at: 5 }, { by: "journey", prompts: prompts("church bells"), at: 40 * RATE, alone_at: 60 * RATE }]), 10 * RATE);
  assert.deepEqual([found.name, found.words, found.share, found.by], ["church bells", "in 30 s", 0.25, "journey"]);
});

test("during a crossfade it says when the new words are alone", () => {
  const found = nextUp(now([{ by: "journey", prompts: prompts("church bells"), at: 10 * RATE, alone_at: 30 * RATE }]), 15 * RATE);
  assert.deepEqual([found.words, found.share], ["alone in 15 s", 0.25]);
});

test("nothing is said of what is over, far away, or on a paused station", () => {
  const stop = { by: "journey", prompts: prompts("x"), at: 10 * RATE, alone_at: 12 * RATE };
  assert.equal(nextUp(now([stop]), 13 * RATE), null);
  assert.equal(nextUp(now([{ ...stop, at: 700 * RATE, alone_at: 700 * RATE }]), 0), null);
  assert.equal(nextUp(now([stop], { paused: true }), 0), null);
  assert.equal(nextUp(now([]), 0), null);
  assert.equal(nextUp(now([{ by: "form", section: "verse", at: 10 * RATE }]), 0), null);
  assert.equal(nextUp(null, 0), null);
  assert.equal(nextUp({ sample_pos: 0, state: {} }, 0), null); // of an older server
});

test("a change of somebody is next as well", () => {
  const found = nextUp(now([{ by: "steer", prompts: prompts("gong"), at: RATE }]), 0);
  assert.deepEqual([found.by, found.at, found.words], ["steer", RATE, "in 1 s"]);
});

test("times are words that one says", () => {
  assert.deepEqual([0.4, 1, 89, 90, 400].map(away), ["now", "in 1 s", "in 89 s", "in 2 min", "in 7 min"]);
});
