import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

const node = { connect: (next) => next };
globalThis.AnalyserNode = class { frequencyBinCount = 2048; connect() { return node; } };
globalThis.Audio = class extends EventTarget {
  currentTime = 0;
  paused = true;
  ended = false;
  readyState = 4;
  refusal = "";
  async play() {
    if (this.refusal) throw Object.assign(new Error(), { name: this.refusal });
    this.paused = false;
  }
  removeAttribute() {}
  load() {}
};
const { ElementSource } = await import("../src/element.js");

/** @type {any} */
let source;
let wanted = true;
beforeEach((t) => {
  wanted = true;
  source = new ElementSource({ createMediaElementSource: () => node }, node, () => {}, () => wanted);
  source.play("http://radio.lan/stream/main.mp3");
});
/** Look once a second; the sound gets on by so much in each. */
const watch = (seconds, on = 0) => {
  for (let i = 0; i < seconds; i++) {
    source.element.currentTime += on;
    source.check((watch.ms = (watch.ms ?? 0) + 1000));
  }
};

test("a stream that stands is loaded again under a new address, one that plays is not", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  assert.match(source.element.src, /main.mp3\?load=1$/);
  watch(60, 1);
  t.mock.timers.tick(60000);
  assert.equal(source.loads, 1);
  watch(3);
  assert.equal(source.audible, false);
  watch(3);
  t.mock.timers.tick(250);
  assert.match(source.element.src, /load=2$/);
});

test("loads that fail come later and later, until one plays", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const wait of [250, 1000, 2000, 4000, 8000, 15000, 15000]) {
    const { loads } = source;
    source.element.dispatchEvent(new Event("error"));
    source.element.dispatchEvent(new Event("ended")); // once is enough
    t.mock.timers.tick(wait - 1);
    assert.equal(source.loads, loads, `before ${wait} ms`);
    t.mock.timers.tick(1);
    assert.equal(source.loads, loads + 1);
  }
  watch(8, 1);
  source.element.dispatchEvent(new Event("ended"));
  t.mock.timers.tick(250);
  assert.equal(source.loads, 9);
});

test("nothing is loaded for those who want no sound", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  source.element.dispatchEvent(new Event("error"));
  wanted = false;
  source.stop();
  t.mock.timers.tick(60000);
  source.element.dispatchEvent(new Event("ended"));
  t.mock.timers.tick(60000);
  assert.equal(source.loads, 1);
});

test("what the browser or the system stopped is held, and goes on when it is woken", async () => {
  source.element.paused = true;
  source.element.dispatchEvent(new Event("pause"));
  assert.equal(source.held, true);
  watch(60); // no reason to load it again
  assert.equal(source.loads, 1);
  source.element.refusal = "NotAllowedError";
  source.wake();
  await new Promise(setImmediate);
  assert.equal(source.held, true);
  source.element.refusal = "";
  source.wake();
  await new Promise(setImmediate);
  assert.equal(source.held, false);
  source.element.refusal = "AbortError"; // of a load that another one replaced
  source.load();
  await new Promise(setImmediate);
  assert.equal(source.held, false);
});
