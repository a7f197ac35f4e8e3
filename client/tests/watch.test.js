import assert from "node:assert/strict";
import { test } from "node:test";
import { Watch } from "../src/watch.js";

test("a clock that stands is told by how long, one that moves never", () => {
  const watch = new Watch();
  for (let i = 0; i < 10; i++) assert.equal(watch.look(i * 0.5, 1000 * i), 0);
  assert.deepEqual([10, 11, 12].map((i) => watch.look(4.5, 1000 * i)), [1000, 2000, 3000]);
  assert.equal(watch.look(4.6, 13000), 0);
});

test("a page that slept, or looks once a minute, blames no clock for what it did not see", () => {
  const watch = new Watch();
  watch.look(1, 0);
  assert.equal(watch.look(1, 3600000), 1500);
  assert.equal(watch.look(1, 3660000), 3000);
  watch.restart();
  assert.equal(watch.look(1, 3661000), 0);
});
