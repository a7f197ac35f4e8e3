// @ts-check
/** The seed gallery, and files of one's own. */
import { palette } from "../palette.js";
import { ENERGIES, LINES, groups, matches } from "../seed-list.js";
import { make, rebuild, toast } from "./dom.js";
import { mayRemove, own, removeSeed } from "./own-seeds.js";
import { mountSeedSound } from "./seed-sound.js";

/** What a seed's picture means: white is silence, and nothing is darker than this. */
const DARKEST = 0.28;
const STEPS = 16;
const SVG = "http://www.w3.org/2000/svg";

/** @typedef {import("../seed-list.js").Seed} Seed */

/** An upload is called what its owner called it; the library's titles are descriptions. @param {Seed} seed */
const titleOf = (seed) => (seed.style === "upload" && seed.title) || seed.name.replaceAll("_", " ");

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 * @param {() => void} open brings the panel to the front
 */
export function mountSeeds(app, panel, open) {
  const { player } = app;
  /** @type {Seed[]} */
  let seeds = [];
  let takesFiles = false; // whether this server accepts files
  /** @type {string|null} */
  let usual = null; // what music starts from where no seed is named
  let opened = ""; // the style of which all seeds are shown
  const filter = make("input", { type: "search", className: "field", placeholder: "Find a seed by name, style, instrument or mood", "aria-label": "Find a seed image", oninput: () => (opened = "", show()) });
  const line = select("Line-up of the seeds", "any line-up", LINES.map(([words]) => [words, words]));
  const energy = select("Energy of the seeds", "any energy", Object.keys(ENERGIES).map((word) => [word, word]));
  const metre = select("Time signature of the seeds", "4/4 and 3/4", [["8", "4/4"], ["6", "3/4"]]);
  const gallery = make("div", { className: "gallery" });
  const file = make("input", { type: "file", id: "seed-file", className: "sr steers", accept: "image/*,audio/*", onchange: () => file.files?.[0] && upload(file.files[0]) });
  const drop = make("label", { className: "drop", for: "seed-file" }, make("b", { textContent: "Choose a file" }),
    make("span", { className: "drops", textContent: "or drop one anywhere:" }), make("span", { textContent: "a song, a recording, a spectrogram" }),
    make("small", { textContent: "Everybody here will see it and may play it. You can remove it." }));
  const sound = mountSeedSound(player);
  const news = make("div", { role: "status" });
  const start = make("div", { className: "row", role: "group", "aria-label": "What the music starts from" });
  panel.append(colours(), make("div", { className: "mix" }, start, make("div", { className: "row" }, filter, line, energy, metre), file, drop, news, gallery));
  drop.hidden = file.hidden = true;

  function show() {
    const chosen = app.state()?.seed_image ?? usual ?? "none";
    rebuild(start, [
      way("auto", "Nearest seed", "Start from the seed that is most like the prompt", chosen),
      way("none", "Noise alone", "Start from nothing: freer, and rougher", chosen),
    ], filter);
    const wanted = { text: filter.value, line: line.value, energy: energy.value, metre: metre.value };
    const found = seeds.filter((seed) => matches(seed, wanted));
    const siblings = found.filter((seed) => opened && seed.style === opened);
    const tiles = siblings.length
      ? [back(), ...siblings.map((seed) => tile(seed, seed.name === chosen))]
      : groups(found, chosen).map(([first, ...others]) => tile(first, first.name === chosen, others.length));
    const place = gallery.scrollTop;
    rebuild(gallery, tiles, filter, ["choose"]);
    gallery.scrollTop = place;
    if (!tiles.length) gallery.append(make("p", { className: "empty", textContent: seeds.length ? "No seed is like that." : "This server has no seed library." }));
  }

  /** @param {string} label @param {string} any @param {string[][]} options */
  function select(label, any, options) {
    return make("select", { className: "field", "aria-label": label, onchange: () => (opened = "", show()) },
      ...[["", any], ...options].map(([value, textContent]) => make("option", { value, textContent })));
  }

  let before = 0; // the gallery's place before a style was opened

  /** All seeds of one style, or of none. @param {string} style */
  function openStyle(style) {
    const [left, at] = [opened, gallery.scrollTop];
    opened = style;
    show();
    if (style) before = at;
    gallery.scrollTop = style ? 0 : before;
    const next = style ? ".back" : `[data-focus="more ${CSS.escape(left)}"]`;
    const found = /** @type {HTMLElement|null} */ (gallery.querySelector(next));
    (found ?? filter).focus({ preventScroll: true });
  }

  /** The way out of one style. */
  function back() {
    return make("button", { type: "button", className: "ghost back", textContent: "← All styles", "data-focus": "back styles", onclick: () => openStyle("") });
  }

  /** @param {string} name @param {string} label @param {string} title @param {string} chosen */
  function way(name, label, title, chosen) {
    return make("button", {
      type: "button", className: "ghost steers", disabled: !player.maySteer, textContent: label, title, "aria-pressed": String(name === chosen), "data-focus": `way ${name}`,
      onclick: () => app.steer({ seed_image: name }, label.toLowerCase()),
    });
  }

  /** @param {Seed} seed @param {boolean} chosen @param {number} [others] further seeds of its style, behind a button */
  function tile(seed, chosen, others = 0) {
    const title = titleOf(seed);
    const choose = make("button", {
      type: "button", className: "seed steers", disabled: !player.maySteer, "aria-pressed": String(chosen), title: seed.caption ?? "", "data-focus": `choose ${seed.name}`,
      onclick: () => app.steer({ seed_image: chosen ? null : seed.name }, chosen ? "the usual seed" : title),
    },
    make("img", { src: new URL(seed.preview ?? `seeds/${encodeURIComponent(seed.name)}.png`, player.url("/api/seeds")).href, alt: "", loading: "lazy", decoding: "async" }),
    make("span", { textContent: title }),
    make("small", { textContent: seed.bpm ? `${Math.round(seed.bpm)} bpm` : "" }));
    const audio = new URL(seed.audio ?? `seeds/${encodeURIComponent(seed.name)}/audio`, player.url("/api/seeds")).href;
    const hear = sound.button(title, audio);
    hear.dataset.focus = `hear ${seed.name}`;
    const more = make("button", {
      type: "button", className: "more", textContent: `+${others}`, "aria-label": `${others} more like ${title}`, title: "More of this style", "data-focus": `more ${seed.style}`,
      onclick: () => openStyle(seed.style ?? ""),
    });
    return make("div", { className: "tile" }, choose, hear, ...(others ? [more] : []), ...(mayRemove(seed.name, player) ? [bin(seed, chosen)] : []));
  }

  /** @param {Seed} seed @param {boolean} chosen */
  function bin(seed, chosen) {
    return make("button", {
      type: "button", className: "remove", textContent: "✕", "aria-label": `Remove ${titleOf(seed)}`, title: "Remove it for everybody", "data-focus": `remove ${seed.name}`,
      onclick: async () => {
        sound.stop();
        try {
          // A seed that plays cannot be removed; the music leaves it first.
          if (chosen && player.maySteer && !(await app.steer({ seed_image: null }, "the usual seed"))) return;
          await removeSeed(seed.name, player);
          seeds = seeds.filter((each) => each !== seed);
          show();
        } catch (error) {
          toast(`${titleOf(seed)} stays: ${error.message}`, { error: true });
        }
      },
    });
  }

  let shownFor = "";
  app.onChange(() => {
    const key = `${app.state()?.seed_image}|${player.maySteer}|${player.welcome?.role}`;
    if (key !== shownFor) {
      shownFor = key;
      show();
    }
  });

  async function load() {
    try {
      const answer = await fetch(player.url("/api/seeds"), { headers: player.headers });
      if (!answer.ok) throw new Error(answer.statusText);
      const listed = await answer.json();
      seeds = listed.seeds ?? [];
      takesFiles = listed.uploads === true;
      usual = listed.default ?? null;
    } catch {
      seeds = [];
    }
    drop.hidden = file.hidden = !takesFiles;
    show();
  }

  /** @param {File} chosen */
  async function upload(chosen) {
    open();
    const bar = make("progress", { max: 1, value: 0, "aria-label": `Upload of ${chosen.name}` });
    const line = make("p", { textContent: `Sending ${chosen.name}` });
    const stop = make("button", { type: "button", className: "ghost", textContent: "Cancel", onclick: () => request.abort() });
    const note = make("div", { className: "upload" }, line, bar, make("div", { className: "row" }, stop));
    news.replaceChildren(note);
    drop.hidden = true;
    const request = new XMLHttpRequest(); // fetch does not tell how much of a body has left
    try {
      const seed = await send(request, chosen, (share) => {
        if (share < 1) bar.value = share;
        else {
          bar.removeAttribute("value"); // no telling how long it takes
          line.textContent = `Listening to ${chosen.name}`;
        }
      });
      own(seed.name, seed.remove_key);
      await load();
      if (!seeds.some((s) => s.name === seed.name)) seeds.unshift(seed);
      show();
      note.replaceWith(make("div", { className: "upload" }, make("p", {}, make("strong", { textContent: seed.title || seed.name }), " is a seed now."),
        ...(seed.notes ?? []).map((text) => make("small", { textContent: text })))); // what was damaged, guessed or unclear
      await app.steer({ seed_image: seed.name }, seed.title || seed.name);
    } catch (error) {
      note.classList.add("error");
      note.replaceChildren(make("p", { role: "alert", textContent: error.name === "AbortError" ? `${chosen.name} was not sent.` : `${chosen.name}: ${error.message}` }));
    }
    drop.hidden = !takesFiles;
    file.value = ""; // the same file may be tried again
  }

  /**
   * @param {XMLHttpRequest} request
   * @param {File} chosen
   * @param {(share: number) => void} onProgress 0..1 of the file
   * @returns {Promise<Seed>}
   */
  function send(request, chosen, onProgress) {
    const body = new FormData();
    body.append("file", chosen);
    body.append("name", chosen.name.replace(/\.[^.]*$/, ""));
    return new Promise((resolve, reject) => {
      request.open("POST", player.url("/api/seeds"));
      for (const [name, value] of Object.entries(player.headers ?? {})) request.setRequestHeader(name, value);
      request.upload.onprogress = ({ loaded, total }) => onProgress(loaded / total);
      request.upload.onload = () => onProgress(1);
      request.onerror = () => reject(new Error("the server cannot be reached"));
      request.onabort = () => reject(new DOMException("", "AbortError"));
      request.onload = () => {
        /** @type {any} */
        let answer = {};
        try {
          answer = JSON.parse(request.responseText);
        } catch {
          // A proxy's own page, perhaps: the status has to do.
        }
        const wait = Number(request.getResponseHeader("Retry-After"));
        const later = wait ? `; try again in ${wait} s` : "";
        if (request.status === 201) resolve(answer);
        else reject(new Error((answer.message ?? `the server said ${request.status}`) + later));
      };
      request.send(body);
    });
  }

  const welcome = (/** @type {DragEvent} */ event) => takesFiles && player.maySteer && !!event.dataTransfer?.types.includes("Files");
  for (const name of /** @type {const} */ (["dragenter", "dragover"])) {
    addEventListener(name, (event) => {
      if (!welcome(event)) return;
      event.preventDefault();
      if (name === "dragenter") open();
      document.body.classList.add("dropping");
    });
  }
  addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!welcome(event)) return;
    event.preventDefault();
    const dropped = event.dataTransfer?.files[0];
    if (dropped) upload(dropped);
  });
  return load();
}

/** A filter that gives the seeds' grey pictures the spectrogram's colours; it follows the theme. */
function colours() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "sr");
  svg.setAttribute("aria-hidden", "true");
  const paint = () => {
    const map = palette(document.documentElement.dataset.theme === "light" ? "light" : "dark");
    const table = (/** @type {number} */ channel) =>
      Array.from({ length: STEPS }, (_, i) => {
        const level = Math.min(1, (1 - i / (STEPS - 1)) / (1 - DARKEST));
        return (map[4 * Math.round(255 * level) + channel] / 255).toFixed(3);
      }).join(" ");
    const functions = ["R", "G", "B"].map((name, channel) => `<feFunc${name} type="table" tableValues="${table(channel)}"/>`).join("");
    svg.innerHTML = `<filter id="seed-colours" color-interpolation-filters="sRGB"><feColorMatrix type="saturate" values="0"/><feComponentTransfer>${functions}</feComponentTransfer></filter>`;
  };
  paint();
  new MutationObserver(paint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  return svg;
}
