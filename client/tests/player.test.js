import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

const globals = {
  location: { origin: "http://radio.lan", href: "http://radio.lan/" },
  isSecureContext: true,
  AudioDecoder: class {},
  AudioContext: class {},
  navigator: { userAgent: "node", userActivation: { hasBeenActive: false } },
};
for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
globalThis.AudioContext.prototype.audioWorklet = null;

const { Player } = await import("../src/player.js");
const { bestTransport } = await import("../src/transport.js");

/** @type {any} a player whose link and output are what a test says */
let player;
beforeEach(() => {
  player = new Player();
  player.wanted = true;
  player.clicked = performance.now() - 100;
  player.link.state = "open";
  player.welcome = {};
  player.output = { held: false, audible: true, report: { bufferMs: 200, targetMs: 200 } };
});
const state = () => (player.settle(), player.state);

test("a fresh player is idle, and one that nothing can play on says so", () => {
  assert.equal(new Player().state, "idle");
  const { AudioContext } = globalThis;
  delete globalThis.AudioContext;
  assert.equal(new Player().state, "unsupported");
  globalThis.AudioContext = AudioContext;
});

test("a change that follows play at once goes over the line that play opens", async () => {
  const said = [];
  player.wanted = false;
  player.link = { state: "closed", open: (_, port) => (port?.close(), said.push("open"), (player.link.state = "connecting")), ask: (message) => (said.push(message.type), Promise.resolve()), post: () => {} };
  player.output = { ...player.output, open: () => {}, wake: () => {}, settle: () => {}, check: () => {}, playPort: (port) => (port.close(), Promise.resolve()), setFrame: () => {} };
  player.play();
  player.steer({ bpm: 90 });
  player.changeQueue("next");
  player.changeRequests("react", { reaction: "wow" });
  assert.deepEqual(said, ["open", "steer", "queue", "request"]);
  clearInterval(player.checking);
});

test("a decoder given up late leaves the way of a thread that takes no code", () => {
  assert.equal(player.transport, "opus");
  player.fallBack("buffers", "refused");
  player.link.handlers.onTransport("pcm", "this browser does not decode Opus");
  assert.deepEqual([player.transport, player.fallback], ["buffers", "refused"]);
});

test("the best transport is chosen for what there is", () => {
  assert.equal(bestTransport(), "opus");
  const { AudioDecoder } = globalThis;
  delete globalThis.AudioDecoder;
  assert.equal(bestTransport(), "pcm");
  globalThis.isSecureContext = false;
  assert.equal(bestTransport(), "buffers");
  globalThis.navigator.connection = { saveData: true };
  assert.equal(bestTransport(), "mp3"); // not the five times wider stream of samples
  assert.equal(bestTransport("token"), "buffers"); // which an <audio> element cannot send
  delete globalThis.navigator.connection;
  globalThis.isSecureContext = true;
  globalThis.AudioDecoder = AudioDecoder;
});

test("sound is playing, and behind when little is left", () => {
  assert.equal(state(), "playing");
  player.output.report.bufferMs = 66;
  assert.equal(state(), "behind");
  player.output.report.bufferMs = 67;
  assert.equal(state(), "playing");
  player.transport = "mp3"; // an element does not tell
  player.output.report.bufferMs = 0;
  assert.equal(state(), "playing");
});

test("without sound it is connecting, buffering or reconnecting, as the line is", () => {
  player.output.audible = false;
  for (const [line, said] of [["connecting", "connecting"], ["open", "buffering"], ["reconnecting", "reconnecting"]]) {
    player.link.state = line;
    assert.equal(state(), said);
  }
  player.output.audible = true; // what is buffered plays on
  assert.equal(state(), "reconnecting");
});

test("what the server said comes before anything else", () => {
  for (const said of ["full", "forbidden", "restarting"]) {
    player.link.state = said;
    player.wanted = true;
    assert.equal(state(), said);
    player.wanted = false;
    assert.equal(state(), said);
  }
});

