// @ts-check
/** The sound panel: tempo, key, denoising, guidance and seed of the station; and the volume, which is yours alone. */
import { byId, keep, make, recall, slide, toast } from "./dom.js";
import { mountForm } from "./form.js";
import { TapTempo } from "../tap.js";
import { handed } from "./steering.js";

const KEYS = ["C / a", "C♯ / a♯", "D / b", "E♭ / c", "E / c♯", "F / d", "F♯ / d♯"];
const DOWN = ["C / a", "B / g♯", "B♭ / g", "A / f♯", "A♭ / f", "G / e", "G♭ / e♭"];

/** @param {number} key semitones, -6..6 */
export function keyName(key) {
  const name = key >= 0 ? KEYS[Math.round(key)] : DOWN[Math.round(-key)];
  return `${name} (${key > 0 ? "+" : key < 0 ? "−" : ""}${Math.abs(key)})`;
}

/**
 * Whether the station's music starts from noise: denoising is the distance from a seed image, and does nothing then.
 * @param {{seed_image?: string|null}|null} state
 * @param {{seed_image?: string|null}|undefined} caps of a server of an earlier version: without a seed image
 */
export function fromNoise(state, caps) {
  if (!state || (!state.seed_image && caps?.seed_image === undefined)) return false;
  return (state.seed_image ?? caps?.seed_image ?? "none") === "none";
}

