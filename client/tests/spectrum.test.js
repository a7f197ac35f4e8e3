import assert from "node:assert/strict";
import { test } from "node:test";
import { beatsBetween, COLUMN_SAMPLES, COLUMNS, place, rowBins, ROWS, SpectrumRing } from "../src/spectrum.js";

test("rows are even in octaves and stay inside the analyser", () => {
  const edges = rowBins(2048, 48000);
  assert.equal(edges.length, ROWS + 1);
  const ratio = edges[1] / edges[0];
  for (let r = 1; r < ROWS; r++) assert.ok(Math.abs(edges[r + 1] / edges[r] - ratio) < 1e-3);
  assert.ok(edges[ROWS] < 2048);
});

test("a tone lights the row of its frequency", () => {
  const ring = new SpectrumRing(2048, 48000);
  const db = new Float32Array(2048).fill(-100);
  const bin = Math.round((1000 / 48000) * 4096);
  db[bin] = -20;
  ring.push(db, 48000);
  const column = ring.levels.subarray((ring.latest % COLUMNS) * ROWS).subarray(0, ROWS);
  const row = column.indexOf(Math.max(...column));
  assert.ok(ring.edges[row] <= bin + 1 && ring.edges[row + 1] >= bin - 1);
});

test("columns stand where the sample clock says, and missed ones are filled", () => {
  const ring = new SpectrumRing(2048, 48000);
  const db = new Float32Array(2048).fill(-30);
  assert.equal(ring.push(db, 100 * COLUMN_SAMPLES), 1);
  assert.equal(ring.push(db, 100 * COLUMN_SAMPLES + 10), 0);
  assert.equal(ring.push(db, 105 * COLUMN_SAMPLES), 5);
  for (let c = 101; c <= 105; c++) assert.ok(ring.levels[c * ROWS + 100] > 0);
  assert.equal(ring.levels[106 * ROWS + 100], 0);
  ring.push(db, 5 * COLUMN_SAMPLES); // the clock went back: a new stream
  assert.equal(ring.levels[100 * ROWS + 100], 0);
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
  assert.deepEqual(beatsBetween({ ...now, state: { bpm: null } }, 0, 1e6, 48000), []);
  assert.deepEqual(beatsBetween(null, 0, 1e6, 48000), []);
});

test("the playhead is where now is", () => {
  assert.equal(place(1000, 1000, 0.75, 5000), 0.75);
  assert.equal(place(1000 + 1250, 1000, 0.75, 5000), 1);
});