test("a sound that is held back is blocked: soon where nobody has clicked, later where a device may be opening", () => {
  player.output.held = true;
  player.output.audible = false;
  assert.equal(state(), "buffering");
  player.clicked = performance.now() - 1000;
  assert.equal(state(), "blocked");
  globalThis.navigator.userActivation.hasBeenActive = true;
  assert.equal(state(), "buffering");
  player.clicked = performance.now() - 4000;
  assert.equal(state(), "blocked");
  globalThis.navigator.userActivation.hasBeenActive = false;
});

test("a page is ready once the station has answered, and not before", () => {
  player.wanted = false;
  player.clicked = 0;
  player.welcome = null;
  player.link.state = "closed";
  assert.equal(state(), "idle"); // nobody asked it to connect
  player.link.state = "connecting";
  assert.equal(state(), "connecting");
  player.link.state = "open"; // the worker's word for it comes before the welcome itself
  assert.equal(state(), "connecting");
  player.onMessage({ type: "welcome", role: "owner" });
  assert.equal(player.state, "idle");
  player.link.state = "connecting";
  player.clicked = 1;
  assert.equal(state(), "paused"); // a pause changes the connection, which is nobody's business
});

test("whoever paused is paused, and told when the line is lost", () => {
  player.wanted = false;
  assert.equal(state(), "paused");
  player.link.state = "reconnecting";
  assert.equal(state(), "reconnecting");
  player.link.state = "open";
  player.clicked = 0;
  assert.equal(state(), "idle");
});

test("a dead context is replaced without a tap, later and later; an open line without sound is given up", (t) => {
  let now = 1000;
  t.mock.method(performance, "now", () => now);
  let plays = 0;
  player.play = () => plays++;
  const posted = [];
  player.link.post = (message) => posted.push(message.type);
  Object.assign(player.output, { check() {}, dead: true, held: true });
  const after = (seconds) => {
    for (let i = 0; i < seconds; i++) (now += 1000), player.check();
    return plays;
  };
  assert.deepEqual([after(10), after(10), after(20), after(20)], [0, 1, 1, 2]); // after 15 s, then 30
  assert.deepEqual(posted, []);
  Object.assign(player.output, { dead: false, held: false, audible: false });
  after(20);
  assert.deepEqual(posted, []);
  after(2);
  assert.deepEqual(posted, ["again"]);
  player.output.audible = true;
  after(60);
  assert.deepEqual(posted, ["again"]);
});

test("a refusal ends the wish for sound, so that play may be pressed again", () => {
  player.output.stop = () => {};
  for (const refusal of ["forbidden", "missing"]) {
    player.wanted = true;
    player.link.state = refusal;
    player.link.handlers.onState(refusal, "");
    assert.equal(player.wanted, false);
    assert.equal(player.state, refusal);
  }
});

test("what kept the player from starting is told until it is tried again", () => {
  player.output.stop = () => {};
  player.fail("no sound device");
  player.link.state = "open";
  assert.equal(state(), "unsupported");
  player.link.state = "closed";
  player.openLink = () => {};
  player.connect();
  assert.equal(player.failure, "");
});

test("a player that nothing has connected connects before it asks", async () => {
  const fresh = new Player();
  const asked = [];
  fresh.link.open = () => (asked.push("open"), (fresh.link.state = "connecting"));
  fresh.link.ask = (message) => (asked.push(message.type), Promise.resolve({}));
  await fresh.steer({ bpm: 99 });
  await fresh.changeQueue("clear");
  await fresh.operate("skip");
  assert.deepEqual(asked, ["open", "steer", "queue", "transport"]);
  fresh.transport = null;
  await assert.rejects(fresh.steer({ bpm: 99 }), /cannot play/);
});

test("a refused change that nobody waits for is no unhandled error of the page", async (t) => {
  const unhandled = t.mock.fn();
  process.once("unhandledRejection", unhandled);
  const fresh = new Player();
  fresh.transport = null;
  fresh.steer({ bpm: 99 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  process.off("unhandledRejection", unhandled);
  assert.equal(unhandled.mock.callCount(), 0);
});
