/** A page in TypeScript that uses the element; compiled by .ci/check-player, never run. */
import type { RiffStreamAttributes } from "../riff-stream.js";

const player = document.querySelector("riff-stream")!;
player.addEventListener("beat", ({ detail }) => (detail.bar_beat + detail.time).toFixed());
player.addEventListener("error", ({ detail }) => (detail.fatal ? detail.code : detail.message).trim());
player.addEventListener("now", ({ detail }) => detail.state.prompts[0].text.trim());
const context: BaseAudioContext | undefined = player.output?.context;
const sum: number = player.levels(8).reduce((all, level) => all + level, context?.currentTime ?? 0);
player.volume = sum;
player.labels = { idle: "zum H\u00f6ren dr\u00fccken" };
const { rev } = await player.steer({ bpm: 120, at: "bar" });
if (player.state === "playing" && player.stream) new MediaRecorder(player.stream).start(rev);
const attributes: RiffStreamAttributes = { station: "main", preload: "none", controls: true };
document.createElement("riff-stream").setAttribute("label", attributes.station ?? "");

// @ts-expect-error a wrong name
player.labels = { asleep: "no" };
// @ts-expect-error a wrong value
player.volume = "loud";
// @ts-expect-error a wrong field
await player.steer({ bmp: 120 });
