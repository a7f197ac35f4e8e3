// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";
import { Alone } from "../src/alone.js";
import { openChannel } from "../src/channel.js";

/** Messages arrive in order, so one of this test's own comes after all that were sent before. */
function settled() {
  const [to, from] = [new BroadcastChannel("riffstream"), new BroadcastChannel("riffstream")];
  return new Promise((resolve) => {
    to.onmessage = ({ data }) => data === "end" && resolve();
    from.postMessage("end");
  }).finally(() => (to.close(), from.close()));
}

test("the others hear of it, the speaker does not, and those who play together neither", async () => {
  globalThis.document = {}; // a page
  const heard = { a: 0, b: 0, c: 0 };
  const a = new Alone(() => heard.a++);
  const b = new Alone(() => heard.b++);
  const c = new Alone(() => heard.c++, true);
  try {
    a.say();
    await settled();
    assert.deepEqual(heard, { a: 0, b: 1, c: 0 });
    c.say();
    await settled();
    assert.deepEqual(heard, { a: 0, b: 1, c: 0 });
    b.close();
    a.say();
    await settled();
    assert.equal(heard.b, 1);
  } finally {
    for (const each of [a, b, c]) each.close();
  }
});

test("where no channel may be opened there is none, and the player goes on", (t) => {
  globalThis.document = {};
  const { BroadcastChannel } = globalThis;
  t.after(() => (globalThis.BroadcastChannel = BroadcastChannel));
  globalThis.BroadcastChannel = class {
    constructor() {
      throw new Error("an opaque origin has no channels");
    }
  };
  assert.equal(openChannel("riffstream-stage"), null);
  const alone = new Alone(() => {});
  alone.say();
  alone.close();
  delete globalThis.BroadcastChannel;
  assert.equal(openChannel("riffstream-stage"), null);
});
