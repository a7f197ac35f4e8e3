// @ts-check
/** The queue in words, and its requests. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Requests } from "../src/requests.js";
import { barsLeft, itemWords } from "../src/ui/queue.js";

const item = { id: "q1", prompts: [{ text: "rain", weight: 1 }], bars: 8, ramp_bars: 0, bpm: null };

test("an item's tempo and transition are told where it has them", () => {
  assert.equal(itemWords(item), "");
  assert.equal(itemWords({ ...item, ramp_bars: 1, bpm: 90.4 }), "blends in over 1 bar, 90 bpm");
});

test("the bars that are left count down to one", () => {
  const queue = { items: [], loop: false, playing: item, until: 64 };
  const now = (/** @type {number} */ beat, beats_per_bar = 4) => ({ beat, state: { beats_per_bar } });
  assert.equal(barsLeft(queue, now(32)), 8);
  assert.equal(barsLeft(queue, now(32.5)), 8);
  assert.equal(barsLeft(queue, now(63)), 1);
  assert.equal(barsLeft(queue, now(70)), 1); // late
  assert.equal(barsLeft(queue, now(58, 3)), 2);
  assert.equal(barsLeft({ ...queue, until: null }, now(32)), null);
  assert.equal(barsLeft(queue, null), null);
});

test("a change of the queue is answered by its queue or its refusal", async () => {
  const requests = new Requests(true);
  const one = requests.open();
  const two = requests.open();
  requests.hear({ type: "queue", id: "", queue: {} }); // to everybody
  requests.hear({ type: "queue", id: one.id, queue: { items: [item] } });
  requests.hear({ type: "rejected", id: two.id, code: "busy", message: "full" });
  assert.deepEqual((await one.answer).queue.items, [item]);
  await assert.rejects(two.answer, { code: "busy" });
});
