// @ts-check
/**
 * Sound without an audio worklet, which pages on plain http do not have: the ring is read ahead in small blocks, and each
 * is given to the context's clock as a source of its own that begins on the sample on which the one before it ends.
 *
 * Threading model
 *   Page            all of it. What arrives and the ends of its own blocks drive it, never timers: background tabs slow those
 *                   down.
 *   Audio thread    plays what was planned, which is all that has come, up to a second. A page that stalls for longer than
 *                   that lasts is heard: each stretch ends in a fade that is lifted only while more follows.
 */
import { Playback } from "./playback.js";

const BLOCK = 1024;
/** A block takes up to 0.5 % more samples than it gives, and interpolation looks at three more. */
const NEEDED = BLOCK + 12;
const FADE_S = 0.005;
/** What is planned cannot be read faster, slower or not at all any more. */
const MOST_AHEAD_S = 1;
/** How long a page may be busy with something else without being heard; held back besides what the line asks for. */
const STALL_MS = 140;
/** What lies between reading the context's clock and the audio thread's hearing of it, besides the context's own buffer. */
const HASTE_S = 0.02;
const REPORT_S = 0.05;

/** @typedef {{gain: GainNode, fadeAt: number, sources: Set<AudioBufferSourceNode>}} Stretch of sound without a hole */

export class Scheduler extends Playback {
  /**
   * @param {BaseAudioContext & {baseLatency?: number}} context
   * @param {AudioNode} destination
   * @param {(report: import("./output.js").Report) => void} onReport
   */
  constructor(context, destination, onReport) {
    super(context.sampleRate);
    this.context = context;
    this.destination = destination;
    this.onReport = onReport;
    /** @type {Stretch|null} */
    this.stretch = null;
    this.next = 0; // frame of the context's clock on which the next block begins
    this.reported = -1; // s
  }

  /** @param {any} message */
  control(message) {
    super.control(message.type === "frame" ? { ...message, frameMs: message.frameMs + STALL_MS } : message);
    if (this.playing) this.pump();
    else this.cut();
  }

  /** @param {{samplePos: number, left: Float32Array, right: Float32Array, restart: boolean}} data */
  push(data) {
    super.push(data);
    this.pump();
  }

  restart() {
    this.cut();
    super.restart();
  }

  /** Frames between the context's clock and what the audio thread may be at already. */
  get haste() {
    return Math.ceil((HASTE_S + 2 * (this.context.baseLatency ?? 0)) * this.sampleRate);
  }

  /** Plan what can be planned. */
  pump() {
    const { context, sampleRate, ring, pacer } = this;
    if (!this.playing) return;
    const now = Math.round(context.currentTime * sampleRate);
    if (this.stretch && this.next - now < FADE_S * sampleRate + this.haste / 2) {
      // Nothing came, or this page stalled: the stretch's last fade is upon us and cannot be lifted any more.
      this.stretch = null;
      ring.underruns++;
      this.seenUnderruns = ring.underruns;
      pacer.underrun();
    }
    const ahead = () => Math.max(0, this.next - now);
    const before = this.next;
    while (ring.fill >= NEEDED && ahead() < MOST_AHEAD_S * sampleRate && this.pace(BLOCK, ahead())) this.block(now);
    if (this.stretch && this.next !== before) this.endStretch(this.stretch);
    if (context.currentTime - this.reported >= REPORT_S || !this.stretch) {
      this.reported = context.currentTime;
      this.onReport(this.report(context.currentTime, ahead(), this.stretch !== null));
    }
  }

  /** @param {number} now frames */
  block(now) {
    const { context, sampleRate } = this;
    const stretch = (this.stretch ??= this.beginStretch(Math.max(this.next, now + this.haste)));
    const buffer = context.createBuffer(2, BLOCK, sampleRate);
    this.pull(buffer.getChannelData(0), buffer.getChannelData(1));
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(stretch.gain);
    source.onended = () => {
      source.disconnect();
      stretch.sources.delete(source);
      if (!stretch.sources.size) stretch.gain.disconnect();
      this.pump();
    };
    source.start(this.next / sampleRate);
    stretch.sources.add(source);
    this.next += BLOCK;
  }

  /** @param {number} frame @returns {Stretch} */
  beginStretch(frame) {
    const gain = this.context.createGain();
    const at = frame / this.sampleRate;
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(1, at + FADE_S);
    gain.connect(this.destination);
    this.next = frame;
    return { gain, fadeAt: Infinity, sources: new Set() };
  }

  /** Let the fade come after the last block that is planned. @param {Stretch} stretch */
  endStretch(stretch) {
    const { gain } = stretch.gain;
    if (stretch.fadeAt < Infinity) gain.cancelScheduledValues(stretch.fadeAt);
    const end = this.next / this.sampleRate;
    stretch.fadeAt = end - FADE_S;
    gain.setValueAtTime(1, stretch.fadeAt);
    gain.linearRampToValueAtTime(0, end);
  }

  /** Fade out now, and drop what was planned. */
  cut() {
    const { stretch } = this;
    this.stretch = null;
    if (!stretch) return;
    const now = this.context.currentTime;
    const { gain } = stretch.gain;
    gain.cancelScheduledValues(now);
    gain.setValueAtTime(1, now);
    gain.linearRampToValueAtTime(0, now + FADE_S);
    for (const source of stretch.sources) {
      source.onended = () => stretch.gain.disconnect();
      source.stop(now + FADE_S);
    }
    this.onReport(this.report(now, Math.max(0, this.next - now * this.sampleRate), false));
    this.next = 0;
  }

  close() {
    this.cut();
    this.source?.close();
  }
}
