import assert from "node:assert/strict";
import { test } from "node:test";
import { Bucket } from "../src/bucket.js";

test("three changes at once, then one every two seconds", () => {
  const bucket = new Bucket(2, 3, 0);
  for (const tokens of [2, 1, 0]) {
    assert.equal(bucket.ready(0), 1);
    bucket.take(0);
    assert.equal(bucket.tokens, tokens);
  }
  assert.equal(bucket.ready(0), 0);
  assert.equal(bucket.waitS(0), 2);
  assert.equal(bucket.ready(500), 0.25);
  assert.equal(bucket.waitS(1500), 0.5);
  assert.equal(bucket.ready(2000), 1);
  bucket.refill(100000);
  assert.equal(bucket.tokens, 3);
  bucket.refill(50); // a clock that jumps back takes nothing away
  assert.equal(bucket.tokens, 3);
});

test("a station without a limit is always ready", () => {
  const bucket = new Bucket(0, 1, 0);
  for (let n = 0; n < 5; n++) bucket.take(0);
  assert.equal(bucket.ready(0), 1);
});
