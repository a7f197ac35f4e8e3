// @ts-check
/** The offer to play what the link holds that this page was opened with. */
import { MUSIC, Own } from "../own.js";
import { promptLine } from "../protocol.js";
import { make, toast } from "./dom.js";
import { playable } from "./form.js";
import { snapshot } from "./history.js";

/**
 * Offer the music of the link that this page was opened with. It never takes over a shared station by itself.
 * @param {import("./app.js").App} app
 * @param {import("./link.js").Link} link
 * @param {(station: string, own?: Own|null) => Promise<void>} tune
 */
export function offerLink(app, link, tune) {
  const { player } = app;

  /** A station for this page alone, which ends with it. @param {import("../protocol.js").Steer} change */
  async function playAlone(change) {
    const { prompts = app.state()?.prompts ?? [] } = change;
    const given = Object.fromEntries(Object.entries(change).filter(([name]) => MUSIC.includes(name)));
    const own = new Own({ ...given, prompts: prompts.map((/** @type {import("../protocol.js").PromptPart} */ { text }) => text) });
    const made = await own.open(player.server, player.token);
    if (!made) return toast(`No private station: ${own.refusal?.detail}`, { error: true });
    player.play();
    await tune(made.station, own);
    await app.steer(change, promptLine(prompts));
  }

  /** Show a button where this page may have a station of its own. @param {HTMLButtonElement} button */
  async function showPlaces(button) {
    button.hidden = true;
    try {
      const answer = await fetch(player.url("/api/sessions"), { headers: player.headers });
      const { invited } = await answer.json();
      button.hidden = invited !== true;
    } catch {
      // Then there is none to be had.
    }
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
    const alone = choice("play-alone", "Play it for me alone", () => playAlone(change));
    showPlaces(alone);
    note = make("div", { className: "offer", role: "group", "aria-label": "Music of this link" },
      holds,
      make("div", { className: "row" },
        !player.maySteer ? "" : choice("play-link", "Play it for everybody here", () => {
          player.play();
          app.steer(change, name);
        }),
        alone,
        choice("dismiss-link", player.maySteer ? "Not now" : "Understood", () => {})));
    document.querySelector("main")?.prepend(note);
  };
  player.addEventListener("welcome", offer);
  offer();
}
