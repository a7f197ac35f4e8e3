import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { CODECS, opusPackets, parseFrame, pcmPlanes, promptLine, SUBPROTOCOL, VERSION } from "../src/protocol.js";

/** Written by the server's own tests from riffstream/protocol/. */
const vectors = JSON.parse(readFileSync(new URL("../../tests/data/protocol_vectors.json", import.meta.url), "utf8"));
const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex = (data) => [...data].map((b) => b.toString(16).padStart(2, "0")).join("");

test("both sides speak of the same protocol", () => {
  assert.equal(vectors.protocol, SUBPROTOCOL);
  const hello = vectors.messages.find((m) => m.json.type === "hello");
  assert.equal(hello.json.v, VERSION);
});

test("every golden frame is read as the server wrote it", () => {
  assert.ok(vectors.frames.length >= 3);
  for (const golden of vectors.frames) {
    const frame = parseFrame(bytes(golden.hex).buffer);
    assert.equal(frame.seq, golden.seq);
    assert.equal(frame.samplePos, golden.sample_pos);
    assert.equal(frame.nSamples, golden.n_samples);
    assert.equal(frame.rev, golden.rev);
    assert.equal(frame.kind, golden.kind);
    assert.equal(frame.codec, CODECS[golden.codec]);
    assert.equal(frame.discontinuity, golden.discontinuity);
    assert.equal(frame.silence, golden.silence);
    if (golden.codec === "opus") assert.deepEqual(opusPackets(frame.payload).map(hex), golden.packets);
    else assert.equal(hex(frame.payload), golden.packets[0]);
    if (golden.codec === "pcm_s16") assert.equal(pcmPlanes(frame.payload)[0].length, golden.n_samples);
  }
});

test("samples keep their sign and scale", () => {
  const [left, right] = pcmPlanes(bytes("0000ff7f0080010000c00040"));
  assert.deepEqual([...left], [0, -1, -0.5]);
  assert.deepEqual([...right], [32767 / 32768, 1 / 32768, 0.5]);
});

test("damaged frames are refused, whatever is cut off", () => {
  assert.throws(() => parseFrame(new ArrayBuffer(23)), /header/);
  const other = new Uint8Array(24);
  other[0] = 9;
  assert.throws(() => parseFrame(other.buffer), /version 9/);
  const good = bytes("0300aabbcc0200ddee");
  assert.equal(opusPackets(good).length, 2);
  for (const size of [1, 4, 6, 8]) assert.throws(() => opusPackets(good.subarray(0, size)), /cut off/, `${size} bytes`);
});

test("a mix reads in one line, the heaviest first", () => {
  assert.equal(promptLine([{ text: "a", weight: 0.2 }, { text: "b", weight: 0.8 }]), "b + a");
  assert.equal(promptLine(undefined), "");
});
