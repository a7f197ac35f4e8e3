import assert from "node:assert/strict";
import { test } from "node:test";
import { Scheduler } from "../src/scheduler.js";

const RATE = 48000;

/** A gain that is told its values in advance. */
class FakeParam {
  events = [];
  setValueAtTime(value, time) {
    this.events.push({ value, time, ramp: false });
  }
  linearRampToValueAtTime(value, time) {
    this.events.push({ value, time, ramp: true });
  }
  cancelScheduledValues(time) {
    this.events = this.events.filter((event) => event.time < time);
  }
  at(time) {
    let value = 1;
    let from = 0;
    for (const event of this.events) {
      if (event.time > time) return event.ramp ? value + ((event.value - value) * (time - from)) / (event.time - from) : value;
      [value, from] = [event.value, event.time];
    }
    return value;
  }
}

/** An AudioContext whose clock is turned by hand, and which mixes what it was told to, sample by sample. */
class FakeContext {
  sampleRate = RATE;
  baseLatency = 0.005;
  frame = 0;
  heard = [];
  sources = new Set();

  get currentTime() {
    return this.frame / RATE;
  }
  createBuffer(channels, length) {
    const planes = Array.from({ length: channels }, () => new Float32Array(length));
    return { length, getChannelData: (channel) => planes[channel] };
  }
  createGain() {
    return { gain: new FakeParam(), connect() {}, disconnect() {} };
  }
  createBufferSource() {
    const source = { buffer: null, gain: null, begin: Infinity, end: Infinity, onended: null };
    source.connect = (node) => (source.gain = node.gain);
    source.disconnect = () => {};
    source.start = (time) => {
      const frame = time * RATE;
      assert.ok(Math.abs(frame - Math.round(frame)) < 1e-6, "a block begins on a sample");
      assert.ok(frame >= this.frame, "a block is planned, never late");
      source.begin = Math.round(frame);
      source.end = source.begin + source.buffer.length;
      this.sources.add(source);
    };
    source.stop = (time) => (source.end = Math.min(source.end, Math.ceil(time * RATE)));
    return source;
  }
  /** Hear the next `frames`; `awake` is false while the page is stalled and is told of nothing. */
  advance(frames, awake = true) {
    for (const to = this.frame + frames; this.frame < to; this.frame++) {
      let sum = 0;
      let sounding = 0;
      for (const { begin, end, buffer, gain } of this.sources) {
        if (this.frame < begin || this.frame >= end) continue;
        sum += buffer.getChannelData(0)[this.frame - begin] * gain.at(this.frame / RATE);
        sounding++;
      }
      assert.ok(sounding < 2, `two blocks at once at ${this.frame}`);
      this.heard.push(sum);
    }
    if (!awake) return;
    for (const source of [...this.sources]) {
      if (source.end > this.frame) continue;
      this.sources.delete(source);
      source.onended?.();
    }
  }
}

const TONE = 441; // its steps are below 0.058
const tone = (samplePos) => Math.sin((2 * Math.PI * TONE * samplePos) / RATE);
const largestStep = (samples) => samples.reduce((most, value, i) => (i ? Math.max(most, Math.abs(value - samples[i - 1])) : 0), 0);

/** A station that sends some 60 ms at a time, and a listener. */
class Stage {
  /** @param {{wave?: (samplePos: number) => number, drift?: number, piece?: number}} [how] */
  constructor({ wave = tone, drift = 0, piece = 2880 } = {}) {
    this.context = new FakeContext();
    this.reports = [];
    this.scheduler = new Scheduler(this.context, {}, (report) => this.reports.push(report));
    this.scheduler.control({ type: "frame", frameMs: 60 });
    this.wave = wave;
    this.drift = drift;
    this.piece = piece;
    this.due = 0;
    this.sent = 0;
  }
  send(extra = {}) {
    const left = Float32Array.from({ length: this.piece }, (_, i) => this.wave(this.sent + i));
    this.scheduler.push({ samplePos: this.sent, left, right: left.slice(), restart: false, ...extra });
    this.sent += this.piece;
  }
  /** @param {number} seconds @param {{line?: boolean, awake?: boolean}} [how] */
  run(seconds, { line = true, awake = true } = {}) {
    for (let left = Math.round(seconds * RATE); left > 0; left -= 480) {
      if (line) this.due += 480 * (1 + this.drift);
      while (awake && this.due >= this.piece) {
        this.due -= this.piece;
        this.send();
      }
      this.context.advance(Math.min(480, left), awake);
    }
  }
  get report() {
    return this.reports.at(-1);
  }
}

