import assert from "node:assert/strict";
import { test } from "node:test";
import { Columns } from "../src/columns.js";
import { Spectrum } from "../src/fft.js";
import { COLUMN_SAMPLES, ROWS, rowBins } from "../src/spectrum.js";

const sine = (hz, count, from = 0) => Float32Array.from({ length: count }, (_, i) => Math.sin((2 * Math.PI * hz * (from + i)) / 48000));

test("the transform agrees with the definition", () => {
  const size = 64;
  const spectrum = new Spectrum(size);
  const signal = Float32Array.from({ length: size }, (_, i) => Math.sin(i * 1.7) + 0.3 * Math.cos(i * 0.31) + 0.1);
  const power = spectrum.measure(signal, 0);
  for (let k = 0; k < size / 2; k++) {
    let re = 0;
    let im = 0;
    for (let n = 0; n < size; n++) {
      re += signal[n] * spectrum.window[n] * Math.cos((2 * Math.PI * k * n) / size);
      im -= signal[n] * spectrum.window[n] * Math.sin((2 * Math.PI * k * n) / size);
    }
    assert.ok(Math.abs(power[k] - (re * re + im * im)) < 1e-5, `bin ${k}: ${power[k]} for ${re * re + im * im}`);
  }
});

test("a full-scale sine has the power 1 at its bin, wherever the ring wraps", () => {
  for (const start of [0, 1000, 4000]) {
    const ring = new Float32Array(4096);
    for (let i = 0; i < 1024; i++) ring[(start + i) & 4095] = Math.sin((2 * Math.PI * 32 * i) / 1024);
    const power = new Spectrum(1024).measure(ring, start);
    assert.ok(Math.abs(power[32] - 1) < 0.01, `${power[32]}`);
    assert.ok(power[40] < 1e-6);
  }
});

test("columns stand at their samples, and the cut of the input does not matter", () => {
  const runs = [[48000], [1, 959, 40, 20000, 27000]].map((sizes) => {
    /** @type {Map<number, string>} */
    const found = new Map();
    const columns = new Columns(48000, (first, levels) => {
      for (let c = 0; c * ROWS < levels.length; c++) found.set(first + c, levels.slice(c * ROWS, (c + 1) * ROWS).join());
    });
    let at = 960000;
    for (const size of sizes) {
      const wave = sine(1000, size, at);
      columns.push(at, wave, wave);
      at += size;
    }
    columns.flush();
    return found;
  });
  assert.equal(Math.min(...runs[0].keys()), 960000 / COLUMN_SAMPLES);
  assert.equal(runs[0].size, Math.floor((48000 - 2048) / COLUMN_SAMPLES) + 1);
  assert.deepEqual([...runs[0].keys()], [...runs[1].keys()]);
  for (const [column, levels] of runs[0]) if (column > 2010) assert.equal(levels, runs[1].get(column));
});

for (const hz of [110, 700, 5000]) {
  test(`a tone of ${hz} Hz lights its own row`, () => {
    /** @type {Uint8Array[]} */
    const batches = [];
    const columns = new Columns(48000, (_, levels) => batches.push(levels));
    const wave = sine(hz, 24000).map((x) => 0.1 * x);
    columns.push(0, wave, wave);
    const column = batches[3].subarray(0, ROWS);
    const row = column.indexOf(Math.max(...column));
    const edges = rowBins(24000, 48000); // one bin a hertz
    assert.ok(Math.abs(Math.log2(edges[row] / hz)) < 0.12, `row of ${edges[row]} Hz`);
  });
}

test("a gap of the clock starts anew", () => {
  /** @type {number[]} */
  const firsts = [];
  const columns = new Columns(48000, (first) => firsts.push(first));
  const wave = sine(500, 24000);
  columns.push(0, wave, wave);
  columns.push(480000, wave, wave);
  columns.flush();
  assert.ok(firsts.includes(0) && firsts.includes(1000));
});
