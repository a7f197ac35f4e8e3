/** The kit against a real server: `riffstream serve --model tone`, in a process of its own. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect as connectLine } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect, opusPackets, RadioError, SAMPLE_RATE, socketUrl } from "../riffstream.js";
import { NodeSocket } from "../src/node-socket.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const python = [process.env.PYTHON, join(root, ".venv/bin/python")].find((each) => each && existsSync(each)) ?? "python3";
const ready = (() => {
  try {
    execFileSync(python, ["-c", "import riffstream, aiohttp"], { cwd: root, stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();
const skip = ready ? undefined : `riffstream does not run with ${python}: set PYTHON`;

/** @type {import("node:child_process").ChildProcess} */
let server;
let url = "";

before(async () => {
  if (!ready) return;
  const folder = mkdtempSync(join(tmpdir(), "riffstream-kit-"));
  const config = join(folder, "kit.toml");
  writeFileSync(config, `[server]\nport = 0\ndrain_s = 0\n[limits]\nsteer_burst = 100\n[generator]\nmodel = "tone"\n[stations.main]\nrequests = true\n`);
  server = spawn(python, ["-m", "riffstream", "serve", "--config", config, "--json"], { cwd: root, stdio: ["ignore", "pipe", "ignore"] });
  url = await new Promise((resolve, reject) => {
    let log = "";
    server.stdout.on("data", (data) => {
      log += data;
      const found = /http:\/\/[\d.]+:\d+/.exec(log);
      if (found) resolve(found[0]);
    });
    server.on("exit", () => reject(new Error(`the server ended: ${log}`)));
  });
  for (let tries = 0; tries < 300 && !(await fetch(`${url}/readyz`)).ok; tries++) await new Promise((resolve) => setTimeout(resolve, 200));
  rmSync(folder, { recursive: true });
});

after(() => server?.kill("SIGTERM"));

/** @param {AsyncIterable<any>} radio @param {number} samples */
async function collect(radio, samples) {
  const blocks = [];
  let count = 0;
  for await (const block of radio) {
    blocks.push(block);
    count += block.nSamples;
    if (count >= samples) break;
  }
  return blocks;
}

/** Blocks follow each other on the sample clock. */
function assertJoined(blocks) {
  for (let i = 1; i < blocks.length; i++) {
    assert.equal(blocks[i].samplePos, blocks[i - 1].samplePos + blocks[i - 1].nSamples);
    assert.equal(blocks[i].discontinuity, false);
  }
}

test("a private station is the caller's own, and ends with the radio", { skip }, async () => {
  const radio = await connect(url, { station: "new", codec: "none", music: { prompts: ["calm piano"], bpm: 72 } });
  assert.match(radio.welcome.station, /^private-/);
  assert.equal(radio.welcome.role, "dj");
  assert.equal(radio.state.prompts[0].text, "calm piano");
  await radio.steer("rain");
  const address = `${url}/api/stations/${radio.welcome.station}`;
  assert.equal((await fetch(address)).status, 200);
  radio.close();
  for (let tries = 0; tries < 100 && (await fetch(address)).status !== 404; tries++) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal((await fetch(address)).status, 404);
  await assert.rejects(connect(url, { station: "new", music: { bpm: 9000 } }), (error) => error instanceof RadioError && /bpm is 9000/.test(error.message));
  await assert.rejects(connect(url, { music: { bpm: 90 } }), TypeError);
  await assert.rejects(connect("http://127.0.0.1:1", { station: "new" }), { code: "unreachable" });
});

test("requests are made, voted for and taken", { skip }, async () => {
  const radio = await connect(url, { codec: "none" });
  assert.deepEqual(radio.requestList, { items: [], reactions: { heart: 0, fire: 0, wow: 0 } });
  const { items } = await radio.changeRequests("suggest", { text: "church bells" });
  assert.equal(items[0].text, "church bells");
  assert.equal((await radio.changeRequests("vote", { item: items[0].id })).items[0].votes, 1);
  assert.equal((await radio.changeRequests("react", { reaction: "fire" })).reactions.fire, 1);
  assert.deepEqual((await radio.changeRequests("take", { item: items[0].id })).items, []);
  await assert.rejects(radio.changeRequests("vote", { item: "r99" }), (error) => error instanceof RadioError && error.field === "item");
  await assert.rejects(radio.changeRequests("vote", /** @type {any} */ ({ itme: "r1" })), TypeError);
  await radio.changeQueue("clear");
  radio.close();
});

