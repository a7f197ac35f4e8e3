import assert from "node:assert/strict";
import { test } from "node:test";
import { Connection } from "../src/connection.js";

class FakeSocket {
  static all = [];
  constructor(url, protocol) {
    Object.assign(this, { url, protocol, readyState: 0, sent: [] });
    FakeSocket.all.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.readyState = 3;
  }
  open() {
    this.readyState = 1;
    this.onopen();
  }
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  frame(seq, pos = seq * 1920) {
    const buffer = new ArrayBuffer(24);
    const view = new DataView(buffer);
    view.setUint8(0, 1);
    view.setUint32(4, seq, true);
    view.setBigUint64(8, BigInt(pos), true);
    view.setUint32(16, 1920, true);
    this.onmessage({ data: buffer });
  }
  fail(code = 1006) {
    this.readyState = 3;
    this.onclose({ code, reason: "" });
  }
}

function start(t, answer = () => Promise.reject(new TypeError("nobody")), now = () => Date.now()) {
  FakeSocket.all = [];
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  const states = [];
  const frames = [];
  const connection = new Connection(
    { url: "ws://x", codecs: ["opus"], WebSocketClass: FakeSocket, random: () => 1, ask: async () => answer(), now },
    { onState: (s) => states.push(s), onFrame: (f) => frames.push(f) },
  );
  connection.open();
  return { connection, states, frames, latest: () => FakeSocket.all.at(-1) };
}

const welcome = (resumed = false) => ({ type: "welcome", session: "s1", resumed });

test("says hello, then resumes with the session and the last frame", (t) => {
  const { connection, latest, frames } = start(t);
  latest().open();
  assert.deepEqual(latest().sent[0], { type: "hello", v: 1, codecs: ["opus"], steer: true });
  latest().say(welcome());
  latest().frame(7);
  latest().frame(8);
  latest().fail();
  t.mock.timers.tick(250);
  latest().open();
  assert.deepEqual(latest().sent[0].resume, { session: "s1", last_seq: 8, sample_pos: 9 * 1920 });
  latest().say(welcome(true));
  latest().frame(8); // repeated: dropped
  latest().frame(9);
  assert.deepEqual(
    frames.map((f) => [f.seq, f.discontinuity]),
    [
      [7, false],
      [8, false],
      [9, false],
    ],
  );
  connection.close();
});

test("after a resume at another server the position counts, not the number", (t) => {
  const { connection, latest, frames } = start(t);
  latest().open();
  latest().say(welcome());
  latest().frame(800);
  for (const [seq, pos] of [[5, 801], [9, 804]]) {
    latest().fail();
    t.mock.timers.tick(250);
    latest().open();
    latest().say(welcome(true));
    latest().frame(seq - 1, 700 * 1920); // received before
    latest().frame(seq, pos * 1920);
    latest().frame(seq + 1, (pos + 1) * 1920);
  }
  assert.deepEqual(
    frames.map((f) => [f.seq, f.discontinuity]),
    [
      [800, false],
      [5, false],
      [6, false],
      [9, true],
      [10, false],
    ],
  );
  connection.close();
});

test("a missing frame is a discontinuity and counted", (t) => {
  const { connection, latest, frames } = start(t);
  latest().open();
  latest().say(welcome());
  latest().frame(2 ** 32 - 1);
  latest().frame(0); // wraps without a gap
  latest().frame(3);
  assert.deepEqual(
    frames.map((f) => f.discontinuity),
    [false, false, true],
  );
  assert.equal(connection.lost, 2);
  connection.close();
});

test("a connection that is closed by its own state handler stays closed", (t) => {
  const { connection, latest } = start(t);
  latest().open();
  latest().say(welcome());
  connection.handlers.onState = (state) => state === "reconnecting" && connection.close();
  latest().fail();
  t.mock.timers.tick(60000);
  assert.equal(FakeSocket.all.length, 1);
});

test("backs off, and starts over after a welcome", (t) => {
  const { connection, latest } = start(t);
  for (const delay of [250, 500, 1000, 2000]) {
    const before = FakeSocket.all.length;
    latest().fail();
    t.mock.timers.tick(delay - 1);
    assert.equal(FakeSocket.all.length, before, `too early before ${delay} ms`);
    t.mock.timers.tick(1);
    assert.equal(FakeSocket.all.length, before + 1);
  }
  latest().open();
  latest().say(welcome());
  const before = FakeSocket.all.length;
  latest().fail();
  t.mock.timers.tick(250);
  assert.equal(FakeSocket.all.length, before + 1);
  connection.close();
});

test("a silent line is given up", (t) => {
  const { connection, latest, states } = start(t);
  latest().open();
  latest().say(welcome());
  for (let i = 0; i < 14; i++) t.mock.timers.tick(1000);
  assert.ok(states.includes("reconnecting"));
  assert.ok(FakeSocket.all.length > 1);
  connection.close();
});

test("a refusal ends it; a full server is asked again when it said", (t) => {
  const refused = start(t);
  refused.latest().open();
  refused.latest().say({ type: "rejected", code: "unauthorised", message: "no" });
  refused.latest().fail(4001);
  t.mock.timers.tick(60000);
  assert.equal(refused.states.at(-1), "forbidden");
  assert.equal(FakeSocket.all.length, 1);
  t.mock.timers.reset();

  const full = start(t);
  full.latest().open();
  full.latest().say({ type: "rejected", code: "busy", message: "full", retry_after_ms: 5000 });
  full.latest().fail(4003);
  assert.equal(full.states.at(-1), "full");
  t.mock.timers.tick(4999);
  assert.equal(FakeSocket.all.length, 1);
  t.mock.timers.tick(1);
  assert.equal(FakeSocket.all.length, 2);
  full.connection.close();
});

