import assert from "node:assert/strict";
import { test } from "node:test";
import { fit, soak } from "./soak.js";

/** Some 3 minutes of listening with a change every second, after one to get warm. */
const PLAN = { hours: 0.06, warmupHours: 0.02, steerEveryS: 1, samples: 9 };
/** What compiled code and the last lines of the history still take in that time, bytes; a frame's samples alone are 11,520. */
const WARMING = 500e3;

test("nothing that comes with a frame, a change or a report is kept", async () => {
  const { first, last, lines, markers, asked } = await soak(PLAN);
  assert.ok(last - first < WARMING, `${Math.round((last - first) / 1000)} kB more after 144 s`);
  assert.deepEqual({ lines, asked }, { lines: 100, asked: 0 });
  assert.ok(markers <= 40);
});

test("it would notice 400 bytes a frame", async () => {
  const kept = [];
  const { first, last } = await soak({ ...PLAN, each: () => kept.push(new Float64Array(50)) });
  assert.ok(last - first > WARMING, `${Math.round((last - first) / 1000)} kB more for ${kept.length} frames`);
});

test("a slope comes with its uncertainty", () => {
  const x = Array.from({ length: 50 }, (_, i) => i / 10);
  const noise = x.map((_, i) => ((i * 7919) % 13) - 6);
  const { slope, error } = fit(x, x.map((value, i) => 1000 + 20 * value + noise[i]));
  assert.ok(Math.abs(slope - 20) < error && error < 2, `${slope} +- ${error}`);
});
