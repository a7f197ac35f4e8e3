// @ts-check
/** Links that reopen a station as it is, and the offer to play what such a link holds. */
import { promptLine } from "../protocol.js";
import { make, toast } from "./dom.js";
import { snapshot } from "./history.js";

/** @typedef {{station?: string, change?: import("../protocol.js").Steer}} Link */

/**
 * The state of a station as a link's query. Short names keep it readable; a mix of prompts repeats `p` and `w`.
 * @param {string} station
 * @param {any} state
 */
export function linkQuery(station, state) {
  const query = new URLSearchParams({ station });
  for (const { text, weight } of state.prompts) {
    query.append("p", text);
    if (state.prompts.length > 1) query.append("w", String(weight));
  }
  for (const name of ["seed", "seed_image", "denoising", "guidance", "bpm", "key"]) {
    if (state[name] !== null && state[name] !== undefined) query.set(name, String(state[name]));
  }
  return query.toString();
}

/**
 * The reverse of `linkQuery`; what cannot be understood is left out.
 * @param {{search: string}} place
 * @returns {Link}
 */
export function readLink(place) {
  const query = new URLSearchParams(place.search);
  /** @type {Link} */
  const link = { station: query.get("station") ?? undefined };
  /** @type {any} */
  const change = {};
  const texts = query.getAll("p").filter((t) => t.trim());
  const weights = query.getAll("w").map(Number);
  if (texts.length) {
    change.prompts = texts.slice(0, 8).map((text, i) => ({ text: text.slice(0, 300), weight: Number.isFinite(weights[i]) ? weights[i] : 1 }));
  }
  for (const name of ["seed", "denoising", "guidance", "bpm", "key"]) {
    const value = query.get(name);
    if (value !== null && value !== "" && Number.isFinite(Number(value))) change[name] = Number(value);
  }
  const image = query.get("seed_image");
  if (image) change.seed_image = image;
  if (Object.keys(change).length) link.change = change;
  return link;
}

/**
 * Offer the music of the link that this page was opened with. It never takes over a shared station by itself.
 * @param {import("./app.js").App} app
 * @param {Link} link
 * @param {(station: string) => Promise<void>} tune
 */
export function offerLink(app, link, tune) {
  const { player } = app;
  const { headers } = player;

  /** A station for this page alone, which ends with it. @param {import("../protocol.js").Steer} change */
  async function playAlone(change) {
    const id = `private-${Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    const { prompts = app.state()?.prompts ?? [], ...rest } = change;
    const made = { id, title: "Private", prompts: prompts.map((/** @type {import("../protocol.js").PromptPart} */ p) => p.text), ...rest };
    try {
      const answer = await fetch(player.url("/api/stations"), {
        method: "POST", body: JSON.stringify(made), headers: { "Content-Type": "application/json", ...headers },
      });
      if (!answer.ok) throw new Error((await answer.json()).message ?? answer.statusText);
    } catch (error) {
      toast(`No private station: ${error.message}`, { error: true });
      return;
    }
    addEventListener("pagehide", () => fetch(player.url(`/api/stations/${id}`), { method: "DELETE", headers, keepalive: true }).catch(() => {}));
    player.play();
    await tune(id);
    await app.steer(change, promptLine(prompts));
  }

  let offered = !link.change;
  player.addEventListener("welcome", () => {
    if (offered || !link.change || !player.maySteer) return;
    offered = true;
    const change = link.change;
    const state = app.state();
    if (state && JSON.stringify(snapshot({ ...state, ...change })) === JSON.stringify(snapshot(state))) return;
    const name = promptLine(change.prompts ?? state?.prompts);
    /** @param {string} id @param {string} textContent @param {() => void} act */
    const choice = (id, textContent, act) =>
      make("button", { type: "button", className: id === "play-link" ? "primary" : "ghost", id, textContent, onclick: () => (note.remove(), act()) });
    const note = make("div", { className: "offer", role: "group", "aria-label": "Music of this link" },
      make("p", {}, "This link holds ", make("strong", { textContent: name })),
      make("div", { className: "row" },
        choice("play-link", "Play it for everybody here", () => {
          player.play();
          app.steer(change, name);
        }),
        player.welcome.role === "owner" ? choice("play-alone", "Play it for me alone", () => playAlone(change)) : "",
        choice("dismiss-link", "Not now", () => {})));
    document.querySelector("main")?.prepend(note);
  });
}
