// @ts-check
/** The DJ's end of the second screen: opens it, and says what it shows. */
import { openChannel } from "../channel.js";
import { CHANNEL, PARTS, readSettings } from "../stage.js";
import { LOOKS } from "../visualiser.js";
import { make } from "./dom.js";

const ANSWER_MS = 200;

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountStageControl(app, panel) {
  const { player } = app;
  let settings = readSettings(null);
  let open = false;
  const channel = openChannel(CHANNEL);

  /** @param {Partial<import("../stage.js").Settings>} change */
  function set(change) {
    settings = { ...settings, ...change };
    channel?.postMessage({ type: "set", settings });
    show();
  }
  const size = make("input", { type: "range", min: "0.5", max: "4", step: "0.25", "aria-label": "Text size", oninput: () => set({ size: Number(size.value) }) });
  const look = make("select", { className: "field", "aria-label": "Picture of the second screen", onchange: () => set({ look: /** @type {any} */ (look.value) }) },
    ...LOOKS.map((value) => make("option", { value, textContent: value })));
  const parts = Object.entries(PARTS).map(([name, words]) => {
    const box = make("input", { type: "checkbox", onchange: () => set({ hidden: boxes().filter(([, each]) => !each.checked).map(([each]) => each) }) });
    return { name, box, label: make("label", { className: "check" }, box, ` ${words}`) };
  });
  const boxes = () => parts.map(({ name, box }) => /** @type {const} */ ([name, box]));
  const dark = make("button", { type: "button", className: "ghost", id: "stage-blackout", textContent: "Blackout", title: "Blackout (b)", "aria-pressed": "false", onclick: () => toggleBlackout() });
  const status = make("p", { className: "quiet", id: "stage-status", role: "status" });
  const controls = make("div", { className: "row", role: "group", "aria-label": "Second screen" }, size, look, ...parts.map(({ label }) => label), dark);
  panel.append(
    make("h3", { textContent: "Second screen" }),
    make("div", { className: "row" }, make("button", {
      type: "button", className: "ghost", id: "open-stage", textContent: "Open stage",
      onclick: () => globalThis.open(player.url(`/stage/${encodeURIComponent(player.station)}`), "riffstream-stage", "popup,width=1280,height=720"),
    })),
    controls, status);

  /** Another page may have opened it just before: it answers at once. */
  async function toggleBlackout() {
    if (!open) await new Promise((answered) => setTimeout(answered, ANSWER_MS));
    if (open) set({ blackout: !settings.blackout });
  }
  function show() {
    size.value = String(settings.size);
    look.value = settings.look;
    for (const { name, box } of parts) box.checked = !settings.hidden.includes(name);
    dark.setAttribute("aria-pressed", String(settings.blackout));
    for (const control of [size, look, dark, ...parts.map(({ box }) => box)]) control.disabled = !open;
    const words = !channel ? "This browser has no way to reach another window." : open ? (settings.blackout ? "It is dark." : "It is open.") : "It is not open. Move its window to the other screen, and press f there.";
    if (status.textContent !== words) status.textContent = words;
  }
  channel?.addEventListener("message", ({ data }) => {
    if (data?.type === "stage") [open, settings] = [true, readSettings(data.settings)];
    else if (data?.type === "gone") open = false;
    else return;
    show();
  });
  channel?.postMessage({ type: "ask" });
  show();
  return { toggleBlackout };
}
