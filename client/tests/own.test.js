// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";
import { Own } from "../src/own.js";

const root = new URL("http://radio.lan/");

test("a station that ended is made again with the music that it had", async (t) => {
  const asked = [];
  t.mock.method(globalThis, "fetch", async (_, { body }) => (asked.push(JSON.parse(body)), Response.json({ station: "private-1", token: "t" })));
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const own = new Own({ prompts: ["calm piano"], bpm: 72, key: 0, seed_image: "piano" });
  await own.open(root, null);
  now = 6000;
  const state = { prompts: [{ text: "rain", weight: 1 }], bpm: 140, bpm_reason: null, key: -2, seed: 7, negative: "", denoising: null, seed_image: "upload-1" };
  assert.ok(own.renew(state));
  await own.open(root, null);
  now = 12_000;
  own.renew({ ...state, bpm_reason: "rain: 60 to 90 bpm" });
  await own.open(root, null);
  assert.deepEqual(asked.slice(1), [
    { prompts: ["rain"], bpm: 140, key: -2, seed: 7, seed_image: "piano" },
    { prompts: ["rain"], key: -2, seed: 7, seed_image: "piano" },
  ]);
});

test("one that ends at once is not made again", async (t) => {
  t.mock.method(globalThis, "fetch", async () => Response.json({ station: "private-1", token: "t" }));
  const own = new Own({});
  await own.open(root, null);
  assert.equal(own.renew(null), false);
});
