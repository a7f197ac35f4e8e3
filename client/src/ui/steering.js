// @ts-check
/** Asks for changes and shows what becomes of them: scheduled, then now playing, or why not. */
import { SAMPLE_RATE } from "../protocol.js";
import { byId, paced, steerEveryMs, toast } from "./dom.js";

const SHOWN_MS = 2500;
const KEPT_MARKERS = 40;
const HEARD_MS = 3000; // by then an applied change sounds

/**
 * @param {import("../player.js").Player} player
 * @param {import("../visualiser.js").Marker[]} markers
 */
export function makeSteering(player, markers) {
  const form = byId("prompt-form", HTMLFormElement);
  const next = byId("next", HTMLElement);
  const count = byId("countdown", HTMLElement);
  const ramp = byId("ramp", HTMLSelectElement);

  /** Length of the transition to new words, s: bars at the tempo that plays. */
  function rampSeconds() {
    const { state } = player.now ?? player.welcome ?? {};
    const beats = Number(ramp.value) * (state?.beats_per_bar ?? 4);
    const most = player.welcome?.limits?.ramp_s?.[1] ?? 120;
    return Math.min(most, (beats * 60) / (state?.bpm ?? 120));
  }
  /** @type {{label: string, at: number, since: number}|null} what is coming; `at` on the sample clock */
  let coming = null;
  let shownS = Infinity; // a countdown never goes up: the first place is an estimate
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let clearing;

  /** @param {string} text @param {number} [forMs] */
  const say = (text, forMs) => {
    next.textContent = text;
    count.textContent = "";
    shownS = Infinity;
    clearTimeout(clearing);
    if (forMs) clearing = setTimeout(() => (next.textContent = ""), forMs);
  };

  /**
   * @param {import("../protocol.js").Steer} change
   * @param {string} label
   * @param {boolean} [quiet] no marker: a fader on its way
   * @returns {Promise<{rev: number}|null>} what was applied, if it was
   */
  async function steer(change, label, quiet = false) {
    const at = /** @type {import("../protocol.js").When} */ (new FormData(form).get("at") ?? "asap");
    const gradual = change.prompts && !quiet && Number(ramp.value) > 0 ? { ramp_s: rampSeconds() } : {};
    say(`Asking for ${label}`);
    if (theirs) coming = null;
    theirs = null;
    /** @type {import("../visualiser.js").Marker} */
    const marker = { samplePos: 0, label, pending: true };
    const unmark = () => markers.includes(marker) && markers.splice(markers.indexOf(marker), 1);
    try {
      const applied = await player.steer({ at, ...gradual, ...change }, (scheduled) => {
        coming = { label, at: scheduled.audible_at, since: performance.now() + scheduled.audible_in_ms };
        say(`Next: ${label}`);
        marker.samplePos = scheduled.audible_at;
        if (!quiet && !markers.includes(marker)) markers.push(marker);
      });
      marker.samplePos = applied.audible_at;
      marker.pending = false;
      coming = { label, at: applied.audible_at, since: coming?.since ?? performance.now() };
      markers.splice(0, markers.length - KEPT_MARKERS);
      return applied;
    } catch (error) {
      unmark();
      if (error.type === "superseded") {
        if (error.by === "other") say("Another listener's change came after yours", SHOWN_MS);
        return null;
      }
      coming = null;
      say("");
      const wait = error.retry_after_ms ? `; try again in ${(error.retry_after_ms / 1000).toFixed(1)} s` : "";
      toast(`${error.message}${wait}`, { error: true });
      return null;
    }
  }

  /** @type {import("../visualiser.js").Marker|null} of a change by somebody else */
  let theirs = null;
  /**
   * A change of another listener is on its way. One's own comes first.
   * @param {string} label
   * @param {number} at on the sample clock
   */
  function announce(label, at) {
    if (coming && coming.label !== label) return;
    if (!coming) {
      say(`Next: ${label}`);
      theirs = { samplePos: at, label, pending: true };
      markers.push(theirs);
    } else if (!theirs) return;
    theirs.samplePos = at;
    coming = { label, at, since: performance.now() };
  }

  /** Once a picture: count down to what comes, and tell when it is heard. */
  function tick() {
    if (!coming) return;
    const { position } = player;
    const seconds = position === null ? (coming.since - performance.now()) / 1000 : (coming.at - position) / SAMPLE_RATE;
    if (seconds > 0) {
      shownS = Math.min(shownS, seconds);
      count.textContent = `in ${shownS.toFixed(1)} s`;
    } else {
      say(`Now playing: ${coming.label}`, SHOWN_MS);
      coming = null;
      if (theirs) theirs.pending = false;
      theirs = null;
    }
  }

  return { steer, announce, tick, when: () => new FormData(form).get("at") ?? "asap" };
}

/**
 * A control that a hand moves: what it is set to goes out as often as the station allows, and until that is heard what plays
 * is older than what the control says.
 * @param {import("./app.js").App} app
 * @param {() => Promise<{rev: number}|null>} ask sends what the control says now
 * @param {() => number} [everyMs] the shortest time between two changes, ms
 */
export function handed(app, ask, everyMs = () => steerEveryMs(app.player)) {
  let moved = false, asking = 0, rev = 0, until = 0;
  const send = paced(async () => {
    moved = false;
    asking += 1;
    const applied = await ask();
    asking -= 1;
    if (applied) [rev, until] = [applied.rev, performance.now() + HEARD_MS];
  }, everyMs);
  return {
    changed: () => {
      moved = true;
      send();
    },
    ahead: () => moved || asking > 0 || ((app.heard()?.rev ?? 0) < rev && performance.now() < until),
  };
}