test("what arrives in pieces is heard whole, sample for sample", () => {
  const stage = new Stage({ wave: (samplePos) => (samplePos % 30011) / 40000, piece: 480 });
  stage.run(5);
  const { heard } = stage.context;
  const begin = heard.findIndex((value) => value !== 0);
  const from = begin + 500; // after the fade
  const first = Math.round(heard[from] * 40000);
  for (let i = from; i < heard.length; i++) assert.equal(heard[i], Math.fround(((first + i - from) % 30011) / 40000), `sample ${i}`);
  assert.ok(begin < 0.4 * RATE, `it began after ${begin / RATE} s`);
  assert.equal(stage.report.underruns, 0);
  assert.equal(stage.report.rate, 1);
});

test("its position is what is heard", () => {
  const stage = new Stage({ wave: (samplePos) => samplePos / 1e6 });
  stage.run(3);
  const { position, contextTime, rate, audible } = stage.report;
  assert.ok(audible);
  const frame = stage.context.frame - 1;
  assert.ok(Math.abs(stage.context.heard[frame] * 1e6 - (position + (frame - contextTime * RATE) * rate)) < 1.5);
});

test("a line that falls silent fades, is counted once, and comes back with more in hand", () => {
  const stage = new Stage();
  stage.run(2);
  stage.run(1, { line: false });
  assert.equal(stage.report.underruns, 1);
  assert.equal(stage.report.audible, false);
  assert.equal(stage.report.targetMs, 450);
  assert.ok(stage.context.heard.slice(-RATE / 2).every((value) => value === 0));
  stage.run(2);
  assert.ok(stage.report.audible);
  assert.equal(stage.report.underruns, 1);
  assert.ok(largestStep(stage.context.heard) < 0.07, `a click: ${largestStep(stage.context.heard)}`);
});

test("a page that stalls is heard as a fade, not as a click", () => {
  const stage = new Stage();
  stage.run(2);
  stage.run(0.15, { awake: false }); // shorter than what is planned: nobody hears it
  stage.run(1);
  assert.equal(stage.report.underruns, 0);
  assert.ok(largestStep(stage.context.heard) < 0.058);
  stage.run(0.5, { awake: false });
  stage.run(2);
  assert.equal(stage.report.underruns, 1);
  assert.ok(stage.report.audible);
  assert.ok(largestStep(stage.context.heard) < 0.07, `a click: ${largestStep(stage.context.heard)}`);
});

test("a pause is silent within a fade, and forgets what was planned", () => {
  const stage = new Stage();
  stage.run(2);
  const { position } = stage.report;
  stage.scheduler.control({ type: "play", playing: false });
  assert.equal(stage.report.audible, false);
  assert.ok(Math.abs(stage.report.position - position) < 0.1 * RATE, "it tells what was heard, not what was planned");
  const at = stage.context.frame;
  stage.run(1, { line: false });
  assert.ok(stage.context.heard.slice(at + 260).every((value) => value === 0));
  assert.ok(largestStep(stage.context.heard) < 0.07);
  assert.equal(stage.report.underruns, 0, "nobody missed anything");
  stage.scheduler.control({ type: "restart" });
  stage.scheduler.control({ type: "play", playing: true });
  stage.run(1);
  assert.ok(stage.report.audible);
});

test("after a discontinuity only what follows is heard", () => {
  const stage = new Stage({ wave: (samplePos) => (samplePos < 100000 ? 0.25 : 0.75) });
  stage.run(1);
  stage.sent = 200000;
  stage.send({ restart: true });
  stage.run(1);
  assert.ok(stage.report.position > 200000);
  const low = stage.context.heard.lastIndexOf(0.25);
  assert.ok(low < 1.01 * RATE, `the old sound went on until ${low / RATE} s`);
  assert.equal(stage.context.heard.at(-1), 0.75);
});

for (const drift of [1e-3, -1e-3]) {
  test(`a sound card that is off by ${drift} neither starves nor floods it`, () => {
    const stage = new Stage({ drift });
    stage.run(2);
    let [least, most] = [Infinity, 0];
    for (let i = 0; i < 20; i++) {
      stage.context.heard = [];
      const frame = stage.context.frame;
      stage.run(2);
      assert.ok(largestStep(stage.context.heard) < 0.0585, `a seam after frame ${frame}`);
      least = Math.min(least, stage.report.bufferMs);
      most = Math.max(most, stage.report.bufferMs);
    }
    assert.equal(stage.report.underruns, 0);
    assert.ok(least > 120 && most < 500, `${least} .. ${most} ms`);
  });
}

test("far behind, it skips to live", () => {
  const stage = new Stage();
  stage.run(2);
  for (let i = 0; i < 50; i++) stage.send(); // three seconds at once
  stage.run(1, { line: false });
  assert.equal(stage.report.skips, 1);
  assert.ok(largestStep(stage.context.heard) < 0.07);
});
