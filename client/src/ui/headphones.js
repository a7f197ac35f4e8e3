// @ts-check
/** The output for listening ahead: headphones beside the speakers, where the browser can play on another device. */
import { make, toast } from "./dom.js";

const KEPT = "riffstream.headphones";
const OTHER = "other";

/** Another output of this machine, which the browser lets its user choose. @returns {Promise<{deviceId: string, label: string}[]>} */
async function outputs() {
  const devices = /** @type {any} */ (navigator.mediaDevices);
  if (devices.selectAudioOutput) return [await devices.selectAudioOutput()];
  // Other browsers name the outputs of a page that may use the microphone.
  for (const track of (await devices.getUserMedia({ audio: true })).getTracks()) track.stop();
  const found = /** @type {MediaDeviceInfo[]} */ (await devices.enumerateDevices());
  return found.filter((each) => each.kind === "audiooutput" && each.deviceId !== "default" && each.deviceId !== "");
}

/** @returns {{field: HTMLElement|null, device: () => string}} `field`: null where the browser has one output */
export function mountHeadphones() {
  if (!("setSinkId" in HTMLMediaElement.prototype) || !navigator.mediaDevices) return { field: null, device: () => "" };
  const option = (/** @type {string} */ value, /** @type {string} */ textContent) => make("option", { value, textContent });
  const field = make("select", { className: "field", id: "headphones", "aria-label": "Output for listening ahead", onchange: choose });
  let chosen = "";
  /** @param {{deviceId: string, label: string}[]} devices @param {string} now */
  function fill(devices, now) {
    field.replaceChildren(option("", "on this output"), ...devices.map((each) => option(each.deviceId, each.label || "headphones")), option(OTHER, "other output…"));
    field.value = chosen = now;
  }
  async function choose() {
    if (field.value !== OTHER) {
      chosen = field.value;
      keep();
      return;
    }
    field.value = chosen;
    try {
      const devices = await outputs();
      if (!devices.length) return toast("This machine has no other output.");
      fill(devices, devices[0].deviceId);
      keep();
    } catch (error) {
      toast(`No other output: ${error.message}`, { error: true });
    }
  }
  const keep = () => {
    try {
      localStorage.setItem(KEPT, JSON.stringify(chosen ? { deviceId: chosen, label: field.selectedOptions[0].textContent } : null));
    } catch {} // without storage it is asked for again
  };
  /** @type {{deviceId: string, label: string}|null} */
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(KEPT) ?? "null");
  } catch {}
  fill(kept ? [kept] : [], kept?.deviceId ?? "");
  return { field, device: () => chosen };
}
