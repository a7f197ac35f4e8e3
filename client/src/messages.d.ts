// Made from riffstream/protocol/ by python -m tests.protocol_types; do not edit.

export type Code = "bad_request" | "unauthorised" | "forbidden" | "rate_limited" | "busy" | "stale_rev" | "prompt_rejected" | "unsupported_version" | "internal";

/** First message of a client: protocol version, codecs in order of preference, intent to steer. `burst_ms`: past audio at the beginning of the stream; null: the server's choice. `relay`: id of a server that passes the stream on; null for listeners. */
export interface Hello {
  type: "hello";
  /** 0 to 2147483648 */ v: number;
  codecs?: string[];
  token?: string | null;
  resume?: Resume | null;
  steer?: boolean;
  /** 0 to 30000 */ burst_ms?: number | null;
  relay?: string | null;
}

/** Request for the missed audio: the `session` of an earlier `welcome` and the last received frame. `sample_pos`, the end of the last received audio, lets another server of the same station (a relay, a worker) continue there; its frames may be numbered differently. */
export interface Resume {
  session: string;
  /** 0 to 4294967295 */ last_seq: number;
  /** 0 or more */ sample_pos?: number | null;
}

/** Change the music. An absent field keeps its value; null restores the station's default. The default of `bpm` and `beats_per_bar` is "auto": the words of the prompts choose. A change of the metre begins at a bar line. `denoising` is the distance from the seed image: 0 keeps it, 1 replaces it. It has no effect on music from noise: while `seed_image` is `none`, or null and `caps.seed_image` is `none` or null. `none` is noise alone; with null the first clip also continues a sound of the model that suits the words. `chords`: one symbol a bar in the sounding key ("Am F C G"), or two around a free-standing slash; the row begins with the change and repeats. `form`, `chords`, `parts` and the levels need `caps.conditions`; null leaves them to the planner. `mix` needs no new clip; null makes the desk neutral. `bar`: the change waits for the line of this bar (as `now.bar`), up to 64 bars ahead; `at` is ignored. A line that cannot be reached any more gives way to the next one. Other changes may come before it, and it joins the state when it begins. A restarted server keeps it, without a further answer. */
export interface Steer {
  type: "steer";
  id: string;
  prompts?: Prompt[] | null;
  negative?: string | null;
  /** 0 to 4294967295 */ seed?: number | null;
  seed_image?: string | null;
  /** 0 to 1 */ denoising?: number | null;
  /** 0 to 30 */ guidance?: number | null;
  /** 40 to 240 */ bpm?: number | "auto" | null;
  /** 3 to 4 */ beats_per_bar?: number | "auto" | null;
  /** -6 to 6 */ key?: number | null;
  form?: "ambient" | "dj" | "none" | "song" | null;
  chords?: string | null;
  parts?: PartsChange | null;
  /** 0 to 1 */ energy?: number | null;
  /** 0 to 1 */ density?: number | null;
  /** 0 to 1 */ brightness?: number | null;
  mix?: MixChange | null;
  at?: "asap" | "bar" | "beat" | "clip";
  /** 0 or more */ bar?: number | null;
  /** 0 to 120 */ ramp_s?: number;
  /** 0 or more */ if_rev?: number | null;
}

/** One part of a prompt mix: `text`, and its `weight` relative to the other parts. */
export interface Prompt {
  text: string;
  /** 0 to 10 */ weight?: number;
}

/** Levels of parts, 0 (silent) to 1. An absent part keeps its level; null leaves it to the plan and the words. */
export interface PartsChange {
  /** 0 to 1 */ drums?: number | null;
  /** 0 to 1 */ bass?: number | null;
  /** 0 to 1 */ chords?: number | null;
  /** 0 to 1 */ pad?: number | null;
  /** 0 to 1 */ arp?: number | null;
  /** 0 to 1 */ lead?: number | null;
}

