// @ts-check
/** The seed gallery, and a file of one's own. */
import { make, toast } from "./dom.js";

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountSeeds(app, panel) {
  const { player } = app;
  const gallery = make("div", { className: "gallery" });
  const filter = make("input", { type: "search", className: "field", placeholder: "Find a seed image", "aria-label": "Find a seed image", oninput: () => show() });
  const file = make("input", { type: "file", id: "seed-file", className: "sr steers", accept: "image/*,audio/*" });
  const drop = make("label", { className: "drop", for: "seed-file", textContent: "Drop a spectrogram image or an audio file here, or choose one" });
  panel.append(make("div", { className: "mix" }, make("div", { className: "row" }, filter), gallery, file, drop));

  /** @type {{name: string, tags?: string[], preview?: string}[]} */
  let seeds = [];
  let takesFiles = false; // whether this server accepts a seed image of one's own
  drop.hidden = file.hidden = true;
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = app.state()?.seed_image ?? null;
    const shown = seeds.filter((s) => words.every((w) => `${s.name} ${(s.tags ?? []).join(" ")}`.toLowerCase().includes(w)));
    gallery.replaceChildren(...shown.map((seed) =>
      make("button", {
        type: "button", className: "seed steers", disabled: !player.maySteer, "aria-pressed": String(seed.name === chosen),
        title: (seed.tags ?? []).join(", "),
        onclick: () => app.steer({ seed_image: seed.name === chosen ? null : seed.name }, seed.name === chosen ? "no seed image" : seed.name),
      },
      make("img", { src: player.url(seed.preview ?? `/api/seeds/${encodeURIComponent(seed.name)}.png`), alt: "", loading: "lazy" }),
      make("span", { textContent: seed.name }))));
  };
  let shownFor = "";
  app.onChange(() => {
    const key = `${app.state()?.seed_image}|${player.maySteer}`;
    if (key !== shownFor) {
      shownFor = key;
      show();
    }
  });

  const load = async () => {
    try {
      const answer = await fetch(player.url("/api/seeds"));
      if (!answer.ok) throw new Error(answer.statusText);
      const listed = await answer.json();
      seeds = listed.seeds ?? [];
      takesFiles = listed.uploads === true;
      drop.hidden = file.hidden = !takesFiles;
      show();
    } catch {
      gallery.replaceChildren(make("p", { className: "quiet", textContent: "This server has no seed library." }));
    }
  };

  /** @param {File} chosen */
  const upload = async (chosen) => {
    const body = new FormData();
    body.append("file", chosen);
    try {
      const headers = player.token ? { Authorization: `Bearer ${player.token}` } : undefined;
      const answer = await fetch(player.url("/api/seeds"), { method: "POST", body, headers });
      const result = await answer.json();
      if (!answer.ok) throw new Error(result.message ?? answer.statusText);
      await load();
      app.steer({ seed_image: result.name }, result.name);
    } catch (error) {
      toast(`${chosen.name}: ${error.message}`, { error: true });
    }
  };
  file.addEventListener("change", () => file.files?.[0] && upload(file.files[0]));
  for (const name of ["dragenter", "dragover"]) {
    panel.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  panel.addEventListener("dragleave", () => drop.classList.remove("over"));
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const dropped = event.dataTransfer?.files[0];
    if (dropped && takesFiles && player.maySteer) upload(dropped);
  });
  load();
}
