// @ts-check
/** MIDI: a device moves the controls of the page. Learn: choose a control, then move a knob. */
import { MidiMap, readMidi, sourceName } from "../midi.js";
import { keep, make, recall, slide, toast } from "./dom.js";

/** Panels that hold a control, by the start of its id: fetched when a knob first reaches for it. */
const PANELS = /** @type {const} */ ([["desk-", "panel-desk"], ["level-", "panel-levels"]]);

/** @param {any} error of requestMIDIAccess */
function why(error) {
  if (error.name === "NotAllowedError" || error.name === "SecurityError") return "The browser does not let this page use MIDI. Allow it for this site and press again.";
  return `MIDI cannot be opened: ${error.message || error.name}.`;
}

/**
 * @param {HTMLElement} place
 * @param {{load: (panel: string) => Promise<void>, fireScene: (slot: number) => void}} acts
 */
export async function mountMidi(place, { load, fireScene }) {
  if (!("requestMIDIAccess" in navigator)) {
    toast("This browser has no Web MIDI; Chromium and Firefox have it, over https or on localhost.", { error: true });
    return;
  }
  /** @type {any} */
  let access;
  try {
    access = await /** @type {any} */ (navigator).requestMIDIAccess();
  } catch (error) {
    toast(why(error), { error: true });
    return;
  }
  /** @type {Map<string, MidiMap>} by the device's name */
  const maps = new Map();
  const mapOf = (/** @type {string} */ device) => {
    let map = maps.get(device);
    if (!map) {
      map = MidiMap.read(recall(`midi:${device}`)) ?? MidiMap.preset(device);
      maps.set(device, map);
    }
    return map;
  };
  const save = (/** @type {string} */ device) => {
    keep(`midi:${device}`, String(mapOf(device)));
    show();
  };

  let learning = false;
  /** @type {string|null} the control that was chosen */
  let chosen = null;
  const devices = make("p", { className: "chip", id: "midi-devices" });
  const says = make("p", { className: "quiet", id: "midi-says", role: "status" });
  const list = make("ul", { className: "history", id: "midi-map" });
  const learn = make("button", { type: "button", className: "ghost", textContent: "Learn", "aria-pressed": "false", onclick: () => setLearning(!learning) });
  place.replaceChildren(make("div", { className: "row" }, devices, learn), says, list);

  /** @param {boolean} on */
  function setLearning(on) {
    learning = on;
    chosen = null;
    learn.setAttribute("aria-pressed", String(on));
    document.body.classList.toggle("learning", on);
    says.textContent = on ? "Choose a fader or a button of the page, then move a knob or hit a pad." : "";
  }
  // While it learns, a press chooses a control and does nothing else.
  for (const name of ["pointerdown", "click", "focusin"]) {
    addEventListener(name, (event) => {
      if (!learning) return;
      const control = /** @type {Element} */ (event.target).closest?.("input[type=range][id], button[id], .scene > button");
      if (!control || place.contains(control) || control.getAttribute("role") === "tab") return;
      if (name !== "focusin") {
        event.preventDefault();
        event.stopPropagation();
      }
      const scene = [...document.querySelectorAll(".scene > button:first-child")].indexOf(control);
      chosen = control.id || (scene >= 0 ? `scene-${scene + 1}` : null);
      if (chosen) says.textContent = `${labelOf(chosen)}: now move a knob or hit a pad.`;
    }, true);
  }

  /** @param {string} target */
  function labelOf(target) {
    const element = document.getElementById(target);
    return element?.getAttribute("aria-label") ?? document.querySelector(`label[for="${CSS.escape(target)}"]`)?.textContent ?? element?.textContent?.trim() ?? target.replace("-", " ");
  }

  /** @param {string} device @param {import("../midi.js").Touch} touch */
  function take(device, touch) {
    if (learning && chosen) {
      if (touch.kind === "note" && !touch.on) return;
      mapOf(device).learn(touch, chosen);
      says.textContent = `${labelOf(chosen)} follows ${sourceName(touch)} of ${device}.`;
      chosen = null;
      save(device);
      return;
    }
    const entry = mapOf(device).find(touch);
    if (entry) act(entry, touch);
  }

  /** @param {{target: string, takeover: import("../midi.js").Takeover}} entry @param {import("../midi.js").Touch} touch */
  async function act({ target, takeover }, touch) {
    const scene = /^scene-([1-8])$/.exec(target);
    if (scene) {
      if (touch.on) fireScene(Number(scene[1]) - 1);
      return;
    }
    const panel = PANELS.find(([start]) => target.startsWith(start))?.[1];
    if (panel && !document.getElementById(target)) await load(panel);
    const control = document.getElementById(target);
    if (control instanceof HTMLInputElement && !control.disabled) {
      const [low, high] = [Number(control.min), Number(control.max)];
      if (!takeover.moves(touch.value, (Number(control.value) - low) / (high - low))) {
        says.textContent = `${labelOf(target)}: move the knob to ${control.getAttribute("aria-valuetext") ?? control.value} first.`;
        return;
      }
      slide(control, low + touch.value * (high - low));
      takeover.left = (Number(control.value) - low) / (high - low); // it rests on a step
      control.dispatchEvent(new Event("input", { bubbles: true }));
      control.dispatchEvent(new Event("change", { bubbles: true }));
    } else if (control instanceof HTMLButtonElement && touch.on) control.click();
  }

  function show() {
    const inputs = [...access.inputs.values()];
    devices.textContent = inputs.length ? inputs.map((input) => input.name).join(", ") : "no MIDI device is connected";
    list.replaceChildren(...inputs.flatMap((input) => mapOf(input.name).pairs.map(([source, target]) =>
      make("li", {},
        make("span", { className: "quiet", textContent: sourceName(source) }),
        make("span", { textContent: labelOf(target) }),
        make("button", {
          type: "button", className: "ghost", textContent: "Forget", "aria-label": `Forget ${sourceName(source)}: ${labelOf(target)}`,
          onclick: () => {
            mapOf(input.name).forget(source);
            save(input.name);
          },
        })))));
    list.hidden = !list.childElementCount;
  }
  function listen() {
    for (const input of access.inputs.values()) {
      input.onmidimessage = (/** @type {{data: Uint8Array}} */ { data }) => {
        const touch = readMidi(data);
        if (touch) take(input.name, touch);
      };
    }
    show();
  }
  access.onstatechange = listen; // plugged in or out
  listen();
}
