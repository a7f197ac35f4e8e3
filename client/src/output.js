// @ts-check
/**
 * The way out to the loudspeaker: the audio graph, and the source before it: the audio thread's ring, the scheduler where a
 * page may not have one, or an <audio> element with an MP3 stream.
 */
import { SAMPLE_RATE } from "./protocol.js";
import { Watch } from "./watch.js";

const FIREFOX = /Firefox\//.test(navigator.userAgent);

/** How long a context that says "running" may stand still, or its audio thread say nothing, ms. */
const STANDS_MS = 3000;
/** How long a sound device may take to open, ms. */
export const OPENING_MS = 3000;

/**
 * @typedef {object} Report   about every 50 ms while sound is wanted
 * @property {number|null} position  sample clock of what leaves the source now
 * @property {number} contextTime    when, on the context's clock, s
 * @property {number} bufferMs
 * @property {number} targetMs
 * @property {number} rate           read rate of the drift correction
 * @property {number} underruns
 * @property {number} overruns
 * @property {number} skips          times that it skipped to live
 * @property {boolean} audible
 *
 * @typedef {object} Source   of samples that come through a port
 * @property {boolean} thread whether the audio thread runs it
 * @property {(message: object, transfer?: Transferable[]) => void} tell   what {@link Playback.control} takes
 * @property {() => void} end
 */

/** @returns {Report} */
const nothing = () => ({
  position: null, contextTime: 0, bufferMs: 0, targetMs: 200, rate: 1, underruns: 0, overruns: 0, skips: 0, audible: false,
});

export class Output {
  /**
   * @param {(report: Report) => void} onReport
   * @param {() => void} onChange  the browser let the sound out or held it back, or the element stalled
   * @param {() => boolean} wanted whether the listener wants sound now
   */
  constructor(onReport, onChange, wanted) {
    this.onReport = onReport;
    this.onChange = onChange;
    this.wanted = wanted;
    this.volume = 1;
    /** Levels besides the volume, by who asks for them. @type {Map<"timer"|"elsewhere"|"beside", number>} */
    this.fades = new Map();
    this.report = nothing();
    /** @type {AudioContext|null} */
    this.context = null;
    /** @type {GainNode|null} */
    this.gain = null;
    /** @type {Promise<Source>|null} */
    this.opening = null;
    /** @type {Source|null} */
    this.source = null;
    /** @type {import("./element.js").ElementSource|null} */
    this.element = null;
    /** What the server's clock said is audible; an element does not carry it. */
    this.clock = { samplePos: 0, at: 0 };
    this.ran = false; // the context has run once: the browser had let the sound out
    this.stands = false; // it says that it runs, and does not
    this.refused = false; // it was asked to go on, and would not
    this.askedAt = 0; // when a hand first asked it to, ms
    this.reports = 0; // of the audio thread
    this.contextWatch = new Watch();
    this.threadWatch = new Watch();
  }

