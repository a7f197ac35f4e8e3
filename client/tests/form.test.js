import assert from "node:assert/strict";
import { test } from "node:test";
import { planLine, playable } from "../src/ui/form.js";
import { snapshot } from "../src/ui/history.js";
import { noLevels } from "../src/ui/levels.js";
import { linkQuery, readLink } from "../src/ui/link.js";

const given = { form: "dj", chords: "Am F / G C/E", parts: { drums: 0, bass: null, chords: null, pad: 0.5, arp: null, lead: null }, energy: 0.25, density: null, brightness: 1 };
const state = { prompts: [{ text: "dub", weight: 1 }], seed: 3, bpm: 80, key: 2, ...given };

test("what is planned is one line", () => {
  const now = { chord: "F#m7", section: "build", section_bar: 3, section_bars: 8, coming: [{ section: "full", at: 9 }] };
  assert.equal(planLine(now), "F#m7  ·  build 3/8  ·  then full");
  assert.equal(planLine({ chord: "Am", section: null, coming: [] }), "Am");
  assert.equal(planLine({ chord: null }), "");
  assert.equal(planLine(null), "");
});

test("an undo brings back chords, parts, levels and form", () => {
  const again = snapshot(state);
  for (const [name, value] of Object.entries(given)) assert.deepEqual(again[name], value, name);
});

test("a form that the model cannot follow is not asked for", () => {
  assert.equal(snapshot({ ...state, form: "none", form_reason: "the model mini takes words alone" }).form, null);
  assert.ok(!linkQuery("main", { ...state, form: "none", form_reason: "the model mini takes words alone" }).includes("form="));
});

test("a link holds chords, parts, levels and form, and gives them back", () => {
  const { change } = readLink({ search: "?" + linkQuery("main", state) });
  assert.equal(change.form, "dj");
  assert.equal(change.chords, "Am F / G C/E");
  assert.deepEqual(change.parts, { drums: 0, pad: 0.5 });
  assert.equal(change.energy, 0.25);
  assert.equal(change.brightness, 1);
  assert.equal("density" in change, false);
  const nonsense = readLink({ search: "?chords=&parts=drums:x,flute:1,pad&energy=loud&form=opera" });
  assert.equal(nonsense.change, undefined);
});

test("a station whose model takes words alone is not asked for conditions", () => {
  const change = { prompts: state.prompts, key: 2, ...given };
  assert.deepEqual(playable(change, { conditions: true }), change);
  assert.deepEqual(playable(change, { conditions: false }), { prompts: state.prompts, key: 2 });
  assert.deepEqual(playable(change, undefined), { prompts: state.prompts, key: 2 });
});

test("faders of levels say why they are locked", () => {
  assert.equal(noLevels({ conditions: true, model: "mini" }), "");
  assert.match(noLevels({ conditions: false, model: "tone" }), /^The model tone takes words alone/);
  assert.equal(noLevels(undefined), ""); // the station has not answered yet
});
