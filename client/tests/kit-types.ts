/** A program in TypeScript that uses the kit; compiled by .ci/check-player, never run. */
import { connect, RadioError, type Block, type Change, type Frame, type Radio } from "../riffstream.js";
import * as made from "../src/radio.js";

/** What the module makes is what its declaration says. */
const declared: { connect: typeof connect } = made;

const radio = await declared.connect("localhost:8080", { station: "main", codec: "none" });
const change: Change = { prompts: ["piano", { text: "rain", weight: 0.3 }], bpm: "auto", key: null, at: "bar" };
const { audible_at, rev } = await radio.steer(change, { timeoutMs: 5000 });
await radio.steer("acid jazz trio", { bpm: 112 });
const position: number = (await radio.clock()).sample_pos + audible_at + rev;
for await (const block of radio) {
  const [left, right]: [Float32Array, Float32Array] = block.channels;
  if (left.length + right.length > position || block.discontinuity) break;
}
for await (const message of radio.messages()) if (message.type === "now") message.state.prompts[0].text.trim();

const own: Radio = await connect("localhost:8080", { station: "new", music: { prompts: ["calm piano"], bpm: 72 } });
own.close();
// @ts-expect-error a wrong name
await connect("localhost:8080", { station: "new", music: { prompt: "calm piano" } });

const queue = await radio.changeQueue("add", { prompts: ["church bells"], bars: 16, bpm: null });
const bars: number = queue.items[0].bars + radio.queueList.items.length;
const wished = await radio.changeRequests("suggest", { text: "church bells" });
const votes: number = wished.items[0].votes + wished.reactions.heart + (radio.requestList?.items.length ?? 0);
// @ts-expect-error a wrong value
await radio.changeRequests("react", { reaction: "tomato", timeoutMs: votes });

// @ts-expect-error a wrong name
await radio.changeQueue("add", { prompt: "church bells", bars });

const raw: Radio<Frame> = await connect("https://radio.example", { raw: true });
for await (const frame of raw) frame.payload.subarray(frame.seq);
const first: Block | undefined = (await radio[Symbol.asyncIterator]().next()).value;
if (first) first.samplePos.toFixed();

try {
  await radio.transport("skip");
} catch (error) {
  if (error instanceof RadioError && error.retry_after_ms) radio.close();
}

// @ts-expect-error a wrong name
await radio.steer({ bmp: 120 });
// @ts-expect-error a wrong value
await radio.steer("x", { at: "noon" });
// @ts-expect-error a raw radio has no decoded channels
for await (const frame of raw) frame.channels;
