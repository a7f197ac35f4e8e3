// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";
import { clockText, FADE_MS, nextTime, SleepTimer } from "../src/sleep.js";

function timed() {
  const said = [];
  const timer = new SleepTimer({ fade: (level) => said.push(level), pause: () => said.push("pause"), play: () => said.push("play") });
  return { timer, said };
}

test("the sound fades over the last half minute and ends", () => {
  const { timer, said } = timed();
  timer.end(60_000);
  for (let now = 1000; now <= 61_000; now += 1000) timer.tick(now);
  const levels = said.slice(1, said.indexOf("pause"));
  assert.deepEqual(levels.slice(0, 30), Array(30).fill(1));
  assert.equal(levels.at(-1), 1000 / FADE_MS);
  for (let i = 1; i < levels.length; i++) assert.ok(levels[i] <= levels[i - 1]);
  assert.deepEqual(said.slice(said.indexOf("pause")), ["pause", 1]); // ready to be heard again
  assert.equal(timer.on, false);
});

test("a page that slept through the end is silent at once", () => {
  const { timer, said } = timed();
  timer.end(60_000);
  timer.tick(8 * 3600_000);
  assert.deepEqual(said, [1, "pause", 1]);
});

test("stopping a timer in its fade gives the volume back", () => {
  const { timer, said } = timed();
  timer.end(60_000);
  timer.tick(45_000);
  assert.equal(said.at(-1), 0.5);
  timer.stop();
  assert.equal(said.at(-1), 1);
  timer.tick(70_000);
  assert.equal(said.includes("pause"), false);
});

test("work and rest alternate until they are stopped", () => {
  const { timer, said } = timed();
  timer.alternate(100_000, 20_000, 0);
  const acts = () => said.filter((each) => typeof each === "string");
  timer.tick(99_000);
  assert.deepEqual(acts(), ["play"]);
  timer.tick(100_000);
  assert.deepEqual(acts(), ["play", "pause"]);
  assert.equal(timer.left(110_000), 10_000);
  timer.tick(119_000);
  timer.tick(120_500);
  assert.deepEqual(acts(), ["play", "pause", "play"]);
  assert.equal(said[said.lastIndexOf("play") - 1], 1);
  timer.tick(221_000);
  assert.deepEqual(acts(), ["play", "pause", "play", "pause"]);
  timer.stop();
  timer.tick(900_000);
  assert.equal(acts().length, 4);
});

test("a time of day is today's, or tomorrow's once it is past", () => {
  const noon = new Date(2026, 10, 28, 12, 0).getTime();
  assert.equal(nextTime("12:30", noon), noon + 30 * 60_000);
  assert.equal(new Date(nextTime("11:59", noon)).getDate(), 29);
  assert.equal(new Date(nextTime("12:00", noon)).getDate(), 29);
  for (const bad of ["", "24:00", "9:5", "12:60", "noon"]) assert.equal(nextTime(bad, noon), null);
});

test("what is left is written as a clock", () => {
  assert.deepEqual([0, 999, 60_000, 3_599_000, 3_600_000, 5_405_000].map(clockText), ["0:00", "0:01", "1:00", "59:59", "1:00:00", "1:30:05"]);
});
