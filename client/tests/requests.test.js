import assert from "node:assert/strict";
import { test } from "node:test";
import { RadioError, Requests } from "../src/requests.js";

test("a listener's change counts once its first sample came", async () => {
  const requests = new Requests(true);
  const { id, answer } = requests.open();
  let done = false;
  answer.then(() => (done = true));
  requests.hear({ type: "scheduled", id });
  requests.hear({ type: "applied", id, rev: 1, audible_at: 4800 });
  requests.received(4800); // samples before 4800
  await Promise.resolve();
  assert.equal(done, false);
  requests.received(4801);
  assert.equal((await answer).rev, 1);
  assert.equal(requests.waiting.size + requests.unheard.size, 0);
});

test("without audio a change counts when it is spliced", async () => {
  const requests = new Requests();
  const told = [];
  const { id, answer } = requests.open((message) => told.push(message.audible_at));
  requests.hear({ type: "applied", id: "another" });
  requests.hear({ type: "scheduled", id, audible_at: 10 });
  requests.hear({ type: "applied", id, audible_at: 12 });
  assert.equal((await answer).audible_at, 12);
  assert.deepEqual(told, [10]);
});

test("refusals name the code and the field, and a later change its sender", async () => {
  const requests = new Requests(true);
  const refused = requests.open();
  requests.hear({ type: "rejected", id: refused.id, code: "bad_request", message: "bpm is 9", field: "bpm", retry_after_ms: 200 });
  await assert.rejects(refused.answer, (error) => {
    assert.ok(error instanceof RadioError);
    assert.deepEqual([error.code, error.field, error.message, error.retry_after_ms], ["bad_request", "bpm", "bpm is 9", 200]);
    return true;
  });
  const replaced = requests.open();
  requests.hear({ type: "superseded", id: replaced.id, by: "other" });
  await assert.rejects(replaced.answer, { code: "superseded", type: "superseded", by: "other" });
  const lost = requests.open();
  requests.abandon("the connection was lost");
  await assert.rejects(lost.answer, { code: "disconnected", message: "the connection was lost" });
});