/** Change of the desk in a steer. An absent field keeps its value; null is its neutral value. `ramp_s`: length of the change in seconds; null: the steer's `ramp_s`, or 0.05 s (2 s for `fade`) if that is 0. */
export interface MixChange {
  /** -60 to 12 */ drums?: number | null;
  /** -60 to 12 */ tonal?: number | null;
  /** -60 to 12 */ low?: number | null;
  /** -60 to 12 */ mid?: number | null;
  /** -60 to 12 */ high?: number | null;
  /** -3 to 3 */ tilt?: number | null;
  /** 0 to 2 */ width?: number | null;
  /** -1 to 1 */ filter?: number | null;
  hold?: boolean | null;
  fade?: boolean | null;
  mute?: ("bass" | "drums")[] | null;
  solo?: ("bass" | "drums")[] | null;
  /** 0 to 120 */ ramp_s?: number | null;
}

/** Playback control. `reset`: back to the default journey. `skip`: to its next part (or a new variation). */
export interface Transport {
  type: "transport";
  id: string;
  op: "pause" | "reset" | "resume" | "skip";
}

/** Change the queue of the station: prompts that play one after the other, each from a bar line. `add` (`prompts`, at the place `to`, 0 first; default: the end), `edit` (the given fields of `item`), `move` (`item` to `to`), `remove` (`item`), `next` (end the present item at the next bar line), `loop` (set `loop`), `clear`. The answer is `queue` with the `id`, or `rejected`. */
export interface Queue {
  type: "queue";
  id: string;
  op: "add" | "clear" | "edit" | "loop" | "move" | "next" | "remove";
  item?: string | null;
  prompts?: Prompt[];
  /** 1 to 1024 */ bars?: number;
  /** 0 to 64 */ ramp_bars?: number;
  /** 40 to 240 */ bpm?: number | null;
  /** 0 to 1000 */ to?: number | null;
  loop?: boolean;
}

/** Ask for music, or answer those who ask, on a station that takes requests. `suggest` (`text`), `vote` (`item`; once for each client) and `react` (`reaction`) need the right to listen; `take` (`item`; `play`: at the end of the queue, or now, at the next bar line) and `dismiss` (`item`) the right to steer. The answer is `requests` with the `id`, or `rejected`. */
export interface Request {
  type: "request";
  id: string;
  op: "dismiss" | "react" | "suggest" | "take" | "vote";
  text?: string | null;
  item?: string | null;
  reaction?: "fire" | "heart" | "wow" | null;
  play?: "now" | "queue";
}

/** Live input: binary frames from the client (in the format of the server's) become the seed image of the next clips. The right to steer is required; a station has one input. `strength`: share of the input in the clip. `takeover` ends the input of another client. `start` of a running input changes its strength. */
export interface Input {
  type: "input";
  id: string;
  action?: "start" | "stop";
  codec?: "opus" | "pcm_s16";
  /** 1 to 2 */ channels?: number;
  /** 0.05 to 0.95 */ strength?: number;
  takeover?: boolean;
}

/** Request for the audible position. `t0` is the sender's clock in ms; the answer returns it unchanged. */
export interface Clock {
  type: "clock";
  t0: number;
}

/** Report of a client, every 5 s: buffered audio, underruns since it joined, samples played. */
export interface Stats {
  type: "stats";
  /** 0 to 1000000000 */ buffer_ms: number;
  /** 0 or more */ underruns: number;
  /** 0 or more */ played: number;
}

/** The sender is about to close. Reconnect after `reconnect_ms` (null: do not reconnect). */
export interface Bye {
  type: "bye";
  reason: string;
  reconnect_ms?: number | null;
}

