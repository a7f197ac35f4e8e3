// @ts-check
/** The page: wires the player to its elements. Each panel lives in a module of its own. */
import { Player } from "../player.js";
import { promptLine } from "../protocol.js";
import { mountDebug } from "./debug.js";
import { byId, make, toast } from "./dom.js";
import { mountHistory, mountQueue } from "./history.js";
import { mountKeys } from "./keys.js";
import { mountMixer } from "./mixer.js";
import { mountPad } from "./pad.js";
import { mountPicture } from "./picture.js";
import { mountScreen, mountTabs } from "./screen.js";
import { mountSeeds } from "./seeds.js";
import { mountShare, readLink } from "./share.js";
import { mountSound } from "./sound.js";
import { makeSteering } from "./steering.js";
import { SUGGESTIONS } from "./suggestions.js";

/** What each state of the player is called. */
const STATUS = {
  idle: "ready",
  connecting: "connecting",
  buffering: "buffering",
  playing: "playing",
  paused: "paused",
  behind: "catching up",
  blocked: "click to start the sound",
  reconnecting: "reconnecting",
  full: "the station is full, waiting for a place",
  forbidden: "not allowed",
  restarting: "the server is restarting",
  unsupported: "this browser cannot play it",
};
/** What a moment brings and takes again is not worth a word. */
const FLEETING = new Set(["behind", "buffering"]);
const FLEETING_MS = 400;

/**
 * @typedef {object} App
 * @property {Player} player
 * @property {() => any} state             the station's state as heard
 * @property {() => any} heard             the `now` that belongs to what is heard
 * @property {() => number} beatsPerBar
 * @property {import("../visualiser.js").Marker[]} markers
 * @property {(change: import("../protocol.js").Steer, label: string, quiet?: boolean) => Promise<boolean>} steer
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

/** @type {any} */
let heard = null;
/** @type {(() => void)[]} */
const updates = [];
/** @type {import("../visualiser.js").Marker[]} */
const markers = [];
const steering = makeSteering(player, markers);
/** @type {App} */
const app = {
  player,
  state: () => (heard ?? player.now ?? player.welcome)?.state ?? null,
  heard: () => heard,
  beatsPerBar: () => (player.welcome?.caps?.beats_per_clip === 6 ? 3 : 4),
  markers,
  steer: steering.steer,
  onChange: (update) => updates.push(update),
  changed: () => {
    for (const update of updates) update();
    // Whoever may not steer sees it all, and cannot move it.
    for (const control of document.querySelectorAll(".steers")) /** @type {HTMLInputElement} */ (control).disabled = !player.maySteer;
    byId("readonly", HTMLElement).hidden = player.maySteer || !player.welcome;
  },
};

// Play and status --------------------------------------------------------------------------------------------------

const playButton = byId("play", HTMLButtonElement);
const status = byId("status", HTMLElement);
const nowLine = byId("now", HTMLElement);
const nowLabel = byId("now-label", HTMLElement);
const meta = byId("meta", HTMLElement);

function togglePlay() {
  if (player.state === "blocked" || !player.wanted) player.play();
  else player.pause();
}
playButton.addEventListener("click", togglePlay);

/** @type {ReturnType<typeof setTimeout>|undefined} */
let statusTimer;
function showStatus() {
  const { state, detail } = player;
  status.dataset.state = state;
  const why = ["forbidden", "unsupported"].includes(state) && detail ? `: ${detail}` : "";
  status.textContent = STATUS[state] + why;
  document.body.dataset.state = state;
  const on = player.wanted && state !== "blocked";
  playButton.setAttribute("aria-pressed", String(on));
  playButton.setAttribute("aria-label", on ? "Pause" : "Play");
  playButton.disabled = state === "unsupported";
  if ("mediaSession" in navigator) navigator.mediaSession.playbackState = player.wanted ? "playing" : "paused";
  showNow();
}
player.addEventListener("state", () => {
  clearTimeout(statusTimer);
  const fleeting = FLEETING.has(player.state) && status.dataset.state === "playing";
  if (fleeting) statusTimer = setTimeout(showStatus, FLEETING_MS);
  else showStatus();
});

let shownPrompt = "";
function showNow() {
  const state = app.state();
  if (!state) return;
  const line = promptLine(state.prompts);
  nowLabel.textContent = state.paused ? "Paused by a DJ" : player.wanted ? "Now playing" : "On air";
  const parts = [];
  if (state.bpm) parts.push(`${Math.round(state.bpm)} bpm`);
  if (state.key) parts.push(`key ${state.key > 0 ? "+" : "−"}${Math.abs(Math.round(state.key))}`);
  parts.push(`seed ${state.seed}`);
  if (state.seed_image) parts.push(state.seed_image);
  meta.textContent = parts.join("  ·  ");
  if (line === shownPrompt) return;
  shownPrompt = line;
  nowLine.textContent = line;
  document.title = `${line} · riffstream`;
  if ("mediaSession" in navigator) {
    const src = picture.artwork();
    navigator.mediaSession.metadata = new MediaMetadata({
      title: line,
      artist: "riffstream",
      album: player.station,
      artwork: src ? [{ src, type: "image/jpeg", sizes: "256x256" }] : [{ src: new URL("/icon.svg", location.href).href, type: "image/svg+xml", sizes: "any" }],
    });
  }
}

