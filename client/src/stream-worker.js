// @ts-check
/**
 * The worker that owns the socket and the decoder and feeds the audio thread directly, so that neither a busy page nor a
 * background tab's throttled timers touch the sound.
 *
 * Threading model
 *   Worker        socket, decoding, spectrum; {pcm} through a port to the audio thread.
 *   Page          sends {open, send, input, stats, look, nudge, again, close}; receives {message, state, columns, counters, transport}.
 *   open          replaces the connection before it, if any; the worker serves one at a time.
 */
import { Columns } from "./columns.js";
import { Connection } from "./connection.js";
import { decoderFor, decodesOpus } from "./decoder.js";
import { SAMPLE_RATE } from "./protocol.js";

/** @type {Connection|null} */
let connection = null;
/** @type {MessagePort|null} */
let port = null;
/** @type {import("./decoder.js").OpusDecoder|import("./decoder.js").PcmDecoder|null} */
let decoder = null;
let decoderCodec = 0;
let bytes = 0;
let frames = 0;
let number = 0; // of the link, as the page counts them
let looking = true; // whether the page shows the spectrogram
let opus = decodesOpus();
const columns = new Columns(SAMPLE_RATE, (first, levels) => self.postMessage({ type: "columns", number, first, levels }, { transfer: [levels.buffer] }));

/** @type {import("./decoder.js").OnPcm} */
function onPcm(samplePos, left, right, restart) {
  if (looking) columns.push(samplePos, left, right);
  port?.postMessage({ samplePos, left, right, restart }, [left.buffer, right.buffer]);
}

/** @param {import("./protocol.js").Frame} frame */
function onFrame(frame) {
  bytes += frame.payload.length;
  frames++;
  if (!port) return;
  if (!decoder || decoderCodec !== frame.codec) {
    decoder?.close();
    decoderCodec = frame.codec;
    decoder = decoderFor(frame.codec, onPcm, (why) => fallBack(why, true));
  }
  try {
    decoder.push(frame);
  } catch {
    decoder.errors++;
    decoder.reset();
  }
}

/**
 * Go on without Opus, for good: this browser cannot decode it.
 * @param {string} why
 * @param {boolean} connected whether the server has been told other codecs already
 */
function fallBack(why, connected) {
  if (!connection) return;
  opus = Promise.resolve(false);
  connection.options.codecs = ["pcm_s16"];
  if (connected) connection.again();
  self.postMessage({ type: "transport", number, transport: "pcm", why });
}

/** Connect, once it is known which codecs this thread decodes. @param {Connection} mine */
async function openWhenKnown(mine) {
  const known = !mine.options.codecs.includes("opus") || (await opus);
  if (connection !== mine) return;
  if (!known) fallBack("this browser does not decode Opus", false);
  mine.open();
}

function close() {
  connection?.close();
  connection = null;
  decoder?.close();
  decoder = null;
  port?.close();
  port = null;
}

self.onmessage = (event) => {
  const message = event.data;
  if (message.type === "open") {
    close();
    port = message.port ?? null;
    const mine = (number = message.number);
    connection = new Connection(message.options, {
      onFrame,
      onMessage: (inner) => self.postMessage({ type: "message", number: mine, message: inner }),
      onState: (state, detail) => self.postMessage({ type: "state", number: mine, state, detail }),
    });
    openWhenKnown(connection);
  } else if (message.type === "send") connection?.ask(message.message);
  else if (message.type === "input") connection?.give(message.data);
  else if (message.type === "look") looking = message.on;
  else if (message.type === "stats" && connection) {
    connection.stats = message.stats;
    self.postMessage({
      type: "counters",
      number,
      bytes,
      frames,
      lost: connection.lost,
      latencyMs: connection.latencyMs,
      decodeErrors: decoder?.errors ?? 0,
    });
  } else if (message.type === "nudge") connection?.nudge();
  else if (message.type === "again") connection?.again();
  else if (message.type === "close") close();
};
