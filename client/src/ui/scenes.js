// @ts-check
/** Scenes: eight states of the station that a hand can call up. They live in this browser, by station. */
import { promptLine } from "../protocol.js";
import { downloadJson, keep, make, rebuild, recall, toast } from "./dom.js";
import { FIELDS, snapshot } from "./history.js";

const SLOTS = 8;
const NAME_CHARS = 80;

/** @typedef {{name: string, change: any}} Scene */

/**
 * Scenes from text that somebody gives.
 * @param {string|null} text JSON: up to 8 scenes, null for an empty slot
 * @returns {(Scene|null)[]} eight
 * @throws {Error} the text holds no scenes
 */
export function readScenes(text) {
  const found = JSON.parse(text ?? "[]");
  if (!Array.isArray(found) || found.length > SLOTS) throw new Error(`a list of up to ${SLOTS} scenes is needed`);
  const scenes = found.map((scene, index) => {
    if (scene === null) return null;
    const { name, change } = scene ?? {};
    if (typeof name !== "string" || typeof change !== "object" || !Array.isArray(change?.prompts)) {
      throw new Error(`scene ${index + 1} has no name, or no prompts`);
    }
    return { name: name.slice(0, NAME_CHARS), change: Object.fromEntries(FIELDS.filter((f) => f in change).map((f) => [f, change[f]])) };
  });
  return [...scenes, ...Array(SLOTS - scenes.length).fill(null)];
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 * @returns {{fire: (slot: number) => void, store: (slot: number) => void}}
 */
export function mountScenes(app, panel) {
  const { player } = app;
  const place = () => `scenes.${player.station}`;
  let station = "";
  /** @type {(Scene|null)[]} */
  let scenes = [];
  const grid = make("div", { className: "scenes", role: "group", "aria-label": "Scenes" });

  function load() {
    station = player.station;
    try {
      scenes = readScenes(recall(place()));
    } catch {
      scenes = readScenes(null); // what was kept is no longer understood
    }
    show();
  }
  function save() {
    keep(place(), JSON.stringify(scenes));
    show();
  }
  /** @param {number} slot */
  function store(slot) {
    const state = app.state();
    if (!state) return;
    scenes[slot] = { name: promptLine(state.prompts).slice(0, NAME_CHARS), change: snapshot(state) };
    save();
    toast(`Scene ${slot + 1}: ${scenes[slot]?.name}`);
  }
  /** @param {number} slot */
  function fire(slot) {
    const scene = scenes[slot];
    if (!scene) toast(`Scene ${slot + 1} is empty; alt shift ${slot + 1} stores what plays.`);
    else if (player.maySteer) app.steer(scene.change, scene.name);
  }
  /** @param {Scene|null} scene @param {number} slot */
  const card = (scene, slot) =>
    make("div", { className: "scene" },
      make("button", {
        type: "button", className: "ghost steers", textContent: scene?.name ?? "empty", disabled: !scene,
        title: `alt ${slot + 1}`, "aria-label": `Scene ${slot + 1}: ${scene?.name ?? "empty"}`, "data-focus": `fire ${slot}`, onclick: () => fire(slot),
      }),
      make("button", { type: "button", className: "plain", textContent: "Store", "aria-label": `Store what plays as scene ${slot + 1}`, "data-focus": `store ${slot}`, onclick: () => store(slot) }),
      make("button", {
        type: "button", className: "plain", textContent: "Clear", "aria-label": `Clear scene ${slot + 1}`, "data-focus": `clear ${slot}`, hidden: !scene,
        onclick: () => {
          scenes[slot] = null;
          save();
        },
      }));
  function show() {
    rebuild(grid, scenes.map(card), file, ["store"]);
    scenes.forEach((scene, slot) => {
      if (!scene) grid.children[slot].querySelector("button")?.classList.remove("steers"); // it stays disabled
    });
    app.guard();
  }

  const file = make("input", {
    type: "file", accept: "application/json,.json", hidden: true,
    onchange: async () => {
      const chosen = file.files?.[0];
      file.value = "";
      if (!chosen) return;
      try {
        scenes = readScenes(await chosen.text());
        save();
      } catch (error) {
        toast(`${chosen.name}: ${error.message}`, { error: true });
      }
    },
  });
  panel.append(grid,
    make("div", { className: "row" },
      make("button", { type: "button", className: "ghost", textContent: "Save to a file", onclick: () => downloadJson(scenes, `scenes-${player.station}.json`) }),
      make("button", { type: "button", className: "ghost", textContent: "Open a file", onclick: () => file.click() }), file),
    make("p", { className: "quiet", textContent: "Alt and a digit plays a scene, alt, shift and a digit stores what plays. Scenes stay in this browser." }));
  load();
  app.onChange(() => station !== player.station && load());
  return { fire, store };
}
