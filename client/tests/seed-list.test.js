// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { groups, matches } from "../src/seed-list.js";

const ANY = { text: "", line: "", energy: "", metre: "" };
const techno = { name: "techno", style: "techno", tags: ["909 drums"], captions: ["for running"], beats: 8, parts: { drums: 1, lead: 0.1 }, energy: 0.9 };
const soft = { name: "techno_no_drums", style: "techno", beats: 8, parts: { drums: 0.2 }, energy: 0.35 };
const waltz = { name: "waltz", style: "waltz", beats: 6 };
const own = [1, 2].map((n) => ({ name: `upload-${n}`, style: "upload", title: `mine ${n}`, beats: 8 }));
const names = (/** @type {any} */ wanted) => [techno, soft, waltz, ...own].filter((seed) => matches(seed, { ...ANY, ...wanted })).map((seed) => seed.name);

test("words are looked for in names and descriptions, all of them", () => {
  assert.equal(names({}).length, 5);
  assert.deepEqual(names({ text: " DRUMS techno" }), ["techno", "techno_no_drums"]);
  assert.deepEqual(names({ text: "running" }), ["techno"]);
  assert.deepEqual(names({ text: "mine 2" }), ["upload-2"]);
});

test("a filter of parts, energy or metre leaves out the seeds that do not say", () => {
  assert.deepEqual(names({ line: "with drums" }), ["techno"]);
  assert.deepEqual(names({ line: "without drums" }), ["techno_no_drums"]);
  assert.deepEqual(names({ line: "without melody" }), ["techno"]);
  assert.deepEqual([names({ energy: "soft" }), names({ energy: "medium" }), names({ energy: "loud" })], [[], ["techno_no_drums"], ["techno"]]);
  assert.deepEqual(names({ metre: "6" }), ["waltz"]);
});

test("a style is one group, the seed that plays is its first, and uploads stay apart", () => {
  const shown = (/** @type {string} */ chosen) => groups([...own, techno, waltz, soft], chosen).map((group) => group.map((seed) => seed.name));
  assert.deepEqual(shown(""), [["upload-1"], ["upload-2"], ["techno", "techno_no_drums"], ["waltz"]]);
  assert.deepEqual(shown("techno_no_drums")[2], ["techno_no_drums", "techno"]);
});
