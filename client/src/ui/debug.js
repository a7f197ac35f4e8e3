// @ts-check
/** Numbers for those who want them: clips, events, buffer, drift, latency, transport; copied as JSON. */
import { make, toast } from "./dom.js";

const KEPT = 16;

/**
 * @param {import("./app.js").App} app
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} panel
 */
export function mountDebug(app, button, panel) {
  const { player } = app;
  const text = make("pre", { tabIndex: 0, role: "region", "aria-label": "Numbers as JSON" });
  const copy = () =>
    (navigator.clipboard?.writeText(JSON.stringify(numbers(), null, 2)) ?? Promise.reject()).then(
      () => toast("Copied"),
      () => toast("This page may not copy", { error: true }),
    );
  panel.append(
    make("div", { className: "row" },
      make("button", { type: "button", className: "ghost", textContent: "Copy as JSON", onclick: copy }),
      make("a", { className: "ghost", href: player.url("/api/schema"), textContent: "Protocol schema" }),
      make("a", { className: "ghost", href: player.url("/metrics"), textContent: "Server metrics" })),
    text);

  /** @type {any[]} */
  const clips = [];
  /** @type {any[]} */
  const events = [];
  player.addEventListener("now", (event) => {
    const { rev, clip, alpha, sample_pos, beat, state } = /** @type {CustomEvent} */ (event).detail;
    clips.unshift({ clip, rev, alpha, sample_pos, beat, seed: state.seed, prompts: state.prompts });
    clips.length = Math.min(clips.length, KEPT);
  });
  for (const name of ["event", "state"]) {
    player.addEventListener(name, (event) => {
      events.unshift({ at: new Date().toISOString(), .../** @type {CustomEvent} */ (event).detail });
      events.length = Math.min(events.length, KEPT);
    });
  }

  const numbers = () => ({
    state: player.state,
    transport: player.transport,
    station: player.station,
    role: player.welcome?.role ?? null,
    model: player.welcome?.caps?.model ?? null,
    codec: player.welcome?.codec ?? null,
    position: player.position === null ? null : Math.round(player.position),
    buffer_ms: Math.round(player.report.bufferMs),
    target_ms: Math.round(player.report.targetMs),
    read_rate_ppm: Math.round((player.report.rate - 1) * 1e6),
    underruns: player.report.underruns,
    overruns: player.report.overruns,
    skips: player.report.skips ?? 0,
    first_sound_ms: Math.round(player.firstSoundMs),
    output_latency_ms: Math.round(1000 * (player.context?.outputLatency ?? 0)),
    round_trip_ms: Math.round(player.counters.latencyMs),
    frames: player.counters.frames,
    bytes: player.counters.bytes,
    lost_frames: player.counters.lost,
    decode_errors: player.counters.decodeErrors,
    events,
    clips,
  });

  /** @type {ReturnType<typeof setInterval>|undefined} */
  let timer;
  button.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
    clearInterval(timer);
    if (!panel.hidden) {
      const show = () => (text.textContent = JSON.stringify(numbers(), null, 2));
      show();
      timer = setInterval(show, 500);
      panel.scrollIntoView({ block: "nearest" });
    }
  });
}
