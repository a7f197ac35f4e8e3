// @ts-check
/**
 * The way out to the loudspeaker: the audio graph, and the source before it: the audio thread's ring, the scheduler where a
 * page may not have one, or an <audio> element with an MP3 stream.
 */
import { SAMPLE_RATE } from "./protocol.js";

const FIREFOX = /Firefox\//.test(navigator.userAgent);

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
   */
  constructor(onReport, onChange) {
    this.onReport = onReport;
    this.onChange = onChange;
    this.volume = 1;
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
  }

  /** The context, made on first use. */
  open() {
    if (this.context) return this.context;
    // Blocks of 21 ms and not of 10: a quarter less work for the audio thread, and 32 ms later, which the position knows.
    const context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "playback" });
    this.gain = new GainNode(context, { gain: this.volume * this.volume });
    this.gain.connect(context.destination);
    context.onstatechange = () => this.onChange();
    this.context = context;
    return context;
  }

  /** Whether the browser holds the sound back. */
  get held() {
    return this.context !== null && this.context.state !== "running";
  }

  get audible() {
    return this.element ? this.element.audible : this.report.audible;
  }

  /** @param {number} volume 0..1 */
  setVolume(volume) {
    this.volume = volume;
    // Loudness follows power: a squared fader feels even.
    this.gain?.gain.setTargetAtTime(volume * volume, this.context?.currentTime ?? 0, 0.02);
  }

  /**
   * Play what comes through a port.
   * @param {MessagePort} port
   * @param {boolean} thread whether the audio thread may run our code; else this page plans every block
   * @param {() => boolean} wanted whether it still is when the source is ready
   */
  async playPort(port, thread, wanted) {
    const context = this.open();
    try {
      this.source = await (this.opening ??= thread ? this.openThread(context) : this.openScheduler(context));
    } catch (error) {
      this.opening = null; // the next click tries again
      throw error;
    }
    if (!wanted()) return;
    this.source.tell({ type: "restart" });
    this.source.tell({ type: "port", port }, [port]);
    this.source.tell({ type: "play", playing: true });
  }

  /** @param {AudioContext} context @returns {Promise<Source>} */
  async openThread(context) {
    await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "riffstream-player", { numberOfInputs: 0, outputChannelCount: [2] });
    node.port.onmessage = ({ data }) => this.onReport((this.report = data));
    node.connect(/** @type {GainNode} */ (this.gain));
    return { tell: (message, transfer = []) => node.port.postMessage(message, transfer), end: () => node.disconnect() };
  }

  /** @param {AudioContext} context @returns {Promise<Source>} */
  async openScheduler(context) {
    const { Scheduler } = await import("./scheduler.js");
    const scheduler = new Scheduler(context, /** @type {GainNode} */ (this.gain), (report) => this.onReport((this.report = report)));
    return { tell: (message) => scheduler.control(message), end: () => scheduler.cut() };
  }

  /** How much sound comes at a stroke. @param {number} frameMs */
  setFrame(frameMs) {
    this.source?.tell({ type: "frame", frameMs });
  }

  /** Play an address through an <audio> element. @param {string} url @param {() => boolean} wanted */
  async playElement(url, wanted) {
    const context = this.open();
    const { ElementSource } = await import("./element.js");
    if (!wanted()) return;
    this.element ??= new ElementSource(context, /** @type {GainNode} */ (this.gain), this.onChange, wanted);
    this.element.play(url);
  }

  /** Fall silent. @param {() => boolean} wanted whether sound is wanted again by the time the fade is over */
  stop(wanted) {
    this.source?.tell({ type: "play", playing: false });
    this.element?.stop();
    const context = this.context;
    setTimeout(() => {
      if (!wanted() && context && context === this.context) context.suspend();
    }, 100);
  }

  close() {
    this.source?.end();
    this.source = null;
    this.opening = null; // a new context needs it anew
    this.element?.stop();
    this.element = null;
    this.context?.close();
    this.context = null;
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
