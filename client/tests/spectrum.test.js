import assert from "node:assert/strict";
import { test } from "node:test";
import { Ear } from "../src/element.js";
import { beatsBetween, COLUMN_SAMPLES, COLUMNS, place, rowBins, rowValue, ROWS, SpectrumRing } from "../src/spectrum.js";

test("rows are even in octaves and stay inside the analyser", () => {
  const edges = rowBins(2048, 48000);
  assert.equal(edges.length, ROWS + 1);
  const ratio = edges[1] / edges[0];
  for (let r = 1; r < ROWS; r++) assert.ok(Math.abs(edges[r + 1] / edges[r] - ratio) < 1e-3);
  assert.ok(edges[ROWS] < 2048);
});

test("a narrow row lies between two bins, a wide one takes its highest", () => {
  const bins = Float32Array.from([0, 10, 20, 5, 40, 0]);
  assert.equal(rowValue(bins, 1.25, 1.5), 12.5);
  assert.equal(rowValue(bins, 1.5, 4.5), 40);
});

const column = (level) => new Uint8Array(ROWS).fill(level);
const level = (ring, number) => ring.levels[(number % COLUMNS) * ROWS + 7];

test("columns stand where the sample clock says; a gap between them is dark", () => {
  const ring = new SpectrumRing();
  ring.put(COLUMNS - 2, column(9));
  ring.put(COLUMNS + 3, Uint8Array.from([...column(5), ...column(6)]));
  assert.deepEqual([-2, -1, 2, 3, 4].map((c) => level(ring, COLUMNS + c)), [9, 0, 0, 5, 6]);
  assert.equal(ring.latest, COLUMNS + 4);
  assert.equal(ring.epoch, 0);
});

test("a repeat marks what was drawn as stale; a jump forgets it", () => {
  const ring = new SpectrumRing();
  ring.put(100, column(1));
  ring.put(100, column(2));
  assert.equal(ring.epoch, 1);
  assert.equal(level(ring, 100), 2);
  ring.put(50000, column(3));
  assert.equal(ring.latest, 50000);
  assert.equal(level(ring, 100), 0);
});

test("an analyser's spectrum fills what passed since the last", () => {
  const ring = new SpectrumRing();
  const ear = new Ear({ frequencyBinCount: 2048, getFloatFrequencyData: (db) => db.fill(-30) });
  ear.listen(ring, 100 * COLUMN_SAMPLES);
  ear.listen(ring, 100 * COLUMN_SAMPLES + 10);
  assert.equal(ring.latest, 100);
  ear.listen(ring, 105 * COLUMN_SAMPLES);
  for (let c = 100; c <= 105; c++) assert.ok(level(ring, c) > 0);
  assert.equal(level(ring, 106), 0);
});

test("beats lie on the grid that the server told", () => {
  const now = { beat: 16, sample_pos: 480000, state: { bpm: 120 } };
  const beats = beatsBetween(now, 480000 - 24000, 480000 + 48000, 48000);
  assert.deepEqual(
    beats.map((b) => [b.samplePos, b.beat]),
    [
      [456000, 15],
      [480000, 16],
      [504000, 17],
      [528000, 18],
    ],
  );
  const waltz = { ...now, bar_beat: 2, state: { bpm: 120, beats_per_bar: 3 } };
  assert.deepEqual(beatsBetween(waltz, 480000 - 24000, 480000 + 48000, 48000).map((b) => b.inBar), [1, 2, 0, 1]);
  assert.deepEqual(beatsBetween({ ...now, state: { bpm: null } }, 0, 1e6, 48000), []);
  assert.deepEqual(beatsBetween(null, 0, 1e6, 48000), []);
});

test("the playhead is where now is", () => {
  assert.equal(place(1000, 1000, 0.75, 5000), 0.75);
  assert.equal(place(1000 + 1250, 1000, 0.75, 5000), 1);
});

test("the first beat of a station is 0 and not -0", () => {
  const now = { beat: 0, bar_beat: 0, sample_pos: 0, state: { bpm: 120 } };
  assert.ok(Object.is(beatsBetween(now, 0, 4800, 48000)[0].beat, 0));
});
