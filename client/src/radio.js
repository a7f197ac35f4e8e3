// @ts-check
/**
 * A station for programs: decoded or raw audio as an async iterator, steering, the clock. No DOM; runs in browsers,
 * workers, Node 20+, Deno and Bun.
 *
 * Threading model
 *   One event loop owns a `Radio`. Audio waits for the caller in a queue of `queueS` seconds; when it is full the oldest
 *   block is dropped, and the next one has `discontinuity`.
 */
import { serverRoot } from "./address.js";
import { answerOf, Connection } from "./connection.js";
import { decoderFor, decodesOpus } from "./decoder.js";
import { STEER_FIELDS } from "./fields.js";
import { closeOwn, NEW, openOwn } from "./own.js";
import { SAMPLE_RATE } from "./protocol.js";
import { RadioError, Requests } from "./requests.js";

/** @typedef {import("../riffstream.js").ConnectOptions} ConnectOptions */
/** @typedef {import("../riffstream.js").Block} Block */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./messages.js").ServerMessage} ServerMessage */

const TIMEOUT_MS = 10000;
const STEER_MS = 60000;
const QUEUE_S = 30;
const MESSAGES = 1000;
const QUEUE_FIELDS = ["item", "prompts", "bars", "ramp_bars", "bpm", "to", "loop"];
const REQUEST_FIELDS = ["text", "item", "reaction", "play"];
/** States of the connection after which it does not come back by itself. */
const FINAL = /** @type {Record<string, string>} */ ({ forbidden: "unauthorised", missing: "missing" });
const LOST = new Set(["reconnecting", "restarting", "full", "nosocket"]);

/** Addresses of a server below its prefix: with a station, and without one. */
const OF_STATION = /^(.*)\/(?:ws|embed|stage|stream|hls|listen|card|qr|api\/stations)\/([^/.]+)(?:[./].*)?$/;
const OF_SERVER = /\/(?:index\.html|healthz|readyz|metrics|run_inference|status-json\.xsl|api\/[a-z].*)\/?$/;

/**
 * Address of a station's socket, from any address of a server: `host:8080`, `https://host/radio/`, `ws://host/ws/main`,
 * `http://host/stream/main.mp3`, `http://host/?station=main`. A station in the address comes before `station`.
 * @param {string} url
 * @param {string} station
 * @returns {string}
 */