/** What arrives is about a sample that may not be heard yet: show each change when it is. @type {any[]} */
let coming = [];
player.addEventListener("welcome", () => {
  coming = [];
  app.changed();
});
player.addEventListener("now", (event) => coming.push(/** @type {CustomEvent} */ (event).detail));

function followNow() {
  const position = player.position;
  while (coming.length && (position === null || !player.wanted || coming[0].sample_pos <= position)) {
    const before = heard && promptLine(heard.state.prompts);
    heard = coming.shift();
    const line = promptLine(heard.state.prompts);
    if (before !== null && before !== line && !markers.some((m) => Math.abs(m.samplePos - heard.sample_pos) < 24000)) {
      markers.push({ samplePos: heard.sample_pos, label: line, pending: false });
      markers.splice(0, markers.length - 40);
    }
    showNow();
    app.changed();
  }
}

player.addEventListener("event", (event) => {
  const { kind, listeners: count, reason } = /** @type {CustomEvent} */ (event).detail;
  if (kind === "listeners" && typeof count === "number") {
    const listeners = byId("listeners", HTMLElement);
    listeners.hidden = false;
    listeners.textContent = count === 1 ? "1 listener" : `${count} listeners`;
  }
  if (kind === "generator") toast(reason === "ready" ? "The generator is back" : "The generator restarts; the music is bridged meanwhile");
});

// Prompt ------------------------------------------------------------------------------------------------------------

const promptForm = byId("prompt-form", HTMLFormElement);
const promptBox = byId("prompt", HTMLInputElement);
byId("suggestions", HTMLDataListElement).append(...SUGGESTIONS.map((text) => make("option", { value: text })));

promptForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = promptBox.value.trim();
  if (!text) return promptBox.focus();
  if (!player.wanted) player.play();
  steering.steer({ prompts: [{ text, weight: 1 }] }, text);
});

async function randomPrompt() {
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
/** @param {string} station */
function tune(station) {
  heard = null;
  coming = [];
  markers.length = 0;
  return player.tune(station).then(listStations);
}
stations.addEventListener("change", () => tune(stations.value));
async function listStations() {
  /** @type {{id: string, title?: string}[]} */
  let listed = [];
  try {
    const headers = player.token ? { Authorization: `Bearer ${player.token}` } : undefined;
    const answer = await fetch(player.url("/api/stations"), { headers });
    listed = (await answer.json()).stations ?? [];
  } catch {
    // The one that we came for can still be played.
  }
  if (!listed.some((s) => s.id === player.station)) listed.unshift({ id: player.station });
  stations.replaceChildren(...listed.map(({ id, title }) => make("option", { value: id, textContent: title || id, selected: id === player.station })));
}

// Start -----------------------------------------------------------------------------------------------------------------------

const picture = mountPicture(app, () => {
  followNow();
  steering.tick();
});
const screen = mountScreen(player, query.has("kiosk") || embedded !== null);
mountTabs();
mountSound(app, byId("panel-sound", HTMLElement));
mountMixer(app, byId("panel-mix", HTMLElement));
mountPad(app, byId("panel-pad", HTMLElement));
mountSeeds(app, byId("panel-seeds", HTMLElement));
mountQueue(app, byId("queue", HTMLElement));
const past = mountHistory(app, byId("history", HTMLElement), byId("undo", HTMLButtonElement));
mountDebug(app, byId("debug", HTMLButtonElement), byId("debug-panel", HTMLElement));
mountShare(app, { button: byId("share", HTMLButtonElement), dialog: byId("share-dialog", HTMLDialogElement), link, tune });
mountKeys({ togglePlay, randomPrompt, undo: past.undo, ...picture, ...screen });

if ("mediaSession" in navigator) {
  navigator.mediaSession.setActionHandler("play", () => player.play());
  navigator.mediaSession.setActionHandler("pause", () => player.pause());
}
// A browser that held the sound back lets it out after any click or key.
for (const name of ["pointerdown", "keydown"]) addEventListener(name, () => player.state === "blocked" && player.play());
addEventListener("online", () => player.nudge());
document.addEventListener("visibilitychange", () => !document.hidden && player.nudge());

showStatus();
app.changed();
player.connect();
listStations();
if (query.get("autoplay") !== null || query.has("kiosk")) player.play();

// For a person at the console, and for the browser tests.
Object.assign(window, { riffstream: { player, app, picture } });
