// @ts-check
/** Numbers for those who want them: buffer, drift, latency, transport; clips with their pictures; all as JSON. */
import { paletteWords } from "../palette.js";
import { SAMPLE_RATE, promptLine } from "../protocol.js";
import { COLUMN_SAMPLES, ROWS } from "../spectrum.js";
import { download, make, toast } from "./dom.js";

const KEPT = 16;
const PICTURES = 8;
const EVERY_MS = 500;

/**
 * The picture of what lies between two places on the sample clock, a pixel for each 10 ms and each row; null where the
 * ring no longer, or not yet, holds all of it.
 * @param {import("../spectrum.js").SpectrumRing} ring
 * @param {number} from
 * @param {number} to
 * @param {import("../palette.js").Theme} theme
 */
export function clipPicture(ring, from, to, theme) {
  const columns = ring.between(Math.ceil(from / COLUMN_SAMPLES), Math.floor(to / COLUMN_SAMPLES));
  if (!columns) return null;
  const width = columns.length / ROWS;
  const image = new ImageData(width, ROWS);
  const words = new Uint32Array(image.data.buffer);
  const colours = paletteWords(theme);
  for (let x = 0; x < width; x++) for (let r = 0; r < ROWS; r++) words[(ROWS - 1 - r) * width + x] = colours[columns[x * ROWS + r]];
  return image;
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 * @param {import("../spectrum.js").SpectrumRing} ring
 * @returns {(on: boolean) => void} shows it or hides it
 */
export function mountDebug(app, panel, ring) {
  const { player } = app;
  const figures = make("dl", { className: "figures" });
  const clipList = make("ol", { className: "clips" });
  const eventLog = make("pre", { tabIndex: 0, role: "region", "aria-label": "Events" });
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
    figures,
    make("h3", { textContent: "Clips" }),
    make("p", { className: "quiet", textContent: "Pictures are this page's own analysis of the sound that it received, from one clip's start to the next one's." }),
    clipList,
    make("h3", { textContent: "Events" }), eventLog);

  /** @type {any[]} */
  const events = [];
  for (const name of ["event", "state", "transport"]) {
    player.addEventListener(name, (event) => {
      events.unshift({ at: new Date().toISOString(), .../** @type {CustomEvent} */ (event).detail });
      events.length = Math.min(events.length, KEPT);
    });
  }

  const numbers = () => {
    const { report, latency } = player.output;
    const { counters } = player.link;
    return {
      state: player.state,
      transport: player.transport,
      fallback: player.fallback || null,
      station: player.station,
      role: player.welcome?.role ?? null,
      model: player.welcome?.caps?.model ?? null,
      codec: player.welcome?.codec ?? null,
      position: player.position === null ? null : Math.round(player.position),
      buffer_ms: Math.round(report.bufferMs),
      target_ms: Math.round(report.targetMs),
      read_rate_ppm: Math.round((report.rate - 1) * 1e6),
      underruns: report.underruns,
      overruns: report.overruns,
      skips: report.skips,
      first_sound_ms: Math.round(player.firstSoundMs),
      output_latency_ms: Math.round(1000 * latency),
      round_trip_ms: Math.round(counters.latencyMs),
      frames: counters.frames,
      bytes: counters.bytes,
      lost_frames: counters.lost,
      decode_errors: counters.decodeErrors,
      events,
      clips: app.clips.map(({ rev, clip, alpha, sample_pos, beat, state }) => ({ clip, rev, alpha, sample_pos, beat, seed: state.seed, seed_image: state.seed_image, prompts: state.prompts })),
    };
  };

  /** @type {Map<any, {canvas: HTMLCanvasElement, done: boolean, item: HTMLElement, words: HTMLElement}>} */
  const shown = new Map();
  /** @param {any} clip @param {any} next the `now` after it, or null */
  function show(clip, next) {
    const entry = shown.get(clip) ?? { canvas: make("canvas", { width: 1, height: ROWS, role: "img" }), done: false, item: make("li"), words: make("div") };
    if (!shown.has(clip)) {
      shown.set(clip, entry);
      entry.item.append(entry.canvas, entry.words);
    }
    const line = promptLine(clip.state.prompts);
    const end = next?.sample_pos ?? Math.min(player.position ?? 0, ring.latest * COLUMN_SAMPLES);
    if (!entry.done) {
      const image = clipPicture(ring, clip.sample_pos, end, document.documentElement.dataset.theme === "light" ? "light" : "dark");
      if (image) {
        Object.assign(entry.canvas, { width: image.width });
        entry.canvas.getContext("2d")?.putImageData(image, 0, 0);
      }
      entry.canvas.hidden = entry.canvas.width < 2; // it was over before this panel could see it
      entry.canvas.setAttribute("aria-label", `Spectrogram of clip ${clip.clip}: ${line}`);
      entry.done = next !== null;
      const { seed, seed_image: image_name } = clip.state;
      entry.words.replaceChildren(
        make("p", { textContent: line }),
        make("small", { textContent: [`clip ${clip.clip}`, `alpha ${clip.alpha.toFixed(2)}`, `seed ${seed}`, image_name, `rev ${clip.rev}`].filter(Boolean).join(" · ") }),
        make("small", { textContent: `${(clip.sample_pos / SAMPLE_RATE).toFixed(2)} s, ${next ? `${((end - clip.sample_pos) / SAMPLE_RATE).toFixed(2)} s long` : "playing"}` }),
        next && image ? make("button", { type: "button", className: "plain", textContent: "Save picture", "aria-label": `Save the picture of clip ${clip.clip}`, onclick: () => save(entry.canvas, clip.clip) }) : "");
    }
    return entry.item;
  }

  /** @param {HTMLCanvasElement} canvas @param {number} clip */
  function save(canvas, clip) {
    canvas.toBlob((blob) => blob && download(blob, `${player.station}-clip-${clip}.png`));
  }

  function update() {
    const { events: happened, clips: _, ...plain } = numbers();
    figures.replaceChildren(...Object.entries(plain).map(([name, value]) =>
      make("div", {}, make("dt", { textContent: name.replaceAll("_", " ") }), make("dd", { textContent: String(value ?? "–") }))));
    const clips = app.clips.slice(0, PICTURES);
    const items = clips.map((clip, index) => show(clip, clips[index - 1] ?? null));
    if (items.some((item, index) => clipList.children[index] !== item) || clipList.childElementCount !== items.length) clipList.replaceChildren(...items);
    for (const clip of shown.keys()) if (!clips.includes(clip)) shown.delete(clip);
    eventLog.textContent = happened.map(({ at, type, ...rest }) => `${at.slice(11, 23)}  ${JSON.stringify(rest)}`).join("\n") || "none yet";
  }

  /** @type {ReturnType<typeof setInterval>|undefined} */
  let timer;
  return (on) => {
    clearInterval(timer);
    if (!on) return;
    update();
    timer = setInterval(update, EVERY_MS);
    panel.scrollIntoView({ block: "nearest" });
  };
}