test("addresses of a server lead to its socket", () => {
  const cases = {
    "localhost:8080": "ws://localhost:8080/ws/main",
    "https://radio.example/radio/": "wss://radio.example/radio/ws/main",
    "http://host/radio": "ws://host/radio/ws/main",
    "http://host/embed/jazz": "ws://host/ws/jazz",
    "wss://host/a/ws/jazz": "wss://host/a/ws/jazz",
    "http://host/?station=x#y": "ws://host/ws/x",
    "http://h/stream/jazz.mp3": "ws://h/ws/jazz",
    "https://h/radio/hls/jazz/master.m3u8": "wss://h/radio/ws/jazz",
    "http://h/listen/jazz.m3u": "ws://h/ws/jazz",
    "http://h/stage/jazz": "ws://h/ws/jazz",
    "http://h/api/stations/jazz/recording?seconds=5": "ws://h/ws/jazz",
    "http://h/radio/api/stations": "ws://h/radio/ws/main",
    "http://h/healthz": "ws://h/ws/main",
    "http://h/index.html": "ws://h/ws/main",
    "http://h/?station=jazz&p=rain": "ws://h/ws/jazz",
    "ws://h/ws/jazz/plain": "ws://h/ws/jazz",
  };
  for (const [given, socket] of Object.entries(cases)) assert.equal(socketUrl(given, "main"), socket, given);
  for (const wrong of ["ftp://host", "http://", "://"]) assert.throws(() => socketUrl(wrong, "main"), TypeError, wrong);
});

test("decoded audio is the tone, without a gap", { skip, timeout: 60000 }, async () => {
  const radio = await connect(url);
  const blocks = await collect(radio, 2 * SAMPLE_RATE);
  radio.close();
  assertJoined(blocks);
  const peak = Math.max(...blocks.flatMap((block) => block.channels.map((plane) => plane.reduce((most, value) => Math.max(most, Math.abs(value)), 0))));
  assert.ok(peak > 0.05 && peak <= 1, `peak ${peak}`);
  assert.equal(radio.welcome.station, "main");
  assert.ok(radio.state.prompts.length > 0);
});

test("a raw radio gives Opus frames that join", { skip, timeout: 60000 }, async () => {
  const radio = await connect(url, { raw: true });
  const frames = await collect(radio, SAMPLE_RATE);
  radio.close();
  assertJoined(frames);
  assert.equal(radio.welcome.codec, "opus");
  for (const frame of frames) assert.equal(opusPackets(frame.payload).length * 960, frame.nSamples);
});

test("a change resolves when its audio is there", { skip, timeout: 60000 }, async () => {
  const radio = await connect(url);
  const reading = (async () => {
    for await (const block of radio) if (block.rev >= 1 && radio.receivedPos > (applied?.audible_at ?? Infinity)) return block;
  })();
  let applied = null;
  applied = await radio.steer("church bells", { bpm: 97, at: "beat" });
  assert.ok(radio.receivedPos > applied.audible_at, "resolved before its first sample came");
  assert.equal(radio.rev >= applied.rev, true);
  await reading;
  for (let tries = 0; tries < 50 && radio.now.rev < applied.rev; tries++) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(radio.state.prompts[0].text, "church bells");
  assert.equal(radio.state.bpm, 97);
  radio.close();
});

test("wrong values are refused by name, unknown fields at once", { skip, timeout: 60000 }, async () => {
  const radio = await connect(url, { codec: "none" });
  await assert.rejects(radio.steer("x", { bpm: 9000 }), (error) => error instanceof RadioError && error.code === "bad_request" && error.field === "bpm");
  await assert.rejects(radio.steer({ bmp: 120 }), /steer has no field bmp; allowed: .*bpm/);
  await assert.rejects(radio.steer({ key: 1, if_rev: 999999 }), { code: "stale_rev" });
  assert.ok((await radio.steer({ prompts: ["piano", { text: "rain", weight: 0.3 }] })).rev > 0);
  radio.close();
  await assert.rejects(radio.steer("y"), { code: "disconnected" });
});

