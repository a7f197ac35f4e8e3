// @ts-check
/** The page: wires the player to its elements. Each panel lives in a module of its own. */
import { Player } from "../player.js";
import { promptLine, SAMPLE_RATE } from "../protocol.js";
import { SpectrumRing } from "../spectrum.js";
import { Visualiser2D } from "../visualiser.js";
import { mountDebug } from "./debug.js";
import { byId, make, toast } from "./dom.js";
import { mountHistory } from "./history.js";
import { mountKeys } from "./keys.js";
import { mountMixer } from "./mixer.js";
import { mountPad } from "./pad.js";
import { mountSeeds } from "./seeds.js";
import { mountShare, readLink } from "./share.js";
import { mountSound } from "./sound.js";
import { SUGGESTIONS } from "./suggestions.js";

/** What each state of the player is called. */
const STATUS = {
  idle: "ready",
  connecting: "connecting",
  buffering: "buffering",
  playing: "playing",
  paused: "paused",
  behind: "catching up",
  reconnecting: "reconnecting",
  full: "the station is full, waiting for a place",
  forbidden: "not allowed",
  restarting: "the server is restarting",
  unsupported: "this browser cannot play it",
};

/**
 * @typedef {object} App
 * @property {Player} player
 * @property {() => any} state             the station's state as last heard
 * @property {import("../visualiser.js").Marker[]} markers
 * @property {(change: import("../protocol.js").Steer, label: string) => Promise<void>} steer
 * @property {(update: () => void) => void} onChange   called when state, role or limits change
 * @property {() => void} changed
 */

const query = new URLSearchParams(location.search);
const embedded = /^\/embed\/([^/]+)/.exec(location.pathname);
const link = readLink(location);
const player = new Player({
  station: embedded ? decodeURIComponent(embedded[1]) : (link.station ?? "main"),
  token: readToken(),
  transport: /** @type {any} */ (query.get("transport") ?? "auto"),
});

/** A token comes in the fragment, which browsers do not send to servers, and is then kept for this tab only. */
function readToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (found) {
    sessionStorage.setItem("token", decodeURIComponent(found[1]));
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem("token");
}

/** @type {(() => void)[]} */
const updates = [];
/** @type {App} */
const app = {
  player,
  state: () => player.now?.state ?? player.welcome?.state ?? null,
  markers: [],
  steer,
  onChange: (update) => updates.push(update),
  changed: () => updates.forEach((update) => update()),
};

/**
 * Ask for a change and show what becomes of it: scheduled, then now playing, or why not.
 * @param {import("../protocol.js").Steer} change
 * @param {string} label
 */
async function steer(change, label) {
  const at = /** @type {import("../protocol.js").When} */ (new FormData(promptForm).get("at") ?? "asap");
  next.textContent = `asking for ${label}`;
  /** @type {import("../visualiser.js").Marker|null} */
  let marker = null;
  const onScheduled = (/** @type {any} */ event) => {
    const inMs = Math.max(0, event.detail.audible_in_ms);
    next.textContent = `${label}: scheduled, in ${(inMs / 1000).toFixed(1)} s`;
    if (marker) app.markers.splice(app.markers.indexOf(marker), 1);
    marker = { samplePos: event.detail.audible_at, label, pending: true };
    app.markers.push(marker);
  };
  player.addEventListener("scheduled", onScheduled);
  try {
    const applied = await player.steer({ at, ...change });
    if (marker) app.markers.splice(app.markers.indexOf(marker), 1);
    app.markers.push({ samplePos: applied.audible_at, label, pending: false });
    app.markers.splice(0, app.markers.length - 40);
  } catch (error) {
    if (marker) app.markers.splice(app.markers.indexOf(marker), 1);
    if (error.type === "superseded") return;
    next.textContent = "";
    const wait = error.retry_after_ms ? `; try again in ${(error.retry_after_ms / 1000).toFixed(1)} s` : "";
    toast(`${error.message}${wait}`, { error: true });
  } finally {
    player.removeEventListener("scheduled", onScheduled);
  }
}

// Play and status --------------------------------------------------------------------------------------------------

const playButton = byId("play", HTMLButtonElement);
const status = byId("status", HTMLElement);
const nowLine = byId("now", HTMLElement);
const nowLabel = byId("now-label", HTMLElement);
const meta = byId("meta", HTMLElement);
const next = byId("next", HTMLElement);

export function togglePlay() {
  if (player.wanted) player.pause();
  else player.play();
}
playButton.addEventListener("click", togglePlay);

player.addEventListener("state", () => {
  const { state, detail } = player;
  status.dataset.state = state;
  status.textContent = STATUS[state] + (state === "forbidden" && detail ? `: ${detail}` : "");
  playButton.setAttribute("aria-pressed", String(player.wanted));
  playButton.setAttribute("aria-label", player.wanted ? "Pause" : "Play");
  if ("mediaSession" in navigator) navigator.mediaSession.playbackState = player.wanted ? "playing" : "paused";
  showNow();
});

