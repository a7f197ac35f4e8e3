// @ts-check
/** A private station for one page or program: made by one request, ended by another. No DOM. */
import { below } from "./address.js";
import { RadioError } from "./requests.js";

/** In place of a station's name: a private one. */
export const NEW = "new";
/** The server starts the station before it answers. */
const OPEN_MS = 20000;

/** @typedef {{station: string, token: string, seconds: number, idle_s: number}} OwnStation */

/**
 * Make a private station.
 * @param {URL} root  of the server (`serverRoot`)
 * @param {object} [music]  fields of `POST /api/sessions`: prompts, bpm, seed, ...
 * @param {string|null} [token]  for listening, where the server requires one
 * @returns {Promise<OwnStation>}
 * @throws RadioError `forbidden`, `rate_limited`, `busy`, `bad_request`, `unreachable`
 */
export async function openOwn(root, music = {}, token = null) {
  let answer;
  try {
    answer = await fetch(below(root, "/api/sessions"), {
      method: "POST", body: JSON.stringify(music), headers: { "Content-Type": "application/json", ...bearer(token) },
      signal: AbortSignal.timeout(OPEN_MS),
    });
  } catch (error) {
    throw new RadioError("unreachable", `no private station: ${error.message}`, { retry_after_ms: 2000 });
  }
  const body = await answer.json().catch(() => ({})); // a proxy's own page, perhaps
  if (answer.ok) return body;
  const wait = Number(answer.headers.get("Retry-After"));
  throw new RadioError(body.code ?? "internal", body.message ?? `no private station: ${answer.status}`, { retry_after_ms: wait ? 1000 * wait : null });
}

/** What a player is told when there is no private station. @type {Record<string, "full"|"reconnecting">} */
const PASSING = { busy: "full", rate_limited: "full", unreachable: "reconnecting", timeout: "reconnecting" };
/** What a private station is made with, besides the prompts; a steer asks for the rest. */
export const MUSIC = ["negative", "seed", "seed_image", "denoising", "guidance", "bpm", "beats_per_bar", "key"];
/** A station that ends so soon after its start is not made again, ms. */
const LASTS_MS = 5000;
const RETRY_MS = 5000;

/** The private station of one player: made when it is first needed, and again where it has ended. */
export class Own {
  /** @param {object} music  fields of `POST /api/sessions` */
  constructor(music) {
    this.music = music;
    /** @type {OwnStation|null} */
    this.made = null;
    this.since = 0; // ms
    this.dropped = false;
    /** Why there is none. @type {{state: "full"|"reconnecting"|"forbidden", detail: string, retryMs: number|null}|null} */
    this.refusal = null;
    /** @type {Promise<OwnStation|null>|null} */
    this.making = null;
  }

  /** @param {URL} root @param {string|null} token @returns {Promise<OwnStation|null>} null: `refusal` says why, or it was dropped */
  open(root, token) {
    if (this.made) return Promise.resolve(this.made);
    this.refusal = null;
    this.making ??= this.make(root, token).finally(() => (this.making = null));
    return this.making;
  }

  /** @param {URL} root @param {string|null} token */
  async make(root, token) {
    try {
      const made = await openOwn(root, this.music, token);
      if (this.dropped) {
        closeOwn(root, made);
        return null;
      }
      this.since = performance.now();
      return (this.made = made);
    } catch (error) {
      const state = PASSING[error.code];
      this.refusal = { state: state ?? "forbidden", detail: error.message, retryMs: state ? (error.retry_after_ms ?? RETRY_MS) : null };
      return null;
    }
  }

  /**
   * The station is not there any more: the next one goes on with its music.
   * @param {any} state  of the station
   * @returns {boolean} whether another one may be made
   */
  renew(state) {
    if (!this.made || performance.now() - this.since < LASTS_MS) return false;
    this.made = null;
    if (state) {
      // A seed image may have gone with the station; the words choose a tempo that has a reason.
      const names = MUSIC.filter((name) => name !== "seed_image");
      const first = Object.entries(this.music).filter(([name]) => !names.includes(name));
      const now = names.filter((name) => (state[name] ?? "") !== "" && !state[`${name}_reason`]).map((name) => [name, state[name]]);
      this.music = { ...Object.fromEntries([...first, ...now]), prompts: state.prompts.map((/** @type {{text: string}} */ { text }) => text) };
    }
    return true;
  }

  /** End it. @param {URL} root */
  drop(root) {
    this.dropped = true;
    if (this.made) closeOwn(root, this.made);
    this.made = null;
  }
}

/**
 * End a private station; also while the page goes away. Without this the server ends it after a time without a listener.
 * @param {URL} root
 * @param {OwnStation} own
 */
export function closeOwn(root, { station, token }) {
  const request = { method: "DELETE", headers: bearer(token), keepalive: true };
  return fetch(below(root, `/api/sessions/${station}`), request).then(() => {}, () => {});
}

/** @param {string|null} token @returns {Record<string, string>} */
const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {});
