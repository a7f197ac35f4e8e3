// @ts-check
/** The page: wires the player to its elements. Each panel lives in a module of its own, most of them fetched when opened. */
import { embeddedStation, serverRoot } from "../address.js";
import { Player } from "../player.js";
import { promptLine } from "../protocol.js";
import { ELSEWHERE, SOUNDING, STATUS } from "../states.js";
import { mountAmbient } from "./ambient.js";
import { mountComing } from "./coming.js";
import { mountCueing } from "./cueing.js";
import { byId, keep, make, recall, slide, toast } from "./dom.js";
import { planLine } from "./form.js";
import { mountHistory } from "./history.js";
import { mountKeys } from "./keys.js";
import { lazily } from "./lazily.js";
import { readLink } from "./link.js";
import { mountLive } from "./live.js";
import { mountLooks } from "./looks.js";
import { mountMoods } from "./moods.js";
import { unknownWords } from "./unknown.js";
import { dressPage, readDress } from "./dress.js";
import { dressOverlay, readOverlay } from "./overlay.js";
import { mountPicture } from "./picture.js";
import { mountRequestsTab } from "./requests-tab.js";
import { mountRole } from "./role.js";
import { mountScreen, mountTabs } from "./screen.js";
import { mountSound, mountVolume } from "./sound.js";
import { mountStations } from "./stations.js";
import { makeSteering } from "./steering.js";
import { SUGGESTIONS } from "./suggestions.js";

/** What a moment brings and takes again is not worth a word. */
const FLEETING = new Set(["behind", "buffering"]);
const FLEETING_MS = 400;
const KEPT_CLIPS = 16;
const IDEAS = 8;

/**
 * @typedef {object} App
 * @property {Player} player
 * @property {() => any} state             the station's state as heard
 * @property {() => any} heard             the `now` that belongs to what is heard
 * @property {import("../visualiser.js").Marker[]} markers
 * @property {any[]} clips                 the `now` of each clip that was heard, newest first
 * @property {(change: import("../protocol.js").Steer, label: string, quiet?: boolean) => Promise<{rev: number}|null>} steer
 * @property {(update: () => void) => void} onChange   called at once, and when state, role or limits change
 * @property {() => void} changed
 * @property {() => void} guard             locks the controls of a listener who may not steer
 */

const query = new URLSearchParams(location.search);
/** The station of a second screen, which the DJ's page controls. */
const staged = embeddedStation(serverRoot(null, location.href), location.pathname, "stage");
const embedded = embeddedStation(serverRoot(null, location.href), location.pathname) ?? staged;
const link = readLink(location);
const overlay = readOverlay(query);
if (overlay) dressOverlay(overlay, document.body);
/** A page without controls: it says nothing of what one could do here. */
const bare = query.has("kiosk") || embedded !== null || overlay !== null;
const dress = readDress(query);
const ground = dressPage(dress, document.documentElement, document.body);
const player = new Player({
  station: embedded ?? link.station ?? "main",
  token: readToken(),
  transport: /** @type {any} */ (query.get("transport") ?? "auto"),
  several: query.has("several") || staged !== null, // it is silent
});

/** Changes of the desk alone have a rate of their own. @param {object} change */
const isDesk = (change) => "mix" in change && Object.keys(change).length === 1;

/** A token comes in the fragment, which browsers do not send to servers, and is then kept for this tab only. */
function readToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    keep("token", found, "sessionStorage");
    history.replaceState(null, "", location.pathname + location.search);
  }
  return found ?? recall("token", "sessionStorage");
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
  markers,
  steer: (change, label, quiet) => {
    if (!isDesk(change)) role.sent();
    return steering.steer(change, label, quiet);
  },
  guard,
  clips: [],
  onChange: (update) => {
    updates.push(update);
    update();
    queueMicrotask(guard); // once what was just built is on the page
  },
  changed: () => {
    for (const update of updates) update();
    guard();
  },
};

