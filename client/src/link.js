// @ts-check
/**
 * The page's end of the worker that owns the socket: its life, what is asked through it, and the answers.
 * No DOM but the Worker itself.
 */
import { Requests } from "./requests.js";

/**
 * @typedef {object} LinkHandlers
 * @property {(state: import("./connection.js").LinkState, detail: string) => void} onState
 * @property {(message: any) => void} onMessage   every text message of the server
 * @property {(columns: {first: number, levels: Uint8Array}) => void} onColumns
 * @property {(transport: "pcm", why: string) => void} onTransport  the way of the sound that works here
 * @property {(why: string) => void} onFailure  there is no worker, and so no line
 */

/** States in which nobody will answer what was asked. */
const LOST = new Set(["reconnecting", "restarting", "full", "forbidden", "missing", "nosocket"]);

/**
 * A module worker, from another origin too: browsers refuse those, but not a small local one that imports it.
 * @param {URL} url
 */
function startWorker(url) {
  // In a sandboxed frame `origin` is "null", whatever the address says.
  if (url.origin === self.origin) return new Worker(url, { type: "module" });
  const address = JSON.stringify(url.href);
  // There a module worker does not even start from a blob. A classic one imports it as well, and keeps what comes meanwhile.
  const sandboxed = self.origin === "null";
  const code = !sandboxed ? `import ${address};` : `const early = [];
    onmessage = (event) => early.push(event);
    import(${address}).then(() => early.forEach((event) => onmessage(event)),
      (error) => postMessage({ type: "failure", why: error.message }));`;
  const local = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const worker = new Worker(local, { type: sandboxed ? "classic" : "module" });
  setTimeout(() => URL.revokeObjectURL(local), 60000);
  return worker;
}

export class Link {
  /** @param {LinkHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {import("./connection.js").LinkState} */
    this.state = "closed";
    this.detail = "";
    this.counters = { bytes: 0, frames: 0, lost: 0, latencyMs: 0, decodeErrors: 0 };
    /** @type {Worker|null} */
    this.worker = null;
    this.requests = new Requests();
    this.number = 0; // of the connection: what an earlier one still says is not heard
  }

  /** @param {object} message @param {Transferable[]} [transfer] */
  post(message, transfer = []) {
    this.worker ??= this.start();
    this.worker?.postMessage(message, transfer);
  }

  start() {
    try {
      const worker = startWorker(new URL("./stream-worker.js", import.meta.url));
      worker.onmessage = (event) => this.receive(event.data);
      worker.onerror = (event) => {
        if (event.message || worker !== this.worker) return; // a fault while it runs, which the console tells
        this.fail("the player's worker did not load");
      };
      return worker;
    } catch (error) {
      queueMicrotask(() => this.fail(`this page may not start a worker: ${error.message}`));
      return null;
    }
  }

  /** @param {string} why */
  fail(why) {
    this.worker = null; // the next message tries again
    this.state = "closed";
    this.requests.abandon(why);
    this.handlers.onFailure(why);
  }

  /**
   * Connect, in place of the connection before.
   * @param {{url: string, codecs: string[], token: string|null, steer: boolean}} options
   * @param {MessagePort|null} port where decoded sound goes; null for control messages only
   */
  open(options, port) {
    this.requests.abandon("the connection was closed");
    this.state = "connecting";
    this.number++;
    this.post({ type: "open", options, port, number: this.number }, port ? [port] : []);
  }

  close() {
    this.state = "closed";
    this.number++;
    this.worker?.postMessage({ type: "close" });
    this.requests.abandon("the connection was closed");
  }

  /** Close, and end the worker once its close frame has left. */
  end() {
    this.close();
    const worker = this.worker;
    this.worker = null;
    setTimeout(() => worker?.terminate(), 500);
  }

  /**
   * @param {object} message a steer or a transport message, without its id
   * @param {(message: any) => void} [onScheduled]
   * @returns {Promise<any>} settles with `applied`; fails with what the server said
   */
  ask(message, onScheduled) {
    const { id, answer } = this.requests.open(onScheduled);
    this.post({ type: "send", message: { ...message, id } });
    return answer;
  }

  /** @param {any} data */
  receive(data) {
    if (data.number !== undefined && data.number !== this.number) return;
    if (data.type === "state") {
      this.state = data.state;
      this.detail = data.detail ?? "";
      if (LOST.has(data.state)) this.requests.abandon("the connection was lost");
      this.handlers.onState(this.state, this.detail);
    } else if (data.type === "columns") this.handlers.onColumns(data);
    else if (data.type === "counters") this.counters = data;
    else if (data.type === "failure") this.fail(`the player's worker did not load: ${data.why}`);
    else if (data.type === "transport") this.handlers.onTransport(data.transport, data.why);
    else if (data.type === "message") {
      this.handlers.onMessage(data.message);
      this.requests.hear(data.message);
    }
  }
}