let shownPrompt = "";
function showNow() {
  const state = app.state();
  if (!state) return;
  const line = promptLine(state.prompts);
  nowLabel.textContent = state.paused ? "Paused by a DJ" : player.state === "playing" ? "Now playing" : "On air";
  const parts = [];
  if (state.bpm) parts.push(`${Math.round(state.bpm)} bpm`);
  if (state.key) parts.push(`key ${state.key > 0 ? "+" : "−"}${Math.abs(state.key)}`);
  parts.push(`seed ${state.seed}`);
  if (state.seed_image) parts.push(state.seed_image);
  meta.textContent = parts.join("  ·  ");
  if (line === shownPrompt) return;
  shownPrompt = line;
  nowLine.textContent = line;
  document.title = `${line} · riffstream`;
  if ("mediaSession" in navigator) {
    navigator.mediaSession.metadata = new MediaMetadata({
      title: line,
      artist: "riffstream",
      album: player.station,
      artwork: [{ src: new URL("/icon.svg", location.href).href, type: "image/svg+xml", sizes: "any" }],
    });
  }
}

player.addEventListener("welcome", () => {
  byId("readonly", HTMLElement).hidden = player.maySteer;
  for (const control of document.querySelectorAll(".prompt input, .prompt button, .panel .steers")) {
    /** @type {HTMLInputElement} */ (control).disabled = !player.maySteer;
  }
  showNow();
  app.changed();
});

/** What arrives is about a sample that may not be heard yet: show each change when it is. @type {any[]} */
const coming = [];
player.addEventListener("now", (event) => coming.push(/** @type {CustomEvent} */ (event).detail));
player.addEventListener("applied", (event) => {
  const { audible_at: at } = /** @type {CustomEvent} */ (event).detail;
  const wait = player.position === null ? 0 : (at - player.position) / SAMPLE_RATE;
  setTimeout(() => {
    if (next.textContent) next.textContent = "now playing";
    setTimeout(() => next.textContent === "now playing" && (next.textContent = ""), 2500);
  }, Math.max(0, wait * 1000));
});

/** The `now` that belongs to what is heard. @type {any} */
let heard = null;
function followNow() {
  const position = player.position;
  while (coming.length && (position === null || coming[0].sample_pos <= position || !player.wanted)) {
    const before = heard && promptLine(heard.state.prompts);
    heard = coming.shift();
    const line = promptLine(heard.state.prompts);
    if (before !== null && before !== line && !app.markers.some((m) => Math.abs(m.samplePos - heard.sample_pos) < 9600)) {
      app.markers.push({ samplePos: heard.sample_pos, label: line, pending: false });
    }
    showNow();
    app.changed();
  }
}

player.addEventListener("event", (event) => {
  const { kind, listeners: count } = /** @type {CustomEvent} */ (event).detail;
  if (kind === "listeners" && typeof count === "number") {
    const listeners = byId("listeners", HTMLElement);
    listeners.hidden = false;
    listeners.textContent = count === 1 ? "1 listener" : `${count} listeners`;
  }
});

// Prompt ------------------------------------------------------------------------------------------------------------

const promptForm = byId("prompt-form", HTMLFormElement);
const promptBox = byId("prompt", HTMLInputElement);
byId("suggestions", HTMLDataListElement).append(...SUGGESTIONS.map((text) => make("option", { value: text })));

promptForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = promptBox.value.trim();
  if (!text) return promptBox.focus();
  steer({ prompts: [{ text, weight: 1 }] }, text);
  if (!player.wanted) player.play();
});

export async function randomPrompt() {
  let text = SUGGESTIONS[Math.floor(Math.random() * SUGGESTIONS.length)];
  try {
    const answer = await fetch(player.url("/api/prompts/random"));
    if (answer.ok) text = (await answer.json()).prompt ?? text;
  } catch {
    // The page's own list serves as well.
  }
  promptBox.value = text;
  promptBox.focus();
}
byId("random", HTMLButtonElement).addEventListener("click", randomPrompt);

// Stations ------------------------------------------------------------------------------------------------------------

const stations = byId("station", HTMLSelectElement);
stations.addEventListener("change", () => player.tune(stations.value));
async function listStations() {
  let names = [player.station];
  try {
    const answer = await fetch(player.url("/api/stations"));
    const listed = (await answer.json()).stations.map((/** @type {any} */ s) => s.id ?? s.name ?? s);
    if (listed.length) names = listed.includes(player.station) ? listed : [player.station, ...listed];
  } catch {
    // The one that we came for can still be played.
  }
  stations.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name, selected: name === player.station })));
}

// Picture ---------------------------------------------------------------------------------------------------------------

const flat = new Visualiser2D(byId("canvas2d", HTMLCanvasElement));
/** @type {import("../relief.js").Relief|null} */
let relief = null;
/** @type {SpectrumRing|null} */
let ring = null;
/** @type {Float32Array<ArrayBuffer>|null} */
let levels = null;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let lastDrawn = 0;

