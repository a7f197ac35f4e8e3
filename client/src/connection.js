// @ts-check
/**
 * One listener's socket: hello and welcome, control messages with answers, reconnection with resume and backoff.
 * No DOM; the WebSocket class, the clock and the timers can be replaced.
 */
import { parseFrame, SUBPROTOCOL, VERSION } from "./protocol.js";

const BACKOFF_MS = [250, 500, 1000, 2000, 4000, 8000, 15000];
const CLOCK_EVERY_MS = 5000;
const STATS_EVERY_MS = 5000;
/** With no message for this long the line is dead, whatever TCP says: frames come several times a second. */
const SILENT_LINE_S = 12;
/** How long a server may take to agree that a connection is over, before the next one opens. */
const LEAVE_MS = 500;
const QUEUE = 32;
/** What a live input may have on its way, bytes: one second. */
const INPUT_BYTES = 96000;

/**
 * @typedef {"connecting"|"open"|"reconnecting"|"full"|"forbidden"|"missing"|"nosocket"|"restarting"|"closed"} LinkState
 *   missing: there is no such station; nosocket: the server answers, but never to a WebSocket
 *
 * @typedef {object} Handlers
 * @property {(frame: import("./protocol.js").Frame) => void} [onFrame]
 * @property {(message: any) => void} [onMessage]   every text message, welcome included
 * @property {(state: LinkState, detail?: string) => void} [onState]
 *
 * @typedef {object} Options
 * @property {string} url
 * @property {string[]} codecs         in order of preference; none: control messages only
 * @property {string|null} [token]
 * @property {boolean} [steer]
 * @property {typeof WebSocket} [WebSocketClass]
 * @property {() => number} [now]      ms
 * @property {() => number} [random]   0..1
 * @property {(url: string) => Promise<Answer>} [ask]  what the server answers to a plain request for the socket's address
 *
 * @typedef {{status: number, code?: string, message?: string}} Answer
 */

/** What waiting does not change, or what the server said itself: not overwritten by "reconnecting". */
const KNOWN = new Set(["full", "restarting", "nosocket"]);
/** Sockets in a row that do not open although the server answers: something on the way lets none through. */
const UNOPENED = 3;
const ANSWER_MS = 5000;
/** How long an open socket may take to answer when there is reason to doubt it. */
const PROOF_MS = 2500;

