// @ts-check
/**
 * The player without a face: chooses a transport, joins the link and the way out, speaks for the listener, and tells
 * what is being heard now. The page and the web component are both built on it.
 *
 * Events (CustomEvent, data in `detail`): state, transport, welcome, now, queue, requests, scheduled, applied, superseded, rejected, event, report,
 * columns ({first, levels}: the spectrogram of what is about to be heard).
 */
import { below, serverRoot } from "./address.js";
import { Alone } from "./alone.js";
import { Link } from "./link.js";
import { OPENING_MS, Output } from "./output.js";
import { SAMPLE_RATE } from "./protocol.js";
import { RadioError } from "./requests.js";
import { HELD_MS, SOUNDING, stateOf } from "./states.js";
import { bestTransport } from "./transport.js";

/**
 * @typedef {"idle"|"connecting"|"buffering"|"playing"|"paused"|"behind"|"reconnecting"|"full"|"forbidden"|"missing"|
 *   "nosocket"|"restarting"|"blocked"|"unsupported"} PlayerState   blocked: the browser wants a click before it lets sound out
 * @typedef {import("./transport.js").TransportName} TransportName
 *
 * @typedef {object} PlayerOptions
 * @property {string} [server]       address of the server, "https://example.org/radio" (default: where this module came from)
 * @property {string} [station]
 * @property {import("./own.js").Own|null} [own]  a private station, in place of `station`
 * @property {string|null} [token]
 * @property {TransportName|"auto"} [transport]
 * @property {boolean} [several]      play beside the other players of this origin (default: they fall silent)
 * @property {boolean} [steer]        whether changes are likely: the server then sends shorter frames (default: true)
 */

const CHECK_MS = 1000;
/** @type {import("./messages.js").QueueList} */
const NO_QUEUE = { items: [], loop: false, playing: null, until: null };
/** An open line that brings no sound for so long, ms, is given up for another one. */
const SOUNDLESS_MS = 20000;
/** How long a player that gives way to another one fades, ms. */
const GIVE_WAY_MS = 300;
/** A dead context waits so long for a tap, ms, before a new one is tried without: nobody touches a display on a wall. */
const UNTOUCHED_MS = 15000;
const UNTOUCHED_MOST_MS = 240000;

export class Player extends EventTarget {
  /** @param {PlayerOptions} [options] */
  constructor(options = {}) {
    super();
    this.server = serverRoot(options.server, location.href);
    this.station = options.station ?? "main";
    this.token = options.token ?? null;
    this.own = options.own ?? null;
    this.steering = options.steer ?? true;
    this.transport = !options.transport || options.transport === "auto" ? bestTransport(this.token) : options.transport;
    /** @type {PlayerState} */
    this.state = this.transport ? "idle" : "unsupported";
    this.wanted = false; // whether the listener asked for sound
    this.told = false; // `wanted`, as the last "state" found it
    /** @type {any} */
    this.welcome = null;
    /** @type {any} */
    this.now = null;
    /** @type {import("./messages.js").QueueList} */
    this.queue = NO_QUEUE;
    /** What listeners wish; null: the station takes no requests. @type {import("./messages.js").RequestList|null} */
    this.requests = null;
    this.played = 0; // samples
    this.clicked = 0; // when play was asked for, ms
    this.firstSoundMs = 0; // from the click
    this.fallback = ""; // why the transport is not the one that was chosen first
    this.link = new Link({
      onState: (state) => {
        if (state === "missing" && this.own && this.renewOwn(this.own)) return;
        if (state === "forbidden" || state === "missing") this.giveUp();
        if (state === "nosocket") this.goWithoutSocket();
        this.settle();
      },
      onMessage: (message) => this.onMessage(message),
      onColumns: (columns) => this.emit("columns", columns),
      onTransport: (transport, why) => this.transport === "opus" && this.fallBack(transport, why), // else without Opus already
      onFailure: (why) => this.fail(why),
    });
    this.output = new Output((report) => this.onReport(report), () => this.settle(), () => this.wanted);
    /** @type {ReturnType<typeof setInterval>|undefined} */
    this.checking = undefined;
    this.deadSince = 0; // ms
    this.soundlessSince = 0; // ms
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.retrying = undefined;
    this.untouchedMs = UNTOUCHED_MS;
    this.failure = ""; // why the last attempt to play came to nothing
    this.elsewhere = false; // another player of this origin took over
    this.looked = true; // somebody looks at the spectrogram
    this.said = false; // the others know that this one sounds
    this.alone = new Alone(() => this.giveWay(), options.several);
  }