export function socketUrl(url, station) {
  let root;
  try {
    root = new URL(/^[a-z]+:\/\//i.test(url) ? url : `http://${url}`);
  } catch {
    throw new TypeError(`url is ${JSON.stringify(url)}; allowed: an address like http://localhost:8080`);
  }
  const scheme = /** @type {Record<string, string>} */ ({ "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" })[root.protocol];
  if (!scheme) throw new TypeError(`url is ${JSON.stringify(url)}; allowed: http, https, ws or wss`);
  const given = OF_STATION.exec(root.pathname);
  const folder = given ? `${given[1]}/` : root.pathname.replace(OF_SERVER, "/");
  const base = serverRoot(new URL(folder, root).href, root.href);
  const named = given ? given[2] : encodeURIComponent(root.searchParams.get("station") || station);
  const socket = new URL(`ws/${named}`, base).href;
  return scheme + socket.slice(base.protocol.length);
}

/** The WebSocket of this program: its own, or the one for Node 20. @returns {Promise<typeof WebSocket>} */
async function ownWebSocket() {
  if (typeof WebSocket !== "undefined") return WebSocket;
  return /** @type {any} */ ((await import("./node-socket.js")).NodeSocket);
}

/**
 * Connect to a station.
 * @param {string} url any address of the server
 * @param {ConnectOptions} [options]
 * @returns {Promise<Radio>}
 */
export async function connect(url, options = {}) {
  const { station = "main", codec = "auto", timeoutMs = TIMEOUT_MS } = options;
  if (!["auto", "opus", "pcm_s16", "none"].includes(codec)) {
    throw new TypeError(`codec is ${JSON.stringify(codec)}; allowed: auto, opus, pcm_s16 or none`);
  }
  const WebSocketClass = options.WebSocket ?? (await ownWebSocket());
  const decodes = codec === "auto" && (options.raw || (await decodesOpus()));
  const codecs = { auto: decodes ? ["opus", "pcm_s16"] : ["pcm_s16"], opus: ["opus"], pcm_s16: ["pcm_s16"], none: [] }[codec];
  if (codec === "opus" && !options.raw && !(await decodesOpus())) {
    throw new TypeError("codec is opus; this program does not decode it: use pcm_s16, or raw for the packets");
  }
  const address = socketUrl(url, station);
  const suffix = `/ws/${NEW}`;
  if (!address.endsWith(suffix)) {
    if (options.music !== undefined) throw new TypeError(`music is for station "${NEW}"`);
    const radio = new Radio(address, codecs, { ...options, WebSocketClass });
    await radio.opened(timeoutMs);
    return radio;
  }
  const root = new URL(address.slice(0, -suffix.length + 1).replace(/^ws/, "http"));
  const own = await openOwn(root, options.music, options.token);
  const radio = new Radio(address.slice(0, -NEW.length) + own.station, codecs, { ...options, token: own.token, WebSocketClass });
  radio.onEnd = () => closeOwn(root, own);
  await radio.opened(timeoutMs);
  return radio;
}

/** @implements {AsyncIterable<any>} */
export class Radio {
  /**
   * @param {string} url of the socket
   * @param {string[]} codecs
   * @param {ConnectOptions & {WebSocketClass: typeof WebSocket}} options
   */
  constructor(url, codecs, options) {
    const { token = null, steer = true, raw = false, queueS = QUEUE_S, reconnect = true } = options;
    this.url = url;
    this.raw = raw;
    this.reconnect = reconnect;
    /** @type {import("./messages.js").Welcome} */
    this.welcome = /** @type {any} */ (null); // until the radio is open
    /** @type {import("./messages.js").Now|null} */
    this.now = null;
    /** @type {import("./messages.js").State} */
    this.state = /** @type {any} */ (null);
    /** @type {import("./messages.js").QueueList} */
    this.queueList = { items: [], loop: false, playing: null, until: null };
    /** @type {import("./messages.js").RequestList|null} */
    this.requestList = null;
    this.rev = 0;
    this.receivedPos = 0;
    this.reconnects = 0;
    this.closed = false;
    this.requests = new Requests(codecs.length > 0);
    /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
    this.clocks = new Map();
    this.most = queueS * SAMPLE_RATE;
    /** @type {(Block|Frame)[]} */
    this.queue = [];
    this.queued = 0; // samples
    this.dropped = false;
    /** @type {Set<() => void>} callers that wait for audio or for the end */
    this.sleepers = new Set();
    /** @type {Set<{queue: ServerMessage[], wake: () => void}>} */
    this.followers = new Set();
    /** @type {RadioError|null} */
    this.error = null;
    /** @type {Frame[]} frames on their way through the decoder, for the revision of their samples */
    this.decoding = [];
    /** @type {ReturnType<typeof decoderFor>|null} */
    this.decoder = null;
    this.decoderCodec = 0;
    this.refusal = "";
    this.onEnd = () => {}; // called once
    this.connection = new Connection(
      { url, codecs, token, steer, WebSocketClass: options.WebSocketClass, ask: (where) => this.explain(where) },
      {
        onFrame: (frame) => this.takeFrame(frame),
        onMessage: (message) => this.takeMessage(message),
        onState: (state, detail) => this.takeState(state, detail ?? ""),
      },
    );
  }

  /** Wait for the first welcome. @param {number} timeoutMs */
  opened(timeoutMs) {
    /** @type {Promise<void>} */
    const done = new Promise((resolve, reject) => {
      this.settleOpening = (/** @type {RadioError|null} */ error) => (error ? reject(error) : resolve());
    });
    const timer = setTimeout(() => this.finish(new RadioError("timeout", `no answer from ${this.url} within ${timeoutMs} ms`)), timeoutMs);
    this.connection.open();
    return done.finally(() => clearTimeout(timer));
  }

  /** The server's answer to a socket that did not open. @param {string} where */
  async explain(where) {
    try {
      const answer = await answerOf(where);
      if (!this.welcome && answer.status >= 400 && answer.code) {
        const code = answer.status === 404 ? "missing" : answer.code;
        this.finish(new RadioError(code, answer.message ?? `status ${answer.status}`));
      }
      return answer;
    } catch (error) {
      if (!this.welcome) this.finish(new RadioError("unreachable", `cannot reach ${this.url}: ${error.cause?.message ?? error.message}`));
      throw error;
    }
  }

  /** @param {string} state @param {string} detail */
  takeState(state, detail) {
    if (state === "missing" && this.welcome) this.finish(null); // the station has ended
    else if (state in FINAL) this.finish(new RadioError(FINAL[state], detail || state));
    else if (LOST.has(state)) {
      this.abandon("the connection was lost");
      if (!this.welcome && state === "full") this.finish(new RadioError("busy", detail || "the station is full"));
      else if (this.welcome && !this.reconnect) this.finish(new RadioError("disconnected", "the connection was lost"));
    }
  }

  /** @param {any} message */
  takeMessage(message) {
    if (message.type === "welcome") {
      if (this.welcome) this.reconnects++;
      if (this.welcome && !message.resumed) this.resetDecoder();
      this.welcome = message;
      this.state = message.state;
      this.rev = message.rev;
      if (message.queue) this.queueList = message.queue;
      this.requestList = message.requests ?? null;
      this.settleOpening?.(null);
    } else if (message.type === "now") {
      this.now = message;
      this.state = message.state;
      this.rev = Math.max(this.rev, message.rev);
    } else if (message.type === "queue") this.queueList = message.queue;
    else if (message.type === "requests") this.requestList = message.requests;
    else if (message.type === "clock") {
      this.clocks.get(message.t0)?.resolve(message);
      this.clocks.delete(message.t0);
    }
    this.requests.hear(message);
    this.requests.received(this.receivedPos);
    for (const each of this.followers) {
      each.queue.push(message);
      if (each.queue.length > MESSAGES) each.queue.shift();
      each.wake();
    }
  }

  /** @param {Frame} frame */
  takeFrame(frame) {
    this.rev = frame.rev;
    this.receivedPos = frame.samplePos + frame.nSamples;
    if (this.raw) this.put(frame);
    else this.decode(frame);
    this.requests.received(this.receivedPos);
  }

  /** @param {Frame} frame */
  decode(frame) {
    if (!this.decoder || this.decoderCodec !== frame.codec) {
      this.resetDecoder();
      try {
        this.decoder = decoderFor(frame.codec, (...block) => this.takePcm(...block), () => this.withoutOpus());
      } catch {
        return; // a codec of a newer server
      }
      this.decoderCodec = frame.codec;
    }
    this.decoding.push(frame);
    if (this.decoding.length > 100) this.decoding.shift();
    try {
      this.decoder.push(frame);
    } catch {
      this.decoder.reset(); // a damaged frame; the next one begins anew
    }
  }

  /** @type {import("./decoder.js").OnPcm} */
  takePcm(samplePos, left, right, restart) {
    while (this.decoding.length > 1 && this.decoding[1].samplePos <= samplePos) this.decoding.shift();
    const rev = this.decoding[0]?.rev ?? this.rev;
    this.put({ samplePos, nSamples: left.length, rev, discontinuity: restart, channels: [left, right] });
  }

  resetDecoder() {
    this.decoder?.close();
    this.decoder = null;
    this.decoding = [];
  }

  /** This program does not decode Opus after all. */
  withoutOpus() {
    if (!this.connection.options.codecs.includes("pcm_s16")) {
      this.finish(new RadioError("internal", "this program does not decode Opus"));
      return;
    }
    this.connection.options.codecs = ["pcm_s16"];
    this.connection.again();
  }

  /** @param {Block|Frame} block */
  put(block) {
    while (this.queue.length && this.queued + block.nSamples > this.most) {
      this.queued -= /** @type {Block|Frame} */ (this.queue.shift()).nSamples;
      this.dropped = true;
    }
    this.queue.push(block);
    this.queued += block.nSamples;
    this.wake();
  }

  wake() {
    for (const wake of this.sleepers) wake();
    this.sleepers.clear();
  }

  /**
   * Blocks, or frames of a raw radio, from the first burst of the server on.
   * @returns {AsyncGenerator<any, void>}
   */
  async *[Symbol.asyncIterator]() {
    for (;;) {
      const block = this.queue.shift();
      if (block) {
        this.queued -= block.nSamples;
        if (this.dropped) block.discontinuity = true;
        this.dropped = false;
        yield block;
      } else if (this.closed) {
        if (this.error) throw this.error;
        return;
      } else await new Promise((resolve) => this.sleepers.add(/** @type {() => void} */ (resolve)));
    }
  }

  /** Control messages from now on, until the radio ends. */
  async *messages() {
    const follower = { queue: /** @type {ServerMessage[]} */ ([]), wake: () => {} };
    this.followers.add(follower);
    try {
      while (follower.queue.length || !this.closed) {
        const message = follower.queue.shift();
        if (message) yield message;
        else {
          await new Promise((resolve) => {
            follower.wake = /** @type {() => void} */ (resolve);
            this.sleepers.add(follower.wake);
          });
        }
      }
    } finally {
      this.followers.delete(follower);
    }
  }

  /**
   * Change the music for all listeners.
   * @param {string|import("../riffstream.js").Change} prompt a text, or the fields of a steer
   * @param {import("../riffstream.js").Change & {timeoutMs?: number}} [change]
   * @returns {Promise<import("./messages.js").Applied>} once the first sample of the change was received
   */
  async steer(prompt, change = {}) {
    const { timeoutMs = STEER_MS, ...fields } = typeof prompt === "string" ? change : { ...prompt, ...change };
    for (const name of Object.keys(fields)) {
      if (!STEER_FIELDS.includes(name)) throw new TypeError(`steer has no field ${name}; allowed: ${STEER_FIELDS.join(", ")}`);
    }
    const prompts = typeof prompt === "string" ? [prompt] : fields.prompts;
    return this.ask({ type: "steer", ...fields, ...(prompts === undefined ? {} : { prompts: mix(prompts) }) }, timeoutMs);
  }

  /**
   * Pause, resume, reset (to the default journey) or skip the station for all listeners.
   * @param {"pause"|"resume"|"reset"|"skip"} op
   * @param {{timeoutMs?: number}} [options]
   * @returns {Promise<import("./messages.js").Applied>}
   */
  async transport(op, { timeoutMs = STEER_MS } = {}) {
    return this.ask({ type: "transport", op }, timeoutMs);
  }

  /**
   * Change the queue of the station: prompts that play one after the other, each from a bar line.
   * @param {import("./messages.js").Queue["op"]} op
   * @param {import("../riffstream.js").QueueFields & {timeoutMs?: number}} [fields]
   * @returns {Promise<import("./messages.js").QueueList>} the queue after the change
   */
  async changeQueue(op, fields = {}) {
    const { timeoutMs = TIMEOUT_MS, ...rest } = fields;
    for (const name of Object.keys(rest)) {
      if (!QUEUE_FIELDS.includes(name)) throw new TypeError(`the queue has no field ${name}; allowed: ${QUEUE_FIELDS.join(", ")}`);
    }
    const prompts = rest.prompts === undefined ? {} : { prompts: mix(rest.prompts) };
    const answer = await this.ask({ type: "queue", op, ...rest, ...prompts }, timeoutMs, "no answer about the queue");
    return answer.queue;
  }

  /**
   * Suggest a text, vote for an item or react; with the right to steer take or dismiss an item.
   * @param {import("./messages.js").Request["op"]} op
   * @param {import("../riffstream.js").RequestFields & {timeoutMs?: number}} [fields]
   * @returns {Promise<import("./messages.js").RequestList>} the requests after the change
   */
  async changeRequests(op, fields = {}) {
    const { timeoutMs = STEER_MS, ...rest } = fields;
    for (const name of Object.keys(rest)) {
      if (!REQUEST_FIELDS.includes(name)) throw new TypeError(`a request has no field ${name}; allowed: ${REQUEST_FIELDS.join(", ")}`);
    }
    const answer = await this.ask({ type: "request", op, ...rest }, timeoutMs, "no answer about the requests");
    return answer.requests;
  }

  /** @param {object} message @param {number} timeoutMs @param {string} [failure] */
  async ask(message, timeoutMs, failure = "the change was not audible") {
    this.checkOpen();
    const { id, answer } = this.requests.open();
    this.connection.ask({ ...message, id });
    const late = new RadioError("timeout", `${failure} within ${timeoutMs} ms`);
    const timer = setTimeout(() => this.requests.fail(id, late), timeoutMs);
    return answer.finally(() => clearTimeout(timer));
  }

  /**
   * The server's clock and the audible sample.
   * @param {{timeoutMs?: number}} [options]
   * @returns {Promise<import("./messages.js").ClockReply>}
   */
  async clock({ timeoutMs = TIMEOUT_MS } = {}) {
    this.checkOpen();
    let t0 = performance.now();
    while (this.clocks.has(t0)) t0 += 0.001;
    const answer = new Promise((resolve, reject) => this.clocks.set(t0, { resolve, reject }));
    this.connection.ask({ type: "clock", t0 });
    const timer = setTimeout(() => this.failClock(t0, new RadioError("timeout", `no clock within ${timeoutMs} ms`)), timeoutMs);
    return answer.finally(() => clearTimeout(timer));
  }

  /** @param {number} t0 @param {Error} error */
  failClock(t0, error) {
    this.clocks.get(t0)?.reject(error);
    this.clocks.delete(t0);
  }

  checkOpen() {
    if (this.closed) throw this.error ?? new RadioError("disconnected", "the radio is closed");
  }

  /** @param {string} why */
  abandon(why) {
    this.requests.abandon(why);
    for (const t0 of [...this.clocks.keys()]) this.failClock(t0, new RadioError("disconnected", why));
  }

  /** Leave. Received audio can still be read. */
  close() {
    this.finish(null);
  }

  /** @param {RadioError|null} error */
  finish(error) {
    if (this.closed) return;
    this.closed = true;
    this.error = error;
    this.connection.close();
    this.resetDecoder();
    this.abandon("the radio was closed");
    this.settleOpening?.(error ?? new RadioError("disconnected", "the radio was closed"));
    this.onEnd();
    this.wake();
  }
}

/** @param {import("../riffstream.js").Change["prompts"]} prompts */
function mix(prompts) {
  return prompts?.map((part) => (typeof part === "string" ? { text: part, weight: 1 } : part)) ?? null;
}
