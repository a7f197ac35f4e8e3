// @ts-check
/** Kept moments: hear them again, go back to their music, pass them on. They live in this browser. */
import { addMoment, allMoments, changeMoment, MOST, removeMoment } from "../moments.js";
import { isPrivate, promptLine } from "../protocol.js";
import { byId, download, downloadJson, make, reasonOf, rebuild, toast } from "./dom.js";
import { snapshot } from "./history.js";
import { linkQuery } from "./link.js";
import { mountSeedSound } from "./seed-sound.js";

/** Sound that is kept with a moment, s. */
const SECONDS = 30;
const TITLE_CHARS = 200;
const WHEN = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" });

/** A name that every system takes for a file. @param {string} title */
export const fileName = (title) => title.normalize("NFKC").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "moment";

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 * @param {() => string|null} artwork the last seconds as a picture
 * @returns {{keepMoment: () => Promise<void>}}
 */
export function mountKept(app, panel, artwork) {
  const { player } = app;
  const sound = mountSeedSound(player);
  const list = make("ol", { className: "history kept" });
  const empty = make("p", { className: "empty", textContent: `Nothing is kept yet. The heart on the picture (k) keeps what plays with its last ${SECONDS} s.` });
  const exporting = make("button", { type: "button", className: "ghost", textContent: "Export as JSON", onclick: () => told(exportAll(), "Nothing is exported") });
  panel.append(empty, list, make("div", { className: "row" }, exporting),
    make("p", { className: "quiet", textContent: `Up to ${MOST} moments, in this browser alone. The file has all but their sound.` }));

  /** @param {string} station @param {any} state */
  const linkOf = (station, state) => `${player.url("/")}?${linkQuery(isPrivate(station) ? "main" : station, state)}`;
  /** @param {Promise<unknown>} work on the storage @param {string} what */
  const told = (work, what) => work.then(show).catch((error) => toast(`${what}: ${error.message}`, { error: true }));

  /** The last seconds of the station; the reason where there are none. @returns {Promise<{audio: Blob|null, why: string}>} */
  async function lastSeconds() {
    try {
      const path = `/api/stations/${encodeURIComponent(player.station)}/recording?seconds=${SECONDS}&format=ogg`;
      const answer = await fetch(player.url(path), { headers: player.headers });
      if (!answer.ok) throw new Error(await reasonOf(answer));
      return { audio: await answer.blob(), why: "" };
    } catch (error) {
      return { audio: null, why: error.message };
    }
  }

  let busy = false;
  async function keepMoment() {
    const state = app.state();
    if (!state || busy) return;
    busy = true;
    const title = promptLine(state.prompts).slice(0, TITLE_CHARS);
    const { station } = player;
    const picture = artwork();
    const { position } = player;
    if (position !== null) app.markers.push({ samplePos: position, label: "♥", pending: false });
    try {
      const { audio, why } = await lastSeconds();
      await addMoment({ at: Date.now(), station, title, state: snapshot(state), picture, audio });
      toast(audio ? `Kept: ${title}` : `Kept without its sound (${why}): ${title}`);
      await show();
    } catch (error) {
      toast(`This browser keeps nothing here: ${error.message}`, { error: true });
    } finally {
      busy = false;
    }
  }

  /** @param {import("../moments.js").Moment} moment */
  function line(moment) {
    const { at, station, title, state, picture, audio } = moment;
    const id = /** @type {number} */ (moment.id);
    const action = (/** @type {string} */ textContent, /** @type {string} */ label, /** @type {() => void} */ onclick, className = "ghost") =>
      make("button", { type: "button", className, textContent, "aria-label": `${label} ${title}`, "data-focus": `${label.split(" ")[0]} ${id}`, onclick });
    const name = make("input", {
      type: "text", className: "field", value: title, maxLength: TITLE_CHARS, dir: "auto", "aria-label": `Name of ${title}`, "data-focus": `Name ${id}`,
      onchange: () => told(changeMoment(id, { title: name.value.trim() || promptLine(state.prompts) }), "The name is not kept"),
    });
    const hear = audio ? sound.button(title, `moment ${id}`, async () => audio) : "";
    if (hear) Object.assign(hear, { className: "icon hear" }).dataset.focus = `Hear ${id}`;
    return make("li", {},
      picture ? make("img", { src: picture, alt: "", width: 56, height: 56 }) : make("span", {}),
      make("div", {}, name, make("small", {}, make("time", { dateTime: new Date(at).toISOString(), textContent: WHEN.format(at) }), ` · ${station}`)),
      make("span", { className: "row" }, hear,
        action("Play on", "Play on from", () => app.steer(state, title), "ghost steers"),
        audio ? action("Download", "Download", () => download(audio, `${fileName(title)}.ogg`)) : "",
        action("Link", "Copy the link of", () => navigator.clipboard?.writeText(linkOf(station, state)).then(
          () => toast("The link is copied"), (error) => toast(`The link is not copied: ${error.message}`, { error: true }))),
        action("×", "Remove", () => {
          sound.stop();
          told(removeMoment(id), "It is not removed");
        }, "icon")));
  }

  async function show() {
    const moments = await allMoments();
    rebuild(list, moments.map(line), byId("tab-kept", HTMLElement));
    list.hidden = exporting.hidden = moments.length === 0;
    empty.hidden = moments.length > 0;
    app.guard();
  }
  async function exportAll() {
    const moments = (await allMoments()).map(({ at, station, title, state }) => ({ at: new Date(at).toISOString(), station, title, state, link: linkOf(station, state) }));
    downloadJson(moments, "moments.json");
  }
  show().catch((error) => (empty.textContent = `This browser keeps nothing here: ${error.message}`));
  return { keepMoment };
}
