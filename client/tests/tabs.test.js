import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.document = /** @type {any} */ ({ querySelectorAll: () => [] });
const { mountTabs } = await import("../src/ui/screen.js");

test("everybody who loads a panel waits until it is mounted, and it is mounted once", async () => {
  let mounted = 0;
  let finish = () => {};
  const { load } = mountTabs({ "panel-scenes": () => new Promise((resolve) => (finish = () => (mounted++, resolve(undefined)))) });
  const seen = [];
  const all = Promise.all([1, 2].map(async (press) => (await load("panel-scenes"), seen.push([press, mounted]))));
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(seen, []);
  finish();
  await all;
  await load("panel-scenes");
  assert.deepEqual([seen, mounted], [[[1, 1], [2, 1]], 1]);
});