/** Answer to `hello`; audio frames follow. `codec` is the chosen codec. `resumed` is true if no audio was missed. `reason` says why this connection may not steer; null if it may. `path` has the ids of the servers from this one to the station's own, which is the last. `queue`: the prompts that follow. `requests`: what listeners wish; null: this station takes no requests. */
export interface Welcome {
  type: "welcome";
  v: number;
  session: string;
  role: "dj" | "listener" | "owner";
  station: string;
  sample_rate: number;
  channels: number;
  codec: "opus" | "pcm_s16" | null;
  frame_ms: number;
  sample_pos: number;
  rev: number;
  state: State;
  limits: Limits;
  caps: Caps;
  resumed: boolean;
  reason: string | null;
  path: string[];
  queue: QueueList;
  requests: RequestList | null;
}

/** The music of a station. Every field is always present; null is the model's default. `bpm_reason` and `beats_per_bar_reason`: the words that determined the tempo and the metre; null for a number that was set. `form`: the planner at work; `form_reason` says why it is none although another one was chosen. `chords` (in the sounding key), `parts`, `energy`, `density` and `brightness` are given by people; null: left to the plan and the words. `rests`: parts that the words of the prompts let rest, null without any; a level in `parts` comes first. `likeness`: the prompt that the model knows least; null until its first clip, and for models without named styles. */
export interface State {
  prompts: Prompt[];
  negative: string;
  seed: number;
  seed_image: string | null;
  denoising: number | null;
  guidance: number | null;
  bpm: number | null;
  bpm_reason: string | null;
  beats_per_bar: number;
  beats_per_bar_reason: string | null;
  likeness: Likeness | null;
  key: number;
  form: "ambient" | "dj" | "none" | "song";
  form_reason: string | null;
  chords: string | null;
  parts: Parts | null;
  rests: Rests | null;
  energy: number | null;
  density: number | null;
  brightness: number | null;
  mix: Mix;
  paused: boolean;
  steered: boolean;
}

/** How near a prompt is to a style that the model knows: `score` is 0 to 1. Below 0.38 its words are unknown. */
export interface Likeness {
  text: string;
  style: string;
  score: number;
}

/** Levels of parts, 0 (silent) to 1; null: left to the plan and the words. */
export interface Parts {
  /** 0 to 1 */ drums?: number | null;
  /** 0 to 1 */ bass?: number | null;
  /** 0 to 1 */ chords?: number | null;
  /** 0 to 1 */ pad?: number | null;
  /** 0 to 1 */ arp?: number | null;
  /** 0 to 1 */ lead?: number | null;
}

/** Parts that rest because the words say so, each with these words ("no drums"); null: the part does not. */
export interface Rests {
  drums?: string | null;
  bass?: string | null;
  chords?: string | null;
  pad?: string | null;
  arp?: string | null;
  lead?: string | null;
}

/** Settings of the desk. The default of each field is neutral; a neutral desk does not change a sample. - `drums`, `tonal`: levels of the percussive and of the tonal sound in dB; -60 is off. - `low`, `mid`, `high`: levels below 250 Hz, between, and above 2.5 kHz in dB; -60 is off. - `tilt`: brightness in dB an octave, around 1 kHz. - `width`: 0 is mono, 1 the clip's own width, 2 twice as wide. - `filter`: below 0 a low-pass filter, down to 100 Hz at -1; above 0 a high-pass filter, up to 10 kHz at 1. - `hold`: true repeats the last bar. The music continues silently, so its beat is kept. - `fade`: true fades to silence, false back. - `mute`, `solo`: of the drums and the bass (the tonal sound below 250 Hz). */
export interface Mix {
  /** -60 to 12 */ drums?: number;
  /** -60 to 12 */ tonal?: number;
  /** -60 to 12 */ low?: number;
  /** -60 to 12 */ mid?: number;
  /** -60 to 12 */ high?: number;
  /** -3 to 3 */ tilt?: number;
  /** 0 to 2 */ width?: number;
  /** -1 to 1 */ filter?: number;
  hold?: boolean;
  fade?: boolean;
  mute?: ("bass" | "drums")[];
  solo?: ("bass" | "drums")[];
}

