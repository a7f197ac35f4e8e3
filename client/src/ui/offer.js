// @ts-check
/** The offer to play what the link holds that this page was opened with. */
import { promptLine } from "../protocol.js";
import { make, toast } from "./dom.js";
import { CONDITIONS, playable } from "./form.js";
import { snapshot } from "./history.js";

/**
 * Offer the music of the link that this page was opened with. It never takes over a shared station by itself.
 * @param {import("./app.js").App} app
 * @param {import("./link.js").Link} link
 * @param {(station: string) => Promise<void>} tune
 */
export function offerLink(app, link, tune) {
  const { player } = app;

  /** A station for this page alone, which ends with it. @param {import("../protocol.js").Steer} change */
  async function playAlone(change) {
    const id = `private-${Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    const { prompts = app.state()?.prompts ?? [], ...given } = change;
    // A station is made without them; the steer below asks for them.
    const rest = Object.fromEntries(Object.entries(given).filter(([name]) => !CONDITIONS.includes(/** @type {any} */ (name))));
    const made = { id, title: "Private", prompts: prompts.map((/** @type {import("../protocol.js").PromptPart} */ p) => p.text), ...rest };
    try {
      const answer = await fetch(player.url("/api/stations"), {
        method: "POST", body: JSON.stringify(made), headers: { "Content-Type": "application/json", ...player.headers },
      });
      if (!answer.ok) throw new Error((await answer.json()).message ?? answer.statusText);
    } catch (error) {
      toast(`No private station: ${error.message}`, { error: true });
      return;
    }
    addEventListener("pagehide", () => fetch(player.url(`/api/stations/${id}`), { method: "DELETE", headers: player.headers, keepalive: true }).catch(() => {}));
    player.play();
    await tune(id);
    await app.steer(change, promptLine(prompts));
  }

  let offered = false;
  /** @type {HTMLElement|null} */
  let note = null;
  const offer = () => {
    if (offered || !player.welcome || !link.change || (note && !player.maySteer)) return;
    offered = player.maySteer; // who listens may become a DJ
    note?.remove();
    const change = playable(link.change, player.welcome.caps);
    const state = app.state();
    if (state && JSON.stringify(snapshot({ ...state, ...change })) === JSON.stringify(snapshot(state))) return;
    const name = promptLine(change.prompts ?? state?.prompts);
    /** @param {string} id @param {string} textContent @param {() => void} act */
    const choice = (id, textContent, act) =>
      make("button", { type: "button", className: id === "play-link" ? "primary" : "ghost", id, textContent, onclick: () => (note?.remove(), act()) });
    const holds = make("p", { dir: "auto" }, "This link holds ", make("strong", { textContent: name }));
    if (!player.maySteer) holds.append(". Only a DJ of this station may play it here; you hear what plays for everybody.");
    note = make("div", { className: "offer", role: "group", "aria-label": "Music of this link" },
      holds,
      make("div", { className: "row" },
        !player.maySteer ? "" : choice("play-link", "Play it for everybody here", () => {
          player.play();
          app.steer(change, name);
        }),
        player.welcome.role === "owner" ? choice("play-alone", "Play it for me alone", () => playAlone(change)) : "",
        choice("dismiss-link", player.maySteer ? "Not now" : "Understood", () => {})));
    document.querySelector("main")?.prepend(note);
  };
  player.addEventListener("welcome", offer);
  offer();
}
