// @ts-check
/** Addresses of a layer over a video, and the length of a set. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { overlayAddress, readOverlay } from "../src/ui/overlay.js";
import { duration } from "../src/ui/set.js";

const read = (/** @type {string} */ text) => readOverlay(new URLSearchParams(text));

test("a layer is what its address asks for, within bounds", () => {
  assert.equal(read("bg=black"), null);
  assert.deepEqual(read("bg=transparent"), { show: ["picture", "label", "now", "meta", "next"], corner: "bl", size: 1, muted: false });
  assert.deepEqual(read("bg=transparent&show=now,%20next,nonsense&align=tr&size=1.5&muted=1"), { show: ["now", "next"], corner: "tr", size: 1.5, muted: true });
  assert.equal(read("bg=transparent&size=900")?.size, 4);
  assert.equal(read("bg=transparent&size=big")?.size, 1);
  assert.equal(read("bg=transparent&align=middle")?.corner, "bl");
});

test("the address of a layer says what differs from the usual one, and is read again", () => {
  const page = "https://radio.example/embed/main";
  assert.equal(overlayAddress(page), `${page}?bg=transparent&autoplay`);
  const address = overlayAddress(page, { show: ["now", "next"], corner: "tr", size: 2 });
  assert.equal(address, `${page}?bg=transparent&autoplay&show=now,next&align=tr&size=2`);
  assert.deepEqual(read(new URL(address).search), { show: ["now", "next"], corner: "tr", size: 2, muted: false });
  assert.equal(overlayAddress(page, { show: ["picture", "label", "now", "meta", "next"], corner: "bl", size: 1, muted: true }), `${page}?bg=transparent&autoplay&muted=1`);
  assert.equal(read(new URL(overlayAddress(page, { muted: true })).search)?.muted, true);
  assert.deepEqual(read(new URL(overlayAddress(page, { show: [] })).search)?.show, []); // sound alone
});

test("the length of a set is read like a clock", () => {
  assert.deepEqual([0, 59.9, 61, 3723].map(duration), ["0:00", "0:59", "1:01", "1:02:03"]);
});