test("a restarting server says when to come back", (t) => {
  const { connection, latest, states } = start(t);
  latest().open();
  latest().say(welcome());
  latest().say({ type: "bye", reason: "restarting", reconnect_ms: 1200 });
  latest().fail(1001);
  assert.equal(states.at(-1), "restarting");
  t.mock.timers.tick(1200);
  assert.equal(FakeSocket.all.length, 2);
  connection.close();
});

test("after close nothing comes back", (t) => {
  const { connection, latest } = start(t);
  latest().open();
  connection.close();
  t.mock.timers.tick(100000);
  assert.equal(FakeSocket.all.length, 1);
});

test("what is asked before the welcome waits for it, and dies with the line", (t) => {
  const { connection, latest } = start(t);
  connection.ask({ type: "steer", id: "1" });
  latest().open();
  assert.deepEqual(latest().sent.map((m) => m.type), ["hello"]);
  latest().say(welcome());
  assert.ok(latest().sent.some((m) => m.id === "1"));
  latest().fail();
  connection.ask({ type: "steer", id: "2" });
  t.mock.timers.tick(250);
  latest().fail();
  t.mock.timers.tick(500);
  latest().open();
  latest().say(welcome());
  assert.ok(!latest().sent.some((m) => m.id === "2"));
  connection.close();
});

test("a full server stays full until it lets us in", (t) => {
  const { connection, latest, states } = start(t);
  for (let round = 0; round < 2; round++) {
    latest().open();
    latest().say({ type: "rejected", id: "", code: "busy", message: "full", retry_after_ms: 5000 });
    latest().say({ type: "bye", reason: "full", reconnect_ms: 5000 });
    latest().fail(1008);
    t.mock.timers.tick(5000);
  }
  assert.deepEqual([...new Set(states.slice(1))], ["full"]);
  latest().open();
  latest().say(welcome());
  assert.equal(states.at(-1), "open");
  connection.close();
});

/** What was asked over HTTP is answered. */
const answered = () => new Promise(setImmediate);

test("a station that is not there is told, and not asked for again", async (t) => {
  const { latest, states } = start(t, () => ({ status: 404, code: "not_found", message: "no station" }));
  latest().fail();
  await answered();
  assert.equal(states.at(-1), "missing");
  t.mock.timers.tick(100000);
  assert.equal(FakeSocket.all.length, 1);
});

test("a station that ends is missing, a refusal is none", (t) => {
  const { latest, states } = start(t);
  latest().open();
  latest().say(welcome());
  latest().say({ type: "bye", reason: "nobody listened", reconnect_ms: null });
  assert.equal(states.at(-1), "missing");
  t.mock.timers.tick(100000);
  assert.equal(FakeSocket.all.length, 1);
});

test("a server that is there, and sockets that never open, are told apart from a server that is gone", async (t) => {
  let answer = () => Promise.reject(new TypeError("nobody"));
  const { connection, latest, states } = start(t, () => answer());
  const fail = async () => {
    latest().fail();
    await answered();
    t.mock.timers.tick(15000);
  };
  for (let i = 0; i < 5; i++) await fail();
  assert.equal(states.at(-1), "reconnecting");
  answer = () => ({ status: 502 }); // a proxy whose server is gone
  for (let i = 0; i < 5; i++) await fail();
  assert.equal(states.at(-1), "reconnecting");
  answer = () => ({ status: 404 }); // a proxy's own page
  for (let i = 0; i < 3; i++) await fail();
  assert.equal(states.at(-1), "nosocket");
  latest().open(); // it goes on trying
  latest().say(welcome());
  assert.equal(states.at(-1), "open");
  connection.close();
});

test("a server with no place for a connection is full", async (t) => {
  const { connection, latest, states } = start(t, () => ({ status: 503, code: "busy", message: "too many" }));
  latest().fail();
  await answered();
  assert.equal(states.at(-1), "full");
  connection.close();
});

test("a nudge gives an open line up unless it answers", (t) => {
  const { connection, latest, states } = start(t);
  latest().open();
  latest().say(welcome());
  connection.nudge();
  latest().say({ type: "clock", t0: 0, t1: 0, t2: 0 });
  t.mock.timers.tick(3000);
  assert.equal(states.at(-1), "open");
  connection.nudge();
  t.mock.timers.tick(2500);
  assert.equal(states.at(-1), "reconnecting");
  t.mock.timers.tick(250);
  assert.equal(FakeSocket.all.length, 2);
  connection.close();
});

test("a clock that is set neither drops a good line nor keeps a dead one", (t) => {
  let clock = 5000000;
  const { connection, latest, states } = start(t, undefined, () => clock);
  latest().open();
  latest().say(welcome());
  clock += 3600000;
  t.mock.timers.tick(1000);
  assert.equal(states.at(-1), "open");
  clock = 10;
  for (let i = 0; i < 14; i++) t.mock.timers.tick(1000);
  assert.ok(states.includes("reconnecting"));
  connection.close();
});

test("other codecs are told on a new connection, once the old one is left", (t) => {
  const { connection, latest } = start(t);
  latest().open();
  latest().say(welcome());
  latest().frame(7);
  connection.options.codecs = ["pcm_s16"];
  connection.again();
  assert.equal(FakeSocket.all.length, 1);
  latest().fail(1000);
  assert.equal(FakeSocket.all.length, 2);
  latest().open();
  assert.deepEqual(latest().sent[0], { type: "hello", v: 1, codecs: ["pcm_s16"], steer: true });
  t.mock.timers.tick(5000);
  assert.equal(FakeSocket.all.length, 2);
  connection.close();
});
