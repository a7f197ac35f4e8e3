// @ts-check
/** The share dialog: links, the last minutes as a file, and addresses for other players and pages. */
import { promptLine } from "../protocol.js";
import { make, toast } from "./dom.js";
import { linkQuery } from "./link.js";
import { CORNERS, overlayAddress, PARTS } from "./overlay.js";
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
        (navigator.clipboard?.writeText(value) ?? Promise.reject()).then(
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
          await download(seconds, format.value);
          button.disabled = false;
        },
      });
      row.append(button);
    }
    return row;
  }

  /** @param {number} seconds @param {string} format */
  const download = (seconds, format) =>
    fetched(`/api/stations/${encodeURIComponent(player.station)}/recording?seconds=${seconds}&format=${format}`, `riffstream.${format}`);

  /** Through fetch, not a plain link: a token must not stand in an address. @param {string} path @param {string} fallback name of the file */
  async function fetched(path, fallback) {
    try {
      const answer = await fetch(player.url(path), { headers: player.headers });
      if (!answer.ok) throw new Error((await answer.json()).message ?? answer.statusText);
      const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? fallback;
      const href = URL.createObjectURL(await answer.blob());
      make("a", { href, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60000);
    } catch (error) {
      toast(`No recording: ${error.message}`, { error: true });
    }
  }

  /** The layer over a video: its address, and what it shows. @param {string} page address of the station's embedded page */
  function layer(page) {
    const line = copied("For OBS, as a browser source", "share-obs", overlayAddress(page));
    const address = /** @type {HTMLInputElement} */ (line.querySelector("input"));
    const update = () => (address.value = overlayAddress(page, {
      show: parts.filter(({ box }) => box.checked).map(({ name }) => name), corner: corner.value, size: Number(size.value), muted: muted.checked,
    }));
    const check = (/** @type {string} */ text, checked = false) => {
      const box = make("input", { type: "checkbox", checked, onchange: update });
      return { box, label: make("label", { className: "check" }, box, ` ${text}`) };
    };
    const parts = Object.entries(PARTS).map(([name, words]) => ({ name, ...check(words, true) }));
    const corner = make("select", { className: "field", "aria-label": "Corner of the words", onchange: update },
      ...Object.entries(CORNERS).map(([value, textContent]) => make("option", { value, textContent })));
    const size = make("select", { className: "field", "aria-label": "Size of the words", onchange: update },
      ...["0.5", "0.75", "1", "1.5", "2", "3", "4"].map((value) => make("option", { value, textContent: `${100 * Number(value)} %`, selected: value === "1" })));
    const { box: muted, label: quiet } = check("no sound");
    return make("div", {}, line, make("div", { className: "row", role: "group", "aria-label": "Layer for OBS" }, ...parts.map(({ label }) => label), corner, size, quiet));
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

  return () => {
    const state = app.state();
    // A station of one's own ends with its page: what is passed on goes to the one that stays.
    const station = player.station.startsWith("private-") ? "main" : player.station;
    const url = state ? `${player.url("/")}?${linkQuery(station, state)}` : location.href;
    const embed = `<script type="module" src="${player.url("/riff-stream.js")}"></script>\n<riff-stream station="${station}" controls visual></riff-stream>`;
    const page = copied("For a web page", "share-embed", embed);
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
      copied("For any audio player", "share-stream", player.url(`/stream/${encodeURIComponent(player.station)}.mp3`)),
      page,
      layer(player.url(`/embed/${encodeURIComponent(station)}`)),
      make("form", { method: "dialog" }, make("button", { className: "icon", textContent: "✕", "aria-label": "Close" })));
    dialog.showModal();
    showPlaylist(page).catch(() => {}); // without an answer there is no line
  };
}
