/** Types of riffstream.js. The messages are made from the protocol's schema. */
import type { Applied, ClockReply, Now, Prompt, Queue, QueueList, Request, RequestList, ServerMessage, State, Steer, Transport, Welcome } from "./src/messages.js";

export type * from "./src/messages.js";

/** An audio frame as received. */
export interface Frame {
  version: number;
  kind: number;
  /** 1: Opus packets, each after its length (`opusPackets`); 2: interleaved 16-bit samples (`pcmPlanes`). */
  codec: number;
  /** Audio is missing before this frame. */
  discontinuity: boolean;
  silence: boolean;
  seq: number;
  /** Sample clock of the first sample, 48 kHz. */
  samplePos: number;
  /** Samples per channel. */
  nSamples: number;
  /** Revision of the station at the last sample. */
  rev: number;
  payload: Uint8Array;
}

/** Decoded audio, 48 kHz stereo. */
export interface Block {
  /** Sample clock of the first sample. */
  samplePos: number;
  /** Samples per channel. */
  nSamples: number;
  /** Revision of the station. */
  rev: number;
  /** Audio is missing before this block. */
  discontinuity: boolean;
  /** Left and right, -1 to 1. */
  channels: [Float32Array, Float32Array];
}

/** Fields of a steer. An absent field keeps its value; null restores the station's default. */
export type Change = Omit<Partial<Steer>, "type" | "id" | "prompts"> & {
  /** A prompt mix; a text has the weight 1. */
  prompts?: (string | Prompt)[] | null;
};

/** Music of a private station: fields of `POST /api/sessions`. */
export interface Music {
  prompts?: string[];
  negative?: string;
  seed?: number;
  seed_image?: string | null;
  denoising?: number | null;
  guidance?: number | null;
  bpm?: number | null;
  key?: number | null;
  beats_per_bar?: number | null;
  form?: State["form"] | null;
  /** Clips at each prompt. */
  stay?: number;
  /** Clips from one prompt to the next. */
  travel?: number;
}

export interface ConnectOptions {
  /** Name of the station, if the address has none; "main" by default; "new": a private one, which ends with the radio. */
  station?: string;
  /** Music of a private station. */
  music?: Music;
  /** Token of a listener, DJ or owner. */
  token?: string | null;
  /**
   * "auto" (default): Opus where this program decodes it, else PCM. "opus", "pcm_s16" (12 times the bytes), "none":
   * steering and events only.
   */
  codec?: "auto" | "opus" | "pcm_s16" | "none";
  /** True: iteration yields frames, not decoded. */
  raw?: boolean;
  /** False for a passive listener: the server sends longer frames, which cost it less. True by default. */
  steer?: boolean;
  /** False: the radio ends when the connection is lost. True by default: it reconnects and requests the missed audio. */
  reconnect?: boolean;
  /** Longest audio that waits for the caller, seconds; 30 by default. When it is full the oldest is dropped. */
  queueS?: number;
  /** Time limit for connecting, milliseconds; 10,000 by default. */
  timeoutMs?: number;
  /** WebSocket class, in place of the program's own. */
  WebSocket?: typeof WebSocket;
}

/** Fields of a change of the queue. `prompts`: also texts, with weight 1. */
export type QueueFields = Omit<Queue, "type" | "id" | "op" | "prompts"> & { prompts?: (string | Prompt)[] };

/** Fields of a message about requests. */
export type RequestFields = Omit<Request, "type" | "id" | "op">;

/** A listener's connection to a station. `connect` makes it. */
export interface Radio<Item = Block> extends AsyncIterable<Item> {
  /** URL of the socket. */
  readonly url: string;
  /** Last `welcome`: session, role, limits, abilities. */
  readonly welcome: Welcome;
  /** Last `now`; null before the first. */
  readonly now: Now | null;
  /** Music of the station. */
  readonly state: State;
  /** Queue of the station: the prompts that follow. */
  readonly queueList: QueueList;
  /** What listeners wish, with votes and reactions; null: the station takes no requests. */
  readonly requestList: RequestList | null;
  /** Revision of the station at the last message or frame. */
  readonly rev: number;
  /** Sample clock after the last received audio. */
  readonly receivedPos: number;
  /** Number of reconnections. */
  readonly reconnects: number;
  readonly closed: boolean;
  /**
   * Change the music for all listeners.
   * @param prompt a text, or the fields of a steer
   * @returns once the first sample of the change was received (codec "none": once it is spliced)
   * @throws RadioError rejected, superseded by a later change, timed out, or the connection was lost
   */
  steer(prompt: string | Change, change?: Change & { timeoutMs?: number }): Promise<Applied>;
  /** Pause, resume, reset (to the default journey) or skip the station for all listeners. */
  transport(op: Transport["op"], options?: { timeoutMs?: number }): Promise<Applied>;
  /**
   * Change the queue of the station: prompts that play one after the other, each from a bar line.
   * @returns the queue after the change
   * @throws RadioError refused, timed out, or the connection was lost
   */
  changeQueue(op: Queue["op"], fields?: QueueFields & { timeoutMs?: number }): Promise<QueueList>;
  /**
   * Suggest a text, vote for an item or react; with the right to steer take or dismiss an item.
   * @returns the requests after the change
   * @throws RadioError refused, timed out, or the connection was lost
   */
  changeRequests(op: Request["op"], fields?: RequestFields & { timeoutMs?: number }): Promise<RequestList>;
  /** The server's clock and the audible sample; `t0` is `performance.now()`. */
  clock(options?: { timeoutMs?: number }): Promise<ClockReply>;
  /** Control messages from the first `next()` on, until the radio ends. The newest 1,000 are kept. */
  messages(): AsyncIterableIterator<ServerMessage>;
  /** Leave. Received audio can still be read. */
  close(): void;
}

/**
 * Connect to a station. Iteration yields audio from the server's first burst on.
 * @param url any address of the server: `host:8080`, `https://host/radio/`, `http://host/stream/main.mp3`
 * @throws RadioError the server cannot be reached or refuses
 * @throws TypeError a bad address or option
 */
export function connect(url: string, options: ConnectOptions & { raw: true }): Promise<Radio<Frame>>;
export function connect(url: string, options?: ConnectOptions): Promise<Radio<Block>>;

/** A refusal of the station, or the loss of the connection. */
export class RadioError extends Error {
  /** A code of the protocol, or `superseded`, `disconnected`, `timeout`, `unreachable`, `missing`. */
  readonly code: string;
  /** The refused field. */
  readonly field: string | null;
  /** Wait before the next attempt; null: unknown. */
  readonly retry_after_ms: number | null;
}

/** Address of a station's socket, from any address of a server. */
export function socketUrl(url: string, station: string): string;
/** Parse a binary message. */
export function parseFrame(buffer: ArrayBuffer): Frame;
/** Opus packets of a frame's payload. */
export function opusPackets(payload: Uint8Array): Uint8Array[];
/** Left and right of a PCM frame's payload. */
export function pcmPlanes(payload: Uint8Array): [Float32Array, Float32Array];
/** A prompt mix in one line, the strongest first. */
export function promptLine(prompts?: { text: string; weight?: number }[]): string;
/** 48,000 Hz. */
export const SAMPLE_RATE: number;
export const SUBPROTOCOL: string;
