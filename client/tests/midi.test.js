// @ts-check
/** MIDI messages, maps, and soft takeover. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MidiMap, readMidi, Takeover } from "../src/midi.js";

test("controls and notes are read, and nothing else", () => {
  assert.deepEqual(readMidi([0xb0, 7, 127]), { kind: "cc", channel: 1, number: 7, value: 1, on: true });
  assert.deepEqual(readMidi([0xbf, 0, 0]), { kind: "cc", channel: 16, number: 0, value: 0, on: false });
  assert.equal(readMidi([0x90, 60, 1])?.on, true);
  assert.equal(readMidi([0x90, 60, 0])?.on, false); // a note-off of many keyboards
  assert.equal(readMidi([0x80, 60, 64])?.on, false);
  for (const other of [[0xf8], [0xe0, 0, 64], [0xb0, 123, 0], [0xb0], [], [0xc0, 5]]) assert.equal(readMidi(other), null, String(other));
});

test("a knob takes a control over when it meets it, so that nothing jumps", () => {
  const takeover = new Takeover();
  let control = 0.8;
  for (const knob of [0.1, 0.3, 0.5, 0.7]) assert.equal(takeover.moves(knob, control), false, String(knob));
  assert.equal(takeover.moves(0.85, control), true); // it has passed
  control = 0.85;
  assert.equal(takeover.moves(0.2, control), true); // it holds, however fast it moves
  control = 0.2;
  control = 0.6; // somebody else's hand
  assert.equal(takeover.moves(0.22, control), false);
  assert.equal(takeover.moves(0.59, control), true); // near enough
});

test("a knob that never moved takes nothing over by its first message alone", () => {
  assert.equal(new Takeover().moves(0, 0.5), false);
  assert.equal(new Takeover().moves(0.49, 0.5), true);
});

test("a map is kept as text; what is no map is nothing", () => {
  const map = MidiMap.preset("a device of one's own");
  assert.equal(map.pairs.length, 0);
  map.learn({ kind: "cc", channel: 2, number: 5 }, "bpm");
  map.learn({ kind: "note", channel: 1, number: 36 }, "scene-1");
  map.learn({ kind: "cc", channel: 2, number: 5 }, "key"); // the newest choice counts
  const again = MidiMap.read(String(map));
  assert.deepEqual(again?.pairs, [[{ kind: "cc", channel: 2, number: 5 }, "key"], [{ kind: "note", channel: 1, number: 36 }, "scene-1"]]);
  assert.equal(again?.find({ kind: "cc", channel: 1, number: 5 }), null);
  again?.forget({ kind: "cc", channel: 2, number: 5 });
  assert.equal(again?.pairs.length, 1);
  for (const text of [null, "", "{", "{}", "7"]) assert.equal(MidiMap.read(text), null, String(text));
  assert.equal(MidiMap.read('[[{"kind":"sysex"},"bpm"],[{"kind":"cc","channel":1,"number":1},7],3]')?.pairs.length, 0);
});

test("devices that many have come with a map", () => {
  const map = MidiMap.preset("nanoKONTROL2 MIDI 1");
  assert.equal(map.find({ kind: "cc", channel: 1, number: 0 })?.target, "desk-drums");
  assert.equal(map.find({ kind: "cc", channel: 1, number: 39 })?.target, "scene-8");
  assert.equal(map.find({ kind: "cc", channel: 1, number: 41 })?.target, "play");
  assert.equal(MidiMap.preset("Akai APC MINI").find({ kind: "note", channel: 1, number: 56 })?.target, "scene-1");
});
