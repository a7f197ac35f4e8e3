import assert from "node:assert/strict";
import { test } from "node:test";
import { linkQuery, readLink } from "../src/ui/link.js";

const state = {
  prompts: [
    { text: "church bells & “quotes” + 50%", weight: 1 },
    { text: "techno/acid?", weight: 0.25 },
  ],
  seed: 4294967295,
  seed_image: "og beat",
  denoising: 0.75,
  guidance: null,
  bpm: 98.5,
  key: -3,
};

test("a link holds the whole state and gives it back", () => {
  const link = readLink({ search: "?" + linkQuery("main stage", state) });
  assert.equal(link.station, "main stage");
  const { guidance, ...given } = state;
  assert.equal(guidance, null);
  assert.deepEqual(link.change, given);
});

test("a metre that the words chose stays out of the link, a number stays in it", () => {
  const words = linkQuery("main", { ...state, beats_per_bar: 3, beats_per_bar_reason: "waltz: 3 beats to the bar" });
  assert.equal("beats_per_bar" in readLink({ search: "?" + words }).change, false);
  const number = linkQuery("main", { ...state, beats_per_bar: 3, beats_per_bar_reason: null });
  assert.equal(readLink({ search: "?" + number }).change.beats_per_bar, 3);
});

test("a tempo that the words chose stays out of the link", () => {
  const link = readLink({ search: "?" + linkQuery("main", { ...state, bpm_reason: "techno: 128 to 142 bpm" }) });
  assert.equal("bpm" in link.change, false);
});

test("nonsense in a link is left out", () => {
  const link = readLink({ search: "?p=&w=x&seed=abc&bpm=&key=2&denoising=NaN" });
  assert.deepEqual(link, { station: undefined, change: { key: 2 } });
  assert.deepEqual(readLink({ search: "" }), { station: undefined });
});

test("long prompts and long mixes are cut to what a station takes", () => {
  const query = new URLSearchParams();
  for (let i = 0; i < 12; i++) query.append("p", "x".repeat(500));
  const { change } = readLink({ search: "?" + query });
  assert.equal(change.prompts.length, 8);
  assert.equal(change.prompts[0].text.length, 300);
});

test("a link of Riffusion's web app opens with its prompt, seed and seed image", () => {
  const search = "?&prompt=church+bells&seed=51209&denoising=0.75&maskImageId=none&seedImageId=og_beat&guidance=7&numInferenceSteps=50&alphaVelocity=0.25";
  assert.deepEqual(readLink({ search }), {
    station: undefined,
    change: { prompts: [{ text: "church bells", weight: 1 }], seed: 51209, denoising: 0.75, seed_image: "og_beat" },
  });
  assert.deepEqual(readLink({ search: "?&seed=3&denoising=0.8&seedImageId=vibes" }).change, { seed: 3, denoising: 0.8, seed_image: "vibes" });
  const ours = readLink({ search: "?p=jazz&guidance=2&prompt=x" }).change;
  assert.deepEqual(ours, { prompts: [{ text: "jazz", weight: 1 }], guidance: 2 });
});
