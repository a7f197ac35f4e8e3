// @ts-check
/** The cue: a prompt that waits under the one that plays, until it is dropped on a bar line. */
import { counter, dropAt } from "../cue.js";
import { byId, make, reasonOf, toast } from "./dom.js";
import { mountHeadphones } from "./headphones.js";
import { mountSeedSound } from "./seed-sound.js";

/** A change that is asked for is awaited so long beyond its bar, beats; then the line goes. */
const GONE_BEATS = -8;
const TICK_MS = 50;

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} line  of the page
 */
export function mountCue(app, line) {
  const { player } = app;
  const box = byId("prompt", HTMLInputElement);
  let text = "";
  /** @type {number|null} bar of the drop that was decided on */
  let target = null;
  let asked = false;
  let counted = ""; // place of the target's number
  /** @type {ReturnType<typeof setInterval>|undefined} */
  let ticking;
  /** @type {number|undefined} seed of the clip that was heard ahead: the drop begins with the same one */
  let seed;
  /** The clip that was asked for, and the music that it follows: after a change it is another clip. @type {{after: string, made: Promise<Blob>}|null} */
  let clip = null;
  const headphones = mountHeadphones();
  const sound = mountSeedSound(player, headphones.device);
  let turn = 0; // of cues and tries: an answer to an earlier one changes nothing
  const words = make("b", { id: "cue-text", dir: "auto" });
  const every = make("select", { className: "field steers", id: "cue-bars", "aria-label": "Drop on" },
    ...[1, 4, 8].map((n) => make("option", { value: String(n), textContent: n === 1 ? "next bar" : `next ${n} bars`, selected: n === 4 })));
  const drop = make("button", { type: "button", className: "primary steers", id: "drop", textContent: "Drop", title: "Drop (x)", onclick: fire });
  const count = make("span", { className: "cue-count", id: "cue-count", "aria-hidden": "true" });
  const said = make("span", { className: "sr", role: "status" });
  const clear = make("button", { type: "button", className: "icon plain", textContent: "✕", "aria-label": "Clear the cue", title: "Clear (esc)", onclick: () => cancel() });
  const hear = sound.button("the cue", "the cue", ahead);
  hear.classList.add("icon", "steers");
  hear.id = "hear-cue";
  line.append(make("span", { className: "quiet", textContent: "Cue" }), words, hear, headphones.field ?? "", every, drop, count, clear, said);

  /** The clip that a drop would begin with: asked for once, also while it is being made. @returns {Promise<Blob>} */
  function ahead() {
    const after = `${place()} ${player.now?.rev}`;
    if (clip?.after === after) return clip.made;
    /** @type {{ after: string, made: Promise<Blob> }} */
    const mine = { after, made: made(() => clip === mine) };
    clip = mine;
    mine.made.catch(() => clip === mine && (clip = null));
    return mine.made;
  }
  /** @param {() => boolean} wanted whether this clip is still the cue's @returns {Promise<Blob>} */
  async function made(wanted) {
    const path = `/api/stations/${encodeURIComponent(player.station)}/preview`;
    const change = { prompts: [{ text, weight: 1 }], ...(seed === undefined ? {} : { seed }) };
    const answer = await fetch(player.url(path), { method: "POST", headers: player.headers, body: JSON.stringify(change) });
    if (!answer.ok) throw new Error(await reasonOf(answer));
    const heard = await answer.json();
    if (wanted()) seed = heard.seed;
    const mp3 = Uint8Array.from(atob(heard.audio.slice(heard.audio.indexOf(",") + 1)), (each) => each.charCodeAt(0));
    return new Blob([mp3], { type: "audio/mpeg" });
  }

  /** @param {string} given */
  function set(given) {
    sound.stop();
    text = given;
    [seed, clip] = [undefined, null];
    ready();
    words.textContent = given;
    line.hidden = false;
    said.textContent = `Cued: ${given}`;
  }
  /** The rights of the page do not enable it while it waits. @param {boolean} on whether it waits for its bar */
  function waits(on) {
    drop.toggleAttribute("data-waits", on);
    drop.disabled = on || !player.maySteer;
  }
  /** It waits for a drop: a new one, or one that was refused. */
  function ready() {
    clearInterval(ticking);
    turn++;
    [target, asked] = [null, false];
    waits(false);
    count.textContent = "";
  }
  /** @param {string} [why] for screen readers */
  function end(why = "") {
    sound.stop();
    ready();
    text = "";
    clip = null;
    line.hidden = true;
    said.textContent = why;
  }
  const cancel = () => end("Cue cleared");
  function fire() {
    if (!text || target !== null) return;
    if (!player.wanted) player.play();
    waits(true);
    const now = app.heard();
    const { position } = player;
    if (!now?.state?.bpm || position === null) {
      // Nothing sounds here, so there is nothing to count: the station's own bar line it is.
      target = 0;
      ask(false);
      return;
    }
    target = dropAt(now, position, Number(every.value)).bar;
    counted = place();
    ticking = setInterval(tick, TICK_MS);
    tick();
    said.textContent = `Drops in ${Math.ceil(dropAt(now, position, 1, target).beats)} beats`;
  }
  /** Whether the station keeps to a bar that is named; one of an earlier version takes its next bar line. */
  const named = () => (player.welcome?.limits?.bars_ahead ?? 0) > 0;
  /** Ask the station for it, at its bar. @param {boolean} counts whether the counter ends it */
  async function ask(counts) {
    asked = true;
    const mine = turn;
    const bar = counts && named() ? { bar: target } : {};
    const heard = seed === undefined ? {} : { seed };
    const applied = await app.steer({ prompts: [{ text, weight: 1 }], at: "bar", ...heard, ...bar }, text);
    if (mine !== turn) return; // another one is on cue
    if (!applied && !isComing()) ready();
    else if (!counts || player.position === null) end();
  }
  /** Whether it is on its way, perhaps as a part of a later change. */
  const isComing = () => !!player.now?.coming?.some((/** @type {any} */ each) => each.by === "steer" && each.prompts?.[0]?.text === text);
  // A bar that is out of reach gives way to the next one.
  player.addEventListener("scheduled", (/** @type {any} */ { detail }) => asked && target !== null && (target = detail.bar ?? target));
  /** Where bars have these numbers: a station in one run of its server. */
  const place = () => `${player.welcome?.station} ${player.welcome?.path?.at(-1)}`;
  player.addEventListener("welcome", () => target !== null && !asked && place() !== counted && ready());

  /** A hidden tab gets here once a second, which is still in time: a drop is asked for a bar ahead. */
  function tick() {
    const now = app.heard();
    const { position } = player;
    if (target === null || !text || !now?.state?.bpm || position === null) return;
    const perBar = now.state.beats_per_bar ?? 4;
    const { beats, due } = dropAt(now, position, Number(every.value), target, named());
    if (due && !asked) ask(true);
    const left = counter(beats, perBar);
    const shown = left === null ? `${Math.ceil(beats / perBar)} bars` : left ? String(left) : "now";
    if (count.textContent !== shown) count.textContent = shown;
    count.classList.toggle("last", left !== null);
    if ((beats <= 0 && asked && now.state.prompts?.[0]?.text === text) || beats < GONE_BEATS) end();
  }

  /** Put a prompt on cue. @param {string} given what stood in the box */
  function take(given) {
    if (!player.maySteer) return toast("Only a DJ of this station may cue.");
    set(given);
    if (box.value.trim() === given) box.value = "";
  }
  return { fire, cancel, take };
}