/**
 * Whoever may not steer sees it all, and cannot move it. A prompt may be sent before it is known who may: it waits for the
 * welcome. Its box is never disabled, for a box that cannot have the focus turns what is typed for it into shortcuts.
 */
function guard() {
  const refused = !!player.welcome && !player.maySteer;
  for (const control of document.querySelectorAll(".steers")) {
    /** @type {HTMLInputElement} */ (control).disabled = control.hasAttribute("data-waits") || (promptForm.contains(control) ? refused : !player.maySteer);
  }
  promptBox.readOnly = refused;
  byId("ideas", HTMLElement).hidden = refused; // dead buttons are in the way
  if (player.welcome) byId("intro-how", HTMLElement).textContent = refused ? "Its DJs say what it plays." : "Say what it should play, and it turns within seconds.";
  const note = byId("readonly", HTMLElement);
  note.hidden = !refused;
  if (refused) note.textContent = `You are listening: ${player.welcome.reason ?? "only a DJ of this station may steer it"}.`;
}

// Play and status --------------------------------------------------------------------------------------------------

const playButton = byId("play", HTMLButtonElement);
const status = byId("status", HTMLElement);
const nowLine = byId("now", HTMLElement);
const unknown = byId("unknown", HTMLElement);
const nowLabel = byId("now-label", HTMLElement);
const meta = byId("meta", HTMLElement);
const leave = byId("leave-upload", HTMLButtonElement);
leave.addEventListener("click", () => app.steer({ seed_image: null }, "the usual seed"));

const togglePlay = () => player.toggle();
playButton.addEventListener("click", togglePlay);

/** @type {ReturnType<typeof setTimeout>|undefined} */
let statusTimer;
function showStatus() {
  const { state } = player;
  document.body.classList.toggle("fresh", !bare && player.clicked === 0); // nothing was played yet: the page says what it is
  const detail = player.failure || player.link.detail;
  status.dataset.state = state;
  const why = state === "unsupported" && detail ? `: ${detail}` : ""; // a notice explains the other refusals
  status.textContent = state === "paused" && player.elsewhere ? ELSEWHERE : STATUS[state] + why;
  document.body.dataset.state = state;
  byId("tap", HTMLElement).hidden = state !== "blocked";
  const on = player.wanted && state !== "blocked";
  playButton.setAttribute("aria-pressed", String(on));
  playButton.setAttribute("aria-label", on ? "Pause" : "Play");
  playButton.disabled = player.transport === null;
  if ("mediaSession" in navigator) navigator.mediaSession.playbackState = on ? "playing" : "paused";
  showNow();
}
player.addEventListener("state", () => {
  clearTimeout(statusTimer);
  const fleeting = FLEETING.has(player.state) && status.dataset.state === "playing";
  if (fleeting) statusTimer = setTimeout(showStatus, FLEETING_MS);
  else showStatus();
});

/** What stands above the prompt is true: it plays only while sound comes out. @param {any} state the station's */
function label(state) {
  const shown = /** @type {import("../player.js").PlayerState} */ (status.dataset.state ?? "idle");
  const quiet = shown === "idle" || shown === "paused";
  if (state?.paused && (quiet || SOUNDING.has(shown))) return "Paused by a DJ";
  if (SOUNDING.has(shown)) return "Now playing";
  if (quiet) return state ? "On air, silent here: press play" : "Press play";
  return STATUS[shown][0].toUpperCase() + STATUS[shown].slice(1);
}

