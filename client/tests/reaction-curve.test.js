// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";
import { stacked } from "../src/ui/reaction-curve.js";

test("the areas stand on each other, and the highest point is found", () => {
  const { paths, most, at } = stacked([[0, 1, 4], [0, 3, 2], [0, 0, 0]]);
  assert.deepEqual([most, at], [6, 2]);
  assert.equal(paths[0], "M0 24.0L1 20.0L2 8.0L2 24.0L1 24.0L0 24.0Z");
  assert.equal(paths[1], "M0 24.0L1 8.0L2 0.0L2 8.0L1 20.0L0 24.0Z");
  assert.equal(paths[2], "M0 24.0L1 8.0L2 0.0L2 0.0L1 8.0L0 24.0Z");
});

test("without reactions nothing rises", () => {
  assert.equal(stacked([[0, 0], [0, 0], [0, 0]]).most, 0);
});
