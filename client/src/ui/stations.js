// @ts-check
/** The server's stations: the choice among them, the address that names the one that plays, and its listeners. */
import { isPrivate } from "../protocol.js";
import { byId, make } from "./dom.js";

/** @typedef {{id: string, title?: string, description?: string, listeners?: number}} Listed */

/**
 * @param {import("./app.js").App} app
 * @param {{fixed: boolean, forget: () => void}} page  fixed: its address names one station for good; forget: what was heard of the
 *   station before
 */
export function mountStations(app, { fixed, forget }) {
  const { player } = app;
  const choice = byId("station", HTMLSelectElement);
  /** @type {Listed[]} */
  let listed = [];
  let counts = 0; // events with the number of listeners: each is newer than a list requested before it

  /** @param {string} station @param {import("../own.js").Own|null} [own] a private one, which no address names */
  function tune(station, own = null) {
    if (!own) remember(station);
    forget();
    return player.tune(station, own).then(list);
  }
  choice.addEventListener("change", () => tune(choice.value));

  /** The address names the station, so that it can be kept, shared and gone back to. @param {string} station */
  function remember(station) {
    if (fixed || station === player.station) return;
    const address = new URL(location.href);
    address.searchParams.set("station", station);
    history.pushState(null, "", address);
  }
  addEventListener("popstate", () => {
    const station = new URLSearchParams(location.search).get("station") ?? "main";
    if (!fixed && station !== player.station) tune(station);
  });

  /** @param {number} by */
  function step(by) {
    const to = choice.selectedIndex + by;
    if (choice.length > 1) tune(choice.options[(to + choice.length) % choice.length].value);
  }

  async function list() {
    /** @type {Listed[]} */
    let found = [];
    const before = counts;
    try {
      const answer = await fetch(player.url("/api/stations"), { headers: player.headers });
      found = (await answer.json()).stations ?? [];
    } catch {
      // The one that we came for can still be played.
    }
    listed = found.filter(({ id }) => !isPrivate(id));
    app.changed();
    const shown = found.some(({ id }) => id === player.station) ? found
      : [{ id: player.station, title: player.state === "missing" ? `${player.station}: not there` : undefined }, ...found];
    choice.replaceChildren(...shown.map(({ id, title }) => make("option", { value: id, textContent: title || id, selected: id === player.station })));
    byId("stations", HTMLElement).hidden = shown.length < 2; // no choice, no switch
    const here = found.find(({ id }) => id === player.station);
    if (here?.listeners !== undefined && counts === before) showListeners(here.listeners);
    const about = byId("about", HTMLElement);
    about.textContent = about.title = here?.description ?? "";
    about.hidden = !about.textContent;
  }

  /** @param {number} count */
  function showListeners(count) {
    const listeners = byId("listeners", HTMLElement);
    listeners.hidden = count === 0; // nobody plays yet, not even this page
    listeners.textContent = count === 1 ? "1 listener" : `${count} listeners`;
  }
  player.addEventListener("event", (event) => {
    const { kind, listeners } = /** @type {CustomEvent} */ (event).detail;
    if (kind !== "listeners" || typeof listeners !== "number") return;
    counts += 1;
    showListeners(listeners);
  });

  /** @returns {Listed[]} all but private ones */
  const all = () => listed;
  return { tune, step, list, all };
}
