// @ts-check
/** The desk in links and in words; a fader's way is one line of the history. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sameButDesk } from "../src/ui/history.js";
import { linkQuery, readLink } from "../src/ui/link.js";
import { NEUTRAL, mixText, readMix, toggled, words } from "../src/ui/mixing.js";

test("a link carries the settings of the desk, and nothing of a neutral one", () => {
  assert.equal(mixText(NEUTRAL), "");
  assert.equal(mixText(null), "");
  const mix = { ...NEUTRAL, low: -12, filter: 0.25, width: 0, mute: ["bass", "drums"], hold: true };
  assert.equal(mixText(mix), "low:-12,width:0,filter:0.25,mute:bass,mute:drums");
  assert.deepEqual(readMix(mixText(mix)), { low: -12, filter: 0.25, width: 0, mute: ["bass", "drums"] });
  const query = linkQuery("main", { prompts: [{ text: "jazz", weight: 1 }], mix });
  assert.deepEqual(readLink({ search: query }).change?.mix, readMix(mixText(mix)));
});

test("what a link cannot mean is left out", () => {
  assert.equal(readMix(""), null);
  assert.equal(readMix("low:loud,volume:3,mute:piano,hold:true"), null);
  assert.deepEqual(readMix("low:,mid:-3,mute:drums,mute:drums"), { mid: -3, mute: ["drums"] });
});

test("settings in words", () => {
  assert.equal(words("low", -60), "off");
  assert.equal(words("low", -6), "−6 dB");
  assert.equal(words("drums", 3), "+3 dB");
  assert.equal(words("tilt", -1.5), "−1.5 dB an octave");
  assert.equal(words("width", 0), "mono");
  assert.equal(words("width", 1.25), "125 %");
  assert.equal(words("filter", 0), "open");
  assert.equal(words("filter", -0.5), "low-pass 50 %");
});

test("a stem is switched on and off", () => {
  assert.deepEqual(toggled([], "drums"), ["drums"]);
  assert.deepEqual(toggled(["drums"], "bass"), ["bass", "drums"]);
  assert.deepEqual(toggled(["bass", "drums"], "drums"), ["bass"]);
});

test("states that differ in nothing but the desk are told apart from others", () => {
  const state = { prompts: [{ text: "jazz", weight: 1 }], seed: 1, bpm: 90, mix: NEUTRAL };
  assert.ok(sameButDesk(state, { ...state, seed: 2, mix: { ...NEUTRAL, low: -3 } }));
  assert.ok(!sameButDesk(state, { ...state, bpm: 91 }));
});