let shownPrompt = "";
function showNow() {
  const state = app.state();
  nowLabel.textContent = label(state);
  if (!state) return;
  const line = promptLine(state.prompts);
  const parts = [];
  if (state.bpm) parts.push(`${Math.round(state.bpm)} bpm`);
  if (state.key) parts.push(`key ${state.key > 0 ? "+" : "−"}${Math.abs(Math.round(state.key))}`);
  const plan = planLine(heard);
  if (plan) parts.push(plan);
  parts.push(`seed ${state.seed}`);
  if (state.seed_image === "none") parts.push("from noise");
  else if (state.seed_image && state.seed_image !== "auto") parts.push(state.seed_image.startsWith("upload-") ? "from an upload" : `from ${state.seed_image.replaceAll("_", " ")}`);
  meta.textContent = parts.join("  ·  ");
  leave.hidden = !player.maySteer || !state.seed_image?.startsWith("upload-");
  const words = unknownWords(state);
  if (unknown.textContent !== words) unknown.textContent = words; // a screen reader reads each change once
  if (line === shownPrompt) return;
  shownPrompt = line;
  nowLine.title = line; // a long one is cut off
  nowLine.classList.toggle("long", line.length > 60);
  // The lesser parts of a mix are set in a lighter hand.
  nowLine.replaceChildren(...line.split(" + ").map((part, i) => (i ? make("i", { textContent: ` + ${part}` }) : part)));
  document.title = `${line} · riffstream`;
  if ("mediaSession" in navigator) {
    const src = picture.artwork();
    navigator.mediaSession.metadata = new MediaMetadata({
      title: line,
      artist: "riffstream",
      album: player.station,
      artwork: src ? [{ src, type: "image/jpeg", sizes: "256x256" }] : [{ src: player.url("/icon.svg"), type: "image/svg+xml", sizes: "any" }],
    });
  }
}

/** What arrives is about a sample that may not be heard yet: show each change when it is. @type {any[]} */
let coming = [];
player.addEventListener("welcome", () => {
  coming = [];
  app.changed();
});

function followNow() {
  const position = player.position;
  let due = 0;
  while (due < coming.length && (position === null || !player.wanted || coming[due].sample_pos <= position)) due++;
  if (!due) return;
  for (const next of coming.splice(0, due)) {
    const before = heard && promptLine(heard.state.prompts);
    heard = next;
    if (app.clips[0]?.clip !== heard.clip || app.clips[0]?.rev !== heard.rev) {
      app.clips.unshift(heard);
      app.clips.length = Math.min(app.clips.length, KEPT_CLIPS);
    }
    const line = promptLine(heard.state.prompts);
    if (before !== null && before !== line && !markers.some((m) => Math.abs(m.samplePos - heard.sample_pos) < 24000)) {
      markers.push({ samplePos: heard.sample_pos, label: line, pending: false });
      markers.splice(0, markers.length - 40);
    }
    past.add(heard);
  }
  showNow();
  app.changed();
}

// A hidden tab draws no pictures and its timers are slowed down, but messages come: they keep the title and the system's
// media controls true. A message of our own waits behind all that have come, so that they are followed in one go.
const behind = new MessageChannel();
let following = false;
behind.port1.onmessage = () => {
  following = false;
  followNow();
};
player.addEventListener("now", (event) => {
  coming.push(/** @type {CustomEvent} */ (event).detail);
  if (!following) behind.port2.postMessage(null);
  following = true;
});
player.addEventListener("report", followNow);
setInterval(followNow, 1000); // an <audio> element reports nothing

player.addEventListener("event", (event) => {
  const { kind, reason } = /** @type {CustomEvent} */ (event).detail;
  if (kind === "generator") toast(reason === "ready" ? "The generator is back" : "The generator restarts; the music is bridged meanwhile");
});

// Prompt ------------------------------------------------------------------------------------------------------------

const promptForm = byId("prompt-form", HTMLFormElement);
const promptBox = byId("prompt", HTMLInputElement);
byId("suggestions", HTMLDataListElement).append(...SUGGESTIONS.map((text) => make("option", { value: text })));

/** @param {string} text */
function playPrompt(text) {
  if (!player.wanted) player.play();
  app.steer({ prompts: [{ text, weight: 1 }] }, text);
}
promptForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = promptBox.value.trim();
  if (text) playPrompt(text);
  else promptBox.focus();
});
const ideas = [...SUGGESTIONS].sort(() => Math.random() - 0.5).slice(0, IDEAS);
byId("ideas", HTMLElement).append(...ideas.map((text) => make("button", { type: "button", className: "ghost steers", dir: "auto", textContent: text, onclick: () => playPrompt(text) })));