test("the clock agrees with the audio", { skip, timeout: 60000 }, async () => {
  const radio = await connect(url);
  const [first, second] = [await radio.clock(), await radio.clock()];
  assert.ok(second.t0 > first.t0 && second.t2 >= first.t2);
  assert.ok(Math.abs(second.sample_pos - radio.receivedPos) < 10 * SAMPLE_RATE);
  radio.close();
});

test("messages tell of changes by others", { skip, timeout: 60000 }, async () => {
  const [one, other] = [await connect(url, { codec: "none" }), await connect(url, { codec: "none" })];
  const heard = (async () => {
    for await (const message of one.messages()) if (message.type === "now" && message.state.prompts[0].text === "a gong") return message;
  })();
  await other.steer("a gong");
  assert.equal((await heard).state.prompts[0].text, "a gong");
  one.close();
  other.close();
});

test("what does not exist is an error at once", { skip, timeout: 60000 }, async () => {
  await assert.rejects(connect(url, { station: "nowhere" }), { code: "missing", message: /no station 'nowhere'/ });
  await assert.rejects(connect("http://127.0.0.1:1"), { code: "unreachable", message: /ECONNREFUSED|bad port|127.0.0.1:1/ });
  await assert.rejects(connect(url, { codec: "flac" }), /codec is "flac"; allowed/);
});

test("a lost line resumes without a missing sample", { skip, timeout: 60000 }, async () => {
  const lines = new Set();
  const relay = createServer();
  relay.on("upgrade", (request, line) => {
    const onward = connectLine(Number(new URL(url).port), "127.0.0.1", () => {
      const headers = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`);
      onward.write(`GET ${request.url} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
      line.pipe(onward).pipe(line);
    });
    for (const each of [line, onward]) each.on("error", () => {});
    lines.add(line).add(onward);
  });
  await new Promise((resolve) => relay.listen(0, "127.0.0.1", () => resolve(null)));
  const radio = await connect(`http://127.0.0.1:${relay.address().port}`);
  const blocks = await collect(radio, 2 * SAMPLE_RATE);
  for (const line of lines) line.destroy();
  blocks.push(...(await collect(radio, 4 * SAMPLE_RATE)));
  assertJoined(blocks);
  assert.equal(radio.reconnects, 1);
  radio.close();
  relay.close();
  for (const line of lines) line.destroy();
});

test("a radio that does not reconnect ends with its line", { skip, timeout: 60000 }, async () => {
  let line = null;
  class Kept extends NodeSocket {
    constructor(...given) {
      super(...given);
      line = this;
    }
  }
  const radio = await connect(url, { reconnect: false, WebSocket: Kept });
  line.line.destroy();
  await assert.rejects(collect(radio, 60 * SAMPLE_RATE), { code: "disconnected" });
});

test("a caller that does not read loses the oldest audio, and is told", { skip, timeout: 60000 }, async () => {
  const radio = await connect(url, { queueS: 0.5 });
  while (!radio.receivedPos) await new Promise((resolve) => setTimeout(resolve, 20));
  const start = radio.receivedPos;
  while (radio.receivedPos < start + 2 * SAMPLE_RATE) await new Promise((resolve) => setTimeout(resolve, 100));
  const [first, second] = await collect(radio, 0.4 * SAMPLE_RATE);
  assert.equal(first.discontinuity, true);
  assert.equal(second.discontinuity, false);
  assert.ok(first.samplePos > start);
  radio.close();
});

test("the packed kit works on its own", { skip, timeout: 60000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "riffstream-pack-"));
  try {
    const packed = JSON.parse(execFileSync("npm", ["pack", "--json", "--pack-destination", folder], { cwd: join(root, "client"), encoding: "utf8" }));
    execFileSync("tar", ["xzf", join(folder, packed[0].filename)], { cwd: folder });
    const listed = JSON.parse(readFileSync(join(folder, "package/package.json"), "utf8"));
    for (const file of [...listed.files, "README.md"]) assert.ok(existsSync(join(folder, "package", file)), file);
    writeFileSync(join(folder, "use.mjs"), `import { connect } from "./package/riffstream.js";
      const radio = await connect(process.argv[2]);
      for await (const block of radio) { console.log(block.channels.length); break; }
      radio.close();`);
    assert.equal(execFileSync(process.execPath, [join(folder, "use.mjs"), url], { encoding: "utf8" }).trim(), "2");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
