import assert from "node:assert/strict";
import { test } from "node:test";
import { luminance, readColour, readDress } from "../src/ui/dress.js";

test("colours of an address are hexadecimal, and nothing else", () => {
  assert.deepEqual(["ff8800", "#F80", " abc ", "#12345678", "red", "url(x)", "", null].map(readColour), ["#ff8800", "#ff8800", "#aabbcc", null, null, null, null, null]);
  assert.equal(luminance("#ffffff"), 1);
  assert.equal(luminance("#000000"), 0);
});

test("what an address asks for", () => {
  assert.deepEqual(readDress(new URLSearchParams("accent=f80&bg=transparent&controls=0")), { accent: "#ff8800", background: null, controls: false });
  assert.deepEqual(readDress(new URLSearchParams("")), { accent: null, background: null, controls: true });
});
