// @ts-check
/** The share dialog: links, the last minutes as a file, and addresses for other players and pages. */
import { isPrivate, promptLine } from "../protocol.js";
import { download, make, reasonOf, toast } from "./dom.js";
import { mountEmbedBuilder } from "./embed-builder.js";
import { linkQuery } from "./link.js";
import { mountSet } from "./set.js";

/**
 * @param {import("./app.js").App} app
 * @param {HTMLDialogElement} dialog
 * @returns {() => void} opens it
 */
export function mountShare(app, dialog) {
  const { player } = app;

  /** @param {string} label @param {string} id @param {string} value */
  function copied(label, id, value) {
    const field = make("input", { className: "field", readOnly: true, value, id, onfocus: () => field.select() });
    const copy = make("button", {
      type: "button", className: "ghost", textContent: "Copy", "aria-label": `Copy: ${label.toLowerCase()}`,
      onclick: () =>
        (navigator.clipboard?.writeText(field.value) ?? Promise.reject()).then(
          () => {
            copy.textContent = "Copied";
            setTimeout(() => (copy.textContent = "Copy"), 2000);
          },
          () => field.select()),
    });
    return make("div", { className: "copied" }, make("label", { for: id, textContent: label }), field, copy);
  }

  function downloads() {
    const format = make("select", { className: "field", "aria-label": "Format" },
      ...["flac", "mp3", "ogg", "wav"].map((f) => make("option", { value: f, textContent: f.toUpperCase() })));
    const row = make("div", { className: "row" }, format);
    for (const [seconds, label] of /** @type {[number, string][]} */ ([[30, "30 s"], [60, "1 min"], [120, "2 min"]])) {
      const button = make("button", {
        type: "button", className: "ghost", textContent: label, "aria-label": `Download the last ${label}`,
        onclick: async () => {
          button.disabled = true;
          await lastSeconds(seconds, format.value);
          button.disabled = false;
        },
      });
      row.append(button);
    }
    return row;
  }

  /** @param {number} seconds @param {string} format */
  const lastSeconds = (seconds, format) =>
    fetched(`/api/stations/${encodeURIComponent(player.station)}/recording?seconds=${seconds}&format=${format}`, `riffstream.${format}`);

  /** Through fetch, not a plain link: a token must not stand in an address. @param {string} path @param {string} fallback name of the file */
  async function fetched(path, fallback) {
    try {
      const answer = await fetch(player.url(path), { headers: player.headers });
      if (!answer.ok) throw new Error(await reasonOf(answer));
      const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? fallback;
      download(await answer.blob(), name);
    } catch (error) {
      toast(`No recording: ${error.message}`, { error: true });
    }
  }

  /** The playlist's address, where the server serves HLS. @param {Element} before */
  async function showPlaylist(before) {
    const path = `/api/stations/${encodeURIComponent(player.station)}`;
    const answer = await fetch(player.url(path), { headers: player.headers });
    const { links } = answer.ok ? await answer.json() : {};
    if (links?.hls && before.isConnected) {
      before.before(copied("For phones and HLS players", "share-hls", new URL(links.hls, answer.url).href));
    }
  }

  dialog.addEventListener("close", () => dialog.replaceChildren()); // the preview is a listener, and may sound
  return () => {
    const state = app.state();
    // A station of one's own ends with its page: what is passed on goes to the one that stays.
    const station = isPrivate(player.station) ? "main" : player.station;
    const url = state ? `${player.url("/")}?${linkQuery(station, state)}` : location.href;
    const builder = mountEmbedBuilder(player, station, copied);
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
      make("h3", { textContent: "Record a set" }),
      mountSet(app, fetched),
      make("h3", { textContent: "Play it elsewhere" }),
      builder,
      make("form", { method: "dialog" }, make("button", { className: "icon", textContent: "✕", "aria-label": "Close" })));
    dialog.showModal();
    showPlaylist(/** @type {Element} */ (builder.querySelector("#share-m3u")?.closest("div"))).catch(() => {}); // without an answer there is no line
  };
}