  /** Another player has started: fade out, unless the listener presses play meanwhile. */
  giveWay() {
    if (!this.wanted || !(this.said || this.output.audible)) return;
    this.said = false;
    this.elsewhere = true;
    this.output.setFade("elsewhere", 0, GIVE_WAY_MS / 3000);
    setTimeout(() => {
      if (this.elsewhere) this.pause();
      this.output.setFade("elsewhere", 1);
    }, GIVE_WAY_MS);
  }

  /** @param {string} path below the server's address */
  url(path) {
    return below(this.server, path).href;
  }

  /** What a request to the API carries besides. */
  get headers() {
    const token = this.own?.made?.token ?? this.token;
    return token ? { Authorization: `Bearer ${token}` } : undefined;
  }

  /** The station to connect to is known; a private one is made. @returns {Promise<boolean>} false: there is none */
  async hasStation() {
    const { own } = this;
    if (!own) return true;
    const made = await own.open(this.server, this.token);
    if (own !== this.own) return false; // tuned elsewhere meanwhile
    if (made) this.station = made.station;
    else if (own.refusal) this.refuseOwn(own.refusal);
    return !!made;
  }

  /** @param {NonNullable<import("./own.js").Own["refusal"]>} refusal */
  refuseOwn({ retryMs }) {
    clearTimeout(this.retrying);
    if (retryMs === null) this.giveUp();
    else this.retrying = setTimeout(() => this.wanted && this.play(), retryMs);
    this.settle();
  }

  /** The private station has ended. @param {import("./own.js").Own} own @returns {boolean} whether it is made again, or will be */
  renewOwn(own) {
    const { wanted } = this;
    if (!own.renew((this.now ?? this.welcome)?.state)) return false;
    this.giveUp();
    this.link.close();
    this.welcome = this.now = null;
    if (wanted) this.play();
    else this.settle();
    return true;
  }

  /** End the private station, if there is one. */
  dropOwn() {
    clearTimeout(this.retrying);
    this.own?.drop(this.server);
    this.own = null;
  }

  /** Whether this connection may change the music. */
  get maySteer() {
    const { role, caps } = this.welcome ?? {};
    return (role === "dj" || role === "owner") && caps?.steer !== false;
  }

  /** Sample clock of what is heard at this instant; null before the first sound. */
  get position() {
    return this.output.position;
  }

  /** Sample clock of the music at this instant: of this player's sound, or of the station while it is silent; null before both. */
  get onAir() {
    const { samplePos, at } = this.output.clock;
    return this.position ?? (at ? samplePos + ((performance.now() - at) / 1000) * SAMPLE_RATE : null);
  }

  /** Connect for looking and steering only; sound comes with `play`. */
  connect() {
    if (this.link.state !== "closed" || !this.transport) return;
    this.failure = "";
    if (this.own && !this.own.made) {
      this.hasStation().then((there) => there && this.connect());
      return;
    }
    this.openLink(null);
    this.settle();
  }

  /** Whether anybody looks at the spectrogram; drawing one that nobody sees costs power. @param {boolean} on */
  look(on) {
    this.looked = on;
    if (this.link.worker) this.link.post({ type: "look", on }); // else when it connects: a player that is not wanted has no worker
  }

  /** Start the sound. Call it from a click: browsers keep an AudioContext silent until then. */
  async play() {
    if (!this.transport) return;
    if (this.output.hopeless) this.output.close();
    else if (this.wanted && (this.link.state !== "closed" || this.own?.making)) return this.output.wake(); // a click may be all that was missing
    this.wanted = true;
    this.elsewhere = this.said = false;
    this.clicked = performance.now();
    this.failure = "";
    this.firstSoundMs = 0;
    clearInterval(this.checking);
    this.checking = setInterval(() => this.check(), CHECK_MS);
    try {
      if ("audioSession" in navigator) /** @type {any} */ (navigator).audioSession.type = "playback";
      const started = this.start();
      this.output.wake(); // within the click; "blocked" until the browser lets it
      this.settle();
      await started;
      this.output.wake();
    } catch (error) {
      if (!this.wanted) return;
      this.fail(String(error.message ?? error));
      this.openLink(null);
    }
    this.settle();
    for (const ms of [HELD_MS, OPENING_MS]) setTimeout(() => this.settle(), ms + 100); // "blocked" is nobody's event
  }