/** @returns {Promise<{prompt: string, bpm?: number}>} */
async function idea() {
  const own = { prompt: SUGGESTIONS[Math.floor(Math.random() * SUGGESTIONS.length)] };
  try {
    const answer = await fetch(player.url("/api/prompts/random"), { headers: player.headers });
    return answer.ok ? { ...own, ...(await answer.json()) } : own;
  } catch {
    return own; // the page's own list serves as well
  }
}
/** Put an idea into the box. */
const randomPrompt = () => idea().then(({ prompt }) => void (promptBox.value = prompt));
/** Play one, at its own tempo. */
async function surprise() {
  if (!player.wanted) player.play();
  const { prompt, bpm } = await idea();
  app.steer({ prompts: [{ text: prompt, weight: 1 }], ...(bpm ? { bpm } : {}) }, prompt);
}
/** Play what stands in the box, if anything does. */
const playBox = () => promptBox.value.trim() && promptForm.requestSubmit();
byId("random", HTMLButtonElement).addEventListener("click", () => randomPrompt().then(() => promptBox.focus()));

// Start -----------------------------------------------------------------------------------------------------------------------

const picture = mountPicture(app, () => {
  followNow();
  steering.tick();
  looks.tick();
});
const looks = mountLooks(app, picture, query);
const ambient = embedded === null && overlay === null ? mountAmbient(player, query) : { toggleClock: () => {} };
document.body.classList.toggle("embedded", embedded !== null);
const stations = mountStations(app, {
  fixed: embedded !== null,
  forget: () => {
    heard = null;
    coming = [];
    markers.length = 0;
  },
});
const role = mountRole(app, stations.tune);
mountComing(app, steering.announce);
mountMoods(app, byId("moods", HTMLElement), { surprise, tune: stations.tune, stations: stations.all });
const screen = mountScreen(player, bare);
if (ground) picture.setTheme(ground);
const { toggleMute, ...frameVolume } = mountVolume(player);
if (overlay?.muted || staged !== null) toggleMute();
mountLive(app);
mountSound(app, byId("panel-sound", HTMLElement));
const past = mountHistory(app, byId("history", HTMLElement), byId("undo", HTMLButtonElement));
const panel = (/** @type {string} */ id) => byId(id, HTMLElement);
/** @type {ReturnType<typeof import("./scenes.js").mountScenes>|null} */
let scenes = null;
const withScenes = (/** @type {"fire"|"store"} */ act) => async (/** @type {number} */ slot) => {
  if (!scenes) await tabs.load("panel-scenes");
  scenes?.[act](slot);
};
/** @type {ReturnType<typeof import("./kept.js").mountKept>|null} */
let kept = null;
async function keepMoment() {
  if (!kept) await tabs.load("panel-kept");
  kept?.keepMoment();
}
byId("keep", HTMLButtonElement).addEventListener("click", keepMoment);
/** @type {ReturnType<typeof import("./stage-control.js").mountStageControl>|null} */
let secondScreen = null;
const blackout = async () => {
  await tabs.load("panel-scenes");
  secondScreen?.toggleBlackout();
};
const tabs = mountTabs({
  "panel-desk": async () => (await import("./desk.js")).mountDesk(app, panel("panel-desk"), { load: tabs.load, fireScene: withScenes("fire") }),
  "panel-levels": async () => (await import("./levels.js")).mountLevels(app, panel("panel-levels")),
  "panel-mix": async () => (await import("./mixer.js")).mountMixer(app, panel("panel-mix")),
  "panel-pad": async () => (await import("./pad.js")).mountPad(app, panel("panel-pad")),
  "panel-seeds": async () => (await import("./seeds.js")).mountSeeds(app, panel("panel-seeds"), () => tabs.open("panel-seeds")),
  "panel-scenes": async () => {
    scenes = (await import("./scenes.js")).mountScenes(app, panel("panel-scenes"));
    secondScreen = (await import("./stage-control.js")).mountStageControl(app, panel("panel-scenes"));
  },
  "panel-kept": async () => void (kept = (await import("./kept.js")).mountKept(app, panel("panel-kept"), picture.artwork)),
  "panel-requests": async () => (await import("./requests.js")).mountRequests(app, panel("panel-requests")),
  "panel-queue": async () => (await import("./queue.js")).mountQueue(app, panel("queue")),
});
mountRequestsTab(player, tabs.open);
// A file may be dropped anywhere; who looks after it is fetched when one comes in sight.
addEventListener("dragenter", () => tabs.load("panel-seeds"), { once: true });