/** Limits of this server. A range is [lowest, highest]. `queue`: longest queue; 0: none. `request_chars`: longest request. `request_interval_s`: time between the requests of one client. `bars_ahead`: how far ahead a steer may name its `bar`; 0: this server ignores it. */
export interface Limits {
  prompt_chars: number;
  prompts: number;
  message_bytes: number;
  steer_interval_s: number;
  desk_interval_s: number;
  steer_burst: number;
  queue: number;
  request_chars: number;
  request_interval_s: number;
  bars_ahead: number;
  weight: [number, number];
  seed: [number, number];
  denoising: [number, number];
  guidance: [number, number];
  bpm: [number, number];
  beats_per_bar: [number, number];
  key: [number, number];
  ramp_s: [number, number];
  mix: Record<string, [number, number]>;
}

/** Abilities of this station. `bpm`, `seed_image` (null: noise), `denoising` and `guidance` are the values behind a null in the state. `conditions`: whether its model follows `chords`, `parts`, `energy`, `density`, `brightness` and a `form` of `forms`. */
export interface Caps {
  codecs: string[];
  at: string[];
  ops: string[];
  model: string;
  beats_per_clip: number | null;
  bpm: number | null;
  seed_image: string | null;
  denoising: number | null;
  guidance: number | null;
  conditions: boolean;
  forms: string[];
  steer: boolean;
  resume: boolean;
}

/** The queue of a station. `playing` is the item at work until the beat `until` (as in `now.beat`), null between items. `loop`: an item that has played goes to the end of the queue. */
export interface QueueList {
  items: QueueItem[];
  loop: boolean;
  playing: QueueItem | null;
  until: number | null;
}

/** A prompt mix of the queue. It plays for `bars` bars, and blends in over the first `ramp_bars`. `bpm`: its tempo; null: its words choose, unless the tempo of the station was set. */
export interface QueueItem {
  id: string;
  prompts: Prompt[];
  /** 1 to 1024 */ bars: number;
  /** 0 to 64 */ ramp_bars: number;
  /** 40 to 240 */ bpm: number | null;
}

/** The requests of a station, those with the most votes first, and the reactions to its music. */
export interface RequestList {
  items: RequestItem[];
  reactions: Reactions;
}

/** A request. `votes` counts its author and all who asked for the same. */
export interface RequestItem {
  id: string;
  text: string;
  /** 0 or more */ votes: number;
}

/** Reactions of listeners in the last minute. */
export interface Reactions {
  /** 0 or more */ heart: number;
  /** 0 or more */ fire: number;
  /** 0 or more */ wow: number;
}

/** A change was accepted. `audible_at` (sample clock) is the expected position of its splice. `bpm` and `beats_per_bar`: tempo and metre after the change. The reasons are as in the state. `likeness`, as in the state, is known here if the prompts were played before; otherwise it follows in `now`. `bar`: the bar line of a change that named its bar, or null. Such a change gets `scheduled` again shortly before its line, with its revision; until then `rev` is the present one. */
export interface Scheduled {
  type: "scheduled";
  id: string;
  rev: number;
  /** 0 or more */ audible_at: number;
  audible_in_ms: number;
  bpm?: number | null;
  bpm_reason?: string | null;
  beats_per_bar?: number | null;
  beats_per_bar_reason?: string | null;
  likeness?: Likeness | null;
  bar?: number | null;
}

/** A change was spliced. `audible_at` (sample clock) is exact. `bar`: the bar line of a change that named its bar, or null. */
export interface Applied {
  type: "applied";
  id: string;
  rev: number;
  /** 0 or more */ audible_at: number;
  bar?: number | null;
}

/** A later change, `by`, replaced this one before it became audible. Its fields are merged into the later one. */
export interface Superseded {
  type: "superseded";
  id: string;
  by: string;
}

/** A message was refused; nothing has changed. `id` is "" if the message had none. */
export interface Rejected {
  type: "rejected";
  code: "bad_request" | "busy" | "forbidden" | "internal" | "prompt_rejected" | "rate_limited" | "stale_rev" | "unauthorised" | "unsupported_version";
  message: string;
  id?: string;
  field?: string | null;
  retry_after_ms?: number | null;
}

