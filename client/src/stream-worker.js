// @ts-check
/**
 * The worker that owns the socket and the decoder and feeds the audio thread directly, so that neither a busy page nor a
 * background tab's throttled timers touch the sound.
 *
 * Threading model
 *   Worker        socket, decoding; {pcm} through a port to the audio thread.
 *   Page          sends {open, send, stats, nudge, close}; receives {message, state, counters}.
 */
import { Connection } from "./connection.js";
import { decoderFor } from "./decoder.js";

/** @type {Connection|null} */
let connection = null;
/** @type {MessagePort|null} */
let port = null;
/** @type {import("./decoder.js").OpusDecoder|import("./decoder.js").PcmDecoder|null} */
let decoder = null;
let decoderCodec = 0;
let bytes = 0;
let frames = 0;

/** @param {import("./protocol.js").Frame} frame */
function onFrame(frame) {
  bytes += frame.payload.length;
  frames++;
  if (!port) return;
  const target = port;
  if (!decoder || decoderCodec !== frame.codec) {
    decoder?.close();
    decoderCodec = frame.codec;
    decoder = decoderFor(frame.codec, (samplePos, left, right, restart) =>
      target.postMessage({ samplePos, left, right, restart }, [left.buffer, right.buffer]),
    );
  }
  try {
    decoder.push(frame);
  } catch {
    decoder.errors++;
    decoder.reset();
  }
}

self.onmessage = (event) => {
  const message = event.data;
  if (message.type === "open") {
    port = message.port ?? null;
    connection?.close();
    connection = new Connection(message.options, {
      onFrame,
      onMessage: (inner) => self.postMessage({ type: "message", message: inner }),
      onState: (state, detail) => self.postMessage({ type: "state", state, detail }),
    });
    connection.open();
  } else if (message.type === "send") connection?.send(message.message);
  else if (message.type === "stats" && connection) {
    connection.stats = message.stats;
    self.postMessage({
      type: "counters",
      bytes,
      frames,
      lost: connection.lost,
      latencyMs: connection.latencyMs,
      decodeErrors: decoder?.errors ?? 0,
    });
  } else if (message.type === "nudge") connection?.nudge();
  else if (message.type === "close") {
    connection?.close();
    decoder?.close();
    decoder = null;
  }
};
