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
 * @param {object} parts
 * @param {HTMLButtonElement} parts.button
 * @param {HTMLDialogElement} parts.dialog
 * @param {Link} parts.link                        what this page was opened with
 * @param {(station: string) => Promise<void>} parts.tune
 */
export function mountShare(app, { button, dialog, link, tune }) {
  const { player } = app;
  const headers = player.token ? { Authorization: `Bearer ${player.token}` } : undefined;

  button.addEventListener("click", () => {
    const state = app.state();
    const url = state ? `${location.origin}/?${linkQuery(player.station, state)}` : location.href;
    const embed = `<script type="module" src="${location.origin}/riff-stream.js"></script>\n<riff-stream station="${player.station}" controls visual></riff-stream>`;
    dialog.replaceChildren(
      make("h2", { id: "share-title", textContent: "Share this sound" }),
      copied("Link", "share-url", url),
      navigator.share
        ? make("div", { className: "row" },
            make("button", {
              type: "button", className: "ghost", textContent: "Share…",
              onclick: () => navigator.share({ title: "riffstream", text: promptLine(state?.prompts), url }).catch(() => {}),
            }))
        : "",
      make("h3", { textContent: "Keep the last minutes" }),
      downloads(),
      make("h3", { textContent: "Play it elsewhere" }),
      copied("For any audio player", "share-stream", player.url(`/stream/${player.station}.mp3`)),
      copied("For a web page", "share-embed", embed),
      make("form", { method: "dialog", className: "row" }, make("button", { className: "ghost", textContent: "Close" })));
    dialog.showModal();
  });

  /** @param {string} label @param {string} id @param {string} value */
  function copied(label, id, value) {
    const field = make("input", { className: "field", readOnly: true, value, id, onfocus: () => field.select() });
    const copy = make("button", {
      type: "button", className: "ghost", textContent: "Copy", "aria-label": `Copy: ${label.toLowerCase()}`,
      onclick: () => (navigator.clipboard?.writeText(value) ?? Promise.reject()).then(() => toast("Copied"), () => field.select()),
    });
    return make("div", { className: "copied" }, make("label", { for: id, textContent: label }), field, copy);
  }

  function downloads() {
    const format = make("select", { className: "field", "aria-label": "Format" }, ...["flac", "mp3", "ogg", "wav"].map((f) => make("option", { value: f, textContent: f.toUpperCase() })));
    const row = make("div", { className: "row" }, format);
    for (const [seconds, label] of /** @type {[number, string][]} */ ([[30, "30 s"], [120, "2 min"], [300, "5 min"]])) {
      row.append(make("button", { type: "button", className: "ghost", textContent: label, "aria-label": `Download the last ${label}`, onclick: () => download(seconds, format.value) }));
    }
    return row;
  }

  /** Through fetch, not a plain link: a token must not stand in an address. @param {number} seconds @param {string} format */
  async function download(seconds, format) {
    try {
      const answer = await fetch(player.url(`/api/stations/${encodeURIComponent(player.station)}/recording?seconds=${seconds}&format=${format}`), { headers });
      if (!answer.ok) throw new Error((await answer.json()).message ?? answer.statusText);
      const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? `riffstream.${format}`;
      const href = URL.createObjectURL(await answer.blob());
      make("a", { href, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60000);
    } catch (error) {
      toast(`No recording: ${error.message}`, { error: true });
    }
  }

  /** A station for this page alone, which ends with it. @param {import("../protocol.js").Steer} change */
  async function playAlone(change) {
    const id = `private-${Math.random().toString(36).slice(2, 10)}`;
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
