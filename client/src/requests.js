// @ts-check
/**
 * The changes that were sent to a station and are not answered yet. The player's `Link` and the kit's `Radio` share it.
 * No DOM.
 */

/**
 * A refusal of the station, or the loss of the connection.
 *
 * `code` is one of the protocol's codes (`rate_limited`, `stale_rev`, ...), or `superseded`, `disconnected`, `timeout`,
 * `unreachable`, `missing`. `field` names the refused field.
 */
export class RadioError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{field?: string|null, retry_after_ms?: number|null, type?: string, by?: string}} [more]
   */
  constructor(code, message, more = {}) {
    super(message);
    this.name = "RadioError";
    this.code = code;
    this.field = more.field ?? null;
    this.retry_after_ms = more.retry_after_ms ?? null;
    this.type = more.type ?? "";
    this.by = more.by ?? "";
  }
}

/** Messages that end what was asked. */
const ANSWERS = new Set(["applied", "queue", "requests"]);

/** @typedef {{applied: (value: any) => void, failed: (error: Error) => void, scheduled?: (value: any) => void}} Waiter */

export class Requests {
  /** @param {boolean} [listens] a change counts only once its first sample was received (`received`) */
  constructor(listens = false) {
    this.listens = listens;
    /** @type {Map<string, Waiter>} */
    this.waiting = new Map();
    /** @type {Map<string, any>} applied, but not received yet */
    this.unheard = new Map();
    this.ids = 0;
  }

  /**
   * @param {(message: any) => void} [onScheduled] when the change is accepted
   * @returns {{id: string, answer: Promise<any>}} the answer is the `applied` message
   */
  open(onScheduled) {
    const id = `${Date.now().toString(36)}-${++this.ids}`;
    /** @type {Promise<any>} */
    const answer = new Promise((applied, failed) => this.waiting.set(id, { applied, failed, scheduled: onScheduled }));
    // A caller that only shows the events need not handle the promise as well.
    answer.catch(() => {});
    return { id, answer };
  }

  /** A message of the server. @param {any} message */
  hear(message) {
    const waiter = this.waiting.get(message.id);
    if (!waiter) return;
    if (message.type === "scheduled") waiter.scheduled?.(message);
    else if (message.type === "applied" && this.listens) this.unheard.set(message.id, message);
    else if (ANSWERS.has(message.type)) this.settle(message.id)?.applied(message);
    else if (message.type === "rejected") this.settle(message.id)?.failed(new RadioError(message.code, message.message, message));
    else if (message.type === "superseded") this.settle(message.id)?.failed(new RadioError("superseded", "a later change replaced it", message));
  }

  /** Audio before this position of the sample clock was received. @param {number} samplePos */
  received(samplePos) {
    for (const [id, message] of this.unheard) if (message.audible_at < samplePos) this.settle(id)?.applied(message);
  }

  /** @param {string} id @param {Error} error */
  fail(id, error) {
    this.settle(id)?.failed(error);
  }

  /** Nobody will answer what was asked. @param {string} why */
  abandon(why) {
    for (const id of [...this.waiting.keys()]) this.fail(id, new RadioError("disconnected", why));
  }

  /** @param {string} id */
  settle(id) {
    const waiter = this.waiting.get(id);
    this.waiting.delete(id);
    this.unheard.delete(id);
    return waiter;
  }
}
