// @ts-check
/**
 * Listen to a riffstream station from JavaScript, and steer it. Browsers, Node 20+, Deno, Bun; no dependencies.
 *
 *   import { connect } from "riffstream";                  // or from "http://localhost:8080/riffstream.js"
 *   const radio = await connect("http://localhost:8080");
 *   await radio.steer("acid jazz trio", { bpm: 112 });      // resolves when the change is in the received audio
 *   for await (const block of radio) block.channels;        // two Float32Array, 48 kHz
 *
 * The player of this server is made from the same modules.
 */
export { opusPackets, parseFrame, pcmPlanes, promptLine, SAMPLE_RATE, SUBPROTOCOL } from "./src/protocol.js";
export { connect, Radio, socketUrl } from "./src/radio.js";
export { RadioError } from "./src/requests.js";
