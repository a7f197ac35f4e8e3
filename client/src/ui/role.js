// @ts-check
/** Who one is here, and what one may do: the badge, the ring of the next change, and the way to become a DJ. */
import { Bucket } from "../bucket.js";
import { byId, keep, make } from "./dom.js";

const NAMES = /** @type {Record<string, string>} */ ({ dj: "DJ", owner: "Owner" });
const ABOUT = /** @type {Record<string, string>} */ ({ dj: "You may change the music", owner: "You may change the music and manage stations" });
const TICK_MS = 100;

/**
 * @param {import("./app.js").App} app
 * @param {(station: string) => Promise<void>} tune
 */
export function mountRole(app, tune) {
  const { player } = app;
  const badge = byId("role", HTMLElement);
  const note = byId("readonly", HTMLElement);
  const send = byId("send", HTMLButtonElement);
  let bucket = new Bucket(2, 3, performance.now());
  let waiting = false; // for the answer to a change

  const box = make("input", { type: "password", className: "field", "aria-label": "DJ's token", placeholder: "Token", autocomplete: "off" });
  const form = make("form", {
    className: "row", id: "become-form", hidden: true,
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const token = box.value.trim();
      if (!token) return box.focus();
      box.value = "";
      keep("token", token, "sessionStorage");
      player.token = token;
      tune(player.station); // a sound that is wanted goes on
    },
  }, box, make("button", { className: "primary", textContent: "Use this token" }));
  const open = make("button", {
    type: "button", className: "plain", id: "become", textContent: "Become DJ", "aria-expanded": "false",
    onclick: () => {
      form.hidden = !form.hidden;
      open.setAttribute("aria-expanded", String(!form.hidden));
      if (!form.hidden) box.focus();
    },
  });
  const become = make("div", { className: "become", hidden: true }, open, form);
  note.after(become);

  function showRole() {
    const { welcome } = player;
    const role = player.maySteer ? welcome.role : "";
    badge.hidden = !role;
    badge.textContent = NAMES[role] ?? "";
    badge.title = ABOUT[role] ?? "";
    become.hidden = !welcome || player.maySteer || welcome.caps?.steer === false || !!player.own;
    if (become.hidden) form.hidden = true;
  }
  player.addEventListener("welcome", () => {
    const { steer_interval_s: interval = 2, steer_burst: burst = 3 } = player.welcome.limits ?? {};
    bucket = new Bucket(interval, burst, performance.now());
    if (waiting) bucket.take(performance.now()); // what was asked for before goes over the new line
  });
  for (const name of ["scheduled", "superseded", "rejected"]) player.addEventListener(name, () => (waiting = false));
  app.onChange(showRole);

  /** @type {ReturnType<typeof setInterval>|undefined} */
  let ticking;
  function tick() {
    const now = performance.now();
    const ready = bucket.ready(now);
    const waits = player.maySteer && ready < 1;
    send.classList.toggle("cooling", waits);
    send.style.setProperty("--ready", String(ready));
    send.title = waits ? `The next change passes in ${Math.max(0.1, bucket.waitS(now)).toFixed(1)} s; an earlier one waits for it` : "";
    if (ready >= 1) {
      clearInterval(ticking);
      ticking = undefined;
    }
  }
  return {
    /** A change was sent. */
    sent: () => {
      bucket.take(performance.now());
      waiting = true;
      ticking ??= setInterval(tick, TICK_MS);
      tick();
    },
  };
}
