// @ts-check
/** Palettes, and the ambient view's places and times. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { barLevels } from "../src/bars.js";
import { Cycle, drift, isNight } from "../src/drift.js";
import { backOf, markOf, palette, PALETTES, toneOf } from "../src/palette.js";
import { angleOf, TURN } from "../src/radial.js";
import { COLUMN_SAMPLES, ROWS, SpectrumRing } from "../src/spectrum.js";

test("lightness goes one way in every palette, from its background to its marks", () => {
  for (const name of /** @type {const} */ (["dark", "light", ...PALETTES])) {
    const bytes = palette(name);
    const light = Array.from({ length: 256 }, (_, i) => 0.2126 * bytes[4 * i] + 0.7152 * bytes[4 * i + 1] + 0.0722 * bytes[4 * i + 2]);
    const way = toneOf(name) === "light" ? -1 : 1;
    for (let i = 1; i < 256; i++) assert.ok(way * (light[i] - light[i - 1]) > -1.5, `${name} at ${i}`);
    assert.ok(Math.abs(light[255] - light[0]) > 180, name);
    for (const colour of [backOf(name), markOf(name)]) assert.match(colour, /^#[0-9a-f]{6}$/);
  }
});

test("the words wander a pixel a second and stay in their room", () => {
  let [x, y] = drift(0, 100, 40);
  assert.deepEqual([x, y], [0, 0]);
  const seen = new Set();
  for (let second = 1; second < 2000; second++) {
    const [right, up] = drift(second, 100, 40);
    assert.ok(right >= 0 && right <= 100 && up >= 0 && up <= 40);
    assert.ok(Math.hypot(right - x, up - y) <= 1.001);
    seen.add(`${Math.round(right / 10)} ${Math.round(up / 10)}`);
    [x, y] = [right, up];
  }
  assert.ok(seen.size > 20, `${seen.size} places`);
  assert.deepEqual(drift(77, 0, 0), [0, 0]);
});

test("it is night from ten to six", () => {
  assert.deepEqual([21, 22, 3, 6].map((hour) => isNight(new Date(2026, 5, 1, hour, 30))), [false, true, true, false]);
});

test("a picture changes by itself on the first bar line after its time", () => {
  const cycle = new Cycle(180);
  const line = () => true;
  assert.equal(cycle.due(1e9, line), false); // it is off
  cycle.set(true, 1000);
  assert.equal(cycle.due(180999, line), false);
  assert.equal(cycle.due(181000, () => false), false);
  assert.equal(cycle.due(181500, line), true);
  assert.equal(cycle.due(181600, line), false);
  assert.equal(cycle.due(361500, line), true);
});

test("bars are the loudest of the last columns, and caps fall", () => {
  const ring = new SpectrumRing();
  const columns = new Uint8Array(200 * ROWS);
  columns.fill(255, 100 * ROWS, 100 * ROWS + ROWS / 2); // one column, the lower half
  ring.put(0, columns);
  const at = (/** @type {number} */ column) => barLevels(ring, column, 2);
  assert.deepEqual([...at(99).levels], [0, 0]);
  assert.deepEqual([...at(100).levels], [1, 0]);
  assert.deepEqual([...at(104).levels], [0, 0]);
  assert.ok(Math.abs(at(160).caps[0] - 0.5) < 1e-6);
  assert.equal(at(160).caps[1], 0);
  assert.deepEqual([...barLevels(new SpectrumRing(), 0, 4).levels], [0, 0, 0, 0]);
});

test("the record turns once in eight seconds, from 12 o'clock on", () => {
  assert.equal(angleOf(0), 0);
  assert.ok(Math.abs(angleOf((TURN / 4) * COLUMN_SAMPLES) - Math.PI / 2) < 1e-9);
  assert.equal(angleOf(TURN * COLUMN_SAMPLES), 0);
  assert.ok(angleOf(-COLUMN_SAMPLES) > 6);
});
