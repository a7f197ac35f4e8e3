// @ts-check
/**
 * The page in a frame of another site: what that site may do with it, by `postMessage`, and what it is told.
 *
 *   frame.contentWindow.postMessage({ type: "riffstream", action: "volume", value: 0.5 }, "https://radio.example");
 *   addEventListener("message", ({ data }) => data.type === "riffstream" && console.log(data.event, data.detail));
 *
 * Actions: `listen` (nothing but the events), `play`, `pause`, `volume` (0 to 1), `tune` (a station). Events: `ready`, `state`, `now`,
 * `volume`, `error`. The server says which sites may: those of `server.allowed_origins`, and its own.
 */
import { promptLine } from "../protocol.js";

const TYPE = "riffstream";
const ACTIONS = ["listen", "play", "pause", "volume", "tune"];

/**
 * @param {{player: import("../player.js").Player, tune: (station: string) => Promise<void>, setVolume: (volume: number) => void, volume: () => number, onVolume: (told: () => void) => void}} page
 * @param {Window} [own]  for tests
 */
export function mountFrame({ player, tune, setVolume, volume, onVolume }, own = window) {
  /** @type {Map<string, Promise<boolean>>} by origin */
  const asked = new Map();
  /** Who is told, by window. @type {Map<Window, string>} */
  const told = new Map();

  /** @param {string} origin */
  function allowed(origin) {
    if (origin === own.location.origin) return Promise.resolve(true);
    let answer = asked.get(origin);
    if (!answer) {
      answer = fetch(`${player.url("/api/origins")}?origin=${encodeURIComponent(origin)}`, { headers: player.headers })
        .then(async (found) => found.ok && (await found.json()).allowed === true)
        .catch(() => (asked.delete(origin), false)); // the next message asks again
      asked.set(origin, answer);
    }
    return answer;
  }

  /** @param {string} event @param {unknown} detail */
  function tell(event, detail) {
    for (const [target, origin] of told) {
      if (target.closed) told.delete(target);
      else target.postMessage({ type: TYPE, event, detail }, origin);
    }
  }
  const state = () => ({ state: player.state, station: player.station, paused: !player.wanted });
  const now = () => {
    const found = (player.now ?? player.welcome)?.state;
    return { prompts: found?.prompts ?? [], title: promptLine(found?.prompts), bpm: found?.bpm ?? null };
  };

  /** @param {string} action @param {unknown} value */
  function act(action, value) {
    if (action === "play") player.play();
    else if (action === "pause") player.pause();
    else if (action === "volume") {
      if (typeof value !== "number" || !(value >= 0 && value <= 1)) throw new RangeError(`volume is ${JSON.stringify(value)}; allowed: 0 to 1`);
      setVolume(value);
    } else if (action === "tune") {
      if (typeof value !== "string" || !/^[a-z0-9][a-z0-9_-]{0,39}$/.test(value)) throw new RangeError(`tune is ${JSON.stringify(value)}; allowed: the name of a station`);
      tune(value);
    } else if (action !== "listen") throw new RangeError(`action is ${JSON.stringify(action)}; allowed: ${ACTIONS.join(", ")}`);
  }

  own.addEventListener("message", async ({ data, origin, source }) => {
    if (data?.type !== TYPE || typeof data.action === "undefined" || !source || source === own) return;
    const target = /** @type {Window} */ (source);
    // A sandboxed page without an origin cannot be addressed by one.
    const back = origin === "null" ? "*" : origin;
    const refuse = (/** @type {string} */ code, /** @type {string} */ message) => target.postMessage({ type: TYPE, event: "error", detail: { code, message } }, back);
    if (!(await allowed(origin))) return refuse("forbidden", `pages from ${origin} may not do this; add "${origin}" to server.allowed_origins`);
    if (!told.has(target)) {
      told.set(target, back);
      target.postMessage({ type: TYPE, event: "ready", detail: { ...state(), now: now(), volume: volume() } }, back);
    }
    try {
      act(data.action, data.value);
    } catch (error) {
      refuse("bad_request", error.message);
    }
  });
  onVolume(() => tell("volume", { volume: volume() }));
  player.addEventListener("state", () => tell("state", state()));
  for (const name of ["now", "welcome"]) player.addEventListener(name, () => tell("now", now()));
}
