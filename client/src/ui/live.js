// @ts-check
/** The button of the live input: a microphone or line that the model hears. */
import { packInput } from "../input-frames.js";
import { SAMPLE_RATE } from "../protocol.js";
import { byId, toast } from "./dom.js";

/** Music needs the sound as it is, without what browsers do for telephone calls. */
const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const FRAME_S = 0.04;
const WORDS = { live: "The station hears you", quiet: "Too quiet: the music does not change", noise: "Only noise: the music does not change" };

/** @param {any} error of getUserMedia */
function why(error) {
  if (error.name === "NotAllowedError") return "The browser does not let this page hear your input. Allow the microphone for this site and press again.";
  if (error.name === "NotFoundError") return "This machine has no microphone and no line input.";
  if (error.name === "NotReadableError") return "Another program uses the input.";
  return `The input cannot be opened: ${error.message || error.name}.`;
}

/** @param {import("./app.js").App} app */
export function mountLive({ player }) {
  const button = byId("live", HTMLButtonElement);
  if (!navigator.mediaDevices?.getUserMedia || typeof AudioWorkletNode === "undefined") return; // it stays hidden
  button.hidden = false;
  /** @type {{context: AudioContext, stream: MediaStream}|null} */
  let open = null;
  let asking = false;
  let takeover = false;
  let number = 0;

  /** @param {string} state @param {string} title */
  function show(state, title) {
    button.dataset.state = state;
    button.setAttribute("aria-pressed", String(state !== "off"));
    button.title = title;
    button.setAttribute("aria-label", state === "off" ? "Play live" : `Stop the live input. ${title}`);
    if (state === "off") button.style.setProperty("--level", "0");
  }

  const request = (/** @type {object} */ message) => player.link.post({ type: "send", message: { type: "input", id: `live-${++number}`, ...message } });
  const ask = () => request({ channels: 1, takeover });

  function stop() {
    if (!open) return;
    for (const track of open.stream.getTracks()) track.stop();
    open.context.close();
    open = null;
    show("off", "Play live");
  }

  async function start() {
    if (asking) return;
    asking = true;
    button.setAttribute("aria-busy", "true");
    /** @type {MediaStream|null} */
    let stream = null;
    /** @type {AudioContext|null} */
    let context = null;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: PLAIN });
      context = new AudioContext();
      await context.audioWorklet.addModule(new URL("../input-worklet.js", import.meta.url));
      const node = new AudioWorkletNode(context, "riffstream-input", { numberOfOutputs: 0 });
      node.port.onmessage = ({ data }) => send(data.frame, data.level);
      context.createMediaStreamSource(stream).connect(node);
      stream.getAudioTracks()[0].onended = () => {
        if (!open) return;
        request({ action: "stop" });
        stop();
        toast("The input was disconnected.", { error: true });
      };
      open = { context, stream };
      show("quiet", "Waiting for your sound");
      ask();
    } catch (error) {
      for (const track of stream?.getTracks() ?? []) track.stop();
      context?.close();
      toast(why(error), { error: true });
    }
    asking = false;
    button.removeAttribute("aria-busy");
  }

  /** @param {ArrayBuffer} frame @param {number} level */
  function send(frame, level) {
    if (!open) return;
    button.style.setProperty("--level", Math.min(1, Math.max(0, 1 + Math.log10(level + 1e-6) / 3)).toFixed(2)); // -60 dB to 0
    const heard = player.position;
    const data = packInput(frame, heard === null ? 0 : heard - FRAME_S * SAMPLE_RATE);
    player.link.post({ type: "input", data }, [data]);
  }

  button.addEventListener("click", () => {
    if (!open) return void start();
    request({ action: "stop" });
    stop();
  });
  const on = (/** @type {string} */ name, /** @type {(message: any) => void} */ act) =>
    player.addEventListener(name, (event) => act(/** @type {CustomEvent} */ (event).detail));
  on("input", (message) => {
    if (!open) return;
    if (message.status === "ended") {
      stop();
      toast(`The live input ended: ${message.reason}.`, { error: true });
      return;
    }
    takeover = false;
    show(message.status, WORDS[/** @type {keyof typeof WORDS} */ (message.status)] ?? "");
  });
  on("rejected", (message) => {
    if (!open || message.id !== `live-${number}`) return;
    stop();
    takeover = message.field === "takeover";
    toast(takeover ? "Somebody else plays live on this station. Press again to take over." : message.message, { error: true });
  });
  on("welcome", () => open && ask()); // a new connection has no input yet
  show("off", "Play live");
}
