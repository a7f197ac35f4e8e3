/** Types of `<riff-stream>` (riff-stream.js), for pages in TypeScript and JSX. */
import type { Applied, Now, QueueList, QueueState, Rejected, Steer } from "./src/messages.js";

/** Changed fields of a steer. An absent field keeps its value; null restores the station's default. */
export type RiffStreamChange = Partial<Omit<Steer, "type" | "id">>;

export type RiffStreamState =
  | "idle" | "connecting" | "buffering" | "playing" | "paused" | "behind" | "reconnecting" | "full" | "forbidden" | "missing"
  | "nosocket" | "restarting" | "blocked" | "unsupported";

/** A beat of the sound; `time` is on the clock of `output.context`, seconds. */
export interface RiffStreamBeat {
  beat: number;
  bar: number;
  /** 0 on a bar line */ bar_beat: number;
  bpm: number;
  time: number;
}

/** A fault. The element tries again unless it is `fatal`. */
export interface RiffStreamFault {
  code: "unauthorised" | "not_found" | "unsupported" | "disconnected" | "busy" | "no_socket" | "restarting";
  message: string;
  fatal: boolean;
}

export interface RiffStreamEventMap {
  statechange: CustomEvent<{ state: RiffStreamState; detail: string }>;
  now: CustomEvent<Now>;
  queue: CustomEvent<QueueState>;
  applied: CustomEvent<Applied>;
  rejected: CustomEvent<Rejected>;
  beat: CustomEvent<RiffStreamBeat>;
  error: CustomEvent<RiffStreamFault>;
  play: CustomEvent<null>;
  playing: CustomEvent<null>;
  waiting: CustomEvent<null>;
  pause: CustomEvent<null>;
  volumechange: CustomEvent<null>;
}

/** A station on a page. */
export interface RiffStream extends HTMLElement {
  readonly state: RiffStreamState;
  /** No sound is wanted. */
  readonly paused: boolean;
  /** The `now` message of what is heard. */
  readonly now: Now | null;
  readonly queue: QueueList;
  /** 0 to 1. */
  volume: number;
  muted: boolean;
  /** Words of the states, in place of the element's own. */
  labels: Partial<Record<RiffStreamState, string>>;
  /** The sound after the volume; null before the first play. */
  readonly output: AudioNode | null;
  /** The sound as a stream, for recorders and WebRTC; null before the first play. */
  readonly stream: MediaStream | null;
  /** Start the sound; call it from a click. */
  play(): Promise<void>;
  pause(): void;
  /** Change the music for all listeners; settles when the change is spliced. */
  steer(change: RiffStreamChange): Promise<Applied>;
  tune(station: string): Promise<void>;
  /** Spectrum of what is heard, 40 Hz to 16 kHz, even in octaves. @param bins 1 to 256; 32 by default @returns 0 to 1 for each */
  levels(bins?: number): Float32Array;
  addEventListener<Kind extends keyof RiffStreamEventMap>(
    kind: Kind, listener: (this: RiffStream, event: RiffStreamEventMap[Kind]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(kind: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

/** Attributes of the element in JSX. */
export interface RiffStreamAttributes {
  src?: string;
  station?: string;
  prompt?: string;
  bpm?: number | string;
  controls?: boolean;
  visual?: boolean;
  autoplay?: boolean;
  preload?: "none" | "metadata" | "auto";
  muted?: boolean;
  volume?: number | string;
  poster?: string;
  label?: string;
  theme?: "dark" | "light" | "auto";
  transport?: "auto" | "opus" | "pcm" | "buffers" | "mp3";
  several?: boolean;
  steer?: boolean;
}

declare global {
  interface HTMLElementTagNameMap {
    "riff-stream": RiffStream;
  }
  namespace JSX {
    interface IntrinsicElements {
      "riff-stream": RiffStreamAttributes & { [attribute: string]: unknown };
    }
  }
}
