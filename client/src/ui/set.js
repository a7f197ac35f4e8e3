// @ts-check
/** A set: from a press to the next one, as a file with its list of tracks, from the server's archive. */
import { keep, make, reasonOf, recallJson, toast } from "./dom.js";

/** Texts that the archive makes, besides the audio. */
const FILES = /** @type {const} */ ([["", "Audio"], ["cue", "Cue sheet"], ["chapters", "Chapters"]]);

/** @param {number} seconds "1:02:03" or "2:03" */
export function duration(seconds) {
  const [s, m, h] = [Math.floor(seconds) % 60, Math.floor(seconds / 60) % 60, Math.floor(seconds / 3600)];
  return h ? `${h}:${String(m).padStart(2, "0")}:${String(s).padStart(2, "0")}` : `${m}:${String(s).padStart(2, "0")}`;
}

/** @typedef {{from: string, to?: string}} Span times of the server's wall clock */

/** @param {any} kept @returns {Span|null} null: it holds no times */
const readSpan = (kept) => (Date.parse(kept?.from) && (kept.to === undefined || Date.parse(kept.to)) ? kept : null);

/**
 * @param {import("./app.js").App} app
 * @param {(path: string, fallback: string) => Promise<void>} download
 * @returns {HTMLElement}
 */
export function mountSet(app, download) {
  const { player } = app;
  const place = `set:${player.station}`;
  /** The server's time, ms since 1970, at a moment of this page. Its clocks need not agree. */
  let clock = { time: Date.now(), at: performance.now() };
  /** @type {Span|null} */
  let set = readSpan(recallJson(place, "sessionStorage"));
  const row = make("div", { className: "row", role: "group", "aria-label": "Record a set" });
  const says = make("small", { role: "status" });
  const archive = (/** @type {string} */ rest = "") => `/api/stations/${encodeURIComponent(player.station)}/archive${rest}`;

  /** The server's time; it throws where the station has no archive. */
  async function serverTime() {
    const answer = await fetch(player.url(archive()), { headers: player.headers });
    if (!answer.ok) throw new Error(await reasonOf(answer));
    const time = Date.parse(answer.headers.get("Date") ?? "") || Date.now();
    clock = { time, at: performance.now() };
    return new Date(time).toISOString();
  }
  /** @param {Span|null} next */
  function remember(next) {
    set = next;
    keep(place, next && JSON.stringify(next), "sessionStorage");
    show();
  }
  async function press() {
    try {
      const time = await serverTime();
      remember(set && !set.to ? { from: set.from, to: time } : { from: time });
    } catch (error) {
      toast(`No set is recorded: ${error.message}`, { error: true });
    }
  }
  function show() {
    const running = set !== null && !set.to;
    const button = make("button", { type: "button", className: "ghost", textContent: running ? "Stop" : "Record from now", "aria-pressed": String(running), onclick: press });
    const span = set?.to ? `?from=${encodeURIComponent(set.from)}&to=${encodeURIComponent(set.to)}` : "";
    row.replaceChildren(button, ...(span ? FILES.map(([format, label]) =>
      make("button", {
        type: "button", className: "ghost", textContent: label, "aria-label": `Download the set: ${label.toLowerCase()}`,
        onclick: () => download(archive(`/recording${span}${format && `&format=${format}`}`), `set-${player.station}`),
      })) : []));
    count();
  }
  function count() {
    if (!set) says.textContent = "from the server's archive, with a list of what played";
    else if (set.to) says.textContent = `the last set: ${duration((Date.parse(set.to) - Date.parse(set.from)) / 1000)}`;
    else says.textContent = `recording, ${duration(Math.max(0, (clock.time + performance.now() - clock.at - Date.parse(set.from)) / 1000))}`;
  }
  const timer = setInterval(() => (row.isConnected ? set && !set.to && count() : clearInterval(timer)), 1000);
  show();
  if (set && !set.to) serverTime().then(count, () => {}); // of a set that began before this dialog
  return make("div", {}, row, says);
}
