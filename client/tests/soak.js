/**
 * Hours of listening in minutes: frames and messages of a station go through the real worker, decoder, ring, pacing,
 * spectrogram, player, steering and history, as fast as this machine can, and the heap is weighed after a forced
 * collection every so often. What the browser itself holds (its decoder, canvas, DOM) is not in it;
 * `python -m tests.browser.measure --soak 10` weighs that in real time.
 *
 *   node client/tests/soak.js [--hours 8] [--steer-every 20]
 */
import { pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

const FRAME = 2880; // 60 ms
const FRAME_S = FRAME / 48000;

/** Timers that go by the simulated clock. */
class Timers {
  now = 0;
  last = 0;
  waiting = new Map();
  install() {
    const add = (act, ms, every) => (this.waiting.set(++this.last, { act, at: this.now + ms, every }), this.last);
    globalThis.setTimeout = (act, ms = 0) => add(act, ms, 0);
    globalThis.setInterval = (act, ms) => add(act, ms, ms);
    globalThis.clearTimeout = globalThis.clearInterval = (id) => this.waiting.delete(id);
  }
  advance(ms) {
    this.now += ms;
    for (const [id, timer] of this.waiting) {
      if (timer.at > this.now) continue;
      if (timer.every) timer.at += timer.every;
      else this.waiting.delete(id);
      timer.act();
    }
  }
}

/** As much of an element as the steering and the history touch. */
class FakeElement {
  children = [];
  textContent = "";
  append(...children) {
    this.children.push(...children);
  }
  replaceChildren(...children) {
    this.children = children;
  }
  addEventListener() {}
  setAttribute() {}
  remove() {}
}

/** A station behind a socket: it welcomes, answers the clock, and does what it is told. */
class FakeSocket {
  readyState = 1;
  constructor() {
    FakeSocket.latest = this;
  }
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  send(text) {
    const message = JSON.parse(text);
    if (message.type === "clock") this.say({ ...message, t1: 0, t2: 0, sample_pos: this.samplePos });
    if (message.type !== "steer") return;
    const audible_at = this.samplePos + 24000;
    this.rev++;
    this.state = { ...this.state, ...message, steered: true };
    this.say({ type: "scheduled", id: message.id, rev: this.rev, audible_at, audible_in_ms: 500 });
    this.say({ type: "applied", id: message.id, rev: this.rev, audible_at });
    this.now();
  }
  now() {
    this.say({ type: "now", rev: this.rev, sample_pos: this.samplePos, clip: this.clip++, beat: 0, alpha: 0, state: this.state });
  }
  close() {}
  rev = 0;
  clip = 0;
  samplePos = 0;
  state = { prompts: [{ text: "first", weight: 1 }], seed: 1, bpm: 120, key: 0 };
}

/** Weigh what is alive, bytes. Buffers are given back by another thread, a moment after they are found dead. */
async function weigh() {
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((done) => setImmediate(done));
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/**
 * Least squares with its uncertainty.
 * @param {number[]} x @param {number[]} y
 * @returns {{slope: number, error: number}} per unit of x; `error` is half of the 95 % interval
 */
export function fit(x, y) {
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const [mx, my] = [mean(x), mean(y)];
  const spread = x.reduce((sum, value) => sum + (value - mx) ** 2, 0);
  const slope = x.reduce((sum, value, i) => sum + (value - mx) * (y[i] - my), 0) / spread;
  const rest = x.reduce((sum, value, i) => sum + (y[i] - my - slope * (value - mx)) ** 2, 0);
  return { slope, error: 1.96 * Math.sqrt(rest / (x.length - 2) / spread) };
}

/**
 * @param {{hours: number, warmupHours: number, steerEveryS: number, samples: number, each?: () => void,
 *   onSample?: (hour: number, bytes: number) => void}} plan   `each` is called once a frame
 * @returns {Promise<{first: number, last: number, slope: number, error: number, lines: number, markers: number, asked: number}>}
 *   bytes, and bytes an hour
 */
export async function soak({ hours, warmupHours, steerEveryS, samples, each, onSample }) {
  const real = { setTimeout, setInterval, clearTimeout, clearInterval };
  const timers = new Timers();
  timers.install();
  const stubs = {
    location: { origin: "http://station.test", href: "http://station.test/" },
    navigator: { userAgent: "node" },
    isSecureContext: true,
    AudioContext: class {},
    WebSocket: FakeSocket,
    FormData: class { get() { return "asap"; } },
    document: { createElement: () => new FakeElement(), getElementById: () => new FakeElement() },
    HTMLElement: FakeElement,
    HTMLFormElement: FakeElement,
    HTMLSelectElement: FakeElement,
  };
  for (const [name, value] of Object.entries(stubs)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  globalThis.AudioContext.prototype.audioWorklet = null;

  const { Player } = await import("../src/player.js");
  const { Playback } = await import("../src/playback.js");
  const { SpectrumRing } = await import("../src/spectrum.js");
  const { makeSteering } = await import("../src/ui/steering.js");
  const { mountHistory } = await import("../src/ui/history.js");
  const player = new Player({ transport: "pcm", several: true });
  globalThis.self ??= {}; // the worker's module is made once, and keeps its handler there
  globalThis.self.postMessage = (data) => player.link.receive(data);
  await import("../src/stream-worker.js");
  player.link.worker = { postMessage: (data) => globalThis.self.onmessage({ data }) };

  const playback = new Playback(48000);
  const spectrum = new SpectrumRing();
  player.addEventListener("columns", ({ detail }) => spectrum.put(detail.first, detail.levels));
  const markers = [];
  const steering = makeSteering(player, markers);
  const updates = [];
  const app = { player, steer: steering.steer, state: () => player.now?.state, heard: () => player.now, onChange: (update) => updates.push(update) };
  const panel = new FakeElement();
  mountHistory(app, panel, new FakeElement());
  player.addEventListener("now", () => updates.forEach((update) => update()));

  player.wanted = true;
  player.openLink({ postMessage: (data) => playback.push(data), close() {} });
  const socket = FakeSocket.latest;
  socket.onopen();
  socket.say({ type: "welcome", v: 1, session: "s", role: "owner", frame_ms: 60, limits: {}, caps: {}, state: socket.state });

  const noise = Int16Array.from({ length: 2 * FRAME }, (_, i) => 9000 * Math.sin(i / 40) + 3000 * Math.sin(i * i));
  const block = [new Float32Array(128), new Float32Array(128)];
  let [blocks, toPlay, steered] = [0, 0, 0];
  function frame(seq) {
    const data = new ArrayBuffer(24 + noise.byteLength);
    const view = new DataView(data);
    [1, 1, 2, 0].forEach((value, at) => view.setUint8(at, value));
    view.setUint32(4, seq, true);
    view.setBigUint64(8, BigInt(socket.samplePos), true);
    view.setUint32(16, FRAME, true);
    new Int16Array(data, 24).set(noise);
    socket.onmessage({ data });
    socket.samplePos += FRAME;
    for (toPlay += FRAME; toPlay >= 128; toPlay -= 128) {
      playback.pace(128, 0);
      playback.pull(block[0], block[1]);
      if (++blocks % 19 === 0) player.onReport((player.output.report = playback.report(blocks / 375, 0, playback.ring.gain > 0)));
    }
    timers.advance(60);
    if (seq % 83 === 0) socket.now(); // a clip every 5 s
    if (seq * FRAME_S >= (steered + 1) * steerEveryS) app.steer({ prompts: [{ text: `change ${++steered}`, weight: 1 }] }, `change ${steered}`);
    steering.tick();
    each?.();
  }

  const [x, y] = [[], []];
  const frames = Math.round((hours * 3600) / FRAME_S);
  const warmup = Math.round((warmupHours * 3600) / FRAME_S);
  const every = Math.floor((frames - warmup) / (samples - 1));
  for (let seq = 0; seq <= frames; seq++) {
    frame(seq);
    if (seq % 500 === 0) await null; // promises of what was asked
    if (seq < warmup || (seq - warmup) % every) continue;
    x.push((seq * FRAME_S) / 3600);
    y.push(await weigh());
    onSample?.(x.at(-1), y.at(-1));
  }
  player.link.close();
  Object.assign(globalThis, real);
  return {
    first: y[0], last: y.at(-1), ...fit(x, y),
    lines: panel.children.at(-1).children.length, markers: markers.length, asked: player.link.requests.waiting.size,
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const option = (name, usual) => (process.argv.includes(name) ? Number(process.argv[process.argv.indexOf(name) + 1]) : usual);
  const hours = option("--hours", 8);
  const begin = performance.now();
  const found = await soak({
    hours, warmupHours: hours / 8, steerEveryS: option("--steer-every", 20), samples: 43,
    onSample: (hour, bytes) => console.error(`${hour.toFixed(2)} h: ${(bytes / 1e6).toFixed(3)} MB`),
  });
  const kb = (bytes) => Math.round(bytes / 10) / 100;
  console.log(JSON.stringify({
    hours, minutes_it_took: Math.round((performance.now() - begin) / 6000) / 10, first_kb: kb(found.first), last_kb: kb(found.last),
    slope_kb_per_hour: kb(found.slope), within_95_percent: kb(found.error), history_lines: found.lines, markers: found.markers, unanswered: found.asked,
  }, null, 2));
}