/** @param {import("../player.js").Player} player */
export function mountVolume(player) {
  const volume = byId("volume", HTMLInputElement);
  const mute = byId("mute", HTMLButtonElement);
  let muted = false;
  let tell = () => {};
  const apply = () => {
    const level = Number(volume.value);
    player.output.setVolume(muted ? 0 : level);
    volume.setAttribute("aria-valuetext", `${Math.round(100 * level)} %`);
    mute.setAttribute("aria-pressed", String(muted || level === 0));
    tell();
  };
  const toggleMute = () => {
    muted = !muted;
    if (!muted && Number(volume.value) === 0) slide(volume, 0.5);
    apply();
  };
  volume.addEventListener("input", () => {
    muted = false;
    apply();
    keep("volume", volume.value);
  });
  mute.addEventListener("click", toggleMute);
  slide(volume, recall("volume") ?? 1);
  apply();
  /** @param {number} level 0 to 1 */
  function setVolume(level) {
    slide(volume, level);
    volume.dispatchEvent(new Event("input"));
  }
  return {
    toggleMute,
    setVolume,
    volume: () => (muted ? 0 : Number(volume.value)),
    /** @param {() => void} told of each change, whoever makes it */
    onVolume: (told) => (tell = told),
  };
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountSound(app, panel) {
  const { player } = app;
  const grid = make("div", { className: "grid" });

  /** @type {{name: "bpm"|"key"|"denoising"|"guidance", label: string, help: string, min: number, max: number, step: number,
   *   usual: number, show: (value: number) => string}[]} */
  const faders = [
    { name: "bpm", label: "Tempo", help: "at once, without a new clip", min: 40, max: 240, step: 1, usual: 100, show: (v) => `${v} bpm` },
    { name: "key", label: "Key", help: "at once, without a new clip", min: -6, max: 6, step: 1, usual: 0, show: keyName },
    { name: "denoising", label: "Denoising", help: "how far a clip may leave its seed image", min: 0, max: 1, step: 0.01, usual: 0.875, show: (v) => v.toFixed(2) },
    { name: "guidance", label: "Guidance", help: "how closely a clip follows its prompt", min: 0, max: 20, step: 0.5, usual: 3, show: (v) => v.toFixed(1) },
  ];
  for (const fader of faders) {
    const output = make("output", { for: fader.name });
    const help = make("small", { id: `${fader.name}-help`, textContent: fader.help });
    const own = fader.name === "bpm" ? "the tempo of the words" : "the model's own";
    const input = make("input", {
      type: "range", id: fader.name, className: fader.name === "denoising" ? "" : "steers", min: fader.min, max: fader.max, step: fader.step, "aria-describedby": `${fader.name}-help`,
      oninput: () => {
        touched = performance.now();
        show();
      },
      onchange: () => hand.changed(),
    });
    // Presses in quick succession add up, and go out together.
    const hand = handed(app, () => app.steer({ [fader.name]: Number(input.value) }, `${fader.label.toLowerCase()} ${fader.show(Number(input.value))}`));
    let touched = -Infinity;
    const show = () => {
      output.textContent = fader.show(Number(input.value));
      output.className = "";
      input.setAttribute("aria-valuetext", output.textContent);
    };
    const auto = make("button", {
      type: "button", className: "plain steers", textContent: "auto", title: `Back to ${own}`, hidden: true,
      "aria-label": `${fader.label}, auto: back to ${own}`,
      onclick: () => app.steer({ [fader.name]: null }, `${fader.label.toLowerCase()} on its own`),
    });
    app.onChange(() => {
      if (fader.name === "denoising") {
        const idle = fromNoise(app.state(), player.welcome?.caps);
        input.disabled = !player.maySteer || idle;
        const words = idle ? "no effect: the music starts from noise. A seed image gives it a start, see Seeds" : fader.help;
        if (help.textContent !== words) help.textContent = words;
      }
      const [low, high] = player.welcome?.limits?.[fader.name] ?? [fader.min, fader.max];
      input.min = low;
      input.max = high;
      // A fader under somebody's hand, or whose change is not heard yet, does not move by itself.
      if (hand.ahead() || (document.activeElement === input && performance.now() - touched < 4000)) return;
      const value = app.state()?.[fader.name] ?? null;
      slide(input, value ?? player.welcome?.caps?.[fader.name] ?? fader.usual);
      show();
      const reason = fader.name === "bpm" ? app.state()?.bpm_reason ?? null : null;
      auto.hidden = value === null || fader.name === "key" || (fader.name === "bpm" && (reason !== null || !app.state()));
      if (fader.name === "bpm") help.textContent = reason ?? fader.help;
      if (value === null && app.state()) {
        output.textContent = "auto";
        output.className = "auto";
        input.setAttribute("aria-valuetext", "the model's own");
      }
    });
    const beside = fader.name === "bpm" ? [tapButton(input), auto, output] : [auto, output];
    grid.append(control(fader.name, fader.label, input, beside, help));
  }

  const metre = make("select", { id: "beats_per_bar", className: "field steers" },
    make("option", { value: "auto", textContent: "that of the words" }),
    ...[3, 4].map((beats) => make("option", { value: String(beats), textContent: `${beats} beats to the bar` })));
  const showMetre = () => {
    const state = app.state();
    if (state) metre.value = (state.beats_per_bar_reason ?? null) === null ? String(state.beats_per_bar) : "auto";
  };
  metre.addEventListener("change", async () => {
    const beats = metre.value === "auto" ? null : Number(metre.value);
    const applied = await app.steer({ beats_per_bar: beats }, beats ? `${beats} beats to the bar` : "metre of the words");
    if (!applied) showMetre(); // refused: what the station has
  });
  const metreHelp = make("small", {});
  app.onChange(() => {
    const state = app.state();
    const reason = state?.beats_per_bar_reason ?? null;
    if (document.activeElement !== metre) showMetre();
    metreHelp.textContent = reason === null ? "from the next bar line on" : `now ${state?.beats_per_bar}: ${reason}`;
  });
  grid.append(control("beats_per_bar", "Metre", metre, [], metreHelp));

  const seed = make("input", { type: "number", id: "seed", className: "steers", min: "0", max: "4294967295", step: "1" });
  const applySeed = () => app.steer({ seed: Math.max(0, Math.min(4294967295, Math.round(Number(seed.value) || 0))) }, `seed ${seed.value}`);
  seed.addEventListener("change", applySeed);
  app.onChange(() => {
    if (document.activeElement !== seed) seed.value = String(app.state()?.seed ?? 0);
  });
  const dice = make("button", {
    type: "button", className: "ghost steers", textContent: "Another",
    onclick: () => {
      seed.value = String(Math.floor(Math.random() * 4294967296));
      applySeed();
    },
  });
  const help = make("small", { textContent: "the same seed gives the same noise" });
  grid.append(control("seed", "Seed", make("div", { className: "row" }, seed, dice), [], help));

  const negative = make("input", { type: "text", id: "negative", className: "field steers", maxLength: 300, placeholder: "nothing is excluded" });
  negative.addEventListener("change", () => {
    const text = negative.value.trim();
    app.steer({ negative: text || null }, text ? `without ${text}` : "nothing excluded");
  });
  app.onChange(() => {
    if (document.activeElement !== negative) negative.value = app.state()?.negative ?? "";
  });
  grid.append(control("negative", "Without", negative, [], make("small", { textContent: "words that the music keeps away from" })));

  const operate = (/** @type {"skip"|"reset"|"pause"|"resume"} */ op) => player.operate(op).catch((error) => error.type !== "superseded" && toast(error.message, { error: true }));
  const pause = make("button", { type: "button", className: "ghost steers", onclick: () => operate(app.state()?.paused ? "resume" : "pause") });
  app.onChange(() => (pause.textContent = app.state()?.paused ? "Resume for all" : "Pause for all"));
  grid.append(
    make("div", { className: "control" },
      make("div", { className: "top" }, make("span", { textContent: "Station" })),
      make("div", { className: "row", role: "group", "aria-label": "The station, for everybody" },
        make("button", { type: "button", className: "ghost steers", textContent: "Variation", onclick: () => operate("skip") }),
        make("button", { type: "button", className: "ghost steers", textContent: "Journey", title: "Back to the station's own journey", onclick: () => operate("reset") }),
        pause),
      make("small", { textContent: "for everybody who listens" })),
  );
  mountForm(app, grid);
  panel.append(grid);
}

/** A button that is tapped in time. @param {HTMLInputElement} input the tempo's */
function tapButton(input) {
  const tempo = new TapTempo();
  return make("button", {
    type: "button", id: "tap-tempo", className: "plain steers", textContent: "tap", title: "Tap the tempo (y)", "aria-label": "Tap the tempo",
    onclick: () => {
      const bpm = tempo.tap(performance.now());
      if (bpm === null) return;
      slide(input, Math.round(bpm));
      input.dispatchEvent(new Event("input"));
      input.dispatchEvent(new Event("change"));
    },
  });
}

/**
 * @param {string} id
 * @param {string} label
 * @param {HTMLElement} input
 * @param {HTMLElement[]} beside the label
 * @param {HTMLElement} help
 */
function control(id, label, input, beside, help) {
  return make("div", { className: "control" },
    make("div", { className: "top" }, make("label", { for: id, textContent: label }), ...beside),
    input,
    help);
}
