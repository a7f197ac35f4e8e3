// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";
import { TapTempo } from "../src/tap.js";

test("three taps make a tempo, and a late one does not spoil it", () => {
  const tempo = new TapTempo();
  assert.equal(tempo.tap(0), null);
  assert.equal(tempo.tap(500), null);
  assert.equal(tempo.tap(1000), 120);
  tempo.tap(1500);
  assert.equal(tempo.tap(2180), 120); // one of four gaps
});

test("after a pause a new count begins", () => {
  const tempo = new TapTempo();
  for (const at of [0, 500, 1000]) tempo.tap(at);
  assert.equal(tempo.tap(5000), null);
  assert.equal(tempo.tap(5600), null);
  assert.equal(Math.round(tempo.tap(6200)), 100);
});