  /** The context, made on first use. */
  open() {
    if (this.context) return this.context;
    // Blocks of 21 ms and not of 10: a quarter less work for the audio thread, and 32 ms later, which the position knows.
    const context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "playback" });
    this.gain = new GainNode(context, { gain: this.level });
    this.gain.connect(context.destination);
    context.onstatechange = () => {
      if (context !== this.context) return;
      if (context.state === "running") {
        this.ran = true;
        this.refused = false;
        this.askedAt = 0;
      } else if (this.ran && context.state === "suspended" && this.wanted()) this.wake(); // the system did it, not we
      this.onChange();
    };
    this.context = context;
    return context;
  }

  /** Whether the browser or the system holds the sound back, or says that it does not and nothing moves. */
  get held() {
    return this.context !== null && (this.context.state !== "running" || this.stands || this.element?.held === true);
  }

  /** Whether this context will not sound again, whatever is done. */
  get dead() {
    return this.context !== null && (this.stands || /** @type {string} */ (this.context.state) === "closed");
  }

  /** Whether a tap had better make a new context than ask this one again. */
  get hopeless() {
    if (!this.context || this.dead) return this.dead;
    if (this.context.state === "running") return false;
    const state = /** @type {string} */ (this.context.state);
    // What interrupted it (a call, another app) may still be going on.
    if (this.refused && state !== "interrupted") return true;
    return this.askedAt > 0 && performance.now() - this.askedAt > OPENING_MS;
  }

  /** Ask a context that is held back to go on. Without a click or a key the browser may leave that unanswered. */
  wake() {
    const { context } = this;
    if (!context) return;
    if (this.element?.held) this.element.wake();
    if (context.state === "running") return;
    if (navigator.userActivation?.isActive ?? true) this.askedAt ||= performance.now();
    context.resume().catch(() => {
      if (context === this.context) this.refused = true;
      this.onChange();
    });
  }

  /** Look whether the sound gets on, about once a second while it is wanted. @param {number} now ms */
  check(now) {
    const { context } = this;
    if (!context) return;
    if (context.state !== "running") {
      this.stands = false;
      this.contextWatch.restart();
      this.threadWatch.restart();
      // The click may have come before anything here could hear it.
      if (context.state === "suspended" && (this.ran || navigator.userActivation?.hasBeenActive)) this.wake();
      return;
    }
    const stood = this.contextWatch.look(context.currentTime, now);
    const dumb = this.source?.thread ? this.threadWatch.look(this.reports, now) : 0;
    this.stands = Math.max(stood, dumb) >= STANDS_MS;
    if (!stood) this.element?.check(now);
  }

  get audible() {
    return this.element ? this.element.audible : this.report.audible;
  }

  /** Gain of the way out. Loudness follows power: a squared fader feels even. */
  get level() {
    return this.volume * this.volume * this.fade;
  }

  /** @param {number} volume 0..1 */
  setVolume(volume) {
    this.volume = volume;
    this.approach(0.02);
  }

  /** All that lowers the sound besides the volume, 0..1. */
  get fade() {
    return [...this.fades.values()].reduce((product, fade) => product * fade, 1);
  }

  /**
   * Lower the sound besides the volume; what others have asked for stays.
   * @param {"timer"|"elsewhere"|"beside"} who  the timer, a player that gives way, a seed that is heard by itself
   * @param {number} fade 0..1
   * @param {number} [timeConstant] s
   */
  setFade(who, fade, timeConstant = 0.3) {
    if (fade === (this.fades.get(who) ?? 1)) return;
    this.fades.set(who, fade);
    this.approach(timeConstant);
  }

  /** @param {number} timeConstant s */
  approach(timeConstant) {
    this.gain?.gain.setTargetAtTime(this.level, this.context?.currentTime ?? 0, timeConstant);
  }

  /**
   * Play what comes through a port.
   * @param {MessagePort} port
   * @param {boolean} thread whether the audio thread may run our code; else this page plans every block
   * @param {(why: string) => void} onPlanned the audio thread would not take our code, and the page plans the blocks
   */
  async playPort(port, thread, onPlanned) {
    const context = this.open();
    const plan = (/** @type {Error} */ error) => (onPlanned(error.message), this.openScheduler(context));
    const opening = (this.opening ??= thread ? this.openThread(context).catch(plan) : this.openScheduler(context));
    try {
      const source = await opening;
      if (opening !== this.opening) return; // another context has taken over
      this.source = source;
    } catch (error) {
      if (opening === this.opening) this.opening = null; // the next click tries again
      throw error;
    }
    if (!this.wanted()) return;
    this.source.tell({ type: "restart" });
    this.source.tell({ type: "port", port }, [port]);
    this.source.tell({ type: "play", playing: true });
  }

  /** @param {AudioContext} context @returns {Promise<Source>} */
  async openThread(context) {
    await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "riffstream-player", { numberOfInputs: 0, outputChannelCount: [2] });
    node.port.onmessage = ({ data }) => {
      if (context !== this.context) return;
      this.reports++;
      this.onReport((this.report = data));
    };
    node.connect(/** @type {GainNode} */ (this.gain));
    return { thread: true, tell: (message, transfer = []) => node.port.postMessage(message, transfer), end: () => node.disconnect() };
  }

  /** @param {AudioContext} context @returns {Promise<Source>} */
  async openScheduler(context) {
    const { Scheduler } = await import("./scheduler.js");
    const scheduler = new Scheduler(context, /** @type {GainNode} */ (this.gain), (report) => this.onReport((this.report = report)));
    return { thread: false, tell: (message) => scheduler.control(message), end: () => scheduler.cut() };
  }

  /** How much sound comes at a stroke. @param {number} frameMs */
  setFrame(frameMs) {
    this.source?.tell({ type: "frame", frameMs });
  }

  /** Play an address through an <audio> element. @param {string} url */
  async playElement(url) {
    const context = this.open();
    const { ElementSource } = await import("./element.js");
    if (!this.wanted() || context !== this.context) return;
    this.element ??= new ElementSource(context, /** @type {GainNode} */ (this.gain), this.onChange, this.wanted);
    this.element.play(url);
  }

  /** Fall silent. */
  stop() {
    this.source?.tell({ type: "play", playing: false });
    this.element?.stop();
    const context = this.context;
    // Unless sound is wanted again by the time the fade is over.
    setTimeout(() => {
      if (!this.wanted() && context && context === this.context) context.suspend().catch(() => {});
    }, 100);
  }

  close() {
    this.source?.end();
    this.source = null;
    this.opening = null; // a new context needs it anew
    this.element?.stop();
    this.element = null;
    this.context?.close().catch(() => {}); // it may be closed already
    this.context = null;
    this.ran = this.stands = this.refused = false;
    this.askedAt = 0;
    this.contextWatch.restart();
    this.threadWatch.restart();
    this.report = nothing();
  }

  /** Sample clock of what is heard at this instant; null before the first sound. */
  get position() {
    if (this.element) return this.element.position(this.clock);
    const { position, rate, contextTime } = this.report;
    if (position === null || !this.context) return null;
    const since = Math.max(0, Math.min(0.5, this.context.currentTime - contextTime));
    return position + (since * rate - this.latency) * SAMPLE_RATE;
  }

  /**
   * Between the graph and the loudspeaker, s. Firefox is not asked: its first `outputLatency` after the sound has begun waits
   * for the audio thread while it holds what that thread waits for, and may hang the page (seen in 153). It buffers about this.
   */
  get latency() {
    if (!this.context) return 0;
    return FIREFOX ? 0.03 : this.context.outputLatency || this.context.baseLatency || 0;
  }
}
