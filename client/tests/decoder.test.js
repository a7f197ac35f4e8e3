import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { decodedPlanes, decodesOpus, OpusDecoder } from "../src/decoder.js";

class FakeDecoder {
  static all = [];
  constructor(init) {
    Object.assign(this, init, { state: "unconfigured", chunks: [] });
    FakeDecoder.all.push(this);
  }
  configure() {
    this.state = "configured";
  }
  decode(chunk) {
    if (this.state !== "configured") throw new Error("closed");
    this.chunks.push(chunk);
  }
  close() {
    this.state = "closed";
  }
  fail() {
    this.state = "closed";
    this.error(new Error("bad packet"));
  }
  give(sampleRate = 48000) {
    this.output(sound({ sampleRate }));
  }
}
globalThis.EncodedAudioChunk = class {
  constructor(init) {
    Object.assign(this, init);
  }
};
afterEach(() => delete globalThis.AudioDecoder);

/** Two frames of stereo, 0.5 and -0.5 on the left, 0.25 and 0 on the right, in some layout; no conversion but what is said. */
function sound({ format = "f32-planar", sampleRate = 48000, channels = 2, converts = false } = {}) {
  const planes = [[0.5, -0.5], [0.25, 0]].slice(0, channels);
  return {
    format, sampleRate, numberOfFrames: 2, numberOfChannels: channels, timestamp: 0,
    close() {},
    copyTo(to, { planeIndex, format: wanted = format }) {
      if (wanted !== format && !converts) throw new Error("NotSupportedError");
      const scale = to instanceof Int16Array ? 32768 : 1;
      const values = wanted.endsWith("-planar") ? planes[planeIndex] : [0, 1].flatMap((i) => planes.map((plane) => plane[i]));
      to.set(values.map((v) => v * scale));
    },
  };
}

/** @param {number} packets */
const frame = (packets = 1) => ({ samplePos: 0, nSamples: 960 * packets, discontinuity: false, payload: new Uint8Array(Array(packets).fill([1, 0, 9]).flat()) });

function start() {
  FakeDecoder.all = [];
  globalThis.AudioDecoder = FakeDecoder;
  const clock = { ms: 0 };
  const heard = [];
  const broken = [];
  const decoder = new OpusDecoder((pos, left) => heard.push(left), (why) => broken.push(why), () => clock.ms);
  const push = (/** @type {number} */ afterMs = 100) => ((clock.ms += afterMs), decoder.push(frame()));
  return { clock, heard, broken, decoder, push, latest: () => FakeDecoder.all.at(-1) };
}

test("every layout gives the same planes", () => {
  for (const format of ["f32-planar", "f32", "s16", "s16-planar"]) {
    const [left, right] = decodedPlanes(sound({ format }));
    assert.deepEqual([[...left], [...right]], [[0.5, -0.5], [0.25, 0]], format);
    assert.deepEqual([...decodedPlanes(sound({ format, channels: 1 }))[1]], [0.5, -0.5], `${format}, mono`);
  }
  assert.deepEqual([...decodedPlanes(sound({ format: "s32", converts: true }))[0]], [0.5, -0.5]);
  assert.throws(() => decodedPlanes(sound({ format: "s32" })), /s32/);
});

test("the browser is asked whether it decodes Opus", async () => {
  assert.equal(await decodesOpus(), false);
  const answers = [
    [async () => ({ supported: true }), true],
    [async () => ({ supported: false }), false],
    [async () => Promise.reject(new TypeError("no")), false],
    [() => { throw new TypeError("no"); }, false],
    [() => new Promise(() => {}), true], // tried, and watched
    [undefined, true],
  ];
  for (const [isConfigSupported, decodes] of answers) {
    globalThis.AudioDecoder = { isConfigSupported };
    assert.equal(await decodesOpus(), decodes, String(isConfigSupported));
  }
});

test("a bad packet now and then costs its frame", () => {
  const { push, latest, broken, heard, decoder } = start();
  for (let i = 0; i < 100; i++) {
    push();
    if (i % 10 === 5) latest().fail();
    else latest().give();
  }
  assert.deepEqual(broken, []);
  assert.equal(heard.length, 90);
  assert.equal(decoder.errors, 10);
});

test("errors that go on break it, in a row or among sound", () => {
  const row = start();
  for (let i = 0; i < 3; i++) row.push(), row.latest().fail();
  assert.deepEqual(row.broken, ["bad packet"]);
  const among = start();
  for (let i = 0; i < 10; i++) among.push(), i % 2 ? among.latest().fail() : among.latest().give();
  assert.deepEqual(among.broken, ["bad packet"]);
  among.push(); // no more after that, and no second word
  assert.equal(among.broken.length, 1);
});

test("silence of a decoder that is fed breaks it; a pause in what comes does not", () => {
  const fed = start();
  for (let i = 0; i < 9; i++) fed.push();
  assert.deepEqual(fed.broken, []);
  fed.push();
  assert.equal(fed.broken.length, 1);
  const frozen = start();
  frozen.push();
  frozen.push(60000);
  for (let i = 0; i < 5; i++) frozen.push(1);
  assert.deepEqual(frozen.broken, []);
});

test("a decoder that cannot be configured, or gives another rate, is broken", () => {
  const refused = start();
  FakeDecoder.prototype.configure = () => { throw new Error("no opus"); };
  for (let i = 0; i < 3; i++) refused.push();
  assert.deepEqual(refused.broken, ["no opus"]);
  FakeDecoder.prototype.configure = function () { this.state = "configured"; };
  const other = start();
  other.push();
  other.latest().give(44100);
  assert.match(other.broken[0], /44100 Hz/);
  assert.deepEqual(other.heard, []);
});