/** The music at `sample_pos`; sent at every change. `alpha` is the position between two keyframes, `clip` the number of the clip, `beat` the musical position in beats since the station began. `bar` is the number of the bar, and `bar_beat` the position in it, 0 to less than `state.beats_per_bar`. `chord` is the sounding chord, `section` the part of the form, its bar (from 1) and its length; null without a plan. `coming` follows. */
export interface Now {
  type: "now";
  rev: number;
  /** 0 or more */ sample_pos: number;
  state: State;
  alpha: number;
  clip: number;
  beat: number;
  bar: number;
  bar_beat: number;
  chord: string | null;
  section: string | null;
  section_bar: number | null;
  section_bars: number | null;
  coming: Coming[];
}

/** What follows on the station. `by` says what plans it, and `at` is the sample at which it begins: - `form`: a `section` of the form. - `journey`: the next `prompts` of the journey, or of a transition. `at` is the sample at which they join the mix, in the past during a transition; `alone_at` the sample at which the others have left it. - `steer`: the `prompts` of an accepted change. `at` is an estimate until its clip is rendered. Samples are those of the present tempo. */
export interface Coming {
  /** 0 or more */ at: number;
  by?: "form" | "journey" | "steer";
  section?: string | null;
  prompts?: Prompt[] | null;
  /** 0 or more */ alone_at?: number | null;
}

/** Something happened on the station. Clients ignore unknown kinds. `kind` is one of: - `splice`: a change became audible at `sample_pos`. - `late`: the generator is late and renders with less effort (`reason`). - `repeat`, `underrun`, `recovered`: audio repeats; silence begins; new audio is there again. - `skipped`: a clip could not be made and was omitted. - `fallback`: several clips in a row could not be made; the station returned to an earlier state. - `generator`: the station has no generator (`reason`), or has one again (`reason` is `ready`). - `paused`, `resumed`: playback stopped; playback continues. - `listeners`: the number of `listeners` changed, or a client joined. - `clock_jump`: the server's system clock jumped. - `input`: a live input begins or ends (`reason`: `live` or `ended`). - `upstream`: this server relays the station, and its connection to the other server changed (`reason`: `lost` or `connected`). - `queue`: an item of the queue could not be played and was skipped (`reason`). */
export interface Event {
  type: "event";
  kind: string;
  sample_pos?: number | null;
  rev?: number | null;
  reason?: string | null;
  listeners?: number | null;
}

/** The queue of the station, at every change. `id`: of the request, in the answer to it. */
export interface QueueState {
  type: "queue";
  queue: QueueList;
  id: string;
}

/** The requests of the station, at most once a second while they change. `id`: of the request, in the answer to it. */
export interface RequestsState {
  type: "requests";
  requests: RequestList;
  id: string;
}

/** State of the client's live input, at every change. `live`: the model uses it; `quiet`, `noise`: it changes nothing, because it is silent or only noise; `ended`: frames are no longer accepted (`reason`). `id` is that of the request, "" without one. `level_db`: loudness of the last 8 beats in dBFS; null if it is unknown. */
export interface InputState {
  type: "input";
  status: "ended" | "live" | "noise" | "quiet";
  id?: string;
  reason?: string | null;
  level_db?: number | null;
}

/** Answer to `clock`. `t1`, `t2`: the server's clock in ms at receipt and reply. `sample_pos`: audible at `t2`. */
export interface ClockReply {
  type: "clock";
  t0: number;
  t1: number;
  t2: number;
  /** 0 or more */ sample_pos: number;
}

export type ClientMessage = Hello | Steer | Transport | Queue | Request | Input | Clock | Stats | Bye;

export type ServerMessage = Welcome | Scheduled | Applied | Superseded | Rejected | Now | Event | QueueState | RequestsState | InputState | ClockReply | Bye;