const debugButton = byId("debug", HTMLButtonElement);
const numbers = panel("debug-panel");
const debug = lazily(async () => (await import("./debug.js")).mountDebug(app, numbers, picture.ring));
debugButton.addEventListener("click", async () => {
  numbers.hidden = !numbers.hidden;
  debugButton.setAttribute("aria-expanded", String(!numbers.hidden));
  (await debug())?.(!numbers.hidden);
});
const share = lazily(async () => (await import("./share.js")).mountShare(app, byId("share-dialog", HTMLDialogElement)));
byId("share", HTMLButtonElement).addEventListener("click", async () => (await share())?.());
if (link.change) lazily(async () => (await import("./offer.js")).offerLink(app, link, stations.tune))();
const timerButton = byId("timer", HTMLButtonElement);
const timer = lazily(async () => (await import("./timer.js")).mountTimer(player, timerButton, byId("timer-dialog", HTMLDialogElement)));
const openTimer = async () => (await timer())?.open();
timerButton.addEventListener("click", openTimer);
const sleepMinutes = Number(query.get("sleep"));
if (sleepMinutes) timer().then((found) => found?.sleep(sleepMinutes));
const notice = lazily(async () => (await import("./notice.js")).mountNotice(app, stations.tune, stations.list));
player.addEventListener("state", async () => {
  const stuck = player.state === "forbidden" || player.state === "missing";
  if (stuck || document.querySelector("#notice")) (await notice())?.();
});
mountKeys(player, { ...mountCueing(app), blackout, togglePlay, randomPrompt, playBox, undo: past.undo, toggleMute, openTimer, stepStation: stations.step, fireScene: withScenes("fire"), storeScene: withScenes("store"), keepMoment, ...picture, ...looks, ...ambient, ...screen });

if ("mediaSession" in navigator) {
  navigator.mediaSession.setActionHandler("play", () => player.play());
  navigator.mediaSession.setActionHandler("pause", () => player.pause());
  navigator.mediaSession.setActionHandler("previoustrack", () => stations.step(-1));
  navigator.mediaSession.setActionHandler("nexttrack", () => stations.step(1));
}
// A browser that holds the sound back lets it out after any click or key, also one before it is known to do so.
for (const name of ["pointerdown", "keydown"]) addEventListener(name, ({ target }) => player.wanted && player.output.held && !playButton.contains(/** @type {Node} */ (target)) && player.play());
addEventListener("input", ({ target }) => target instanceof HTMLInputElement && target.type === "range" && slide(target));
// The network comes or goes; the page comes to the front, out of the browser's cache, or is thawed.
for (const name of ["online", "offline", "pageshow"]) addEventListener(name, () => player.nudge());
document.addEventListener("resume", () => player.nudge());
document.addEventListener("visibilitychange", () => !document.hidden && player.nudge());

if (embedded !== null && parent !== window) lazily(async () => (await import("./frame.js")).mountFrame({ player, tune: stations.tune, ...frameVolume }))();

addEventListener("pagehide", ({ persisted }) => !persisted && player.dropOwn());

player.connect();
showStatus();
app.changed();
stations.list();
if (query.get("autoplay") !== null || query.has("kiosk") || staged !== null) player.play();
if (staged !== null) lazily(async () => (await import("./stage.js")).mountStage(player, picture))();

// For a person at the console, and for the browser tests.
Object.assign(window, { riffstream: { player, app, picture } });
