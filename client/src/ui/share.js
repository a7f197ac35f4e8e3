// @ts-check
/** Links that reopen a station as it is, and downloads of the last minutes. */
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
 * @param {import("./app.js").App} app
 * @param {HTMLButtonElement} button
 * @param {HTMLDialogElement} dialog
 * @param {Link} link what this page was opened with
 */
export function mountShare(app, button, dialog, link) {
  const { player } = app;
  button.addEventListener("click", () => {
    const state = app.state();
    const url = state ? `${location.origin}/?${linkQuery(player.station, state)}` : location.href;
    const field = make("input", { className: "field", readOnly: true, value: url, id: "share-url", "aria-label": "Link", onfocus: () => field.select() });
    const copy = make("button", {
      type: "button", className: "primary", textContent: "Copy the link",
      onclick: () => navigator.clipboard?.writeText(url).then(() => toast("Copied"), () => field.select()) ?? field.select(),
    });
    const row = make("div", { className: "row" }, copy);
    if (navigator.share) {
      row.append(make("button", {
        type: "button", className: "ghost", textContent: "Share…",
        onclick: () => navigator.share({ title: "riffstream", text: promptLine(state?.prompts), url }).catch(() => {}),
      }));
    }
    const download = make("div", { className: "row" }, make("span", { className: "quiet", textContent: "Download the last" }));
    for (const [seconds, label] of /** @type {[number, string][]} */ ([[30, "30 s"], [120, "2 min"], [300, "5 min"]])) {
      for (const format of ["flac", "mp3"]) {
        const href = player.url(`/api/stations/${encodeURIComponent(player.station)}/recording?seconds=${seconds}&format=${format}`);
        download.append(make("a", { href, download: "", className: "ghost", textContent: `${label} ${format.toUpperCase()}` }));
      }
    }
    dialog.replaceChildren(
      make("h2", { id: "share-title", textContent: "Share this sound" }),
      field, row, download,
      make("p", { className: "quiet", textContent: `In any player: ${player.url(`/stream/${player.station}.mp3`)}` }),
      make("form", { method: "dialog", className: "row" }, make("button", { className: "ghost", textContent: "Close" })));
    dialog.showModal();
  });

  // A link with music in it offers that music once we know that we may steer; it never takes over a shared station by
  // itself.
  let offered = !link.change;
  player.addEventListener("welcome", () => {
    if (offered || !link.change || !player.maySteer) return;
    offered = true;
    const change = link.change;
    const state = app.state();
    if (state && JSON.stringify(snapshot({ ...state, ...change })) === JSON.stringify(snapshot(state))) return;
    const name = promptLine(change.prompts ?? state?.prompts);
    const note = make("p", { className: "readonly" },
      `This link plays “${name}”. `,
      make("button", {
        type: "button", className: "primary", id: "play-link", textContent: "Play it here",
        onclick: () => {
          note.remove();
          player.play();
          app.steer(change, name);
        },
      }));
    document.querySelector("main")?.prepend(note);
  });
}
