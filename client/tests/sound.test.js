// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromNoise } from "../src/ui/sound.js";

test("denoising has an effect where a clip starts from a seed image", () => {
  assert.equal(fromNoise({ seed_image: null }, { seed_image: null }), true);
  assert.equal(fromNoise({ seed_image: null }, { seed_image: "none" }), true);
  assert.equal(fromNoise({ seed_image: "none" }, { seed_image: "auto" }), true);
  assert.equal(fromNoise({ seed_image: null }, { seed_image: "auto" }), false);
  assert.equal(fromNoise({ seed_image: "og_beat" }, { seed_image: null }), false);
  assert.equal(fromNoise({ seed_image: "song:main" }, undefined), false);
});

test("what is not known locks nothing", () => {
  assert.equal(fromNoise(null, { seed_image: null }), false);
  assert.equal(fromNoise({ seed_image: null }, undefined), false);
  assert.equal(fromNoise({ seed_image: null }, {}), false); // a server of an earlier version
});