/** @param {number} time */
function draw(time) {
  requestAnimationFrame(draw);
  followNow();
  // Under reduced motion the picture moves in steps, four a second.
  if (calm.matches && time - lastDrawn < 250) return;
  const { analyser, position } = player;
  let fresh = 0;
  if (analyser && position !== null && player.state !== "paused") {
    ring ??= new SpectrumRing(analyser.frequencyBinCount, SAMPLE_RATE);
    levels ??= new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    fresh = ring.push(levels, position);
  } else if (lastDrawn && !flat.stale && time - lastDrawn < 1000) return;
  lastDrawn = time;
  if (relief && ring) relief.draw(ring, fresh, position ?? 0);
  else flat.draw(ring, fresh, position ?? (ring ? ring.latest * 480 : 0), heard, app.markers, SAMPLE_RATE);
}

const view = byId("view", HTMLButtonElement);
export async function toggleView() {
  const flatCanvas = byId("canvas2d", HTMLCanvasElement);
  const deepCanvas = byId("canvas3d", HTMLCanvasElement);
  if (relief) {
    relief.close();
    relief = null;
    flat.stale = true;
  } else {
    const { Relief } = await import("../relief.js");
    try {
      deepCanvas.hidden = false;
      relief = new Relief(deepCanvas, theme());
    } catch (error) {
      toast(`No 3D view here: ${error.message}`, { error: true });
    }
  }
  flatCanvas.hidden = relief !== null;
  deepCanvas.hidden = relief === null;
  view.setAttribute("aria-pressed", String(relief !== null));
}
view.addEventListener("click", toggleView);
if (calm.matches) view.disabled = true;

// Theme, full screen, kiosk -----------------------------------------------------------------------------------------------

/** @returns {import("../palette.js").Theme} */
function theme() {
  return document.documentElement.dataset.theme === "light" ? "light" : "dark";
}
/** @param {import("../palette.js").Theme} value */
function setTheme(value) {
  document.documentElement.dataset.theme = value;
  flat.setTheme(value);
  relief?.setTheme(value);
  localStorage.setItem("theme", value);
}
export function toggleTheme() {
  setTheme(theme() === "dark" ? "light" : "dark");
}
const preferred = query.get("theme") ?? localStorage.getItem("theme");
setTheme(preferred === "light" || (!preferred && matchMedia("(prefers-color-scheme: light)").matches) ? "light" : "dark");
byId("theme", HTMLButtonElement).addEventListener("click", toggleTheme);

export function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => toast("This browser does not allow full screen here."));
}
byId("full", HTMLButtonElement).addEventListener("click", toggleFullScreen);
document.addEventListener("fullscreenchange", () => setKiosk(!!document.fullscreenElement || alwaysKiosk));

const alwaysKiosk = query.has("kiosk") || embedded !== null;
/** @param {boolean} on */
function setKiosk(on) {
  document.body.classList.toggle("kiosk", on);
}
/** @type {ReturnType<typeof setTimeout>|undefined} */
let pointerTimer;
addEventListener("pointermove", () => {
  document.body.classList.remove("idle-pointer");
  clearTimeout(pointerTimer);
  pointerTimer = setTimeout(() => player.state === "playing" && document.body.classList.add("idle-pointer"), 3000);
});

// Tabs ----------------------------------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll('[role="tab"]')].map((t) => /** @type {HTMLButtonElement} */ (t));
/** @param {HTMLButtonElement} chosen */
function openTab(chosen) {
  for (const tab of tabs) {
    const selected = tab === chosen;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    byId(tab.getAttribute("aria-controls") ?? "", HTMLElement).hidden = !selected;
  }
}
for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => openTab(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.stopPropagation();
    const other = tabs[(index + step + tabs.length) % tabs.length];
    openTab(other);
    other.focus();
  });
}

// Start -----------------------------------------------------------------------------------------------------------------------

mountSound(app, byId("panel-sound", HTMLElement));
mountMixer(app, byId("panel-mix", HTMLElement));
mountPad(app, byId("panel-pad", HTMLElement));
mountSeeds(app, byId("panel-seeds", HTMLElement));
mountHistory(app, byId("panel-history", HTMLElement));
mountDebug(app, byId("debug", HTMLButtonElement), byId("debug-panel", HTMLElement));
mountShare(app, byId("share", HTMLButtonElement), byId("share-dialog", HTMLDialogElement), link);
mountKeys({ togglePlay, randomPrompt, toggleView, toggleTheme, toggleFullScreen, app });

if ("mediaSession" in navigator) {
  navigator.mediaSession.setActionHandler("play", () => player.play());
  navigator.mediaSession.setActionHandler("pause", () => player.pause());
}
addEventListener("online", () => player.nudge());
document.addEventListener("visibilitychange", () => !document.hidden && player.nudge());

setKiosk(alwaysKiosk);
player.connect();
listStations();
requestAnimationFrame(draw);
if (query.get("autoplay") !== null || query.has("kiosk")) player.play();

// For a person at the console, and for the browser tests.
Object.assign(window, { riffstream: { player, app } });
