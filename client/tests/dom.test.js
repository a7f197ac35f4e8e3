// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";
import { keep, reasonOf, recallJson } from "../src/ui/dom.js";

test("a refusal has the server's words, and the status where a proxy answers over HTTP/2", async () => {
  assert.equal(await reasonOf(Response.json({ message: "recordings are for DJs" }, { status: 403 })), "recordings are for DJs");
  for (const body of ["<h1>Bad gateway</h1>", "null", "{}"]) {
    assert.equal(await reasonOf(new Response(body, { status: 502 })), "the server answered 502");
  }
});

test("what is kept is read again, and what is no JSON or cannot be read is nothing", () => {
  const kept = new Map([["broken", "{"]]);
  globalThis.window = { localStorage: { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) } };
  keep("stage", JSON.stringify({ size: 2 }));
  assert.deepEqual(recallJson("stage"), { size: 2 });
  assert.equal(recallJson("broken"), null);
  assert.equal(recallJson("never"), null);
  assert.equal(recallJson("blocked", "sessionStorage"), null);
});
