// @ts-check
/** The moving picture: draws what is heard, in 2D or 3D, as often as this machine can afford; light and dark. */
import { toneOf } from "../palette.js";
import { SAMPLE_RATE } from "../protocol.js";
import { COLUMN_SAMPLES, SpectrumRing } from "../spectrum.js";
import { Visualiser2D } from "../visualiser.js";
import { byId, keep, recall, toast } from "./dom.js";

/** Share of the main thread that pictures may take; beyond it every second, third or fourth one is drawn. */
const BUDGET = 0.07;
/** A screen of 120 Hz or more shows every other picture twice; nobody sees the difference. */
const LEAST_MS = 15;

/** @typedef {import("../visualiser.js").Look} Look */

/**
 * @param {import("./app.js").App} app
 * @param {() => void} tick called before each picture
 */
export function mountPicture(app, tick) {
  const { player } = app;
  const flatCanvas = byId("canvas2d", HTMLCanvasElement);
  const deepCanvas = byId("canvas3d", HTMLCanvasElement);
  const view = byId("view", HTMLButtonElement);
  const flat = new Visualiser2D(flatCanvas, document.body.classList.contains("overlay"));
  const ring = new SpectrumRing();
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  /** @type {import("../relief.js").Relief|null} */
  let relief = null;
  /** @type {{draw: (scene: import("../visualiser.js").Scene) => void}|null} another look on the flat canvas */
  let painter = null;
  /** @type {Look} */
  let look = "spectrogram";
  let turn = 0; // of the changes of look
  /** @type {import("../palette.js").Palette|null} null: the theme's colours */
  let palette = null;
  let position = 0;
  let drawnAt = 0;
  let cost = 0; // ms of the main thread a picture, smoothed
  let began = 0;
  // Where there is no GPU, most of a picture's cost comes after our own part of it. A message waits until it is on its way.
  const painted = new MessageChannel();
  painted.port1.onmessage = () => (cost += 0.1 * (performance.now() - began - cost));
  let skipped = 0;
  let dirty = true;

  player.addEventListener("columns", (event) => {
    const { first, levels } = /** @type {CustomEvent} */ (event).detail;
    ring.put(first, levels);
    flatCanvas.parentElement?.classList.add("lit");
  });
  document.addEventListener("visibilitychange", () => player.look(!document.hidden));
  addEventListener("resize", () => (dirty = true));

  /** @param {number} time */
  function draw(time) {
    requestAnimationFrame(draw);
    tick();
    const now = player.position;
    const moving = now !== null && player.state !== "paused";
    if (now !== null) {
      if (now < position - SAMPLE_RATE) app.markers.length = 0; // the server began anew
      position = now;
    }
    // Under reduced motion the picture moves in steps, four a second; at rest it is drawn once a second.
    if (time - drawnAt < (calm.matches ? 250 : moving || dirty ? LEAST_MS : 1000)) return;
    if (skipped < Math.min(3, Math.ceil(cost / (16.7 * BUDGET)) - 1)) {
      skipped++;
      return;
    }
    skipped = 0;
    drawnAt = time;
    dirty = false;
    if (moving && player.output.element) {
      player.output.element.ear.listen(ring, position);
      flatCanvas.parentElement?.classList.add("lit");
    }
    began = performance.now();
    (relief && !relief.lost ? relief : painter ?? flat).draw({ ring, position, now: app.heard(), markers: app.markers, sampleRate: SAMPLE_RATE });
    painted.port2.postMessage(null);
  }

  /** @param {Look} wanted @returns {Promise<boolean>} whether this browser has it */
  async function setLook(wanted) {
    if (wanted === "landscape" && calm.matches) return false;
    const mine = ++turn;
    /** @type {typeof painter} */
    let next = null;
    /** @type {typeof relief} */
    let deep = null;
    try {
      if (wanted === "radial") next = new (await import("../radial.js")).Radial(flat);
      if (wanted === "bars") next = new (await import("../bars.js")).Bars(flat);
      if (wanted === "landscape") {
        const { Relief } = await import("../relief.js");
        if (mine !== turn) return true;
        deep = relief ?? new Relief(deepCanvas, colours(), show);
      }
    } catch (error) {
      toast(wanted === "landscape" ? `No 3D view here: ${error.message}` : `This look did not load: ${error.message}`, { error: true });
      return false;
    }
    if (mine !== turn) return true; // another one was asked for meanwhile
    if (relief !== deep) relief?.close();
    relief = deep;
    painter = next;
    look = wanted;
    show();
    view.setAttribute("aria-pressed", String(relief !== null));
    return true;
  }
  /** The graphics card may be taken away, and given back: meanwhile the picture is flat. */
  function show() {
    const deep = relief !== null && !relief.lost;
    flatCanvas.hidden = deep;
    deepCanvas.hidden = !deep;
    cost = 0;
    dirty = true;
  }
  view.addEventListener("click", () => !view.disabled && setLook(look === "landscape" ? "spectrogram" : "landscape"));
  const settle = () => {
    view.disabled = calm.matches;
    view.title = calm.matches ? "3D view: off, since this device asks for less motion" : "3D view";
    if (calm.matches && relief) setLook("spectrogram");
  };
  calm.addEventListener("change", settle);
  settle();

  /** @returns {import("../palette.js").Theme} */
  function theme() {
    return document.documentElement.dataset.theme === "light" ? "light" : "dark";
  }
  /** @param {import("../palette.js").Theme} value */
  function setTheme(value) {
    document.documentElement.dataset.theme = value;
    document.querySelector('meta[name="theme-color"]')?.setAttribute("content", value === "light" ? "#f6f4fa" : "#0b0a11");
    paint();
  }
  const colours = () => palette ?? theme();
  /** Give the picture its colours, and the words on it those that can be read there. */
  function paint() {
    const stage = /** @type {HTMLElement} */ (flatCanvas.parentElement);
    if (palette) stage.dataset.tone = toneOf(palette);
    else delete stage.dataset.tone;
    flat.setTheme(colours());
    relief?.setTheme(colours());
    dirty = true;
  }
  /** @param {import("../palette.js").Palette|null} wanted */
  function setPalette(wanted) {
    palette = wanted;
    paint();
  }
  function toggleTheme() {
    setTheme(theme() === "dark" ? "light" : "dark");
    keep("theme", theme());
  }
  const asked = new URLSearchParams(location.search).get("theme") ?? recall("theme");
  setTheme(asked === "light" || (!asked && matchMedia("(prefers-color-scheme: light)").matches) ? "light" : "dark");
  byId("theme", HTMLButtonElement).addEventListener("click", toggleTheme);

  requestAnimationFrame(draw);
  return {
    ring,
    setTheme,
    toggleTheme,
    look: () => look,
    setLook,
    palette: () => palette,
    setPalette,
    /** The last ten seconds as a picture, for the system's media controls. */
    artwork: () => (ring.latest < 0 ? null : artwork(ring)),
    columnsAhead: () => ring.latest - position / COLUMN_SAMPLES,
  };
}

/** @param {SpectrumRing} ring */
function artwork(ring) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 256;
  const small = new Visualiser2D(canvas);
  small.resize = () => 1;
  small.draw({ ring, position: ring.latest * COLUMN_SAMPLES, now: null, markers: [], sampleRate: SAMPLE_RATE });
  return canvas.toDataURL("image/jpeg", 0.8);
}