/** @param {string} url of a socket @returns {Promise<Answer>} */
export async function answerOf(url) {
  const answer = await fetch(url.replace(/^ws/, "http"), { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  const body = await answer.json().catch(() => ({})); // a proxy's own page, perhaps
  return { status: answer.status, code: body?.code, message: body?.message };
}

export class Connection {
  /**
   * @param {Options} options
   * @param {Handlers} handlers
   */
  constructor(options, handlers) {
    this.options = options;
    this.handlers = handlers;
    this.WebSocketClass = options.WebSocketClass ?? WebSocket;
    this.now = options.now ?? (() => performance.now()); // not the time of day, which is set and corrected
    this.askServer = options.ask ?? answerOf;
    this.random = options.random ?? Math.random;
    /** @type {WebSocket|null} */
    this.socket = null;
    /** @type {string|null} */
    this.session = null;
    this.lastSeq = -1;
    this.endPos = 0; // sample clock after the last frame
    this.resumed = false; // no frame since a reconnection without a gap
    this.attempts = 0;
    this.wanted = false;
    this.opened = false; // this socket
    this.unopened = 0; // sockets in a row, though the server answers
    this.welcomed = false;
    this.heard = 0; // messages
    this.quietS = 0; // since the last message
    this.latencyMs = 0;
    this.lost = 0; // frames missing by their numbers
    /** @type {{buffer_ms: number, underruns: number, played: number}|null} */
    this.stats = null;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.retry = undefined;
    /** @type {ReturnType<typeof setInterval>|undefined} */
    this.beat = undefined;
    /** ms to wait as the server asked in `bye` or `rejected`, for the next attempt only */
    this.askedDelayMs = -1;
    /** @type {object[]} said before the welcome; sent after it */
    this.queue = [];
    /** @type {LinkState} */
    this.state = "closed";
  }

  open() {
    this.wanted = true;
    this.attempts = 0;
    this.connect("connecting");
  }

  /** Leave for good; `open` may follow. */
  close() {
    this.wanted = false;
    this.session = null;
    this.lastSeq = -1;
    this.queue = [];
    clearTimeout(this.retry);
    clearInterval(this.beat);
    this.drop(1000);
    this.setState("closed");
  }

  /** Connect anew, with the options as they are now; the session before is given up. */
  again() {
    if (!this.wanted) return;
    const socket = this.socket;
    this.socket = null;
    this.session = null;
    this.lastSeq = -1;
    clearInterval(this.beat);
    clearTimeout(this.retry);
    const connect = () => {
      clearTimeout(this.retry);
      if (this.wanted && !this.socket) this.connect("connecting");
    };
    // The old place is left first: a station may have one for us, and no more.
    this.retry = setTimeout(connect, socket ? LEAVE_MS : 0);
    if (socket) socket.onclose = connect;
    socket?.close(1000);
  }

  /** The network came or went, or the page is in front again: do not wait for the backoff, nor for a line that is dead. */
  nudge() {
    if (!this.wanted) return;
    if (!this.socket) {
      clearTimeout(this.retry);
      this.connect(KNOWN.has(this.state) ? this.state : "reconnecting");
    } else if (this.state === "open") {
      const { socket, heard } = this;
      this.send({ type: "clock", t0: this.now() });
      setTimeout(() => socket === this.socket && heard === this.heard && this.drop(4000), PROOF_MS);
    }
  }

  /**
   * Send a message; before the welcome it waits for it. What waits when a line is lost is dropped with it, so that an old
   * wish never comes true at a bad moment.
   * @param {object} message
   */
  ask(message) {
    if (this.state === "open") this.send(message);
    else if (this.queue.length < QUEUE) this.queue.push(message);
  }

  /** @param {object} message */
  send(message) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  /**
   * Send a frame of a live input. What a slow line cannot take is dropped, for it would come too late.
   * @param {ArrayBuffer} frame
   */
  give(frame) {
    if (this.state === "open" && this.socket?.readyState === 1 && this.socket.bufferedAmount < INPUT_BYTES) this.socket.send(frame);
  }

  /** @param {LinkState} state @param {string} [detail] */
  setState(state, detail) {
    this.state = state;
    this.handlers.onState?.(state, detail);
  }

  /** @param {LinkState} state */
  connect(state) {
    this.setState(state);
    const socket = new this.WebSocketClass(this.options.url, SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.opened = this.welcomed = false;
    this.quietS = 0;
    socket.onopen = () => {
      this.opened = true;
      this.unopened = 0;
      const resume =
        this.session && this.lastSeq >= 0
          ? { session: this.session, last_seq: this.lastSeq, sample_pos: this.endPos }
          : undefined;
      this.send({
        type: "hello",
        v: VERSION,
        codecs: this.options.codecs,
        token: this.options.token ?? undefined,
        steer: this.options.steer ?? true,
        resume,
      });
    };
    socket.onmessage = (event) => {
      this.heard++;
      this.quietS = 0;
      if (typeof event.data === "string") this.text(event.data);
      else this.binary(event.data);
    };
    socket.onclose = (event) => {
      if (this.socket === socket) this.lostSocket(event);
    };
    socket.onerror = () => {}; // a close follows and says more
    clearInterval(this.beat);
    let ticks = 0;
    this.beat = setInterval(() => {
      if (++this.quietS > SILENT_LINE_S) this.drop(4000);
      ticks++;
      if (ticks % (CLOCK_EVERY_MS / 1000) === 0) this.send({ type: "clock", t0: this.now() });
      if (ticks % (STATS_EVERY_MS / 1000) === 0 && this.stats) this.send({ type: "stats", ...this.stats });
    }, 1000);
  }

  /** @param {number} code */
  drop(code) {
    const socket = this.socket;
    if (!socket) return;
    socket.close(code === 1000 ? 1000 : undefined);
    // A dead line may take a minute to close: go on without it.
    if (this.wanted) this.lostSocket({ code, reason: "no answer" });
    else this.socket = null;
  }

  /** @param {{code: number, reason: string}} event */
  lostSocket(event) {
    this.socket = null;
    this.queue = [];
    clearInterval(this.beat);
    if (!this.wanted) return;
    const planned = BACKOFF_MS[Math.min(this.attempts, BACKOFF_MS.length - 1)];
    // Half of it at random, so that a thousand players do not come back in the same instant.
    const delay = this.askedDelayMs >= 0 ? this.askedDelayMs : planned * (0.5 + 0.5 * this.random());
    this.askedDelayMs = -1;
    this.attempts++;
    if (!KNOWN.has(this.state)) this.setState("reconnecting", event.reason);
    if (!this.wanted) return; // closed by the one who was told
    clearTimeout(this.retry);
    // While the reason is known, trying again changes nothing that one could see.
    this.retry = setTimeout(() => this.connect(KNOWN.has(this.state) ? this.state : "reconnecting"), delay);
    if (!this.opened) this.explain();
  }

  /** A browser does not tell what the server answered to a socket that did not open: ask it. */
  async explain() {
    /** @type {Answer} */
    let answer;
    try {
      answer = await this.askServer(this.options.url);
    } catch {
      this.unopened = 0; // nobody is there
      if (this.wanted && this.state === "full") this.setState("reconnecting");
      return;
    }
    if (!this.wanted || this.opened) return;
    if (answer.status === 404 && answer.code === "not_found") this.refuse(answer.message ?? "", "missing");
    else if (answer.code === "busy") this.setState("full", answer.message);
    else if (answer.status < 500 && ++this.unopened >= UNOPENED) this.setState("nosocket");
  }

  /** @param {string} data */
  text(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // not ours to stop for
    }
    if (message.type === "welcome") {
      if (!message.resumed) this.lastSeq = -1;
      this.resumed = this.lastSeq >= 0;
      this.session = message.session;
      this.attempts = 0;
      this.welcomed = true;
      this.setState("open");
      this.send({ type: "clock", t0: this.now() });
      for (const message of this.queue.splice(0)) this.send(message);
    } else if (message.type === "clock") {
      this.latencyMs = Math.max(0, this.now() - message.t0 - (message.t2 - message.t1));
    } else if (message.type === "bye") {
      if (typeof message.reconnect_ms === "number") this.askedDelayMs = message.reconnect_ms;
      if (message.reason === "full") this.setState("full", message.reason);
      else if (message.reconnect_ms == null) this.refuse(message.reason, this.welcomed ? "missing" : "forbidden");
      else this.setState("restarting", message.reason);
    } else if (message.type === "rejected" && !message.id) {
      if (["unauthorised", "forbidden", "unsupported_version"].includes(message.code)) this.refuse(message.message);
      else if (message.code === "busy") {
        this.askedDelayMs = message.retry_after_ms ?? 5000;
        this.setState("full", message.message);
      }
    }
    this.handlers.onMessage?.(message);
  }

  /**
   * Coming back would not help.
   * @param {string} reason
   * @param {"forbidden"|"missing"} [state] the server will not have us, or the station is not there
   */
  refuse(reason, state = "forbidden") {
    this.wanted = false;
    clearInterval(this.beat);
    clearTimeout(this.retry);
    this.drop(1000);
    this.setState(state, reason);
  }

  /** @param {ArrayBuffer} data */
  binary(data) {
    let frame;
    try {
      frame = parseFrame(data);
    } catch {
      return; // a newer kind of frame; the stream goes on
    }
    if (this.resumed) {
      // The ring may repeat what was on its way, and another server numbers its frames differently: the position counts.
      if (frame.samplePos < this.endPos && !frame.discontinuity) return;
      if (frame.samplePos !== this.endPos) frame.discontinuity = true;
    } else if (this.lastSeq >= 0 && frame.seq !== (this.lastSeq + 1) % 2 ** 32) {
      const ahead = (frame.seq - this.lastSeq + 2 ** 32) % 2 ** 32;
      if (ahead === 0 || ahead > 2 ** 31) return;
      this.lost += ahead - 1;
      frame.discontinuity = true;
    }
    this.resumed = false;
    this.lastSeq = frame.seq;
    this.endPos = frame.samplePos + frame.nSamples;
    this.handlers.onFrame?.(frame);
  }
}