  async start() {
    if (this.transport === "mp3") {
      if (this.own && (!(await this.hasStation()) || !this.wanted)) return; // else at once: a change that follows goes over the new line
      this.openLink(null);
      return this.output.playElement(this.url(`/stream/${encodeURIComponent(this.station)}.mp3`));
    }
    this.output.open();
    if (this.own && (!(await this.hasStation()) || !this.wanted)) return; // else at once: a change that follows goes over the new line
    const channel = new MessageChannel();
    // The sound sets out while the audio thread gets ready; the channel holds what comes meanwhile.
    this.openLink(channel.port2);
    await this.output.playPort(channel.port1, this.transport !== "buffers", (why) => this.fallBack("buffers", why));
    if (this.welcome?.frame_ms) this.output.setFrame(this.welcome.frame_ms);
  }

  /** Whether the sound that is wanted gets on; a context that is dead is replaced, at the latest without a tap. */
  check() {
    const now = performance.now();
    this.output.check(now);
    this.settle();
    const soundless = this.transport !== "mp3" && this.link.state === "open" && !this.output.held && !this.output.audible;
    this.soundlessSince = soundless ? this.soundlessSince || now : 0;
    if (soundless && now - this.soundlessSince > SOUNDLESS_MS) {
      this.soundlessSince = 0;
      this.link.post({ type: "again" });
    }
    if (!this.output.dead) {
      this.deadSince = 0;
      if (this.output.audible) this.untouchedMs = UNTOUCHED_MS;
      return;
    }
    this.deadSince ||= now;
    if (now - this.deadSince < this.untouchedMs) return;
    this.deadSince = 0;
    this.untouchedMs = Math.min(UNTOUCHED_MOST_MS, 2 * this.untouchedMs);
    this.play();
  }

  /** @param {string} why */
  fail(why) {
    this.failure = why;
    this.giveUp();
    this.settle();
  }

  /** No more sound until it is asked for again. */
  giveUp() {
    this.wanted = false;
    clearInterval(this.checking);
    this.output.stop();
  }

  /** Stop the sound; the control connection stays, so that the page goes on showing the station. */
  pause() {
    if (!this.wanted) return;
    this.giveUp();
    // A listener who does not hear must not cost the server a stream: go back to control messages only.
    this.openLink(null);
    this.settle();
  }

  /** What a press of the one button means: play, too, where the browser held the sound back until then. */
  toggle() {
    return this.wanted && !this.output.held ? this.pause() : this.play();
  }

  /** Leave and free everything. */
  close() {
    this.wanted = false;
    clearInterval(this.checking);
    this.dropOwn();
    this.alone.close();
    this.link.end();
    this.output.close();
    this.clicked = 0;
    this.setState("idle");
  }

  /**
   * @param {string} station
   * @param {import("./own.js").Own|null} [own]  a private station, in place of `station`
   */
  async tune(station, own = null) {
    const wanted = this.wanted;
    this.link.close();
    this.dropOwn();
    this.own = own;
    this.wanted = false;
    this.station = station;
    this.welcome = null;
    this.now = null;
    this.queue = NO_QUEUE;
    this.requests = null;
    this.output.report.position = null;
    if (wanted) await this.play();
    else this.connect();
  }

  /**
   * Change the music.
   * @param {import("./protocol.js").Steer} change
   * @param {(message: {rev: number, audible_at: number, audible_in_ms: number}) => void} [onScheduled] when it is accepted
   * @returns {Promise<{rev: number, audible_at: number}>} settles when the change is spliced; its sound follows at
   *   `audible_at` on the sample clock
   */
  steer(change, onScheduled) {
    return this.ask({ type: "steer", ...change }, onScheduled);
  }

  /**
   * Change the queue of the station.
   * @param {import("./messages.js").Queue["op"]} op
   * @param {object} [fields] of the protocol's message `queue`
   * @returns {Promise<any>} settles with the `queue` message; fails with what the server said
   */
  changeQueue(op, fields = {}) {
    return this.ask({ type: "queue", op, ...fields });
  }

  /**
   * Suggest, vote, react; with the right to steer also take and dismiss.
   * @param {import("./messages.js").Request["op"]} op
   * @param {object} [fields] of the protocol's message `request`
   * @returns {Promise<any>} settles with the `requests` message; fails with what the server said
   */
  changeRequests(op, fields = {}) {
    return this.ask({ type: "request", op, ...fields });
  }

