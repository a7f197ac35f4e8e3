import assert from "node:assert/strict";
import { test } from "node:test";
import { readSettings, USUAL } from "../src/stage.js";

test("settings of the second screen are read from anything", () => {
  for (const given of [null, undefined, 5, "x", {}, { size: "big", hidden: "code", blackout: 1, look: 4 }]) assert.deepEqual(readSettings(given), USUAL);
  assert.deepEqual(readSettings({ size: 99, hidden: ["code", "floor", "now"], blackout: true, look: "radial" }), { size: 4, hidden: ["now", "code"], blackout: true, look: "radial" });
  assert.equal(readSettings({ size: 0.1 }).size, 0.5);
});
