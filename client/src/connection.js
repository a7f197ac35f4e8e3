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
const SILENT_LINE_MS = 12000;
/** How long a server may take to agree that a connection is over, before the next one opens. */
const LEAVE_MS = 500;
const QUEUE = 32;

/**
 * @typedef {"connecting"|"open"|"reconnecting"|"full"|"forbidden"|"restarting"|"closed"} LinkState
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
 */

export class Connection {
  /**
   * @param {Options} options
   * @param {Handlers} handlers
   */
  constructor(options, handlers) {
    this.options = options;
    this.handlers = handlers;
    this.WebSocketClass = options.WebSocketClass ?? WebSocket;
    this.now = options.now ?? (() => Date.now());
    this.random = options.random ?? Math.random;
    /** @type {WebSocket|null} */
    this.socket = null;
    /** @type {string|null} */
    this.session = null;
    this.lastSeq = -1;
    this.attempts = 0;
    this.wanted = false;
    this.heardAt = 0;
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

  /** The network is back or the page is in front again: do not wait for the backoff. */
  nudge() {
    if (this.wanted && !this.socket) {
      clearTimeout(this.retry);
      this.connect("reconnecting");
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
    this.heardAt = this.now();
    socket.onopen = () => {
      const resume = this.session && this.lastSeq >= 0 ? { session: this.session, last_seq: this.lastSeq } : undefined;
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
      this.heardAt = this.now();
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
      if (this.now() - this.heardAt > SILENT_LINE_MS) this.drop(4000);
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
    if (!["full", "restarting"].includes(this.state)) this.setState("reconnecting", event.reason);
    clearTimeout(this.retry);
    // While the server is known to be full or restarting, trying again changes nothing that one could see.
    this.retry = setTimeout(() => this.connect(this.state === "full" || this.state === "restarting" ? this.state : "reconnecting"), delay);
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
      this.session = message.session;
      this.attempts = 0;
      this.setState("open");
      this.send({ type: "clock", t0: this.now() });
      for (const message of this.queue.splice(0)) this.send(message);
    } else if (message.type === "clock") {
      this.latencyMs = Math.max(0, this.now() - message.t0 - (message.t2 - message.t1));
    } else if (message.type === "bye") {
      if (typeof message.reconnect_ms === "number") this.askedDelayMs = message.reconnect_ms;
      if (message.reason === "full") this.setState("full", message.reason);
      else if (message.reconnect_ms == null) this.refuse(message.reason);
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

  /** The server will not have us: coming back would not help. @param {string} reason */
  refuse(reason) {
    this.wanted = false;
    clearInterval(this.beat);
    this.drop(1000);
    this.setState("forbidden", reason);
  }

  /** @param {ArrayBuffer} data */
  binary(data) {
    let frame;
    try {
      frame = parseFrame(data);
    } catch {
      return; // a newer kind of frame; the stream goes on
    }
    if (this.lastSeq >= 0 && frame.seq !== (this.lastSeq + 1) % 2 ** 32) {
      // After a resume the ring may repeat what was on its way; later frames only.
      const ahead = (frame.seq - this.lastSeq + 2 ** 32) % 2 ** 32;
      if (ahead === 0 || ahead > 2 ** 31) return;
      this.lost += ahead - 1;
      frame.discontinuity = true;
    }
    this.lastSeq = frame.seq;
    this.handlers.onFrame?.(frame);
  }
}