  /** @param {"pause"|"resume"|"reset"|"skip"} op */
  operate(op) {
    return this.ask({ type: "transport", op });
  }

  /**
   * Ask the station, and connect first if nothing has connected yet.
   * @param {object} message
   * @param {(message: any) => void} [onScheduled]
   * @returns {Promise<any>}
   */
  ask(message, onScheduled) {
    const answer = this.askStation(message, onScheduled);
    answer.catch(() => {}); // who listens to the events need not handle the promise as well
    return answer;
  }

  /** @param {object} message @param {(message: any) => void} [onScheduled] */
  async askStation(message, onScheduled) {
    if (!this.transport) throw new RadioError("unsupported", "this browser cannot play the station");
    if (this.own && !this.own.made && !(await this.hasStation())) {
      throw new RadioError("disconnected", this.own?.refusal?.detail ?? "there is no private station");
    }
    this.connect();
    return this.link.ask(message, onScheduled);
  }

  /** The network or the page came back, or may be gone: try to reconnect now, and look at the sound. */
  nudge() {
    if (this.wanted) this.check();
    this.link.post({ type: "nudge" });
  }

  /** @param {MessagePort|null} port where decoded sound goes; null for control messages only */
  openLink(port) {
    if (this.own && !this.own.made) return; // it is on its way
    const url = below(this.server, `/ws/${encodeURIComponent(this.station)}`);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const codecs = port ? (this.transport === "opus" ? ["opus", "pcm_s16"] : ["pcm_s16"]) : [];
    if (!this.link.worker && !this.looked) this.link.post({ type: "look", on: false }); // a new worker looks
    this.link.open({ url: url.href, codecs, token: this.own?.made?.token ?? this.token, steer: this.steering }, port);
  }

  /** The sound needs no socket, though steering and the picture's clock do. */
  goWithoutSocket() {
    if (!this.wanted || this.transport === "mp3") return;
    this.fallBack("mp3", "no WebSocket gets through to the server");
    this.output.playElement(this.url(`/stream/${encodeURIComponent(this.station)}.mp3`)).catch((error) => this.fail(error.message));
  }

  /** @param {TransportName} transport @param {string} why */
  fallBack(transport, why) {
    this.transport = transport;
    this.fallback = why;
    this.emit("transport", { transport, why });
  }

  /** @param {any} message */
  onMessage(message) {
    if (message.type === "welcome") {
      this.welcome = message;
      this.queue = message.queue ?? NO_QUEUE; // a server of an earlier version has none
      this.requests = message.requests ?? null;
      this.output.clock = { samplePos: 0, at: 0 }; // the clock's first answer follows at once
      if (message.frame_ms) this.output.setFrame(message.frame_ms);
    } else if (message.type === "now") this.now = message;
    else if (message.type === "queue") this.queue = message.queue;
    else if (message.type === "requests") this.requests = message.requests;
    else if (message.type === "clock") this.output.clock = { samplePos: message.sample_pos, at: performance.now() };
    this.emit(message.type, message);
    if (message.type === "welcome") this.settle(); // after whoever heard the event: "idle" finds the page in order
  }

  /** @param {import("./output.js").Report} report */
  onReport(report) {
    if (report.audible && !this.firstSoundMs && this.clicked) this.firstSoundMs = performance.now() - this.clicked;
    if (report.audible) this.played += 0.05 * SAMPLE_RATE;
    this.settle();
    this.emit("report", report);
    this.link.post({
      type: "stats",
      stats: { buffer_ms: Math.round(report.bufferMs), underruns: report.underruns, played: Math.round(this.played) },
    });
  }

  /** Work out what to tell the listener. */
  settle() {
    if (this.transport) this.setState(stateOf(this), this.failure || this.own?.refusal?.detail || this.link.detail);
  }

  /** @param {PlayerState} state @param {string} [detail] */
  setState(state, detail = "") {
    if (SOUNDING.has(state) && !this.said && !this.elsewhere) {
      this.said = true;
      this.alone.say();
    }
    if (state === this.state && this.wanted === this.told) return;
    this.state = state;
    this.told = this.wanted; // a page that connects does so before and after the click: only the button differs
    this.emit("state", { state, detail });
  }

  /** @param {string} name @param {any} detail */
  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
